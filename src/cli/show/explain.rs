//! `memcg-bpf explain`: one cgroup: attached policies with their origin, counters, and the distance to limits.

use std::path::Path;

use clap::Args;

use crate::cgroup::memory;
use crate::cli::args::CgroupArg;
use crate::cli::change::pause::paused;
use crate::cli::client::Client;
use crate::cli::find::container;
use crate::cli::find::diagnose;
use crate::cli::find::installed::DefaultParams;
use crate::cli::find::protection;
use crate::cli::find::target;
use crate::cli::find::target::TargetError;
use crate::cli::output::Output;
use crate::cli::show::kills;
use crate::cli::show::without_policy::{WITHOUT_POLICY, inherited_policies};
use crate::cli::term::{Style, Terminal, escape_line, json, wrap};
use crate::names::{CgroupPath, ROOT_SLICE, UnitName};
use crate::report::{AttachedPolicy, BindingReport, KnobReport};
use crate::text::human_bytes;

/// Show the policies of a cgroup, their origin, counters and the distance to limits
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf explain demo.service

If a unit or container has no policy, shows the reason and how to attach one, and exits with status 1.
Also shows why processes of the cgroup were killed, from the journal, even after the unit or
container has stopped (a removed container is named by its ID). See also: memcg-bpf why.")]
pub(in crate::cli) struct Explain {
    #[command(flatten)]
    arg: CgroupArg,
}

impl Explain {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect_to_look()?;
        let list: Option<Vec<BindingReport>> = client.list_if_allowed()?;
        let sees_all = list.is_some();
        let mut reports = list.unwrap_or_default();
        container::add_names(&mut reports);
        let mut report = match target::find(&self.arg.cgroup, &reports) {
            Ok(cgroup) if !sees_all => client.explain(cgroup.as_str())?,
            Ok(cgroup) => fetch(&client, &cgroup, &reports)?,
            Err(TargetError::NoUnit(unit)) => not_loaded(&UnitName::parse(&unit)?),
            Err(TargetError::NoContainer(id, suggestion)) => {
                removed_container(&id).ok_or(TargetError::NoContainer(id, suggestion))?
            }
            Err(other) => return Err(other.into()),
        };
        if let Some(text) = client.stats().ok().as_ref().and_then(paused) {
            report.explanation.insert(0, text.trim_end().replace('\n', " "));
        }
        let success = report.state != WITHOUT_POLICY;
        let text = if as_json { json(&report)? } else { describe(&report, terminal) };
        Ok(Output { success, style: line_style, ..Output::success(text) })
    }
}

/// Reports what the daemon knows, and diagnoses missing policies.
fn fetch(client: &Client, cgroup: &CgroupPath, reports: &[BindingReport]) -> anyhow::Result<BindingReport> {
    let listed = reports.iter().find(|report| report.cgroup == cgroup.as_str());
    let mut report: BindingReport = match listed {
        Some(listed) => {
            let report: BindingReport = client.explain(cgroup.as_str())?;
            BindingReport { container_name: listed.container_name.clone(), ..report }
        }
        None => without_policy(cgroup, reports),
    };
    let kills = kills::of_cgroup(cgroup);
    // A cgroup that does not exist may have ended by a kill.
    let at = if report.state == "registered" { 0 } else { report.explanation.len() };
    report.explanation.splice(at..at, kills);
    report.explanation.extend(protection::note(&report));
    report.explanation.extend(pressure_note(cgroup));
    let root = Path::new("/");
    let unit =
        report.unit.as_deref().or(unit_in(cgroup.as_str())).and_then(|unit| UnitName::parse(unit).ok());
    if let Some(unit) = unit.filter(|_| report.container.is_none()) {
        report.explanation.extend(diagnose::diagnose_unit(root, &unit, Some(&report)));
        diagnose::locate_policies(root, &unit, &mut report);
    }
    if let Some(id) = report.container.clone() {
        report.explanation.extend(diagnose::diagnose_container(root, cgroup, &id, listed.is_some()));
    }
    Ok(report)
}

