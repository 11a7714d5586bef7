//! `memcg-bpf metrics`: the counters of the daemon in the text format of Prometheus: printed, written to a file for
//! node_exporter's textfile collector, or served on a Unix socket or a loopback port.

mod http;
mod prometheus;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::cli::client::Client;
use crate::cli::find::container;
use crate::cli::output::Output;
use crate::cli::term::json;
use crate::report::{ActionStats, BindingReport};
use http::Listen;

/// Print metrics for Prometheus, write them to a file, or serve them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf metrics
  memcg-bpf metrics --textfile /var/lib/prometheus/node-exporter/memcg_bpf.prom
  memcg-bpf metrics --listen 127.0.0.1:9719
  memcg-bpf metrics --listen /run/memcg-bpf-metrics.sock

--textfile replaces the file atomically; run it from a timer. --listen serves GET /metrics until
interrupted, on loopback addresses only. At most 1000 cgroups are listed, those that use most
memory. With --json, prints the underlying documents `bindings` and `actions`.")]
pub(in crate::cli) struct Metrics {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    textfile: Option<PathBuf>,
    /// Serve over HTTP on a loopback address with a port, or on a Unix socket with this path
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Listen>,
}

impl Metrics {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let elsewhere = self.textfile.is_some() || self.listen.is_some();
        anyhow::ensure!(!(as_json && elsewhere), "--json cannot be used with --textfile or --listen");
        if let Some(listen) = &self.listen {
            http::serve(listen, || page().map(|(text, ..)| text))?;
            return Ok(Output::success(String::new()));
        }
        let (text, bindings, actions) = page()?;
        match &self.textfile {
            Some(path) => {
                replace(path, &text).with_context(|| format!("writing {}", path.display()))?;
                Ok(Output::success(String::new()))
            }
            None if as_json => {
                let document = serde_json::json!({ "bindings": bindings, "actions": actions });
                Ok(Output::success(json(&document)?))
            }
            None => Ok(Output::success(text)),
        }
    }
}

fn page() -> anyhow::Result<(String, Vec<BindingReport>, ActionStats)> {
    let client = Client::connect_to_look()?;
    let mut bindings: Vec<BindingReport> = client.list()?;
    container::add_names(&mut bindings);
    let actions: ActionStats = client.stats()?;
    Ok((prometheus::render(&bindings, &actions, &client.version()?), bindings, actions))
}

/// Replaces the file atomically. The collector runs as another user, so the file is readable by all.
pub(in crate::cli) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().context("not a file name")?.to_string_lossy();
    // Collectors read files that end in .prom, and ignore this one.
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::options().write(true).create_new(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_atomically() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.prom");
        replace(&path, "one\n").unwrap();
        replace(&path, "two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        replace(&dir.path().join("d"), "x").unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
