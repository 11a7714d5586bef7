//! `memcg-bpf events`: attached and detached policies, their actions, denials, and kills by the kernel, from the journal.
//! Only entries of the daemon are shown.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::find::target::{self, TargetError};
use crate::cli::output::Output;
use crate::cli::term::time::Timestamp;
use crate::cli::term::{Terminal, escape_line, json_line, print, wrap};
use crate::names::PodName;
use crate::report::oom_kill::{MSGID_OOM_KILL, OomKill};
use crate::report::{BindingReport, MSGID_ACTION, MSGID_ATTACHED, MSGID_DENIED, MSGID_DETACHED, PodReport};

/// Entries shown without --since; more is rarely read, and journals may be gigabytes.
const LINES: &str = "1000";
/// Before --follow goes on, as journalctl does.
const LINES_BEFORE: &str = "10";
/// MESSAGE_ID of systemd's line for a unit in which systemd-oomd has killed processes (SD_MESSAGE_UNIT_OOMD_KILL).
const MSGID_OOMD_KILL: &str = "d989611b15e44c9dbf31e3c81256e4ed";
/// A trusted field of journald, so that only entries of the daemon match.
const DAEMON: &str = "_SYSTEMD_UNIT=memcg-bpfd.service";

/// Show actions of policies, denied requests, policies attached and detached, and kills by the kernel's OOM killer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf events                        the last 1000
  memcg-bpf events demo.service --since today
  memcg-bpf events --since '10 min ago' --follow
  memcg-bpf events --json | jq -c 'select(.event == \"acted\")'

Denied requests are shown at most once a minute for each policy and cgroup, with their number
since the line before. A dry run shows those that it would have denied.

Times are local, those in JSON UTC. --since takes the time formats of journalctl. With --json, prints one
object per line. Events are read from the journal; without Storage=persistent in journald.conf they may start
at the last boot.")]
pub(in crate::cli) struct Events {
    /// Show only this cgroup and its descendants: cgroup path, unit name, container ID or name, or process ID
    #[arg(value_name = "CGROUP")]
    cgroup: Option<String>,
    /// Show new events until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Show events since this time, such as today, '10 min ago' or '2026-05-01 12:00'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
}

/// One entry; the fields are a stable interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(in crate::cli) struct Event {
    /// UTC, RFC 3339.
    pub time: String,
    /// Microseconds since 1970.
    pub time_us: u64,
    /// `attached`, `detached`, `acted`, `denied` or `oom-killed`. Only for `why`: `oomd-killed`, whose cgroup is a unit.
    pub event: String,
    pub cgroup: String,
    /// The names of the pod and of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReport>,
    /// For `attached`: the attached policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// For `acted` and `denied`: the policy; empty if the daemon restored a knob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// For `denied`: the size of the request, the memory in use and the limit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Denials since the event before, with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What exactly was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// For `oom-killed`: the kill by the kernel's OOM killer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<OomKill>,
}

impl Events {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let only = self.cgroup.as_deref().map(filter_path).transpose()?;
        let wanted = |event: &Event| only.as_deref().is_none_or(|top| matches(&event.cgroup, top));
        let mut shown = 0_usize;
        read(self.since.as_deref(), self.follow, |event| {
            if wanted(&event) {
                shown = shown.saturating_add(1);
                print(&if as_json { json_line(&event)? } else { render(&event, terminal) });
            }
            Ok(())
        })?;
        let nothing = "No events in the journal.\n".to_owned();
        Ok(Output::success(if shown == 0 && !as_json { nothing } else { String::new() }))
    }
}

