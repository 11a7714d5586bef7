//! `memcg-bpf report`: a history as one HTML page that needs nothing else: no script, no network, plots as SVG.

mod page;
mod plot;

use std::path::{Path, PathBuf};

use clap::Args;

use super::events::Event;
use super::history::{self, Entry, Measured};
use super::screen::json;
use super::{Answer, metrics};

/// Make a page with plots from a history
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf report /var/tmp/history > page.html
  memcg-bpf report /var/tmp/history --output page.html

For each cgroup: memory in use, its limit, memory.high and memory.low in force, stalls, and each action marked with
its reason. With --json: all that was recorded.")]
pub(super) struct Report {
    /// What memcg-bpf record wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the page to this file instead of standard output
    #[arg(short, long, value_name = "PAGE")]
    output: Option<PathBuf>,
}

impl Report {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Answer> {
        if as_json {
            anyhow::ensure!(self.output.is_none(), "--json is for standard output; --output is for the page");
            return Ok(Answer::good(json(&history::read(&self.file)?)?));
        }
        let page = page_of(&self.file)?;
        match &self.output {
            Some(path) => {
                metrics::replace(path, &page)?;
                Ok(Answer::good(format!("The page is in {}.\n", path.display())))
            }
            None => Ok(Answer::good(page)),
        }
    }
}

/// The page about a history.
pub(super) fn page_of(history: &Path) -> anyhow::Result<String> {
    Ok(page::page(&tell_apart(&history::read(history)?)))
}

/// What was recorded of one cgroup: times in microseconds, and what happened there.
#[derive(Debug, Default)]
struct Story<'a> {
    cgroup: &'a str,
    name: &'a str,
    samples: Vec<(u64, &'a Measured)>,
    events: Vec<&'a Event>,
}

/// One story for each cgroup that was ever measured, by path.
fn tell_apart(entries: &[Entry]) -> Vec<Story<'_>> {
    let mut stories: std::collections::BTreeMap<&str, Story<'_>> = std::collections::BTreeMap::new();
    for entry in entries {
        let Entry::Sample { time_us, cgroups } = entry else { continue };
        for measured in cgroups {
            let story = stories.entry(&measured.cgroup).or_default();
            (story.cgroup, story.name) = (&measured.cgroup, &measured.name);
            story.samples.push((*time_us, measured));
        }
    }
    for entry in entries {
        if let Entry::Event(event) = entry
            && let Some(story) = stories.get_mut(event.cgroup.as_str())
        {
            story.events.push(event);
        }
    }
    stories.into_values().collect()
}
