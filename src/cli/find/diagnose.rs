//! Diagnoses why a requested policy is not attached. Reads the files of a unit and the annotations of a container;
//! changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::doctor::hook_problem;
use crate::cli::find::container;
use crate::cli::term::escape_line;
use crate::files::{self, read_text_below};
use crate::names::{CgroupPath, ContainerId, UnitName};
use crate::report::BindingReport;
use crate::source::oci_state::{CONFIG_MAX, ContainerState, POLICY, POLICY_OF, REQUIRED, Status};
use crate::source::unit_file::{self, Directive};
use crate::systemd::{UNIT_FILE_MAX, UNIT_PATH, index};

/// Annotations with at most this edit distance are reported as typos.
const MAX_TYPO_DISTANCE: usize = 3;

/// Requests in the files of a unit that are not attached, with the reason.
pub(in crate::cli) fn diagnose_unit(
    root: &Path,
    unit: &UnitName,
    report: Option<&BindingReport>,
) -> Vec<String> {
    let files = index(root, &UNIT_PATH).files_of(unit);
    let mut messages = Vec::new();
    let mut last: BTreeMap<String, (String, Directive)> = BTreeMap::new();
    let mut waiting = Vec::new();
    for (path, hidden_by) in &files {
        let Ok(text) = read_text_below(root, path, UNIT_FILE_MAX) else { continue };
        let name = shown(root, path);
        let reading = unit_file::read(unit.kind(), &name, &text);
        if let Some(by) = hidden_by {
            let by = shown(root, by);
            messages.extend(reading.directives.iter().map(|it| {
                format!("{name}:{}: '{}' is masked by {by}, which has the same name.", it.line, it.value)
            }));
            continue;
        }
        // The daemon reports these if there is a binding.
        messages.extend(reading.warnings.iter().map(|warning| format!("{warning}.")));
        for it in reading.directives {
            let location = format!("{name}:{}", it.line);
            let policy = it.value.split_whitespace().next().unwrap_or("").to_owned();
            if let Some((before, it)) = last.insert(policy, (location.clone(), it.clone())) {
                messages.push(format!("'{}' of {before} is overridden by {location}.", it.value));
            }
            waiting.push((location, it));
        }
    }
    let known = |location: &str| {
        let is_it = |of: &str| of.split(", ").any(|part| part == location);
        report.is_some_and(|report| report.requests.iter().any(|request| is_it(&request.location)))
    };
    for (location, it) in waiting {
        let stands = last.values().any(|(at, _)| *at == location);
        if stands && !it.value.is_empty() && it.value != "none" && !known(&location) {
            messages.push(format!(
                "'{}' of {location} is not known to memcg-bpfd. If the file is new, run systemctl daemon-reload. If \
                 the unit is new, start it.",
                it.value
            ));
        }
    }
    if messages.is_empty() && report.is_none_or(|report| report.requests.is_empty()) {
        messages.push(format!(
            "No file of {unit} has X-MemoryBPFPolicy=. To add it, run: systemctl edit {unit}",
            unit = unit.as_str()
        ));
    }
    messages
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

fn is_likely_typo(key: &str) -> bool {
    let ours =
        key == POLICY || key == REQUIRED || key.starts_with(POLICY_OF) || key.starts_with("memcg.bpf/");
    !ours && (strsim::levenshtein(&key.to_lowercase(), POLICY) <= MAX_TYPO_DISTANCE || key.ends_with(POLICY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::RequestReport;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn unit() -> UnitName {
        UnitName::parse("a.service").unwrap()
    }

    #[test]
    fn a_hidden_drop_in_is_named_with_the_one_that_hides_it() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/systemd/system/a.service.d/50-m.conf", "[Service]\n");
        let line = "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n";
        put(root.path(), "run/systemd/system/a.service.d/50-m.conf", line);
        assert_eq!(
            diagnose_unit(root.path(), &unit(), None),
            ["/run/systemd/system/a.service.d/50-m.conf:2: 'deny limit=1G' is masked by \
              /etc/systemd/system/a.service.d/50-m.conf, which has the same name."]
        );
    }

    #[test]
    fn overridden_and_unread_drop_ins_are_reported() {
        let root = tempfile::tempdir().unwrap();
        put(
            root.path(),
            "etc/systemd/system/a.service.d/10.conf",
            "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n",
        );
        put(
            root.path(),
            "etc/systemd/system/a.service.d/20.conf",
            "[Service]\nX-MemoryBPFPolicy=deny limit=2G\n",
        );
        put(root.path(), "etc/systemd/system/a.service.d/30.conf", "[Unit]\nX-MemoryBPFPolicy=observe\n");
        let location = "/etc/systemd/system/a.service.d/20.conf:2";
        let messages = diagnose_unit(root.path(), &unit(), None);
        assert_eq!(messages.len(), 3, "{messages:?}");
        let replaced = "'deny limit=1G' of /etc/systemd/system/a.service.d/10.conf:2 is overridden by";
        assert!(messages[0].starts_with(replaced), "{messages:?}");
        assert!(messages[1].contains("ignoring 'X-MemoryBPFPolicy=' in [Unit]"), "{messages:?}");
        assert!(
            messages[2].contains(location) && messages[2].contains("systemctl daemon-reload"),
            "{messages:?}"
        );
        let requests = vec![RequestReport { location: location.to_owned(), ..RequestReport::default() }];
        let report = BindingReport { requests, ..BindingReport::default() };
        assert_eq!(diagnose_unit(root.path(), &unit(), Some(&report)).len(), 2);
    }

    /// `a.service` has this file with a policy, and nothing else.
    fn lines_with(root: &Path, path: &str) -> Vec<String> {
        put(root, path, "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n");
        diagnose_unit(root, &unit(), None)
    }

    #[test]
    fn every_directory_of_the_search_path_is_read() {
        for dir in crate::systemd::UNIT_PATH {
            let root = tempfile::tempdir().unwrap();
            let path = format!("{}/a.service.d/50.conf", dir.trim_start_matches('/'));
            let lines = lines_with(root.path(), &path);
            assert!(lines[0].contains(&format!("/{path}:2")), "{dir}: {lines:?}");
        }
    }

    #[test]
    fn drop_in_for_the_type_is_hidden_by_one_for_the_unit() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "usr/lib/systemd/system/a.service.d/50.conf", "[Service]\n");
        let lines = lines_with(root.path(), "etc/systemd/system/service.d/50.conf");
        let hidden = "/etc/systemd/system/service.d/50.conf:2: 'deny limit=1G' is masked by \
                      /usr/lib/systemd/system/a.service.d/50.conf, which has the same name.";
        assert_eq!(lines[0], hidden);
    }

    #[test]
    fn drop_in_of_an_alias_is_read() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "usr/lib/systemd/system/a.service", "[Service]\n");
        let alias = root.path().join("etc/systemd/system/b.service");
        std::fs::create_dir_all(alias.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/usr/lib/systemd/system/a.service", alias).unwrap();
        let lines = lines_with(root.path(), "etc/systemd/system/b.service.d/50.conf");
        assert!(lines[0].contains("/etc/systemd/system/b.service.d/50.conf:2"), "{lines:?}");
    }

    #[test]
    fn file_of_an_instance_hides_its_template() {
        let root = tempfile::tempdir().unwrap();
        let line = "[Service]\nX-MemoryBPFPolicy=deny limit=1G\n";
        put(root.path(), "etc/systemd/system/a@.service", line);
        put(root.path(), "usr/lib/systemd/system/a@b.service", "[Service]\n");
        let lines = diagnose_unit(root.path(), &UnitName::parse("a@b.service").unwrap(), None);
        assert!(
            lines[0].starts_with("/etc/systemd/system/a@.service:2: 'deny limit=1G' is masked by"),
            "{lines:?}"
        );
        assert!(
            lines[0].contains("by /usr/lib/systemd/system/a@b.service, which has the same name"),
            "{lines:?}"
        );
    }

    #[test]
    fn unit_without_request_gets_a_hint() {
        let root = tempfile::tempdir().unwrap();
        let messages = diagnose_unit(root.path(), &unit(), None);
        assert_eq!(
            messages,
            ["No file of a.service has X-MemoryBPFPolicy=. To add it, run: systemctl edit a.service"]
        );
    }

    #[test]
    fn annotation_typo_and_missing_hook_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let with = |key: &str| [(key.to_owned(), "deny limit=1G".to_owned())].into_iter().collect();
        let messages = |key: &str| diagnose_annotations(root.path(), "abc", with(key), false);
        assert_eq!(
            messages("memcg-bpf/policy"),
            ["annotation 'memcg-bpf/policy' is unknown; did you mean memcg.bpf/policy?"]
        );
        assert!(messages("memcg.bpf/polcy")[0].starts_with("ignoring annotation 'memcg.bpf/polcy'"));
        assert!(messages("org.example")[0].starts_with("The container has no annotation memcg.bpf/policy."));
        let found = messages(POLICY);
        assert!(found[0].starts_with("The annotation requests 'deny limit=1G', but"), "{found:?}");
        assert!(found[1].contains("90-memcg-bpf.json is missing"), "{found:?}");
        assert!(diagnose_annotations(root.path(), "abc", with(POLICY), true).is_empty());
    }
}
