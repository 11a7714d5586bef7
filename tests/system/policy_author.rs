//! The policy author's interface: policies that are built with the public headers do what they compute.

use crate::support::{PROGRAMS, TestEnv, last_action, sh, try_sh, wait_for};

const MIB: u64 = 1 << 20;

/// The directory of an administrator's own policies.
const OWN: &str = "/etc/memcg-bpf/policies";

/// Installs a policy's object for one test.
fn install(env: &mut TestEnv, object: &str) {
    let name = object.rsplit_once('/').unwrap().1;
    sh(&format!("mkdir -p {OWN} && cp {object} {OWN}/ && memcg-bpf reload"));
    env.at_end(format!("rm -f {OWN}/{name}; rmdir --ignore-fail-on-non-empty {OWN}; memcg-bpf reload"));
}

/// Creates a cgroup with a policy.
fn cgroup(env: &mut TestEnv, path: &str, line: &str) {
    sh(&format!("mkdir /sys/fs/cgroup{path}; memcg-bpf attach {path} '{line}'"));
    env.at_end(format!("rmdir /sys/fs/cgroup{path}"));
}

/// Requests so many MiB of address space at once, from within a cgroup. True when it is granted.
fn request(path: &str, mib: u32) -> bool {
    let output = try_sh(&format!("{PROGRAMS}/alloc_in_cgroup {path} {mib}"));
    assert!(output.status == 0 || output.err.contains("Cannot allocate memory"), "{}", output.err);
    output.status == 0
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn growth_policy_denies_at_its_rate_per_cgroup() {
    let mut env = TestEnv::new("author-rate");
    install(&mut env, "/data/policies/growth_rate.bpf.o");
    cgroup(&mut env, "/mprate", "growth_rate bytes=64M per=1h");
    cgroup(&mut env, "/mprate-other", "growth_rate bytes=64M per=1h");
    assert!(request("/mprate", 40));
    assert!(!request("/mprate", 40), "80 MiB in one time span");
    assert!(request("/mprate", 8), "a request within the rate");
    assert!(request("/mprate-other", 40), "each cgroup has its own state");
    // The time is that of the request: when the span has passed, growth is allowed again.
    sh("memcg-bpf attach /mprate 'growth_rate bytes=64M per=100ms'; sleep 0.2");
    assert!(request("/mprate", 60));
    // A dry run counts and denies nothing.
    sh("memcg-bpf attach --replace /mprate 'growth_rate bytes=64M per=1h mode=dry-run'");
    assert!(request("/mprate", 40) && request("/mprate", 40));
    sh("memcg-bpf detach /mprate; memcg-bpf detach /mprate-other");
    env.end();
}

/// Bytes of file cache of a service, as its memory.stat has them.
fn file_cache(unit: &str) -> u64 {
    sh(&format!("awk '$1 == \"file\" {{ print $2 }}' /sys/fs/cgroup/system.slice/{unit}/memory.stat"))
        .parse()
        .unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn example_file_cache_keeps_cache_below_limit() {
    let mut env = TestEnv::new("author-cache");
    install(&mut env, "/data/tree/examples/policies/file_cache.bpf.o");
    for unit in ["mpcached.service", "mpuncached.service"] {
        let file = format!("/root/{unit}.file");
        let write = format!("dd if=/dev/zero of={file} bs=1M count=64 && sync {file} && exec sleep 1000");
        env.at_end(format!("rm -f {file}")).unit(
            unit,
            &format!("[Service]\nType=exec\nExecStart=/bin/sh -c '{write}'\nStandardError=null\n"),
        );
    }
    env.policy("mpcached.service", "file_cache limit=16M interval=2s").reload();
    crate::support::unit_in_state("mpcached.service", "registered");
    sh("systemctl start mpcached.service mpuncached.service");
    let action = last_action("/system.slice/mpcached.service", "done");
    assert_eq!(
        (action.policy.as_str(), action.action.as_str()),
        ("file_cache", "memory.reclaim"),
        "{action:?}"
    );
    assert!(action.reason.contains("of file cache, limit 16M"), "{action:?}");
    // The kernel reclaims in batches, and its statistics are up to 2 s old.
    wait_for("the file cache to be near its limit", || {
        (file_cache("mpcached.service") < 24 * MIB).then_some(())
    });
    wait_for("the other file to be written", || (file_cache("mpuncached.service") > 60 * MIB).then_some(()));
    sh("systemctl stop mpcached.service mpuncached.service");
    env.end();
}
