use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

/// The root directory of a machine with these files. A trailing slash creates a directory.
fn machine_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let full = root.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }
    }
    root
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn says(found: &[Finding]) -> Vec<(CheckResult, String)> {
    found.iter().map(|finding| (finding.verdict, finding.message.clone())).collect()
}

const JSON: &str = "usr/share/containers/oci/hooks.d/90-memcg-bpf.json";
const HOOK: &str = "usr/libexec/oci/hooks.d/memcg-bpf-hook";
const GOOD: &str =
    r#"{"version":"1.0.0","hook":{"path":"/usr/libexec/oci/hooks.d/memcg-bpf-hook","timeout":10}}"#;

#[test]
fn each_cgroup_layout_is_recognized() {
    for (files, verdict, sentence) in [
        (vec![("sys/fs/cgroup/memory/", "")], CheckResult::Fail, "cgroup v1 is mounted at /sys/fs/cgroup"),
        (
            vec![("sys/fs/cgroup/unified/", ""), ("sys/fs/cgroup/memory/", "")],
            CheckResult::Fail,
            "cgroup v1 and v2 are both mounted (hybrid mode), and v1 has the memory controller",
        ),
        (vec![("sys/fs/", "")], CheckResult::Fail, "cgroup v2 is not mounted at /sys/fs/cgroup"),
        (
            vec![("sys/fs/cgroup/cgroup.controllers", "cpu io pids\n")],
            CheckResult::Fail,
            "cgroup v2 is mounted, but without the memory controller",
        ),
        (
            vec![
                ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
                ("sys/fs/cgroup/cgroup.subtree_control", "memory\n"),
            ],
            CheckResult::Ok,
            "cgroup v2 with the memory controller at /sys/fs/cgroup",
        ),
    ] {
        let root = machine_with(&files);
        assert_eq!(says(&machine::cgroups(root.path())), [(verdict, sentence.to_owned())]);
    }
}

#[test]
fn every_failure_has_a_hint() {
    let empty = machine_with(&[]);
    let mut found = machine::cgroups(empty.path());
    found.push(machine::btf(empty.path()));
    found.push(service::systemd(empty.path()));
    found.push(service::bus(empty.path()));
    found.extend(service::installed(empty.path()));
    found.extend(engines::hook(empty.path()));
    for finding in found {
        assert_ne!(finding.verdict, CheckResult::Ok, "{finding:?}");
        assert!(finding.advice.as_ref().is_some_and(|advice| !advice.is_empty()), "{finding:?}");
    }
}

#[test]
fn the_hook_is_judged_by_its_file_and_its_program() {
    for (files, verdict, sentence) in [
        (vec![(JSON, "{")], CheckResult::Fail, "podman does not start any container"),
        (vec![(JSON, "{}")], CheckResult::Fail, "names no program with an absolute path"),
        (
            vec![(JSON, r#"{"hook":{"path":"hook"}}"#)],
            CheckResult::Fail,
            "names no program with an absolute path",
        ),
        (vec![(JSON, r#"{"hook":{"path":"/x"}}"#)], CheckResult::Warn, "has no timeout"),
        (vec![(JSON, GOOD)], CheckResult::Warn, "is missing; engines skip it silently"),
        (vec![(JSON, GOOD), (HOOK, "")], CheckResult::Warn, "is not executable"),
    ] {
        let root = machine_with(&files);
        let found = engines::hook(root.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].verdict == verdict && found[0].message.contains(sentence), "{found:?}");
    }
    let root = machine_with(&[(JSON, GOOD), (HOOK, "")]);
    make_executable(&root.path().join(HOOK));
    assert_eq!(engines::hook(root.path())[0].verdict, CheckResult::Ok);
}

#[test]
fn broken_hook_of_another_package_is_reported() {
    let root = machine_with(&[("usr/share/containers/oci/hooks.d/10-\u{1b}other.json", "nonsense")]);
    let found = engines::hook(root.path());
    assert_eq!(found[1].check, "other hooks");
    assert!(found[1].message.contains("10-\\u{1b}other.json: not JSON"), "{found:?}");
}

#[test]
fn engines_are_found_with_advice() {
    let root = machine_with(&[("usr/bin/podman", ""), ("usr/bin/crun", ""), ("usr/bin/dockerd", "")]);
    let found = engines::engines(root.path());
    let names: Vec<(&str, CheckResult)> =
        found.iter().map(|finding| (finding.check, finding.verdict)).collect();
    assert_eq!(
        names,
        [("podman", CheckResult::Ok), ("docker", CheckResult::Warn), ("runtimes", CheckResult::Ok)]
    );
}

#[test]
fn docker_is_judged_by_its_configuration() {
    let judged = |json: &str, runtime: &str| {
        let root = machine_with(&[("etc/docker/daemon.json", json), (runtime, "")]);
        let finding = docker::docker(root.path());
        (finding.verdict, finding.message)
    };
    let none = docker::docker(machine_with(&[]).path());
    assert!(none.verdict == CheckResult::Warn && none.message.contains("runs no OCI hooks"), "{none:?}");
    let named = r#"{"runtimes":{"x":{"path":"/opt/x"},"mem":{"path":"/usr/bin/memcg-bpf-runc"}}}"#;
    let default = named.replacen('{', r#"{"default-runtime":"mem","#, 1);
    for (json, runtime, verdict, sentence) in [
        ("{}", "usr/bin/runc", CheckResult::Warn, "runs no OCI hooks"),
        (r#"{"runtimes":[7]}"#, "usr/bin/runc", CheckResult::Warn, "runs no OCI hooks"),
        ("\u{1b}", "usr/bin/runc", CheckResult::Warn, "docker does not start"),
        (named, "usr/bin/runc", CheckResult::Warn, "/usr/bin/memcg-bpf-runc, which is missing"),
        (named, "usr/bin/memcg-bpf-runc", CheckResult::Ok, "docker run --runtime mem --annotation"),
        (&default, "usr/bin/memcg-bpf-runc", CheckResult::Ok, "docker run --annotation"),
    ] {
        let (found, message) = judged(json, runtime);
        assert!(found == verdict && message.contains(sentence), "{json}: {message}");
    }
}

#[test]
fn the_version_of_systemd_is_read_from_its_library() {
    let root = machine_with(&[
        ("run/systemd/system/", ""),
        ("usr/lib/systemd/libsystemd-shared-257.so", ""),
        ("usr/lib/systemd/libsystemd-core-257.so", ""),
    ]);
    assert_eq!(service::systemd(root.path()).message, "systemd 257 is running");
}

#[test]
fn the_last_line_sums_up() {
    let terminal = Terminal::default();
    assert_eq!(render(&[Finding::ok("user", "root")], &terminal), "ok   user  root\n\nNo problems found.\n");
    let warned = render(&[Finding::warn("user", "not root", "use sudo")], &terminal);
    assert_eq!(warned, "warn user  not root\n           → use sudo\n\nmemcg-bpf works, with 1 warning.\n");
    assert!(
        render(&[Finding::fail("x", "y", "z")], &terminal)
            .contains("memcg-bpf does not work: 1 check failed.")
    );
}
