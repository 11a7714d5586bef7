//! `memcg-bpf status`: what is governed, one line for each policy in force.

use clap::Args;

use super::client::Client;
use super::explain::{changed, describe, name_of};
use super::pause::paused;
use super::policies::Defaults;
use super::screen::{Screen, json, one_line, table, wrapped};
use super::{Answer, target};
use crate::report::{ActionsReport, BindingReport};
use crate::units::human_bytes;

/// Show what is under a memory policy, and how it goes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf status                    everything that is governed
  memcg-bpf status demo.service       one of them, in full
  memcg-bpf status --json | jq '.[] | select(.counters.growth_denied > 0) | .cgroup'")]
pub(super) struct Status {
    /// Only this one: cgroup path, unit name, container id (or its beginning), or process id
    #[arg(value_name = "CGROUP")]
    cgroup: Option<String>,
}

impl Status {
    pub fn run(&self, screen: &Screen, as_json: bool) -> anyhow::Result<Answer> {
        let client = Client::connect()?;
        let reports: Vec<BindingReport> = client.list()?;
        // A daemon that is older than this command knows no actions.
        let actions: ActionsReport = client.actions().unwrap_or_default();
        let Some(text) = &self.cgroup else {
            return Ok(Answer::good(if as_json {
                json(&reports)?
            } else {
                let table = all(&reports, screen, &Defaults::installed());
                format!("{}{table}{}", paused(&actions).unwrap_or_default(), uncounted(&actions))
            }));
        };
        let cgroup = target::find(text, &reports)?;
        let found = reports.iter().find(|report| report.cgroup == cgroup.as_str());
        match (found, as_json) {
            (found, true) => Ok(Answer { text: json(&found)?, good: found.is_some() }),
            (Some(report), false) => Ok(Answer::good(describe(report, screen))),
            (None, false) => Ok(Answer { text: not_governed(cgroup.as_str(), &reports), good: false }),
        }
    }
}

/// No policy of its own; one further up holds for it nevertheless.
fn not_governed(cgroup: &str, reports: &[BindingReport]) -> String {
    let mut text = format!("{} has no memory policy of its own.\n", one_line(cgroup));
    for report in reports.iter().filter(|r| !r.policies.is_empty()) {
        if cgroup.strip_prefix(report.cgroup.as_str()).is_some_and(|rest| rest.starts_with('/')) {
            text.push_str(&format!("It lies within {}, which has one.\n", one_line(&report.cgroup)));
        }
    }
    text.push_str(&format!("Give it one: memcg-bpf attach {} deny limit=90%\n", one_line(cgroup)));
    text
}

fn all(reports: &[BindingReport], screen: &Screen, defaults: &Defaults) -> String {
    if reports.is_empty() {
        return "Nothing is under a memory policy.\n\
                Try one on a running unit:  memcg-bpf attach UNIT deny limit=90%\n\
                Permanently:                systemctl edit UNIT, with X-MemoryBPFPolicy=deny limit=90% in [Service]\n\
                For a container:            podman run --annotation memcg.bpf/policy=\"deny limit=90%\" IMAGE\n"
            .to_owned();
    }
    let mut rows =
        vec![["NAME", "POLICY", "FROM", "MEMORY", "REFUSED", "CGROUP"].map(str::to_owned).to_vec()];
    let mut sorted: Vec<&BindingReport> = reports.iter().collect();
    sorted.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    for report in &sorted {
        rows.extend(rows_of(report, defaults));
    }
    let mut text = table(&rows, screen);
    for report in sorted.iter().filter(|report| !changed(report).is_empty()) {
        text.push_str(&format!("\n{}:\n", name_of(report)));
        for line in changed(report) {
            text.push_str(&wrapped(&line, 2, screen.text_width()));
        }
    }
    for report in sorted.iter().filter(|report| !report.faults.is_empty()) {
        text.push_str(&format!("\n{}:\n", name_of(report)));
        for fault in &report.faults {
            text.push_str(&wrapped(fault, 2, screen.text_width()));
        }
    }
    text
}