/// A removed cgroup cannot be looked up, but its path or unit can be given.
fn filter_path(text: &str) -> anyhow::Result<String> {
    if text.starts_with('/') && !text.starts_with(crate::cgroup::mount::CGROUP_ROOT) {
        return Ok(text.to_owned());
    }
    let reports: Vec<BindingReport> =
        Client::connect_to_look().and_then(|client| client.list()).unwrap_or_default();
    match target::find(text, &reports) {
        Ok(path) => Ok(path.as_str().to_owned()),
        Err(TargetError::NoUnit(unit) | TargetError::Masked(unit)) => Ok(unit),
        Err(_) if text.contains('.') && !text.contains('/') => Ok(text.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// By path, or by the name of a unit on the way.
pub(in crate::cli) fn matches(cgroup: &str, top: &str) -> bool {
    match top.starts_with('/') {
        true => cgroup.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        false => cgroup.split('/').any(|part| part == top),
    }
}

/// Reads the journal from `since`, and with `follow` waits for new entries.
pub(in crate::cli) fn read(
    since: Option<&str>,
    follow: bool,
    each: impl FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut command = journalctl();
    command.args(
        [MSGID_ACTION, MSGID_ATTACHED, MSGID_DETACHED, MSGID_DENIED, MSGID_OOM_KILL]
            .map(|id| format!("MESSAGE_ID={id}")),
    );
    match (since, follow) {
        (Some(since), _) => command.arg(format!("--since={since}")),
        (None, false) => command.arg(format!("--lines={LINES}")),
        (None, true) => command.arg(format!("--lines={LINES_BEFORE}")),
    };
    if follow {
        command.arg("--follow");
    }
    read_output(command, each)
}

/// Reads the last kills: by policies, by the kernel, and by systemd-oomd.
pub(in crate::cli) fn read_kills(each: impl FnMut(Event) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut command = journalctl();
    command.args([MSGID_ACTION, MSGID_OOM_KILL].map(|id| format!("MESSAGE_ID={id}")));
    command.args(["MEMCG_BPF_ACTION=kill", "MEMCG_BPF_OUTCOME=done"]);
    // Of the system's systemd only: a user's could name any unit.
    command.args(["+", &format!("MESSAGE_ID={MSGID_OOMD_KILL}"), "_PID=1"]);
    command.arg(format!("--lines={LINES}"));
    read_output(command, each)
}

fn journalctl() -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--all", "--no-pager", "--quiet", DAEMON]);
    command
}

fn read_output(
    mut command: Command,
    mut each: impl FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut journal = ChildGuard(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting journalctl, which comes with systemd")?,
    );
    let lines = journal.0.stdout.take().context("journalctl has no output")?;
    for line in BufReader::new(lines).lines() {
        let Ok(entry) = serde_json::from_str(&line.context("reading the output of journalctl")?) else {
            continue;
        };
        if let Some(event) = event(&entry) {
            each(event)?;
        }
    }
    let mut stderr = String::new();
    if let Some(mut errors) = journal.0.stderr.take() {
        errors.read_to_string(&mut stderr)?;
    }
    let status = journal.0.wait().context("waiting for journalctl")?;
    // With --since and no entry, journalctl exits with 1 and prints nothing.
    anyhow::ensure!(
        status.success() || stderr.trim().is_empty(),
        "journalctl: {}",
        escape_line(stderr.trim())
    );
    Ok(())
}

/// Terminates the child process when dropped.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One entry of `journalctl -o json`, all of whose values are strings.
fn event(entry: &BTreeMap<String, Value>) -> Option<Event> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| field(name).and_then(|text| text.parse().ok());
    let time_us = number("__REALTIME_TIMESTAMP")?;
    let event = match field("MESSAGE_ID")?.as_str() {
        MSGID_ACTION => "acted",
        MSGID_ATTACHED => "attached",
        MSGID_DETACHED => "detached",
        MSGID_DENIED => "denied",
        MSGID_OOM_KILL => "oom-killed",
        MSGID_OOMD_KILL => "oomd-killed",
        _ => return None,
    };
    let kill: Option<OomKill> =
        field("MEMCG_BPF_OOM_KILL").and_then(|record| serde_json::from_str(&record).ok());
    // An entry that the next daemon wrote is later than the kill.
    let time_us = kill.as_ref().map_or(time_us, |kill| kill.time_us);
    let policies = field("MEMCG_BPF_POLICIES").unwrap_or_default();
    Some(Event {
        time: Timestamp::of_us(time_us).to_string(),
        time_us,
        event: event.to_owned(),
        cgroup: field("MEMCG_BPF_CGROUP").or_else(|| field("UNIT"))?,
        pod: field("MEMCG_BPF_POD").and_then(|name| PodName::parse(&name).ok()).as_ref().map(PodReport::from),
        policies: policies.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        policy: field("MEMCG_BPF_POLICY").or_else(|| (event == "acted").then(String::new)),
        action: field("MEMCG_BPF_ACTION"),
        outcome: field("MEMCG_BPF_OUTCOME"),
        from: number("MEMCG_BPF_FROM"),
        to: number("MEMCG_BPF_TO"),
        requested: number("MEMCG_BPF_REQUESTED"),
        usage: number("MEMCG_BPF_USAGE"),
        limit: number("MEMCG_BPF_LIMIT"),
        count: number("MEMCG_BPF_COUNT"),
        pid: number("MEMCG_BPF_PID"),
        process: field("MEMCG_BPF_PROCESS"),
        reason: field("MEMCG_BPF_REASON"),
        detail: field("MEMCG_BPF_DETAIL").or_else(|| field("MESSAGE").filter(|_| event == "oomd-killed")),
        kill,
    })
}

/// One line for the event, and lines below it for the reason.
fn render(event: &Event, terminal: &Terminal) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let what = match event.event.as_str() {
        "attached" => format!("attached: {}", event.policies.join(", ")),
        "detached" => "detached".to_owned(),
        "oom-killed" => "killed by the kernel's OOM killer".to_owned(),
        _ => {
            let who = text(&event.policy);
            let who = if who.is_empty() { "memcg-bpfd" } else { &who };
            let words: Vec<&str> =
                [&event.action, &event.outcome].into_iter().flatten().map(String::as_str).collect();
            format!("{who}: {}", words.join(" "))
        }
    };
    let mut out = format!(
        "{}  {}  {}\n",
        Timestamp::of_us(event.time_us).local(),
        escape_line(&event.pod.as_ref().map_or_else(|| event.cgroup.clone(), ToString::to_string)),
        escape_line(&what)
    );
    for why in [&event.detail, &event.reason].into_iter().flatten().filter(|why| !why.is_empty()) {
        out.push_str(&wrap(why, 17, terminal.text_width()));
    }
    out
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
