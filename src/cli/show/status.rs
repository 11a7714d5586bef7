//! `memcg-bpf status`: cgroups with policies, one line for each attached policy.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::cgroup::tree;
use crate::cli::change::pause::paused;
use crate::cli::client::Client;
use crate::cli::find::candidates;
use crate::cli::find::container;
use crate::cli::find::installed::DefaultParams;
use crate::cli::find::protection;
use crate::cli::find::target;
use crate::cli::output::Output;
use crate::cli::show::explain::{describe, knob_lines, name_of};
use crate::cli::show::without_policy::{self, WITHOUT_POLICY};
use crate::cli::term::{Style, Terminal, escape_line, fit, json, wrap};
use crate::names::CgroupPath;
use crate::report::explain::nearest_limit;
use crate::report::{ActionStats, BindingReport};
use crate::text::human_bytes;

/// The table's head.
const COLUMNS: [&str; 7] = ["NAME", "POLICY", "FROM", "MEMORY", "DENIED", "LAST ACTION", "CGROUP"];

/// List cgroups with a memory policy, their memory use and denied requests
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf status                    all cgroups with a policy
  memcg-bpf status --all              also units and containers without a policy
  memcg-bpf status demo.service       details of one cgroup
  memcg-bpf status --json | jq '.[] | select(.counters.growth_denied > 0) | .cgroup'")]
pub(in crate::cli) struct Status {
    /// Show details of one cgroup: cgroup path, unit name (.service may be left out), container ID (or its beginning) or name, or process ID
    #[arg(value_name = "CGROUP", add = ArgValueCandidates::new(candidates::cgroups))]
    cgroup: Option<String>,
    /// List also running services, scopes and containers without a policy of their own
    #[arg(long, short, conflicts_with = "cgroup")]
    all: bool,
}

impl Status {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect_to_look()?;
        let mut reports: Vec<BindingReport> = client.list()?;
        if self.all {
            reports.extend(without_policy::reports(&tree::descendants(&CgroupPath::root()), &reports));
        }
        container::add_names(&mut reports);
        // Older daemons do not have this method.
        let actions: ActionStats = client.stats().unwrap_or_default();
        let Some(text) = &self.cgroup else {
            let text = if as_json {
                json(&reports)?
            } else {
                let table = render_table(&reports, terminal, &DefaultParams::installed());
                let paused = paused(&actions).unwrap_or_default();
                let notes = [
                    problem_notes(&actions, terminal),
                    without_policy_note(&reports),
                    protection_notes(&reports, terminal),
                    lost_events_note(&actions),
                ];
                format!("{paused}{table}{}", notes.concat())
            };
            return Ok(Output { style: line_style, ..Output::success(text) });
        };
        let cgroup = target::find(text, &reports)?;
        let found = reports.iter().find(|report| report.cgroup == cgroup.as_str());
        match (found, as_json) {
            (found, true) => Ok(Output { success: found.is_some(), ..Output::success(json(&found)?) }),
            (Some(report), false) => Ok(Output::success(describe(report, terminal))),
            (None, false) => Ok(Output {
                success: false,
                ..Output::success(render_without_policy(cgroup.as_str(), &reports))
            }),
        }
    }
}

/// A cgroup without a policy, with the policies of its ancestors.
fn render_without_policy(cgroup: &str, reports: &[BindingReport]) -> String {
    let mut text = format!("{} has no memory policy of its own.\n", escape_line(cgroup));
    for sentence in without_policy::inherited_policies(cgroup, reports) {
        text.push_str(&format!("{}\n", escape_line(&sentence)));
    }
    text.push_str(&format!(
        "To attach a policy, run: memcg-bpf attach {} deny limit=90%\n",
        escape_line(cgroup)
    ));
    text
}

fn render_table(reports: &[BindingReport], terminal: &Terminal, defaults: &DefaultParams) -> String {
    if reports.is_empty() {
        return "No cgroup has a memory policy.\n\
                For a running unit:         memcg-bpf attach UNIT deny limit=90%\n\
                Permanently:                systemctl edit UNIT, with X-MemoryBPFPolicy=deny limit=90% in [Service]\n\
                For a container:            podman run --annotation memcg.bpf/policy=\"deny limit=90%\" IMAGE\n"
            .to_owned();
    }
    let mut sorted: Vec<&BindingReport> = reports.iter().collect();
    // By component, so that descendants follow their ancestor.
    sorted.sort_by(|a, b| a.cgroup.split('/').cmp(b.cgroup.split('/')));
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    let mut above: Vec<&str> = Vec::new();
    for report in &sorted {
        while above
            .last()
            .is_some_and(|top| !report.cgroup.strip_prefix(*top).is_some_and(|r| r.starts_with('/')))
        {
            above.pop();
        }
        rows.extend(report_rows(report, above.len(), defaults));
        above.push(&report.cgroup);
    }
    // The column LAST ACTION is omitted if it is empty.
    if sorted.iter().all(|report| report.last_action.is_none()) {
        rows.iter_mut().for_each(|row| drop(row.remove(5)));
    }
    let mut text = fit(&rows, &["CGROUP", "FROM", "LAST ACTION", "DENIED"], terminal);
    for report in sorted.iter().filter(|report| !knob_lines(report).is_empty()) {
        text.push_str(&format!("\n{}:\n", name_of(report)));
        for line in knob_lines(report) {
            text.push_str(&wrap(&line, 2, terminal.text_width()));
        }
    }
    for report in sorted.iter().filter(|report| !report.errors.is_empty()) {
        text.push_str(&format!("\n{}:\n", name_of(report)));
        for error in &report.errors {
            text.push_str(&wrap(error, 2, terminal.text_width()));
        }
    }
    text
}

