//! `memcg-bpf manual`: writes the manual pages at build time. Commands are described by their definitions, parameters
//! by the policy objects, configuration keys by the installed file, and the rest by packaging/man.

mod commands;
mod facts;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf manual --date 2026-01-01 --prose packaging/man --objects target/bpf /tmp/man")]
pub(in crate::cli) struct Manual {
    /// The directory of the page templates
    #[arg(long, value_name = "DIR")]
    prose: PathBuf,
    /// The date in the footer of each page
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: String,
    #[command(flatten)]
    objects: ObjectDir,
    /// The output directory
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

impl Manual {
    pub fn run(&self, command: Command) -> anyhow::Result<Output> {
        let write = |name: &str, text: &str| {
            let path = self.to.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        fs::create_dir_all(&self.to).with_context(|| self.to.display().to_string())?;
        for (name, text) in commands::pages(command, &self.date)? {
            write(&name, &text)?;
        }
        let objects = self.objects.read();
        anyhow::ensure!(objects.errors.is_empty(), "{}", objects.errors.join("\n"));
        let entries = fs::read_dir(&self.prose).with_context(|| self.prose.display().to_string())?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let prose = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            write(name, &facts::filled_in(&prose, &self.date, &objects))?;
        }
        Ok(Output::success(String::new()))
    }
}
