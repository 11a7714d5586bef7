//! `memcg-bpf detach`: removes the request of `attach`, or else that of an annotation.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::cli::client::Client;
use crate::cli::find::{candidates, container, target};
use crate::cli::output::Output;
use crate::cli::show::explain::{describe, name_of};
use crate::cli::term::{Terminal, escape_line, json};
use crate::policy::request::Origin;
use crate::report::BindingReport;

/// Detach the policies of `attach`, so that those of annotations and drop-ins apply again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf detach demo.service
  memcg-bpf detach --all              of all cgroups

If no policy was attached by `attach`, those of the container's annotation and of the cgroup's
owner are detached. Policies of drop-ins stay attached. To detach these too, change the drop-in, or
run:
  memcg-bpf attach demo.service none

To switch off all policies, also those of drop-ins, run: systemctl stop memcg-bpfd")]
pub(in crate::cli) struct Detach {
    /// Cgroup path, unit name (.service may be left out), container ID (or its beginning) or name, or process ID
    #[arg(value_name = "CGROUP", required_unless_present = "all", conflicts_with = "all", add = ArgValueCandidates::new(candidates::cgroups))]
    cgroup: Option<String>,
    /// Detach the policies of `attach` from all cgroups
    #[arg(long)]
    all: bool,
}

impl Detach {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect()?;
        let Some(asked) = &self.cgroup else { return detach_all(&client, as_json) };
        let reports: Vec<BindingReport> = client.list_if_allowed()?.unwrap_or_default();
        let cgroup = target::find(asked, &reports)?;
        let before = match reports.into_iter().find(|report| report.cgroup == cgroup.as_str()) {
            Some(listed) => Some(listed),
            None => client.explain_if_allowed(cgroup.as_str()).ok().flatten(),
        };
        let remaining: Option<BindingReport> = client.detach(cgroup.as_str())?;
        Ok(Output::success(if as_json {
            json(&remaining)?
        } else {
            render(asked, cgroup.as_str(), before.as_ref(), remaining.as_ref(), terminal)
        }))
    }
}

/// Detaches what `attach`, annotations and cgroup owners requested, cgroup by cgroup.
fn detach_all(client: &Client, as_json: bool) -> anyhow::Result<Output> {
    let mut reports: Vec<BindingReport> = client.list()?;
    container::add_names(&mut reports);
    let mut changed = Vec::new();
    let mut errors = Vec::new();
    for report in reports.iter().filter(|report| is_detachable(report)) {
        match client.detach::<Option<BindingReport>>(&report.cgroup) {
            Ok(remaining) => changed.push((report, remaining)),
            Err(error) => errors.push(format!("{}: {error}", name_of(report))),
        }
    }
    let text = if as_json {
        json(&changed.iter().map(|(_, remaining)| remaining).collect::<Vec<_>>())?
    } else {
        render_all(&changed, &errors)
    };
    Ok(Output { success: errors.is_empty(), ..Output::success(text) })
}

/// True if the cgroup has a request of `attach`.
fn is_detachable(report: &BindingReport) -> bool {
    let operator = Origin::Operator.to_string();
    report.cgroup_id != 0 && report.requests.iter().any(|request| request.origin == operator)
}

fn render_all(changed: &[(&BindingReport, Option<BindingReport>)], errors: &[String]) -> String {
    let mut out = String::new();
    for (before, remaining) in changed {
        let kept: Vec<&str> =
            remaining.iter().flat_map(|report| &report.policies).map(|policy| policy.name.as_str()).collect();
        let kept = if kept.is_empty() {
            "no policy is attached".to_owned()
        } else {
            format!("these policies apply again: {}", escape_line(&kept.join(", ")))
        };
        out.push_str(&format!("Detached: {}: {kept}.\n", name_of(before)));
    }
    if changed.is_empty() && errors.is_empty() {
        out.push_str("Nothing was detached: no cgroup has a policy from `memcg-bpf attach`.\n");
    }
    errors.iter().for_each(|error| out.push_str(&format!("Failed to detach {}\n", escape_line(error))));
    out.push_str(
        "Policies of annotations and drop-ins stay attached. To switch off all policies, run: systemctl stop memcg-bpfd\n",
    );
    out
}

/// What was detached, by the requests before and afterwards.
fn render(
    asked: &str,
    cgroup: &str,
    before: Option<&BindingReport>,
    remaining: Option<&BindingReport>,
    terminal: &Terminal,
) -> String {
    let requests = |report: &BindingReport| report.requests.clone();
    let is_same = before.is_some() && before.map(requests) == remaining.map(requests);
    match remaining {
        Some(report) if is_same => format!(
            "Nothing was detached: {} has no policy from `memcg-bpf attach` or an annotation. Policies of drop-ins stay \
             attached. To detach these, change the drop-in, or run: memcg-bpf attach {} none\n\n{}",
            escape_line(cgroup),
            escape_line(asked),
            describe(report, terminal)
        ),
        Some(report) if !report.policies.is_empty() => {
            format!("Detached. These policies apply again:\n\n{}", describe(report, terminal))
        }
        _ => format!("Detached: {} has no memory policy.\n", escape_line(cgroup)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{AttachedPolicy, RequestReport};

    fn report(origins: &[&str]) -> BindingReport {
        let request = |origin: &&str| RequestReport {
            origin: (*origin).to_owned(),
            line: "observe".to_owned(),
            ..RequestReport::default()
        };
        BindingReport {
            cgroup: "/system.slice/x.service".to_owned(),
            policies: vec![AttachedPolicy { name: "observe".to_owned(), ..AttachedPolicy::default() }],
            requests: origins.iter().map(request).collect(),
            ..BindingReport::default()
        }
    }

    #[test]
    fn detach_all_lists_each_cgroup_and_what_stays() {
        let (mine, theirs) = (report(&["operator", "drop-in"]), report(&["drop-in"]));
        let mine = BindingReport { cgroup_id: 7, ..mine };
        assert!(is_detachable(&mine) && !is_detachable(&BindingReport { cgroup_id: 7, ..theirs.clone() }));
        assert!(!is_detachable(&report(&["annotation"])), "the cgroup does not exist");
        let text = render_all(&[(&mine, Some(theirs)), (&mine, None)], &["y: no".to_owned()]);
        let end = "Policies of annotations and drop-ins stay attached. To switch off all policies, run: systemctl stop memcg-bpfd\n";
        assert_eq!(
            text,
            format!(
                "Detached: x.service: these policies apply again: observe.\nDetached: x.service: no policy is attached.\n\
                 Failed to detach y: no\n{end}"
            )
        );
        assert!(render_all(&[], &[]).starts_with("Nothing was detached"));
    }

    #[test]
    fn detach_without_effect_is_reported() {
        let text = |before: &[&str], after: Option<&[&str]>| {
            let (before, after) = (report(before), after.map(report));
            render("x", "/system.slice/x.service", Some(&before), after.as_ref(), &Terminal::default())
        };
        let nothing = text(&["drop-in"], Some(&["drop-in"]));
        assert!(
            nothing.starts_with("Nothing was detached: /system.slice/x.service has no policy from"),
            "{nothing}"
        );
        assert!(nothing.contains("memcg-bpf attach x none"), "{nothing}");
        let rest = text(&["operator", "drop-in"], Some(&["drop-in"]));
        assert!(rest.starts_with("Detached. These policies apply again:"), "{rest}");
        assert_eq!(text(&["operator"], None), "Detached: /system.slice/x.service has no memory policy.\n");
    }
}
