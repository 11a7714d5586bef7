//! What must not be left when the daemon is stopped or the package removed.

use std::time::{Duration, Instant};

use super::{patience, sh, try_sh};

/// Names of our programs and maps in the kernel, as patterns of grep.
const OURS: &str = "^((growth|charge|high|reclaim|refault|stall|oom|tick)__[0-9]+|count_[a-z_0-9]+|cgroup_mkdir|cgroup_rmdir|command|memcg_[a-z_]+|\\.data\\.memcg|store_cgroup_p[tr]*|params|scratch|state|timers|ancestors_[a-z]+)$";

/// Waits until nothing of ours is left; the kernel frees maps some time after their last user is gone.
pub fn nothing_is_left() {
    let began = Instant::now();
    while !residue().is_empty() && began.elapsed() < patience() {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(residue(), "");
}

/// Everything of ours that is left: BPF programs (a link that is left keeps its program), maps, pins, records on
/// cgroups. Empty when all is gone.
pub fn residue() -> String {
    let kernel = |what: &str| {
        format!(
            "bpftool -j {what} list | tr ',{{' '\\n\\n' | sed -nE 's/^\"name\":\"(.*)\"$/\\1/p' | grep -E '{OURS}' | sed 's/^/{what} /'; "
        )
    };
    let script = [
        kernel("prog"),
        kernel("map"),
        "find /sys/fs/bpf -iname '*memcg*' | sed 's/^/pin /'; ".to_owned(),
        "getfattr -R -h -m 'trusted.memcg_bpf' --absolute-names /sys/fs/cgroup 2>/dev/null | grep -v '^$' | sed 's/^/record /'; ".to_owned(),
        "true".to_owned(),
    ]
    .concat();
    sh(&script)
}

/// The cgroups that carry a record of ours.
pub fn governed_records() -> Vec<String> {
    let found = try_sh("getfattr -R -h -m trusted.memcg_bpf --absolute-names /sys/fs/cgroup 2>/dev/null");
    let mut paths: Vec<String> = found
        .out
        .lines()
        .filter_map(|l| l.strip_prefix("# file: /sys/fs/cgroup"))
        .map(str::to_owned)
        .collect();
    paths.sort();
    paths
}