/// The pressure of the cgroup, which some policies compare with their parameters.
fn pressure_note(cgroup: &CgroupPath) -> Option<String> {
    let (some, full) = memory::pressure(cgroup).ok()?;
    Some(format!(
        "Tasks were stalled for {some}% of the last 10 seconds, all tasks at once for {full}% (memory.pressure)."
    ))
}

/// A cgroup for which the daemon has no request.
fn without_policy(cgroup: &CgroupPath, reports: &[BindingReport]) -> BindingReport {
    let id = container::id_in(cgroup).map(str::to_owned);
    let mut explanation = vec!["No policy is requested for this cgroup.".to_owned()];
    explanation.extend(inherited_policies(cgroup.as_str(), reports));
    let machine = memory::total_ram().unwrap_or(u64::MAX);
    BindingReport {
        cgroup: cgroup.as_str().to_owned(),
        state: WITHOUT_POLICY.to_owned(),
        container_name: id.as_deref().and_then(|id| container::lookup(cgroup, id).name),
        container: id,
        usage: memory::usage(cgroup).ok(),
        effective_max: memory::usage(cgroup).ok().map(|_| memory::effective_max(cgroup, machine)),
        explanation,
        ..BindingReport::default()
    }
}

/// A unit without a cgroup and without a registered policy.
fn not_loaded(unit: &UnitName) -> BindingReport {
    let mut explanation =
        vec!["The unit is not running, or is a user unit, and no policy is registered for it.".to_owned()];
    explanation.extend(kills::of_unit(unit.as_str()));
    explanation.extend(diagnose::diagnose_unit(Path::new("/"), unit, None));
    BindingReport {
        unit: Some(unit.as_str().to_owned()),
        state: WITHOUT_POLICY.to_owned(),
        explanation,
        ..BindingReport::default()
    }
}

/// A container without a cgroup that a policy has killed.
fn removed_container(id: &str) -> Option<BindingReport> {
    let kills = kills::of_container(id);
    let mut explanation = vec!["The container is not running.".to_owned()];
    explanation.extend(kills.iter().cloned());
    (!kills.is_empty()).then(|| BindingReport {
        container: Some(id.to_owned()),
        state: WITHOUT_POLICY.to_owned(),
        explanation,
        ..BindingReport::default()
    })
}

/// Headings stand out.
fn line_style(line: &str) -> Option<Style> {
    let heading = !line.starts_with(' ') && !line.is_empty();
    (heading || (line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':')))
        .then_some(Style::Bold)
}

/// The name of the container or unit, or the path of the cgroup.
pub(in crate::cli) fn name_of(report: &BindingReport) -> String {
    if let Some(pod) = &report.pod {
        return escape_line(&pod.to_string());
    }
    if let Some(name) = &report.container_name {
        return format!("container {}", escape_line(name));
    }
    match (&report.container, &report.unit) {
        (Some(id), _) => format!("container {}", escape_line(&id.chars().take(12).collect::<String>())),
        (None, Some(unit)) => escape_line(unit),
        (None, None) => escape_line(unit_in(&report.cgroup).unwrap_or(&report.cgroup)),
    }
}

/// The system unit of a path. Only below slices, because only systemd creates cgroups there.
fn unit_in(path: &str) -> Option<&str> {
    if path == "/" {
        return Some(ROOT_SLICE);
    }
    let (above, name) = path.rsplit_once('/')?;
    let is_unit = [".service", ".scope", ".slice"].iter().any(|ending| name.ends_with(ending));
    let in_slices = above.split('/').skip(1).all(|part| part.ends_with(".slice"));
    (is_unit && in_slices).then_some(name)
}

/// The description of one binding.
pub(in crate::cli) fn describe(report: &BindingReport, terminal: &Terminal) -> String {
    describe_with(report, terminal, &DefaultParams::installed())
}

