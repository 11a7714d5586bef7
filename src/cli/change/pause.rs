//! `memcg-bpf pause` and `memcg-bpf resume`: everything that policies changed is put back, for a while.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::term::json;
use crate::policy::action::human_duration;
use crate::report::ActionStats;
use crate::text::parse_duration;

/// Put back what policies changed, and let them change nothing for a while
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf pause --for 10min         to find out whether a policy is what makes something slow
  memcg-bpf pause                     until: memcg-bpf resume

memory.high, memory.low and cgroup.freeze are as they were found, and nothing is reclaimed or killed
for a policy. What the kernel decides by itself goes on: deny still refuses.")]
pub(in crate::cli) struct Pause {
    /// How long: 30s, 10min, 2h. Without it: until `memcg-bpf resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    for_ns: Option<u64>,
}

/// Let policies act again after a pause
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf resume")]
pub(in crate::cli) struct Resume {}

fn duration(text: &str) -> Result<u64, String> {
    match parse_duration(text) {
        Ok(0) => Err("it is no time at all".to_owned()),
        Ok(ns) => Ok(ns),
        Err(error) => Err(error.to_string()),
    }
}

impl Pause {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        output(Client::connect()?.pause(self.for_ns.unwrap_or(0))?, as_json)
    }
}

impl Resume {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        output(Client::connect()?.resume()?, as_json)
    }
}

fn output(report: ActionStats, as_json: bool) -> anyhow::Result<Output> {
    if as_json {
        return Ok(Output::success(json(&report)?));
    }
    Ok(Output::success(paused(&report).unwrap_or_else(|| "Policies act.\n".to_owned())))
}

/// While paused: that it is, for how much longer, and the way out.
pub(in crate::cli) fn paused(report: &ActionStats) -> Option<String> {
    let left = report.paused_for.map_or(String::new(), |left| format!(", for {} more", human_duration(left)));
    let text =
        format!("Actions are paused{left}: everything is as it was found. Go on with: memcg-bpf resume\n");
    report.paused.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_with_its_end() {
        let mut report = ActionStats::default();
        assert_eq!(paused(&report), None);
        report.paused = true;
        assert_eq!(
            paused(&report).unwrap(),
            "Actions are paused: everything is as it was found. Go on with: memcg-bpf resume\n"
        );
        report.paused_for = Some(90_123_456_789);
        assert!(paused(&report).unwrap().starts_with("Actions are paused, for 1min 30s 123ms more: "));
    }

    #[test]
    fn a_pause_lasts_some_time() {
        assert_eq!(duration("10min"), Ok(600_000_000_000));
        assert_eq!(duration("0"), Err("it is no time at all".to_owned()));
        assert!(duration("soon").is_err());
    }
}
