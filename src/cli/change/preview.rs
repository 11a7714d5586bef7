//! What a policy line would change, without attaching it.

use anyhow::bail;

use crate::cli::find::installed::DefaultParams;
use crate::cli::term::{Terminal, escape_line, wrap};
use crate::policy::catalog::Catalog;
use crate::policy::precedence::{AllowList, resolve};
use crate::policy::request::{Origin, Request};
use crate::report::{AttachedPolicy, BindingReport};

/// The binding after a line of this origin is added, or the errors of the line.
pub(super) fn preview(
    now: BindingReport,
    origin: Origin,
    line: String,
    catalog: &Catalog,
) -> anyhow::Result<BindingReport> {
    let mut requests: Vec<Request> = now
        .requests
        .iter()
        .filter_map(|asked| {
            let origin = [Origin::DropIn, Origin::Xattr, Origin::Annotation]
                .into_iter()
                .find(|origin| origin.to_string() == asked.origin)?;
            let (location, line) = (asked.location.clone(), asked.line.clone());
            Some(Request { origin, location, line, container: None, pod: None, unit: None })
        })
        .collect();
    let location = format!("uid {}", nix::unistd::getuid());
    let ours = Request { origin, location, line, container: None, pod: None, unit: None };
    // The line alone first, because errors of other requests are reported by `explain`.
    let wrong: Vec<String> = resolve(std::slice::from_ref(&ours), catalog, &AllowList::default())
        .errors
        .iter()
        .map(ToString::to_string)
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n  "));
    }
    requests.push(ours);
    // Policies that are attached are allowed already.
    let allow = AllowList::only(catalog.policies.keys());
    let policies = resolve(&requests, catalog, &allow)
        .policies
        .into_iter()
        .map(|bound| AttachedPolicy {
            origin: bound.origin.to_string(),
            location: bound.location,
            parameters: bound.params.parameters,
            name: bound.name,
            ..AttachedPolicy::default()
        })
        .collect();
    Ok(BindingReport { policies, explanation: Vec::new(), ..now })
}

/// The policies that a change attaches, detaches and keeps.
pub(super) fn render(
    before: &BindingReport,
    after: &BindingReport,
    terminal: &Terminal,
    defaults: &DefaultParams,
) -> String {
    let is_in = |policy: &AttachedPolicy, report: &BindingReport| {
        report.policies.iter().any(|other| other.name == policy.name && other.parameters == policy.parameters)
    };
    let text = |policy: &AttachedPolicy| {
        format!("{}, from {} {}", defaults.non_default(policy), policy.origin, policy.location)
    };
    let sections = [
        ("Would be attached", after, before, false),
        ("Would be detached", before, after, false),
        ("Would stay attached", before, after, true),
    ];
    let mut out = format!("{}\n", escape_line(&before.cgroup));
    for (title, report, other, kept) in sections {
        let lines: Vec<String> =
            report.policies.iter().filter(|policy| is_in(policy, other) == kept).map(text).collect();
        if !lines.is_empty() {
            out.push_str(&format!("\n  {title}:\n"));
            out.extend(lines.iter().map(|line| wrap(line, 4, terminal.text_width())));
        }
    }
    out
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