/// The same with these defaults, of which the parameters are left out.
pub(in crate::cli) fn describe_with(
    report: &BindingReport,
    terminal: &Terminal,
    defaults: &DefaultParams,
) -> String {
    let width = terminal.text_width();
    let name = name_of(report);
    let mut out = if name == report.cgroup || report.cgroup.is_empty() {
        format!("{name}\n")
    } else {
        format!("{name}  {}\n", escape_line(&report.cgroup))
    };
    if let Some(usage) = report.usage {
        let most =
            report.effective_max.map_or(String::new(), |max| format!(" of at most {}", human_bytes(max)));
        out.push_str(&format!("  Memory in use: {}{most}\n", human_bytes(usage)));
    }
    section(&mut out, "Attached", report.policies.iter().map(|policy| policy_line(policy, defaults)), width);
    if report.policies.is_empty() {
        out.push_str("\n  No policy is attached.\n");
    }
    section(&mut out, "Knobs", knob_lines(report).into_iter(), width);
    section(&mut out, "Last action", last_action(report).into_iter(), width);
    section(&mut out, "Last denial", last_denial(report).into_iter(), width);
    section(&mut out, "Explanation", report.explanation.iter().cloned(), width);
    section(&mut out, "Errors", report.errors.iter().cloned(), width);
    let asked = report.requests.iter().map(|r| format!("{} ({}): {}", r.origin, r.location, r.line));
    section(&mut out, "Requests, highest precedence first", asked, width);
    counter_lines(&mut out, "Counters since the policy was attached", &report.counters);
    counter_lines(&mut out, "Actions since the daemon started", &report.actions);
    counter_lines(&mut out, "memory.events", &report.events);
    out
}

/// `memory.high: 100M (original max; constraints: throttle 100M)`
pub(in crate::cli) fn knob_lines(report: &BindingReport) -> Vec<String> {
    let one = |knob: &KnobReport| {
        let constraints: Vec<String> =
            knob.constraints.iter().map(|(policy, value)| format!("{policy} {value}")).collect();
        let constraints = if constraints.is_empty() { "none".to_owned() } else { constraints.join(", ") };
        format!("{}: {} (original {}; constraints: {constraints})", knob.knob, knob.current, knob.original)
    };
    report.knobs.iter().map(one).collect()
}

fn last_action(report: &BindingReport) -> Option<String> {
    let last = report.last_action.as_ref()?;
    let who = if last.policy.is_empty() { "memcg-bpfd" } else { &last.policy };
    Some(format!("{who}: {} {}: {}: {}", last.action, last.outcome, last.detail, last.reason))
}

fn last_denial(report: &BindingReport) -> Option<String> {
    let last = report.last_denial.as_ref()?;
    Some(format!("{}: {}", last.policy, last.detail))
}

fn policy_line(policy: &AttachedPolicy, defaults: &DefaultParams) -> String {
    let mut text = format!("{}, from {} {}", defaults.non_default(policy), policy.origin, policy.location);
    if !policy.missing_hooks.is_empty() {
        text.push_str(&format!("; missing hooks: {}", policy.missing_hooks.join(", ")));
    }
    text
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>, width: usize) {
    for (i, line) in lines.enumerate() {
        if i == 0 {
            out.push_str(&format!("\n  {title}:\n"));
        }
        out.push_str(&wrap(&line, 4, width));
    }
}

