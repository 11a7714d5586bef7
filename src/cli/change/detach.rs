//! `memcg-bpf detach`: removes the request of `attach`, or else that of an annotation.

use clap::Args;

use crate::cli::args::CgroupArg;
use crate::cli::client::Client;
use crate::cli::find::target;
use crate::cli::output::Output;
use crate::cli::show::explain::describe;
use crate::cli::term::{Terminal, escape_line, json};
use crate::report::BindingReport;

/// Detach the policies of `attach`, so that those of annotations and drop-ins apply again
#[derive(Debug, Args)]
#[command(after_help = "Example:
  memcg-bpf detach demo.service

If no policy was attached by `attach`, those of the container's annotation and of the cgroup's
owner are detached. Policies of drop-ins stay attached. To detach these too, change the drop-in, or
run:
  memcg-bpf attach demo.service none")]
pub(in crate::cli) struct Detach {
    #[command(flatten)]
    arg: CgroupArg,
}

impl Detach {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect()?;
        let reports: Vec<BindingReport> = client.list_if_allowed()?.unwrap_or_default();
        let cgroup = target::find(&self.arg.cgroup, &reports)?;
        let before = match reports.into_iter().find(|report| report.cgroup == cgroup.as_str()) {
            Some(listed) => Some(listed),
            None => client.explain(cgroup.as_str()).ok(),
        };
        let remaining: Option<BindingReport> = client.detach(cgroup.as_str())?;
        Ok(Output::success(if as_json {
            json(&remaining)?
        } else {
            render(&self.arg.cgroup, cgroup.as_str(), before.as_ref(), remaining.as_ref(), terminal)
        }))
    }
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
