//! `memcg-bpf pause` and `memcg-bpf resume`: suspend and resume the actions of policies.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::term::json;
use crate::policy::action::human_duration;
use crate::report::ActionStats;
use crate::text::parse_duration;

/// Suspend the actions of policies and restore changed knobs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf pause --for 10min         check whether a policy slows something down
  memcg-bpf pause                     until: memcg-bpf resume

Restores memory.high, memory.low and cgroup.freeze to their original values, and performs no reclaim
and no kill. The policy deny is not paused and goes on denying, because it decides in the kernel.

To switch off all policies, also deny, until the next start of the daemon:
  systemctl stop memcg-bpfd")]
pub(in crate::cli) struct Pause {
    /// Duration, such as 30s, 10min or 2h. Defaults to until `memcg-bpf resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    for_ns: Option<u64>,
}

/// Resume the actions of policies after a pause
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf resume")]
pub(in crate::cli) struct Resume {}

fn duration(text: &str) -> Result<u64, String> {
    match parse_duration(text) {
        Ok(0) => Err("the duration must be greater than 0".to_owned()),
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
    Ok(Output::success(paused(&report).unwrap_or_else(|| "Actions are not paused.\n".to_owned())))
}

/// The state of a pause, with the remaining time and how to resume.
pub(in crate::cli) fn paused(report: &ActionStats) -> Option<String> {
    let left = report.paused_for.map_or(String::new(), |left| format!(" ({} left)", human_duration(left)));
    let text = format!(
        "Actions are paused{left}: no process is killed, no memory is reclaimed, and all changed knobs are restored.\n\
         The policy deny is not paused and goes on denying; to switch off all policies, run: systemctl stop memcg-bpfd\n\
         To resume, run: memcg-bpf resume\n"
    );
    report.paused.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_shows_remaining_time() {
        let mut report = ActionStats::default();
        assert_eq!(paused(&report), None);
        report.paused = true;
        assert_eq!(
            paused(&report).unwrap(),
            "Actions are paused: no process is killed, no memory is reclaimed, and all changed knobs are restored.\n\
             The policy deny is not paused and goes on denying; to switch off all policies, run: systemctl stop memcg-bpfd\n\
         To resume, run: memcg-bpf resume\n"
        );
        report.paused_for = Some(90_123_456_789);
        assert!(paused(&report).unwrap().starts_with("Actions are paused (1min 30s 123ms left): "));
    }

    #[test]
    fn a_pause_lasts_some_time() {
        assert_eq!(duration("10min"), Ok(600_000_000_000));
        assert_eq!(duration("0"), Err("the duration must be greater than 0".to_owned()));
        assert!(duration("soon").is_err());
    }
}
