use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::bpf::objects::PolicyObjects;

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

const CONTAINERD: &str = "usr/bin/containerd";
const CONFIG: &str = "etc/containerd/config.toml";
const V1: &str = "\0github.com/containerd/containerd/plugin\0";
const V2: &str = "\0github.com/containerd/containerd/v2/plugins\0";
const NRI: &str = "[plugins.\"io.containerd.nri.v1.nri\"]\n";

/// Verdicts and messages for containerd with this program, configuration and further files.
fn containerd_with(program: &str, config: &str, more: &[(&str, &str)]) -> Vec<(CheckResult, String)> {
    let mut files = vec![(CONTAINERD, program)];
    if !config.is_empty() {
        files.push((CONFIG, config));
    }
    files.extend(more);
    let found = engines::engines(machine_with(&files).path());
    assert!(found.iter().all(|f| (f.verdict == CheckResult::Ok) == f.advice.is_none()), "{found:?}");
    says(&found)
}

#[test]
fn nri_of_containerd_is_enabled_by_version_and_configuration() {
    let disable = |value: &str| format!("{NRI}disable = {value}\n");
    let disabled = |version: &str| {
        let message =
            format!("NRI is disabled in containerd{version}, so annotations of pods have no effect");
        vec![(CheckResult::Warn, message)]
    };
    assert_eq!(containerd_with(V1, "", &[]), disabled(" 1"));
    assert_eq!(containerd_with(V1, "version = 2", &[]), disabled(" 1"));
    assert_eq!(containerd_with(V2, &disable("true"), &[]), disabled(" 2"));
    assert_eq!(containerd_with("#!/bin/sh", "", &[]), disabled(""));
    let enabled = |version: &str| {
        let text = "takes the policy from an annotation of the pod";
        (CheckResult::Ok, format!("NRI is enabled in containerd {version}: {text}"))
    };
    let path = format!("{}{V2}", "x".repeat((1 << 20) - 20));
    for (program, config, version) in [
        (V2, String::new(), "2"),
        (path.as_str(), String::new(), "2"),
        ("#!/bin/sh", "version = 3".to_owned(), "2"),
        (V1, disable("false"), "1"),
    ] {
        assert_eq!(containerd_with(program, &config, &[])[0], enabled(version), "{config}");
    }
    let imports = "imports = ['conf.d/*.toml']";
    let file = [("etc/containerd/conf.d/nri.toml", disable("false"))];
    let file = file.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_eq!(containerd_with(V1, imports, &file)[0], enabled("1"));
}

#[test]
fn settings_of_nri_that_keep_the_plugin_away_are_reported() {
    let socket = ("run/nri/nri.sock", "");
    let good = ["/run/nri/nri.sock", "a plugin must answer within 2s, and register within 5s"];
    let after_first = |config: &str, more: &[(&str, &str)]| containerd_with(V2, config, more)[1..].to_vec();
    let ok = good.map(|text| (CheckResult::Ok, text.to_owned()));
    assert_eq!(after_first("", &[socket]), ok);
    assert_eq!(after_first("", &[])[0].0, CheckResult::Warn);
    for (key, part) in [
        ("socket_path = '/run/other.sock'", "containerd listens at /run/other.sock, but the plugin connects"),
        ("disable_connections = true", "the plugin cannot connect"),
    ] {
        let found = after_first(&format!("{NRI}{key}"), &[socket]);
        assert!(found[0].0 == CheckResult::Warn && found[0].1.contains(part), "{found:?}");
    }
    let found = after_first(&format!("{NRI}plugin_request_timeout = \"100ms\""), &[socket]);
    assert_eq!(found[1].0, CheckResult::Warn);
    let validator =
        "[plugins.'io.containerd.nri.v1.nri'.default_validator]\nreject_oci_hook_adjustment = true\n";
    assert_eq!(after_first(validator, &[socket]), ok, "the validator is not enabled");
    let found = after_first(&format!("{validator}enable = true"), &[socket]);
    assert_eq!(found[1].0, CheckResult::Fail);
    assert!(found[1].1.starts_with("reject_oci_hook_adjustment is set"), "{found:?}");
}

#[test]
fn state_of_the_plugin_is_that_of_its_unit() {
    for (text, verdict, sentence) in [
        (
            "LoadState=loaded\nActiveState=active\nStatusText=Connected to containerd v1.7.24\n",
            CheckResult::Ok,
            "memcg-bpf-nri is running. Connected to containerd v1.7.24",
        ),
        (
            "LoadState=loaded\nActiveState=active\nStatusText=Not connected: x\n",
            CheckResult::Warn,
            "memcg-bpf-nri is running, but not registered. Not connected: x",
        ),
        (
            "LoadState=loaded\nActiveState=active\nStatusText=\n",
            CheckResult::Warn,
            "memcg-bpf-nri is running, but not registered",
        ),
        (
            "LoadState=loaded\nActiveState=inactive\n",
            CheckResult::Warn,
            "memcg-bpf-nri is not running: annotations of pods have no effect",
        ),
        (
            "LoadState=not-found\nActiveState=inactive\n",
            CheckResult::Warn,
            "memcg-bpf-nri.service is not installed: annotations of pods have no effect",
        ),
        ("", CheckResult::Warn, "the state of memcg-bpf-nri is unknown: systemctl does not work here"),
    ] {
        assert_eq!(says(&[containerd::plugin_state(text)]), [(verdict, sentence.to_owned())]);
    }
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

#[test]
fn advice_on_broken_object_depends_on_its_owner() {
    let errors = [
        "/etc/memcg-bpf/policies/mine.bpf.o is not a BPF object",
        "/usr/lib/memcg-bpf/policies/oom.bpf.o: …",
    ];
    let objects = PolicyObjects { errors: errors.map(str::to_owned).to_vec(), ..PolicyObjects::default() };
    let found = machine::policies(&objects);
    let advice: Vec<&str> = found.iter().map(|finding| finding.advice.as_deref().unwrap()).collect();
    assert!(!advice[0].contains("package") && advice[0].contains("remove the file"), "{advice:?}");
    assert_eq!(advice[1], "install the package memcg-bpf again");
}
