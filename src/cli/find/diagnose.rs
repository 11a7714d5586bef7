//! Diagnoses why a requested policy is not attached. Reads the files of a unit and the annotations of a container;
//! changes nothing.

use std::path::{Path, PathBuf};

use crate::cli::doctor::hook_problem;
use crate::cli::find::container;
use crate::cli::term::escape_line;
use crate::files::{self, read_text_below};
use crate::names::{CgroupPath, ContainerId, UnitName};
use crate::policy::line::{self, Line};
use crate::report::BindingReport;
use crate::source::oci_state::{CONFIG_MAX, ContainerState, POLICY, POLICY_OF, REQUIRED, Status};
use crate::source::specifier::Specifiers;
use crate::source::unit_file;
use crate::source::unit_policy::{PolicyClause, ReplacedClause, Replacement, UnitClauses};
use crate::systemd::{UNIT_FILE_MAX, UNIT_PATH, index};

/// Annotations with at most this edit distance are reported as typos.
const MAX_TYPO_DISTANCE: usize = 3;

/// Requests in the files of a unit that are not attached, with the reason.
pub(in crate::cli) fn diagnose_unit(
    root: &Path,
    unit: &UnitName,
    report: Option<&BindingReport>,
) -> Vec<String> {
    let (texts, mut messages) = unit_files(root, unit);
    let clauses = UnitClauses::read(unit, &texts, &Specifiers::default());
    messages.extend(replaced_lines(&clauses.replaced));
    // The daemon logs the others: only it knows what all specifiers stand for.
    for (name, text) in &texts {
        let warnings = unit_file::read(unit.kind(), name, text).warnings;
        messages.extend(warnings.iter().map(|warning| format!("{warning}.")));
    }
    if unit.is_root_slice() {
        messages.extend(clauses.effective.iter().map(|clause| {
            let (text, location) = (escape_line(&clause.text), &clause.location);
            format!("'{text}' of {location} is ignored: the root cgroup cannot have a policy.")
        }));
        return messages;
    }
    let known = |clause: &PolicyClause| report.is_some_and(|report| is_requested(report, clause));
    let none = clauses.none();
    for clause in clauses.effective.iter().chain(&none).filter(|clause| !known(clause)) {
        messages.push(format!(
            "'{}' of {} is not known to memcg-bpfd. If the file is new, run systemctl daemon-reload. If the unit is \
             new, start it.",
            escape_line(&clause.text),
            clause.location
        ));
    }
    if messages.is_empty() && report.is_none_or(|report| report.requests.is_empty()) {
        messages.push(format!(
            "No file of {unit} has X-MemoryBPFPolicy=. To add it, run: systemctl edit {unit}",
            unit = unit.as_str()
        ));
    }
    messages
}

/// The files of a unit that systemd reads, with their texts, and a message for each policy in a file that is hidden.
fn unit_files(root: &Path, unit: &UnitName) -> (Vec<(String, String)>, Vec<String>) {
    let mut texts = Vec::new();
    let mut messages = Vec::new();
    for (path, hidden_by) in index(root, &UNIT_PATH).files_of(unit) {
        let Ok(text) = read_text_below(root, &path, UNIT_FILE_MAX) else { continue };
        let name = shown(root, &path);
        let Some(hidden_by) = hidden_by else {
            texts.push((name, text));
            continue;
        };
        let is_same_name = hidden_by.file_name() == path.file_name();
        let why = if is_same_name { "has the same name" } else { "replaces the template" };
        let by = shown(root, &hidden_by);
        messages.extend(unit_file::directives(unit.kind(), &name, &text).iter().map(|it| {
            let value = escape_line(&it.value);
            format!("{name}:{}: '{value}' is masked by {by}, which {why}.", it.line)
        }));
    }
    (texts, messages)
}

/// One message for all clauses of a line that the same later line replaces.
fn replaced_lines(replaced: &[ReplacedClause]) -> Vec<String> {
    let is_same = |a: &ReplacedClause, b: &ReplacedClause| {
        a.clause.location == b.clause.location && a.by == b.by && a.how == b.how
    };
    let message = |group: &[ReplacedClause]| {
        let first = group.first()?;
        let texts: Vec<&str> = group.iter().map(|it| it.clause.text.as_str()).collect();
        let how = match first.how {
            Replacement::Reset => "reset",
            Replacement::Override => "overridden",
        };
        let (text, location) = (escape_line(&texts.join("; ")), &first.clause.location);
        Some(format!("'{text}' of {location} is {how} by {}.", first.by))
    };
    replaced.chunk_by(is_same).filter_map(message).collect()
}