/// What nothing else shows: wishes of policies that never became an action.
fn uncounted(actions: &ActionsReport) -> String {
    let lost = actions.counts.get("lost").copied().unwrap_or(0);
    if lost == 0 {
        return String::new();
    }
    format!("\n{lost} actions that policies asked for were lost, because too many came at once.\n")
}

fn rows_of(report: &BindingReport, defaults: &Defaults) -> Vec<Vec<String>> {
    let memory = match (report.usage, report.state.as_str()) {
        (Some(usage), _) => human_bytes(usage),
        (None, "registered") => "not started".to_owned(),
        (None, _) => "-".to_owned(),
    };
    // A policy in dry-run refuses nothing; what it would have refused is what its user wants to see.
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let refused = match (counter("growth_denied"), counter("growth_dry_run")) {
        (denied, 0) => denied.to_string(),
        (denied, dry) => format!("{denied} (+{dry} dry-run)"),
    };
    let row = |name: &str, policy: String, from: &str, memory: &str, refused: &str, cgroup: &str| {
        vec![
            name.to_owned(),
            policy,
            from.to_owned(),
            memory.to_owned(),
            refused.to_owned(),
            cgroup.to_owned(),
        ]
    };
    let Some((first, rest)) = report.policies.split_first() else {
        let policy = if report.faults.is_empty() { "none" } else { "none: refused, see below" };
        return vec![row(&name_of(report), policy.to_owned(), "", &memory, &refused, &report.cgroup)];
    };
    let mut rows = vec![row(
        &name_of(report),
        defaults.apart_from(first),
        &first.origin,
        &memory,
        &refused,
        &report.cgroup,
    )];
    rows.extend(rest.iter().map(|policy| row("", defaults.apart_from(policy), &policy.origin, "", "", "")));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PolicyInForce;

    fn report(cgroup: &str, unit: &str) -> BindingReport {
        BindingReport {
            cgroup: cgroup.to_owned(),
            unit: Some(unit.to_owned()),
            state: "active".to_owned(),
            usage: Some(12 << 20),
            counters: [("growth_denied".to_owned(), 3)].into(),
            policies: vec![PolicyInForce {
                name: "deny".to_owned(),
                origin: "drop-in".to_owned(),
                settings: [("limit", "64M")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                ..PolicyInForce::default()
            }],
            ..BindingReport::default()
        }
    }

    #[test]
    fn nothing_governed_says_what_to_do_next() {
        let text = all(&[], &Screen::default(), &Defaults::default());
        assert!(text.starts_with("Nothing is under a memory policy.\n"), "{text}");
        assert!(text.contains("memcg-bpf attach") && text.contains("X-MemoryBPFPolicy="), "{text}");
    }

    #[test]
    fn the_table_has_a_line_for_each_policy() {
        let mut two = report("/a.slice", "a.slice");
        two.policies.push(PolicyInForce {
            name: "observe".to_owned(),
            origin: "operator".to_owned(),
            ..PolicyInForce::default()
        });
        let mut bad = report("/x", "bad\u{1b}.service");
        bad.policies.clear();
        bad.faults.push("unknown policy 'dney'; did you mean 'deny'?".to_owned());
        assert_eq!(
            all(&[bad, two], &Screen::default(), &Defaults::default()),
            "NAME               POLICY                    FROM      MEMORY  REFUSED  CGROUP
a.slice            deny limit=64M            drop-in   12M     3        /a.slice
                   observe                   operator
bad\\u{1b}.service  none: refused, see below            12M     3        /x

bad\\u{1b}.service:
  unknown policy 'dney'; did you mean 'deny'?
"
        );
    }

    #[test]
    fn a_cgroup_below_a_governed_one_is_said_to_be() {
        let text = not_governed("/a.slice/x", &[report("/a.slice", "a.slice")]);
        assert!(text.contains("It lies within /a.slice, which has one."), "{text}");
        assert!(!not_governed("/a.slicer", &[report("/a.slice", "a.slice")]).contains("lies within"));
    }
}
