//! Formats reports as metrics. Names follow Prometheus's conventions: base units, and _total for counters. The labels
//! of a cgroup are its path and its display name, and those of its pod; other values of unbounded number are not used as labels.

use crate::cli::show::explain::name_of;
use crate::report::explain::nearest_limit;
use crate::report::{ActionStats, BindingReport};
use crate::text::parse_bytes;

/// Number of cgroups listed: those that use most memory. Limits the number of time series.
const CGROUPS_MAX: usize = 1000;

/// The counters of a binding: name, name of the metric, help, factor to the base unit.
const COUNTERS: [(&str, &str, &str, Scale); 14] = [
    (
        "growth_requests",
        "growth_requests_total",
        "Requests for address space that must be backed.",
        Scale::One,
    ),
    ("growth_pages", "growth_bytes_total", "Bytes of address space requested.", Scale::Pages),
    ("growth_failed", "growth_failed_total", "Requests denied by a policy or the kernel.", Scale::One),
    ("growth_denied", "growth_denied_total", "Requests denied by a policy of this cgroup.", Scale::One),
    (
        "growth_dry_run",
        "growth_dry_run_total",
        "Requests that would have been denied without dry-run.",
        Scale::One,
    ),
    ("charges", "charges_total", "Batches of pages charged.", Scale::One),
    ("charged_pages", "charged_bytes_total", "Bytes charged.", Scale::Pages),
    ("reclaim_runs", "reclaim_runs_total", "Reclaim runs of the cgroup.", Scale::One),
    ("reclaim_ns", "reclaim_seconds_total", "Time spent in reclaim.", Scale::Nanoseconds),
    ("reclaimed_pages", "reclaimed_bytes_total", "Bytes reclaimed.", Scale::Pages),
    ("refaults", "refaults_total", "Pages read again soon after they were reclaimed.", Scale::One),
    ("stalls", "stalls_total", "Number of stalls.", Scale::One),
    ("stall_ns", "stall_seconds_total", "Stall time, summed over tasks.", Scale::Nanoseconds),
    ("oom", "oom_total", "Times the cgroup ran out of memory.", Scale::One),
];

#[derive(Clone, Copy)]
enum Scale {
    One,
    Pages,
    Nanoseconds,
}

