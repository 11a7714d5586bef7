//! The summary at the beginning of the page: the totals, and one row for each cgroup in which something happened.

use std::fmt::Write;

use super::cgroup_history::CgroupHistory;
use super::escape::text;
use crate::cli::monitor::history::CgroupSample;
use crate::policy::action::human_duration;
use crate::text::human_bytes;

/// Rows of the table.
const ROWS_MAX: usize = 20;

/// What happened in one cgroup.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Totals {
    kills: u64,
    denied: u64,
    stall_ns: u64,
    /// Other actions that were performed.
    actions: u64,
    /// Actions and denials of dry runs.
    dry_run: u64,
}

impl Totals {
    fn of(history: &CgroupHistory<'_>) -> Self {
        let done = |kill: bool| {
            let wanted = |action: &Option<String>| (action.as_deref() == Some("kill")) == kill;
            count(
                history,
                |event, outcome| matches!(event, "acted" | "oom-killed") && outcome == "done",
                wanted,
            )
        };
        Totals {
            kills: done(true),
            denied: gained(history, |sample| sample.denied),
            stall_ns: gained(history, |sample| sample.stall_ns),
            actions: done(false),
            dry_run: count(history, |_, outcome| outcome == "dry-run", |_| true),
        }
    }

    fn is_quiet(&self) -> bool {
        *self == Totals::default()
    }
}

/// The number of events with this event and outcome, and this action.
fn count(
    history: &CgroupHistory<'_>,
    wanted: impl Fn(&str, &str) -> bool,
    of_action: impl Fn(&Option<String>) -> bool,
) -> u64 {
    let found = history.events.iter().filter(|event| {
        wanted(&event.event, event.outcome.as_deref().unwrap_or("")) && of_action(&event.action)
    });
    found.fold(0, |sum, event| sum.saturating_add(event.count.unwrap_or(1)))
}

/// The increase of a counter over all samples; a reset begins again.
fn gained(history: &CgroupHistory<'_>, of: fn(&CgroupSample) -> u64) -> u64 {
    let pairs = history.samples.iter().zip(history.samples.iter().skip(1));
    pairs.fold(0, |sum, ((_, a), (_, b))| sum.saturating_add(of(b).saturating_sub(of(a))))
}

/// The highest usage, with the limit at that time.
fn peak(history: &CgroupHistory<'_>) -> String {
    let Some((_, at)) = history.samples.iter().max_by_key(|(_, sample)| sample.usage) else {
        return String::new();
    };
    let limit = at.limit.map_or(String::new(), |limit| format!(" of {}", human_bytes(limit)));
    format!("{}{limit}", human_bytes(at.usage))
}

/// Writes the summary. The rows link to the sections `#c0`, `#c1` and so on.
pub(super) fn render(out: &mut String, histories: &[CgroupHistory<'_>], sections: usize) {
    let all: Vec<(usize, Totals)> = histories.iter().map(Totals::of).enumerate().collect();
    let sum = |of: fn(&Totals) -> u64| all.iter().fold(0_u64, |sum, (_, one)| sum.saturating_add(of(one)));
    let _ = writeln!(
        out,
        "<p>{} kills, {} denied requests, {} other actions, {} stalled; in dry runs: {} events.</p>",
        sum(|one| one.kills),
        sum(|one| one.denied),
        sum(|one| one.actions),
        human_duration(sum(|one| one.stall_ns)),
        sum(|one| one.dry_run)
    );
    let mut rows: Vec<&(usize, Totals)> = all.iter().filter(|(_, one)| !one.is_quiet()).collect();
    // The worst first, equal ones in the order of the sections.
    rows.sort_by(|(_, a), (_, b)| b.cmp(a));
    if rows.is_empty() {
        out.push_str("<p>No policy acted, no process was killed, and no request was denied.</p>\n");
        return;
    }
    out.push_str(
        "<table><tr><th>Cgroup</th><th>Kills</th><th>Denied</th><th>Actions</th><th>Stalled</th>\
         <th>Dry run</th><th>Highest use</th></tr>\n",
    );
    for (at, totals) in rows.iter().take(ROWS_MAX) {
        let Some(history) = histories.get(*at) else { continue };
        let name = if *at < sections {
            format!("<a href=\"#c{at}\">{}</a>", text(history.name))
        } else {
            text(history.name)
        };
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            totals.kills,
            totals.denied,
            totals.actions,
            human_duration(totals.stall_ns),
            totals.dry_run,
            peak(history)
        );
    }
    out.push_str("</table>\n");
    if let Some(more) = rows.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        let _ = writeln!(out, "<p class=\"dim\">{more} more are left out.</p>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::monitor::events::Event;

    fn event(event: &str, action: Option<&str>, outcome: &str, count: Option<u64>) -> Event {
        let (event, outcome) = (event.to_owned(), Some(outcome.to_owned()));
        Event { event, action: action.map(str::to_owned), outcome, count, ..Event::default() }
    }

    #[test]
    fn summary_has_totals_and_the_worst_cgroup_first() {
        let sample = |usage: u64, denied: u64, stall_ns: u64| CgroupSample {
            usage,
            denied,
            stall_ns,
            limit: Some(64 << 20),
            ..CgroupSample::default()
        };
        let samples = [sample(1 << 20, 5, 0), sample(60 << 20, 12, 2_000_000_000), sample(2 << 20, 3, 0)];
        let events = [
            event("acted", Some("kill"), "done", None),
            event("acted", Some("kill"), "blocked", None),
            event("acted", Some("memory.high"), "done", None),
            event("denied", None, "dry-run", Some(9)),
        ];
        let quiet = CgroupHistory { name: "quiet", ..CgroupHistory::default() };
        let some = CgroupHistory {
            name: "some",
            samples: samples.iter().map(|sample| (0, sample)).collect(),
            ..CgroupHistory::default()
        };
        let worst =
            CgroupHistory { name: "<worst>", events: events.iter().collect(), ..CgroupHistory::default() };
        let mut out = String::new();
        render(&mut out, &[quiet, some, worst], 2);
        let total = "<p>1 kills, 7 denied requests, 1 other actions, 2s stalled; in dry runs: 9 events.</p>";
        assert!(out.starts_with(total), "{out}");
        let rows: Vec<&str> = out.lines().filter(|line| line.starts_with("<tr>")).collect();
        let cells = |cells: &[&str]| format!("<tr><td>{}</td></tr>", cells.join("</td><td>"));
        assert_eq!(
            rows,
            [
                cells(&["&lt;worst&gt;", "1", "0", "1", "0", "9", ""]),
                cells(&["<a href=\"#c1\">some</a>", "0", "7", "0", "2s", "0", "60M of 64M"]),
            ]
        );
    }
}
