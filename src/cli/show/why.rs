//! `memcg-bpf why`: why a process was killed for want of memory: by the kernel's OOM killer, by a policy or by
//! systemd-oomd. From the journal, because the process, its unit and its container may be gone.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;

use crate::cli::client::Client;
use crate::cli::find::{candidates, target};
use crate::cli::monitor::events::Event;
use crate::cli::output::Output;
use crate::cli::show::kills;
use crate::cli::term::time::Timestamp;
use crate::cli::term::{Style, Terminal, escape_line, json, wrap};
use crate::names::CgroupPath;
use crate::report::BindingReport;
use crate::report::oom_kill::OomKill;

/// Kills that are shown.
const SHOWN_MAX: usize = 10;
/// Digits of the largest process ID.
const PID_DIGITS_MAX: usize = 7;

/// Show why a process was killed, in whose cgroup, and whose limit was reached
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf why                    the last kills on this machine
  memcg-bpf why 4711               the process that had this ID
  memcg-bpf why demo.service       the last kills in a unit, or because of its limit
  memcg-bpf why java               processes of this name

Shows kills by policies, by systemd-oomd, and those by the kernel's OOM killer that memcg-bpfd
recorded: the 10 latest, the latest first. Kills are read from the journal. Without access to the
journal, kills by the kernel since the start of memcg-bpfd are shown if a cgroup of the user is
given. Exits with status 1 if PID|NAME has none.")]
pub(in crate::cli) struct Why {
    /// Process ID or name, unit name, container ID (or its beginning) or name, or cgroup path
    #[arg(value_name = "PID|NAME", add = ArgValueCandidates::new(candidates::cgroups))]
    target: Option<String>,
}

/// One kill; the fields are a stable interface.
#[derive(Debug, Serialize)]
struct Kill<'a> {
    /// `kernel`, `policy` or `systemd-oomd`.
    by: &'static str,
    #[serde(flatten)]
    event: &'a Event,
}

impl Why {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let target = self.target.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let live = target.and_then(live_cgroup);
        let wanted = |event: &Event| {
            target.is_none_or(|text| names(event, text))
                || live.as_ref().is_some_and(|path| kills::concerns(event, path.as_str()))
        };
        let mut found = match kills::read(wanted) {
            Ok(found) if !found.is_empty() => found,
            read => {
                let from_daemon = of_daemon(live.as_ref(), wanted);
                // A journal that cannot be read matters only if the daemon has nothing either.
                if from_daemon.is_empty() { read? } else { from_daemon }
            }
        };
        found.sort_by_key(|event| std::cmp::Reverse(event.time_us));
        found.truncate(SHOWN_MAX);
        let all: Vec<Kill<'_>> = found.iter().map(|event| Kill { by: by(event), event }).collect();
        let text = match (as_json, all.is_empty()) {
            (true, _) => json(&all)?,
            (false, true) => "No kills are recorded.\n".to_owned(),
            (false, false) => {
                let blocks: Vec<String> = found.iter().map(|event| render(event, terminal)).collect();
                blocks.join("\n")
            }
        };
        Ok(Output { success: !all.is_empty() || target.is_none(), style: heading, ..Output::success(text) })
    }
}

/// The cgroup that has this name now, without asking the user for a password.
fn live_cgroup(text: &str) -> Option<CgroupPath> {
    if is_pid(text) {
        return None;
    }
    let client = Client::connect_to_look().ok();
    let reports: Option<Vec<BindingReport>> =
        client.and_then(|client| client.list_if_allowed().ok()).flatten();
    target::find(text, &reports.unwrap_or_default()).ok()
}

/// The kills that the daemon remembers, for users who cannot read the journal.
fn of_daemon(cgroup: Option<&CgroupPath>, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let Ok(client) = Client::connect_to_look() else { return Vec::new() };
    let path = cgroup.map_or("/", CgroupPath::as_str);
    let kills = client.kills_if_allowed(path).unwrap_or_default();
    kills.into_iter().map(of_kill).filter(wanted).collect()
}

fn of_kill(kill: OomKill) -> Event {
    Event {
        time: Timestamp::of_us(kill.time_us).to_string(),
        time_us: kill.time_us,
        event: "oom-killed".to_owned(),
        cgroup: kill.victim.cgroup.clone(),
        action: Some("kill".to_owned()),
        outcome: Some("done".to_owned()),
        reason: Some(kill.reason()),
        detail: Some(kill.detail()),
        kill: Some(kill),
        ..Event::default()
    }
}

fn is_pid(text: &str) -> bool {
    text.len() <= PID_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True if the text names the victim, its unit, its container or its cgroup.
fn names(event: &Event, text: &str) -> bool {
    let detail = event.detail.as_deref().unwrap_or("");
    if is_pid(text) {
        let says = detail.contains(&format!("process {text} ("));
        return says || event.kill.as_ref().is_some_and(|kill| kill.victim.pid.to_string() == text);
    }
    if text.starts_with('/') {
        return kills::concerns(event, text);
    }
    let is_process = match &event.kill {
        Some(kill) => kill.victim.name == text,
        None => detail.contains(&format!(" ({text},")) || detail.contains(&format!(" ({text})")),
    };
    let limit = event.kill.as_ref().and_then(|kill| kill.limit.as_ref());
    let of_unit = |unit: &str| {
        kills::of_unit_named(event, unit)
            || limit.is_some_and(|limit| limit.cgroup.rsplit('/').next() == Some(unit))
    };
    is_process || of_unit(text) || of_unit(&format!("{text}.service")) || kills::is_in_container(event, text)
}

fn by(event: &Event) -> &'static str {
    match event.event.as_str() {
        "oom-killed" => "kernel",
        "oomd-killed" => "systemd-oomd",
        _ => "policy",
    }
}

