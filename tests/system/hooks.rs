//! The hook `tick`: it ends with its binding, and so does what policies remember of a cgroup.

use std::collections::BTreeMap;
use std::fs;

use memcg_bpf::report::KernelReport;

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
        // Four objects are loaded by the first: that may take longer than a caller waits.
        wait_for("the policies to be attached", || {
            (try_sh(&format!("memcg-bpf attach /mpcycles.slice/c{round} '{line}'")).status == 0).then_some(())
        });
        assert!(elements("timers") >= 4);
        if round % 2 == 0 {
            sh(&format!("memcg-bpf detach /mpcycles.slice/c{round}"));
        }
        sh(&format!("rmdir {cgroup}"));
    }
    let left = || ["timers", "state", "memcg_stalls", "memcg_counters", "memcg_bindings"].map(elements);
    wait_for("everything to be forgotten", || (left() == [0; 5]).then_some(()));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_the_documentation_says_of_this_kernel_is_what_its_daemon_says() {
    let scene = Scene::new("documented");
    let property =
        "busctl --json=short get-property org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager Kernel";
    let outer: serde_json::Value = serde_json::from_str(&sh(property)).unwrap();
    let report: KernelReport = serde_json::from_str(outer["data"].as_str().unwrap()).unwrap();
    let series = report.release.split('.').take(2).collect::<Vec<_>>().join(".");
    let page = fs::read_to_string("/data/tree/docs/kernel-support.md").unwrap();
    let (_, table) = page.split_once("<!-- tests/vm/kernel-support -->\n").unwrap();
    let mut rows = table.lines().take_while(|line| line.starts_with('|')).map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect::<Vec<_>>()
    });
    let column = rows.next().unwrap().iter().position(|cell| *cell == series).unwrap();
    let documented: BTreeMap<String, Option<String>> = rows
        .skip(1)
        .map(|row| (row[0].clone(), Some(row[column].clone()).filter(|cell| cell != "—")))
        .collect();
    assert_eq!(documented, report.hooks, "tests/vm/kernel-support writes the table anew");
    scene.end();
}