/// The number of units and containers without a policy, listed by `status --all`.
fn without_policy_note(reports: &[BindingReport]) -> String {
    let listed: Vec<&BindingReport> =
        reports.iter().filter(|report| report.state == WITHOUT_POLICY).collect();
    let inheriting = listed.iter().filter(|report| !report.explanation.is_empty()).count();
    match (listed.len(), inheriting) {
        (0, _) => String::new(),
        (count, 0) => format!("\n{count} units and containers have no policy.\n"),
        (count, inheriting) => format!(
            "\n{count} units and containers have no policy of their own; {inheriting} of them inherit policies of a slice.\n"
        ),
    }
}

/// Cgroups whose protection is limited by a slice.
fn protection_notes(reports: &[BindingReport], terminal: &Terminal) -> String {
    let note = |report: &BindingReport| {
        let text = wrap(&protection::note(report)?, 2, terminal.text_width());
        Some(format!("\n{}:\n{text}", name_of(report)))
    };
    reports.iter().filter_map(note).collect()
}

/// Settings of the machine that keep policies from working as documented.
fn problem_notes(actions: &ActionStats, terminal: &Terminal) -> String {
    let note = |problem: &String| format!("\n{}", wrap(problem, 0, terminal.text_width()));
    actions.problems.iter().map(note).collect()
}

/// Actions and events that were lost.
fn lost_events_note(actions: &ActionStats) -> String {
    let mut text = String::new();
    let lost = actions.counts.get("lost").copied().unwrap_or(0);
    if lost > 0 {
        text = format!(
            "\n{lost} actions of policies and kills by the kernel were lost because a ring buffer was full.\n"
        );
    }
    if actions.events_lost > 0 {
        text.push_str(&format!(
            "\n{} events from the kernel were lost because a ring buffer was full; all cgroups were scanned instead.\n",
            actions.events_lost
        ));
    }
    text
}

fn report_rows(report: &BindingReport, depth: usize, defaults: &DefaultParams) -> Vec<Vec<String>> {
    let memory = match (report.usage, nearest_limit(report), report.state.as_str()) {
        (Some(usage), Some(max), _) => format!("{} of {}", human_bytes(usage), human_bytes(max)),
        (Some(usage), None, _) => human_bytes(usage),
        (None, _, "registered") => "not started".to_owned(),
        (None, ..) => "-".to_owned(),
    };
    // A policy in dry-run denies nothing, so the column also shows what it would have denied.
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let denied = match (counter("growth_denied"), counter("growth_dry_run")) {
        (denied, 0) => denied.to_string(),
        (denied, dry) => format!("{denied} (+{dry} dry-run)"),
    };
    let last = report.last_action.as_ref().map(|last| format!("{} {}", last.action, last.outcome));
    let branch = match depth {
        0 => String::new(),
        depth => format!("{}└ ", "  ".repeat(depth.saturating_sub(1))),
    };
    let name = format!("{branch}{}", name_of(report));
    let cgroup = report.cgroup.clone();
    let Some((first, rest)) = report.policies.split_first() else {
        let policy = match (report.errors.is_empty(), report.explanation.is_empty()) {
            (false, _) => "none: invalid, see below",
            (true, true) => "none",
            (true, false) => "none (inherits)",
        };
        return vec![vec![
            name,
            policy.to_owned(),
            String::new(),
            memory,
            denied,
            last.unwrap_or_default(),
            cgroup,
        ]];
    };
    let (policy, from) = (defaults.non_default(first), first.origin.clone());
    let mut rows = vec![vec![name, policy, from, memory, denied, last.unwrap_or_default(), cgroup]];
    rows.extend(rest.iter().map(|policy| {
        let mut row = vec![String::new(); COLUMNS.len()];
        row.splice(1..3, [defaults.non_default(policy), policy.origin.clone()]);
        row
    }));
    rows
}

