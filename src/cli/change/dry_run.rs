//! Attaching policies without effect: `mode=dry-run` for each of them, beside what is enforced.

use anyhow::bail;

use crate::policy::catalog::Catalog;
use crate::policy::line::{self, Arg, Clause, Line};
use crate::policy::normalize::format_clause;
use crate::report::{AttachedPolicy, BindingReport};

/// The parameter of a dry run, which every policy with verdicts or actions has.
const MODE: &str = "mode";
const DRY_RUN: &str = "dry-run";

/// True if the policy has no effect.
pub(in crate::cli) fn is_dry_run(policy: &AttachedPolicy) -> bool {
    policy.parameters.get(MODE).is_some_and(|mode| mode == DRY_RUN)
}

/// The line with mode=dry-run for each policy, after the policies of the previous line that it does not name. Profiles
/// are replaced by their policies.
pub(super) fn dry_run_line(previous: Option<&str>, line: &str, catalog: &Catalog) -> anyhow::Result<String> {
    let mut clauses = expand(line, catalog)?;
    if clauses.is_empty() {
        bail!("'none' attaches no policy, so that it cannot be tested");
    }
    for clause in &mut clauses {
        let schema = catalog.policies.get(&clause.name);
        if schema.is_some_and(|schema| !schema.params.iter().any(|param| param.name == MODE)) {
            bail!("policy '{}' has no parameter '{MODE}', so that it has no dry run", clause.name);
        }
        clause.args.retain(|arg| arg.key != MODE);
        let (key, value) = (MODE.to_owned(), DRY_RUN.to_owned());
        clause.args.push(Arg { key, value, at: 0, value_at: 0 });
    }
    // A previous line with errors attaches nothing.
    let mut all = previous.and_then(|line| expand(line, catalog).ok()).unwrap_or_default();
    all.retain(|before| !clauses.iter().any(|clause| clause.name == before.name));
    all.extend(clauses);
    Ok(all.iter().map(format_clause).collect::<Vec<_>>().join("; "))
}

fn expand(line: &str, catalog: &Catalog) -> anyhow::Result<Vec<Clause>> {
    let errors = |wrong: Vec<crate::policy::diagnostic::Diagnostic>| {
        let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", all.join("\n  "))
    };
    let parsed: Line = line::parse(line).map_err(errors)?;
    catalog.expand(&parsed).map_err(errors)
}

/// The enforced policies that a change would switch off by a dry run of the same policy.
pub(super) fn weakened(before: &BindingReport, after: &BindingReport) -> Vec<String> {
    let enforced = before.policies.iter().filter(|policy| !is_dry_run(policy));
    enforced
        .filter(|policy| after.policies.iter().any(|other| other.name == policy.name && is_dry_run(other)))
        .map(|policy| format!("{} from {} ({})", policy.name, policy.origin, policy.location))
        .collect()
}

/// Fails if a dry run would switch off an enforced policy.
pub(super) fn refuse_weakening(before: &BindingReport, after: &BindingReport) -> anyhow::Result<()> {
    let weakened = weakened(before, after);
    if !weakened.is_empty() {
        bail!(
            "a dry run of the same policy would switch off {}. A cgroup has a policy once: to replace it by the dry \
             run, add --replace",
            weakened.join(" and ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;
    use crate::policy::profile::Profile;

    #[test]
    fn dry_run_adds_the_mode_to_every_policy() {
        let mut catalog = fixture::catalog();
        let both = Profile {
            name: "both".to_owned(),
            doc: String::new(),
            line: "deny limit=1G; observe".to_owned(),
            file: String::new(),
        };
        catalog.profiles.insert("both".to_owned(), both);
        let line = |previous, line: &str| dry_run_line(previous, line, &catalog);
        assert_eq!(line(None, "deny limit=64M mode=act").unwrap(), "deny limit=64M mode=dry-run");
        assert_eq!(line(None, "both").unwrap(), "deny limit=1G mode=dry-run; observe mode=dry-run");
        assert_eq!(
            line(Some("oom for=3s; deny limit=2G"), "both").unwrap(),
            "oom for=3s; deny limit=1G mode=dry-run; observe mode=dry-run"
        );
        assert!(line(None, "none").unwrap_err().to_string().contains("'none'"));
        assert!(line(None, "dney").unwrap_err().to_string().contains("unknown policy 'dney'"));
    }

    #[test]
    fn dry_run_does_not_switch_off_an_enforced_policy() {
        let report = |name: &str, mode: &str| BindingReport {
            policies: vec![AttachedPolicy {
                name: name.to_owned(),
                origin: "drop-in".to_owned(),
                location: "x.conf:2".to_owned(),
                parameters: [("mode".to_owned(), mode.to_owned())].into(),
                ..AttachedPolicy::default()
            }],
            ..BindingReport::default()
        };
        let error =
            |a: &BindingReport, b: &BindingReport| refuse_weakening(a, b).err().map(|e| e.to_string());
        let why = error(&report("deny", "act"), &report("deny", "dry-run")).unwrap();
        assert!(
            why.contains("would switch off deny from drop-in (x.conf:2)") && why.contains("--replace"),
            "{why}"
        );
        assert_eq!(error(&report("deny", "dry-run"), &report("deny", "dry-run")), None);
        assert_eq!(error(&report("deny", "act"), &report("deny", "act")), None);
        assert_eq!(error(&report("deny", "act"), &report("oom", "dry-run")), None);
    }
}