/// The first line of each kill stands out.
fn heading(line: &str) -> Option<Style> {
    (!line.starts_with(' ') && !line.is_empty()).then_some(Style::Bold)
}

/// A line with time and killer, and `label: value` lines below it.
fn render(event: &Event, terminal: &Terminal) -> String {
    let time = Timestamp::of_us(event.time_us).local();
    let mut out = format!("{time}  killed by {}\n", escape_line(&killer(event)));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&wrap(&format!("{label}: {value}"), 2, terminal.text_width()));
        }
    };
    line("Cgroup", &event.cgroup);
    if let Some(kill) = &event.kill {
        line(
            "Victim",
            &format!("process {} ({}), uid {}", kill.victim.pid, kill.victim.name, kill.victim.uid),
        );
        line("Memory", &kill.sizes());
        line(
            "Also killed",
            &kill.group.as_ref().map_or(String::new(), |group| format!("all others in {group}")),
        );
        line("Limit", &kill.limit());
        line("Allocation", &kill.allocation());
        line("Pressure", &kill.stalls().unwrap_or_default());
    } else {
        line("Kill", event.detail.as_deref().unwrap_or(""));
        line("Reason", event.reason.as_deref().unwrap_or(""));
    }
    out
}

fn killer(event: &Event) -> String {
    match by(event) {
        "kernel" => "the OOM killer of the kernel".to_owned(),
        _ => kills::killer(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::oom_kill::{OomLimit, OomProcess};

    fn oom_kill() -> OomKill {
        let process = |pid, name: &str, cgroup: &str| OomProcess {
            pid,
            name: name.to_owned(),
            cgroup: cgroup.to_owned(),
            running_ns: 2_000_000_000,
            ..OomProcess::default()
        };
        OomKill {
            time_us: 1_779_624_000_250_000,
            victim: process(4711, "eat", "/a.slice/demo.service"),
            anon: 60 << 20,
            cause: "memory.max".to_owned(),
            limit: Some(OomLimit {
                cgroup: "/a.slice".to_owned(),
                usage: 64 << 20,
                max: 64 << 20,
                swap_max: u64::MAX,
                ..OomLimit::default()
            }),
            culprit: process(12, "sh", "/a.slice/other.service"),
            stalled_some_ppm: Some(120_000),
            stalled_full_ppm: Some(80_000),
            ..OomKill::default()
        }
    }

    fn acted(detail: &str, cgroup: &str) -> Event {
        Event {
            event: "acted".to_owned(),
            cgroup: cgroup.to_owned(),
            policy: Some("oom".to_owned()),
            detail: Some(detail.to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn kernel_kill_is_rendered_with_limit_and_allocation() {
        let event = of_kill(oom_kill());
        let text = render(&event, &Terminal::default());
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.ends_with("  killed by the OOM killer of the kernel"), "{first}");
        assert_eq!(
            rest,
            "  Cgroup: /a.slice/demo.service
  Victim: process 4711 (eat), uid 0
  Memory: 60M anonymous, started 2s before
  Limit: /a.slice was at memory.max=64M with 64M used
  Allocation: the allocation was of process 12 (sh, in /a.slice/other.service)
  Pressure: tasks were stalled for 12% of the last minute, all tasks at once for 8%
"
        );
    }

    #[test]
    fn kill_is_found_by_process_unit_limit_and_path() {
        let event = of_kill(oom_kill());
        for text in ["4711", "eat", "demo.service", "demo", "a.slice", "/a.slice", "/a.slice/demo.service"] {
            assert!(names(&event, text), "{text}");
        }
        for text in ["471", "12", "sh", "other.service", "/b.slice", "ea", ""] {
            assert!(!names(&event, text), "{text}");
        }
    }

    #[test]
    fn kill_by_policy_is_found_and_rendered() {
        let event = acted("killed process 77 (java, 1G, in /a/x.service) with SIGKILL", "/a");
        for text in ["77", "java", "x.service", "/a"] {
            assert!(names(&event, text), "{text}");
        }
        assert!(!names(&event, "7") && !names(&event, "jav"));
        let text = render(&event, &Terminal::default());
        assert!(
            text.contains("killed by oom of memcg-bpf\n  Cgroup: /a\n  Kill: killed process 77"),
            "{text}"
        );
    }

    #[test]
    fn json_has_killer_and_record() {
        let event = of_kill(oom_kill());
        let text = json(&[Kill { by: by(&event), event: &event }]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["by"], "kernel");
        assert_eq!(value[0]["kill"]["limit"]["cgroup"], "/a.slice");
        assert_eq!(value[0]["kill"]["culprit"]["pid"], 12);
    }
}