/// A metric family that is being written.
struct Family<'a> {
    out: &'a mut String,
    name: String,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut String, name: &str, kind: &str, help: &str) -> Self {
        let name = format!("memcg_bpf_{name}");
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { out, name }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, text)| format!("{key}=\"{}\"", quoted(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.out.push_str(&format!("{}{labels} {value}\n", self.name));
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All metrics.
pub(super) fn render(bindings: &[BindingReport], actions: &ActionStats, version: &str) -> String {
    let mut text = String::new();
    let out = &mut text;
    Family::new(out, "build_info", "gauge", "The running memcg-bpfd.").add(&[("version", version)], 1);
    Family::new(out, "paused", "gauge", "1 while actions are paused.").add(&[], u8::from(actions.paused));
    let mut family = Family::new(out, "actions_total", "counter", "Actions by outcome.");
    for outcome in ["done", "dry-run", "blocked", "failed", "removed", "stale", "lost"] {
        family.add(&[("outcome", outcome)], actions.counts.get(outcome).copied().unwrap_or(0));
    }
    Family::new(out, "events_lost_total", "counter", "Number of cgroup events dropped.")
        .add(&[], actions.events_lost);
    let mut family = Family::new(out, "cgroups", "gauge", "Cgroups with a requested policy, by state.");
    for state in ["active", "registered", "invalid", "none", "failed"] {
        family.add(&[("state", state)], bindings.iter().filter(|b| b.state == state).count());
    }
    let mut listed: Vec<&BindingReport> = bindings.iter().filter(|b| b.usage.is_some()).collect();
    listed.sort_by_key(|b| (std::cmp::Reverse(b.usage), &b.cgroup));
    let left_out = listed.len().saturating_sub(CGROUPS_MAX);
    Family::new(out, "cgroups_left_out", "gauge", "Cgroups omitted because of the limit.").add(&[], left_out);
    listed.truncate(CGROUPS_MAX);
    listed.sort_by_key(|b| &b.cgroup);
    let listed: Vec<NamedReport<'_>> =
        listed.into_iter().map(|report| NamedReport { report, name: name_of(report) }).collect();
    of_cgroups(out, &listed);
    text
}

struct NamedReport<'a> {
    report: &'a BindingReport,
    name: String,
}

impl NamedReport<'_> {
    fn with<'b>(&'b self, more: &[(&'b str, &'b str)]) -> Vec<(&'b str, &'b str)> {
        let mut labels = vec![("cgroup", self.report.cgroup.as_str()), ("name", self.name.as_str())];
        if let Some(pod) = &self.report.pod {
            labels.extend([("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())]);
            labels.extend(pod.container.as_deref().map(|container| ("container", container)));
        }
        labels.extend(more);
        labels
    }
}

fn of_cgroups(out: &mut String, listed: &[NamedReport<'_>]) {
    if listed.is_empty() {
        return;
    }
    let mut family =
        Family::new(out, "cgroup_policy_info", "gauge", "An attached policy, its origin and mode.");
    for it in listed {
        for policy in &it.report.policies {
            let mode = policy.parameters.get("mode").map_or("act", String::as_str);
            let labels = it.with(&[("policy", &policy.name), ("origin", &policy.origin), ("mode", mode)]);
            family.add(&labels, 1);
        }
    }
    let mut family = Family::new(out, "cgroup_memory_usage_bytes", "gauge", "memory.current.");
    listed.iter().for_each(|it| family.add(&it.with(&[]), it.report.usage.unwrap_or(0)));
    let help = "The smallest memory.max up the tree, else the machine's memory.";
    let mut family = Family::new(out, "cgroup_memory_limit_bytes", "gauge", help);
    for it in listed {
        if let Some(max) = it.report.effective_max {
            family.add(&it.with(&[]), max);
        }
    }
    let help = "The lowest limit= of an enforced policy, or the smallest memory.max up the tree.";
    let mut family = Family::new(out, "cgroup_nearest_limit_bytes", "gauge", help);
    for it in listed {
        if let Some(limit) = nearest_limit(it.report) {
            family.add(&it.with(&[]), limit);
        }
    }
    let knobs = |it: &NamedReport<'_>| it.report.knobs.iter().any(|knob| knob.knob.starts_with("memory."));
    if listed.iter().any(knobs) {
        let help = "Current value of a knob that a policy changed; +Inf for max.";
        let mut family = Family::new(out, "cgroup_knob_bytes", "gauge", help);
        for it in listed {
            for knob in it.report.knobs.iter().filter(|knob| knob.knob.starts_with("memory.")) {
                let value = parse_bytes(&knob.current).map_or("+Inf".to_owned(), |bytes| bytes.to_string());
                family.add(&it.with(&[("knob", &knob.knob)]), value);
            }
        }
    }
    for (counter, name, help, scale) in COUNTERS {
        let mut family = Family::new(out, &format!("cgroup_{name}"), "counter", help);
        for it in listed {
            let count = it.report.counters.get(counter).copied().unwrap_or(0);
            family.add(&it.with(&[]), scaled(count, scale));
        }
    }
    let mut family =
        Family::new(out, "cgroup_actions_total", "counter", "Actions in this cgroup by outcome.");
    for it in listed {
        for (outcome, count) in &it.report.actions {
            family.add(&it.with(&[("outcome", outcome)]), count);
        }
    }
    let mut family = Family::new(out, "cgroup_memory_events_total", "counter", "The kernel's memory.events.");
    for it in listed {
        for (event, count) in &it.report.events {
            family.add(&it.with(&[("event", event)]), count);
        }
    }
}

fn scaled(count: u64, scale: Scale) -> String {
    let (whole, rest) = match scale {
        Scale::One => return count.to_string(),
        Scale::Pages => return count.saturating_mul(crate::cgroup::memory::page_size()).to_string(),
        Scale::Nanoseconds => (count.checked_div(1_000_000_000), count.checked_rem(1_000_000_000)),
    };
    format!("{}.{:09}", whole.unwrap_or(0), rest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{AttachedPolicy, KnobReport, PodReport};

    fn binding(cgroup: &str, usage: u64) -> BindingReport {
        BindingReport {
            cgroup: cgroup.to_owned(),
            state: "active".to_owned(),
            usage: Some(usage),
            effective_max: Some(1 << 30),
            counters: [("stall_ns", 1_500_000_000), ("charged_pages", 3)]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
            events: [("oom_kill".to_owned(), 2)].into(),
            actions: [("done".to_owned(), 4)].into(),
            knobs: vec![KnobReport {
                knob: "memory.high".into(),
                current: "max".into(),
                ..KnobReport::default()
            }],
            policies: vec![AttachedPolicy {
                name: "deny".into(),
                origin: "drop-in".into(),
                parameters: [("limit".to_owned(), "64M".to_owned())].into(),
                ..Default::default()
            }],
            ..BindingReport::default()
        }
    }

    #[test]
    fn values_are_in_base_units_and_labels_are_quoted() {
        let text = render(&[binding("/a\"b\\", 7)], &ActionStats::default(), "1.0");
        let of = r#"{cgroup="/a\"b\\",name="/a\"b\\""#;
        for line in [
            r#"memcg_bpf_build_info{version="1.0"} 1"#.to_owned(),
            format!("memcg_bpf_cgroup_memory_usage_bytes{of}}} 7"),
            format!("memcg_bpf_cgroup_stall_seconds_total{of}}} 1.500000000"),
            format!("memcg_bpf_cgroup_charged_bytes_total{of}}} 12288"),
            format!("memcg_bpf_cgroup_memory_events_total{of},event=\"oom_kill\"}} 2"),
            format!("memcg_bpf_cgroup_knob_bytes{of},knob=\"memory.high\"}} +Inf"),
            format!("memcg_bpf_cgroup_policy_info{of},policy=\"deny\",origin=\"drop-in\",mode=\"act\"}} 1"),
            format!("memcg_bpf_cgroup_nearest_limit_bytes{of}}} 67108864"),
            "memcg_bpf_cgroups{state=\"active\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn containers_of_pods_have_the_labels_of_kubernetes() {
        let pod = |container: Option<&str>| BindingReport {
            pod: Some(PodReport {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                container: container.map(str::to_owned),
            }),
            ..binding("/a", 7)
        };
        for (container, labels) in [
            (Some("app"), r#"name="pod default/web app",namespace="default",pod="web",container="app""#),
            (None, r#"name="pod default/web",namespace="default",pod="web""#),
        ] {
            let text = render(&[pod(container)], &ActionStats::default(), "1");
            let line = format!("memcg_bpf_cgroup_memory_usage_bytes{{cgroup=\"/a\",{labels}}} 7");
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_metric_has_help_and_type_once_and_counters_end_in_total() {
        let text = render(&[binding("/a", 1), binding("/b", 2)], &ActionStats::default(), "1");
        let mut types = std::collections::BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(types.insert(name, kind).is_none(), "{name} twice");
                assert!(text.contains(&format!("# HELP {name} ")));
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(types.contains_key(name), "{line}");
            }
        }
        assert!(types.len() > 20);
    }

    #[test]
    fn alerts_and_dashboard_use_metrics_that_exist() {
        let text = render(&[binding("/a", 1)], &ActionStats::default(), "1");
        let known = |name: &str| text.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
        let alerts = include_str!("../../../../docs/prometheus-alerts.yml");
        assert_eq!(alerts.matches("- alert: ").count(), 5);
        for file in [alerts, include_str!("../../../../docs/grafana.json")] {
            let words = file.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let used: Vec<&str> = words.filter(|word| word.starts_with("memcg_bpf_")).collect();
            assert!(used.len() > 4 && used.iter().all(|name| known(name)), "{used:?}");
        }
    }

    #[test]
    fn cgroups_with_least_memory_are_omitted() {
        let all: Vec<BindingReport> = (0..1003_u64).map(|n| binding(&format!("/{n}"), n)).collect();
        let text = render(&all, &ActionStats::default(), "1");
        assert!(text.contains("memcg_bpf_cgroups_left_out 3\n"));
        assert!(!text.contains("cgroup=\"/2\"") && text.contains("cgroup=\"/3\""));
    }
}