/// Highlights the header, a pause and errors.
fn line_style(line: &str) -> Option<Style> {
    match line {
        line if line.starts_with("NAME ") => Some(Style::Bold),
        line if line.starts_with("Actions are paused") => Some(Style::Yellow),
        line if line.contains("none: invalid, see below") => Some(Style::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::AttachedPolicy;

    fn report(cgroup: &str, unit: &str) -> BindingReport {
        BindingReport {
            cgroup: cgroup.to_owned(),
            unit: Some(unit.to_owned()),
            state: "active".to_owned(),
            usage: Some(12 << 20),
            counters: [("growth_denied".to_owned(), 3)].into(),
            policies: vec![AttachedPolicy {
                name: "deny".to_owned(),
                origin: "drop-in".to_owned(),
                parameters: [("limit", "64M")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                ..AttachedPolicy::default()
            }],
            ..BindingReport::default()
        }
    }

    #[test]
    fn empty_table_shows_how_to_attach() {
        let text = render_table(&[], &Terminal::default(), &DefaultParams::default());
        assert!(text.starts_with("No cgroup has a memory policy.\n"), "{text}");
        assert!(text.contains("memcg-bpf attach") && text.contains("X-MemoryBPFPolicy="), "{text}");
    }

    #[test]
    fn the_table_has_a_line_for_each_policy() {
        let mut two = report("/a.slice", "a.slice");
        two.policies.push(AttachedPolicy {
            name: "observe".to_owned(),
            origin: "operator".to_owned(),
            ..AttachedPolicy::default()
        });
        let mut bad = report("/x", "bad\u{1b}.service");
        bad.policies.clear();
        bad.errors.push("unknown policy 'dney'; did you mean 'deny'?".to_owned());
        assert_eq!(
            render_table(&[bad, two], &Terminal::default(), &DefaultParams::default()),
            "NAME               POLICY                    FROM      MEMORY      DENIED  CGROUP
a.slice            deny limit=64M            drop-in   12M of 64M  3       /a.slice
                   observe                   operator
bad\\u{1b}.service  none: invalid, see below            12M         3       /x

bad\\u{1b}.service:
  unknown policy 'dney'; did you mean 'deny'?
"
        );
    }

    #[test]
    fn descendants_are_listed_below_ancestors() {
        let mut within = report("/a.slice/a-b.slice/x.service", "x.service");
        (within.usage, within.effective_max) = (Some(3 << 20), Some(1 << 30));
        within.last_action = Some(crate::report::ActionReport {
            action: "kill".into(),
            outcome: "done".into(),
            ..Default::default()
        });
        let reports = [within, report("/a.slice", "a.slice"), report("/a.slice-b", "/a.slice-b")];
        let text = render_table(&reports, &Terminal::default(), &DefaultParams::default());
        let starts: Vec<&str> =
            text.lines().map(|line| line.split_whitespace().next().unwrap_or("")).collect();
        assert_eq!(starts, ["NAME", "a.slice", "└", "/a.slice-b"], "{text}");
        assert!(
            text.contains("└ x.service  deny limit=64M  drop-in  3M of 64M   3       kill done"),
            "{text}"
        );
        let narrow =
            render_table(&reports, &Terminal { width: Some(70), colour: false }, &DefaultParams::default());
        assert!(narrow.lines().all(|line| line.chars().count() <= 70), "{narrow}");
        assert!(narrow.contains("kill done") && !narrow.contains("CGROUP"), "{narrow}");
    }

    #[test]
    fn units_without_policy_are_counted() {
        let plain = |cgroup: &str, explanation: &[&str]| BindingReport {
            policies: Vec::new(),
            state: WITHOUT_POLICY.to_owned(),
            explanation: explanation.iter().map(|text| (*text).to_owned()).collect(),
            ..report(cgroup, cgroup.rsplit('/').next().unwrap())
        };
        let both = [plain("/a.service", &[]), plain("/b.service", &["Inherited from: /."])];
        let text = render_table(&both, &Terminal::default(), &DefaultParams::default());
        assert!(text.contains("a.service  none ") && text.contains("b.service  none (inherits)"), "{text}");
        assert_eq!(without_policy_note(&both[..1]), "\n1 units and containers have no policy.\n");
        assert!(
            without_policy_note(&both).contains("2 units and containers")
                && without_policy_note(&both).contains("1 of them inherit")
        );
        assert_eq!(without_policy_note(&[report("/c", "c.service")]), "");
    }

    #[test]
    fn settings_that_keep_policies_from_working_are_shown() {
        let sentence =
            "kernel.ftrace_enabled is 0, so the kernel attaches no tracing program; run: sysctl \u{1b}";
        let actions = ActionStats { problems: vec![sentence.to_owned()], ..ActionStats::default() };
        assert_eq!(
            problem_notes(&actions, &Terminal::default()),
            format!("\n{}\n", sentence.replace('\u{1b}', "\\u{1b}"))
        );
        let narrow = problem_notes(&actions, &Terminal { width: Some(40), colour: false });
        assert!(narrow.lines().count() > 2 && narrow.lines().all(|line| line.len() <= 40), "{narrow}");
        assert_eq!(problem_notes(&ActionStats::default(), &Terminal::default()), "");
    }

    #[test]
    fn inherited_policies_are_named() {
        let text = render_without_policy("/a.slice/x", &[report("/a.slice", "a.slice")]);
        assert!(text.contains("Inherited from: /a.slice"), "{text}");
        assert!(!render_without_policy("/a.slicer", &[report("/a.slice", "a.slice")]).contains("Inherited"));
    }
}
