//! Arguments and callers.

use super::*;

/// Each call fails with its sentence.
fn compare(sentences: &mut Sentences, cases: &[(&str, &str)]) {
    for (call, sentence) in cases {
        sentences.compare(call, refusal(&try_sh(&format!("{CALL} {call}"))), sentence);
    }
}

/// Arguments of calls for cgroups. `deep` is a cgroup below the deepest level that programs search.
fn compare_cgroup_calls(sentences: &mut Sentences, deep: &str) {
    let long_line = format!("Attach ss /system.slice 'deny {}'", "x".repeat(5000));
    let long_path = format!("Attach ss /{} observe", "x".repeat(5000));
    let long_path_sentence = format!("'/{}…' is not a cgroup path: longer than 4095 bytes", "x".repeat(63));
    let deep_sentence = format!(
        "{deep} is 33 levels deep; policies can be attached down to level 32, and apply to all descendants"
    );
    let cases = [
        ("Attach ss system.slice observe", "'system.slice' is not a cgroup path: it does not start with '/'"),
        (
            "Attach ss /a/../.. observe",
            "'/a/../..' is not a cgroup path: it has an empty, '.' or '..' component",
        ),
        ("Attach ss /a//b observe", "'/a//b' is not a cgroup path: it has an empty, '.' or '..' component"),
        ("Attach ss '' observe", "'' is not a cgroup path: it does not start with '/'"),
        ("Attach ss / observe", "a policy cannot be attached to the root cgroup; name a cgroup below it"),
        (
            "Attach ss /init.scope observe",
            "/init.scope is the cgroup of PID 1; a policy cannot be attached to it",
        ),
        (
            "Attach ss /system.slice/memcg-bpfd.service observe",
            "/system.slice/memcg-bpfd.service is the cgroup of memcg-bpfd; a policy cannot be attached to it",
        ),
        ("Attach ss /no/such observe", "there is no cgroup /no/such"),
        (
            "Attach ss /mpdeep/d observe",
            "/mpdeep/d has no memory controller: enable it in its parent (echo +memory > cgroup.subtree_control), or set MemoryAccounting=yes on the unit",
        ),
        (&format!("Attach ss {deep} observe"), &deep_sentence),
        (&long_path, &long_path_sentence),
        (&long_line, "the policy line has 5005 bytes; at most 4096 are allowed"),
        (
            "Attach ss /system.slice 'dney limit=64M'",
            "operator uid 0, column 1: unknown policy 'dney'; did you mean 'deny'?",
        ),
        (
            "Attach ss /system.slice 'deny limt=64M'",
            "operator uid 0, column 6: unknown parameter 'limt' of policy 'deny'; did you mean 'limit'?",
        ),
        ("Detach s /", "a policy cannot be attached to the root cgroup; name a cgroup below it"),
        ("Detach s /no/such", "there is no cgroup /no/such"),
        ("Detach s /system.slice", "no policy is requested for /system.slice"),
        ("Explain s no", "'no' is not a cgroup path: it does not start with '/'"),
        ("Explain s /no/such", "there is no cgroup /no/such"),
    ];
    compare(sentences, &cases);
}

/// Arguments of calls for containers.
fn compare_container_calls(sentences: &mut Sentences) {
    let long_annotation = format!("AttachContainer 'susa{{sv}}' x 1 'deny {}' 0", "x".repeat(5000));
    let long_option =
        format!("AttachContainer 'susa{{sv}}' x 1 observe 1 cgroups-path s /{}", "x".repeat(5000));
    let cases = [
        ("DetachContainer s ''", "'' is not a container id: it is empty"),
        (
            "AttachContainer 'susa{sv}' ../x 1 observe 0",
            "'../x' is not a container id: it starts with '-' or '.'",
        ),
        ("AttachContainer 'susa{sv}' x 0 observe 0", "0 is not the id of a process"),
        ("AttachContainer 'susa{sv}' x 4294967295 observe 0", "4294967295 is not the id of a process"),
        (
            "AttachContainer 'susa{sv}' x 4194304 observe 0",
            "container x: process 4194304 cannot be examined: No such file or directory (os error 2)",
        ),
        (&long_annotation, "the policy line has 5005 bytes; at most 4096 are allowed"),
        (
            "AttachContainer 'susa{sv}' x 1 observe 0",
            "container x: the container's process is in '/init.scope', no part of which is named after container x, and the bundle has no linux.cgroupsPath",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 colour s red",
            "unknown option 'colour'; valid are 'cgroups-path' (s), 'pod' (s), 'required' (b) and 'sandbox' (s)",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 required s yes",
            "option 'required' must be a boolean (b), not of type 's'",
        ),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 cgroups-path b true",
            "option 'cgroups-path' must be a string (s), not of type 'b'",
        ),
        (&long_option, "option 'cgroups-path' has 5001 bytes; at most 4095 are possible"),
        (
            "AttachContainer 'susa{sv}' x 1 observe 1 cgroups-path s /elsewhere",
            "container x: the container's process is in '/init.scope', which is not in '/elsewhere' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups",
        ),
    ];
    compare(sentences, &cases);
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn dbus_invalid_args_errors() {
    let mut env = TestEnv::new("arguments");
    // Below a cgroup that enables no controllers for its children, and deeper than programs search.
    let deep = format!("/mpdeep{}", "/d".repeat(32));
    sh(&format!("mkdir -p /sys/fs/cgroup{deep}"));
    env.at_end("find /sys/fs/cgroup/mpdeep -depth -type d -exec rmdir {} \\;".to_owned());
    let mut sentences = Sentences::default();
    compare_cgroup_calls(&mut sentences, &deep);
    compare_container_calls(&mut sentences);
    sentences.end(31);
    assert_eq!(status(), []);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn dbus_denied_for_users() {
    let env = TestEnv::new("unprivileged");
    for call in ["List", "Policies", "Attach ss /system.slice observe", "Detach s /system.slice"] {
        let output = try_sh(&format!("runuser -u nobody -- {CALL} {call}"));
        assert!(refusal(&output).contains("uid 65534 may not "), "{call}: {}", output.err);
    }
    let output = try_sh("runuser -u nobody -- memcg-bpf status");
    assert!(output.status != 0 && output.err.contains("sudo"), "{output:?}");
    assert_eq!(status(), []);
    env.end();
}