/// Has the daemon this clause from this line? A specifier may have been expanded.
fn is_requested(report: &BindingReport, clause: &PolicyClause) -> bool {
    report.requests.iter().any(|request| {
        let is_here = request.location.split(", ").any(|part| is_same_line(part, &clause.location));
        is_here && (clause.text.contains('%') || says(&request.line, clause))
    })
}

/// Is it one line of one file? systemd names files behind links to directories by their real path.
fn is_same_line(one: &str, other: &str) -> bool {
    let real = |location: &str| {
        let (file, line) = location.rsplit_once(':')?;
        Some((std::fs::canonicalize(file).ok()?, line.to_owned()))
    };
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

fn says(line: &str, clause: &PolicyClause) -> bool {
    match line::parse(line) {
        Ok(Line::Clauses(calls)) => line::clause_texts(line, &calls).contains(&clause.text),
        Ok(Line::None) => clause.text == "none",
        Err(_) => line.contains(&clause.text),
    }
}

/// Replaces the location of a request that several lines of a unit's files make by the line that names the policy.
pub(in crate::cli) fn locate_policies(root: &Path, unit: &UnitName, report: &mut BindingReport) {
    let (texts, _) = unit_files(root, unit);
    let clauses = UnitClauses::read(unit, &texts, &Specifiers::default()).effective;
    for policy in &mut report.policies {
        let is_source = |clause: &&PolicyClause| {
            clause.name.as_deref() == Some(&policy.name)
                && policy.location.split(", ").any(|part| is_same_line(part, &clause.location))
        };
        if let Some(clause) = clauses.iter().find(is_source) {
            policy.location = clause.location.clone();
        }
    }
}

fn shown(root: &Path, path: &Path) -> String {
    escape_line(&format!("/{}", path.strip_prefix(root).unwrap_or(path).display()))
}

/// Requests in the annotations of a container that are not attached, with the reason.
pub(in crate::cli) fn diagnose_container(
    root: &Path,
    cgroup: &CgroupPath,
    id: &str,
    is_bound: bool,
) -> Vec<String> {
    let Some(bundle) = container::lookup(cgroup, id).bundle else { return Vec::new() };
    let file = bundle.join("config.json");
    let json = files::read(&file, CONFIG_MAX).ok();
    let Some(config) = json.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok()) else {
        return vec![format!("{} cannot be read, so the annotations are unknown.", file.display())];
    };
    let annotations = config.get("annotations").and_then(|all| serde_json::from_value(all.clone()).ok());
    diagnose_annotations(root, id, annotations.unwrap_or_default(), is_bound)
}

fn diagnose_annotations(
    root: &Path,
    id: &str,
    annotations: std::collections::HashMap<String, String>,
    is_bound: bool,
) -> Vec<String> {
    let Ok(id) = ContainerId::parse(id) else { return Vec::new() };
    let mut messages: Vec<String> = annotations
        .keys()
        .filter(|key| is_likely_typo(key))
        .map(|key| format!("annotation '{}' is unknown; did you mean {POLICY}?", escape_line(key)))
        .collect();
    messages.sort();
    let state =
        ContainerState { id, pid: None, bundle: PathBuf::new(), status: Status::Running, annotations };
    let request = state.policy_request();
    messages.extend(request.warnings);
    match request.line {
        Some(line) if !is_bound => {
            messages.push(format!(
                "The annotation requests '{}', but memcg-bpfd received no request: the OCI hook did not run, or failed.",
                escape_line(&line)
            ));
            messages.extend(hook_problem(root));
        }
        None if !is_bound && messages.is_empty() => messages.push(format!(
            "The container has no annotation {POLICY}. To add it, run: podman run --annotation \
             {POLICY}=\"deny limit=90%\". Labels, environment variables and image annotations are ignored."
        )),
        _ => {}
    }
    messages
}

/// True for an annotation that is meant for memcg-bpf and is not.
pub(in crate::cli) fn is_likely_typo(key: &str) -> bool {
    let ours =
        key == POLICY || key == REQUIRED || key.starts_with(POLICY_OF) || key.starts_with("memcg.bpf/");
    !ours && (strsim::levenshtein(&key.to_lowercase(), POLICY) <= MAX_TYPO_DISTANCE || key.ends_with(POLICY))
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
