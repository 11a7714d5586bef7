//! Objects that must not remain after the daemon is stopped or the package removed.

use std::time::{Duration, Instant};

use super::{sh, timeout, try_sh};

/// Names of the product's programs and maps in the kernel, as a pattern of grep.
const OURS: &str = "^((growth|charge|high|reclaim|refault|stall|oom|tick)__[0-9]+|count_[a-z_0-9]+|cgroup_mkdir|cgroup_rmdir|command|memcg_[a-z_]+|\\.data\\.memcg|store_cgroup_p[tr]*|record_oom_kill|oom_kill_scratc[h]*|params|scratch|state|timers|ancestors_[a-z]+)$";

/// Waits until there are no leftovers. The kernel frees maps some time after their last use.
pub fn assert_no_leftovers() {
    let began = Instant::now();
    while !leftovers().is_empty() && began.elapsed() < timeout() {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(leftovers(), "");
}

/// Leftovers: BPF programs (a leftover link keeps its program), maps, pins, records on cgroups. Empty if there are
/// none.
pub fn leftovers() -> String {
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

/// The cgroups with a record.
pub fn recorded_cgroups() -> Vec<String> {
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
