//! A denied request is logged with its process, on the unit; a dry run says that it denied nothing.

use memcg_bpf::report::DenialReport;

use crate::support::{PROGRAMS, TestEnv, alloc_in_cgroup, find, sh, wait_for};

fn last_denial(cgroup: &str) -> DenialReport {
    wait_for(&format!("a denial on {cgroup}"), || find(cgroup)?.last_denial)
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn denial_is_logged_with_process_and_limit() {
    let mut env = TestEnv::new("denials");
    env.at_end("rmdir /sys/fs/cgroup/system.slice/mpdenied.service /sys/fs/cgroup/mpwould".to_owned());
    sh("mkdir /sys/fs/cgroup/system.slice/mpdenied.service /sys/fs/cgroup/mpwould");
    sh("memcg-bpf attach /system.slice/mpdenied.service 'deny limit=64M'");
    sh("memcg-bpf attach /mpwould 'deny limit=64M mode=dry-run'");

    assert!(!alloc_in_cgroup("/system.slice/mpdenied.service", "128 128 128"));
    let denial = last_denial("/system.slice/mpdenied.service");
    assert_eq!((denial.policy.as_str(), denial.outcome.as_str()), ("deny", "denied"));
    assert_eq!((denial.requested >> 20, denial.limit), (128, Some(64 << 20)));
    assert!(denial.usage < 64 << 20 && denial.process == "alloc_in_cgroup", "{denial:?}");
    let sentence = format!("denied 128M to process {} (alloc_in_cgroup), ", denial.pid);
    let of_unit = || sh("journalctl --sync; journalctl --no-pager -b -o cat -u mpdenied.service");
    assert!(of_unit().contains(&sentence), "{}", of_unit());
    let events = sh("memcg-bpf events --json mpdenied.service");
    assert_eq!(events.matches("\"event\":\"denied\"").count(), 1, "{events}");
    assert!(sh("memcg-bpf explain /system.slice/mpdenied.service").contains("Last denial:"));

    // More than the rate limits of kernel and journal let through; each is counted.
    sh(&format!(
        "for i in 1 2 3 4 5; do {PROGRAMS}/alloc_in_cgroup /system.slice/mpdenied.service 128; done; true"
    ));
    let report = find("/system.slice/mpdenied.service").unwrap();
    assert!(report.counters["growth_denied"] >= 6, "{:?}", report.counters);
    assert_eq!(of_unit().matches(": deny: denied ").count(), 1);

    assert!(alloc_in_cgroup("/mpwould", "128"));
    let denial = last_denial("/mpwould");
    assert_eq!(denial.outcome, "dry-run");
    assert!(denial.detail.starts_with("would have denied 128M"), "{denial:?}");
    env.end();
}
