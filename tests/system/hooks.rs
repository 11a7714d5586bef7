//! The hook `tick`: it ends with its binding, and so does what policies remember of a cgroup.

use crate::support::{Scene, sh, try_sh, wait_for};

/// How many elements the maps of this name have.
fn elements(map: &str) -> usize {
    // One map is dumped as a list, several are listed with theirs; each has its key as bytes and as a number.
    try_sh(&format!("bpftool -j map dump name {map}")).out.matches("\"key\":[").count()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn many_cycles_leave_no_timer_and_no_memory_of_cgroups() {
    let mut scene = Scene::new("cycles");
    let slice = "/sys/fs/cgroup/mpcycles.slice";
    scene.stops("mpcycles.slice");
    sh(&format!("systemctl start mpcycles.slice; echo +memory > {slice}/cgroup.subtree_control"));
    for round in 0..25 {
        let cgroup = format!("{slice}/c{round}");
        sh(&format!("mkdir {cgroup}"));
        let line = "oom; throttle; reclaim; protect low=1M";
        let said = try_sh(&format!("memcg-bpf attach /mpcycles.slice/c{round} '{line}'"));
        assert_eq!(said.status, 0, "round {round}: {}", said.err);
        assert!(elements("ticking") >= 4);
        if round % 2 == 0 {
            sh(&format!("memcg-bpf detach /mpcycles.slice/c{round}"));
        }
        sh(&format!("rmdir {cgroup}"));
    }
    let left = || ["ticking", "state", "memcg_stalls", "memcg_counters", "memcg_bindings"].map(elements);
    wait_for("everything to be forgotten", || (left() == [0; 5]).then_some(()));
    scene.end();
}