/// Counters that are not zero, one a line; times in their names' unit.
fn counter_lines(out: &mut String, title: &str, numbers: &std::collections::BTreeMap<String, u64>) {
    let counted: Vec<(String, u64)> =
        numbers.iter().filter(|(_, n)| **n > 0).map(|(name, n)| (escape_line(name), *n)).collect();
    if counted.is_empty() {
        return;
    }
    let widest = counted.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    out.push_str(&format!("\n  {title}:\n"));
    for (name, number) in counted {
        out.push_str(&format!("    {name:<widest$}  {number}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DenialReport, PodReport, RequestReport};

    #[test]
    fn only_system_units_are_displayed_by_name() {
        let name =
            |path: &str| name_of(&BindingReport { cgroup: path.to_owned(), ..BindingReport::default() });
        assert_eq!(name("/system.slice/a.service"), "a.service");
        assert_eq!(name("/a.slice"), "a.slice");
        assert_eq!(name("/machine.slice/x.scope/a.service"), "/machine.slice/x.scope/a.service");
        assert_eq!(name("/plain/a.service"), "/plain/a.service");
        assert_eq!(name("/"), "-.slice");
        assert_eq!(name(""), "");
    }

    #[test]
    fn scope_of_a_container_is_displayed_by_its_name() {
        let scope = BindingReport {
            unit: Some(format!("libpod-{}.scope", "ab".repeat(32))),
            container_name: Some("web".to_owned()),
            ..BindingReport::default()
        };
        assert_eq!(name_of(&scope), "container web");
        let pod = |container: Option<&str>| {
            let (namespace, name) = ("default".to_owned(), "web\u{1b}".to_owned());
            let container = container.map(str::to_owned);
            name_of(&BindingReport { pod: Some(PodReport { namespace, name, container }), ..scope.clone() })
        };
        assert_eq!(pod(Some("app")), "pod default/web\\u{1b} app");
        assert_eq!(pod(None), "pod default/web\\u{1b}");
    }

    #[test]
    fn knob_lines_show_current_and_original() {
        let knob = |current: &str, wants: &[(&str, &str)]| KnobReport {
            knob: "memory.high".to_owned(),
            original: "max".to_owned(),
            current: current.to_owned(),
            constraints: wants.iter().map(|(p, v)| ((*p).to_owned(), (*v).to_owned())).collect(),
        };
        let knobs = vec![knob("64M", &[("throttle", "64M")]), knob("max", &[])];
        assert_eq!(
            knob_lines(&BindingReport { knobs, ..BindingReport::default() }),
            [
                "memory.high: 64M (original max; constraints: throttle 64M)",
                "memory.high: max (original max; constraints: none)"
            ]
        );
    }

    #[test]
    fn binding_is_rendered() {
        let report = BindingReport {
            cgroup: "/system.slice/demo.service".to_owned(),
            unit: Some("demo.service".to_owned()),
            state: "active".to_owned(),
            usage: Some(62 << 20),
            effective_max: Some(256 << 20),
            policies: vec![AttachedPolicy {
                name: "deny".to_owned(),
                origin: "drop-in".to_owned(),
                location: "/etc/x.conf:2".to_owned(),
                parameters: [("limit", "64M"), ("mode", "act")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                ..AttachedPolicy::default()
            }],
            requests: vec![RequestReport {
                origin: "drop-in".to_owned(),
                location: "/etc/x.conf:2".to_owned(),
                line: "deny limit=64M\u{1b}[2J\nAttached".to_owned(),
            }],
            counters: [("growth_denied".to_owned(), 3), ("reclaims".to_owned(), 0)].into(),
            last_denial: Some(DenialReport {
                policy: "deny".to_owned(),
                detail: "denied 32M to process 4711 (java), 60M of 64M in use".to_owned(),
                ..DenialReport::default()
            }),
            ..BindingReport::default()
        };
        let text = describe_with(&report, &Terminal::default(), &DefaultParams::default());
        assert_eq!(
            text,
            "demo.service  /system.slice/demo.service
  Memory in use: 62M of at most 256M

  Attached:
    deny limit=64M mode=act, from drop-in /etc/x.conf:2

  Last denial:
    deny: denied 32M to process 4711 (java), 60M of 64M in use

  Requests, highest precedence first:
    drop-in (/etc/x.conf:2): deny limit=64M\\u{1b}[2J\\nAttached

  Counters since the policy was attached:
    growth_denied  3
"
        );
    }
}
