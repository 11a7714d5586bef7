//! Counters of `observe`, compared with what test programs did and with memory.events.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{
    PROGRAMS, TestEnv, active, attach, events, first_line, knob, recursion_misses_of, sh, systemd, try_sh,
    unit_in_state, wait_for,
};

const PAGES_OF_64K: u64 = 16;
/// Pages that a processor may take into stock at once, for each kind of charge.
const BATCH: u64 = 64;

/// A service under `observe` which runs until it is killed.
fn observed(env: &mut TestEnv, unit: &str, command: &str, more: &str) {
    let out = env.out(unit);
    env.unit(
        unit,
        &format!(
            "[Service]\nType=exec\nExecStart={command}\nStandardOutput=append:{}\n{more}\n",
            out.display()
        ),
    );
    env.policy(unit, "observe");
}

fn counters(unit: &str) -> BTreeMap<String, u64> {
    active(&format!("/system.slice/{unit}")).counters
}

fn done(env: &TestEnv, unit: &str) {
    let out = env.out(unit);
    wait_for("the program to be done", || fs::read_to_string(&out).ok()?.contains("done\n").then_some(()));
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn growth_and_charge_counters_exact() {
    const MAPS: u64 = 1000;
    const PAGES: u64 = 8192;
    let mut env = TestEnv::new("observe");
    // One after the other, as each takes the other's stock of pages away (below).
    let (go, go_on) = (env.dir.join("go"), env.dir.join("go-on"));
    observed(&mut env, "mpmaps.service", &format!("{PROGRAMS}/maps {MAPS} {}", go.display()), "");
    observed(&mut env, "mptouch.service", &format!("{PROGRAMS}/touch {PAGES} {}", go_on.display()), "");
    env.reload();
    systemd::start("mpmaps.service mptouch.service");
    for unit in ["mpmaps.service", "mptouch.service"] {
        assert_eq!(first_line(&env.out(unit)), "ready");
    }
    let missed = recursion_misses_of(&["count_growth__0"]);
    let (maps, touch) = (counters("mpmaps.service"), counters("mptouch.service"));
    fs::write(&go, "").unwrap();
    done(&env, "mpmaps.service");
    fs::write(&go_on, "").unwrap();
    done(&env, "mptouch.service");

    let more =
        |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, key: &str| after[key] - before[key];
    let after = counters("mpmaps.service");
    let missed = recursion_misses_of(&["count_growth__0"]) - missed;
    let requests = more(&maps, &after, "growth_requests");
    assert!(requests <= MAPS && requests + missed as u64 >= MAPS, "{requests}, passed over {missed}");
    assert_eq!(more(&maps, &after, "growth_pages"), requests * PAGES_OF_64K);
    assert_eq!(more(&maps, &after, "growth_failed"), 0);

    // Charged in batches: up to one a processor is in stock before and after, and page tables are charged too. Before
    // 6.16 a processor keeps stock for one cgroup only, and gives back what is left of a batch whenever another one
    // charges: on a busy machine more is charged than is touched.
    let after = counters("mptouch.service");
    let charged = more(&touch, &after, "charged_pages");
    let processors: u64 = sh("nproc").parse().unwrap();
    let slack = 2 * BATCH * processors;
    let tables = PAGES / 512 + 2;
    assert!(
        charged + slack >= PAGES && charged <= 2 * PAGES + tables + slack,
        "{charged} pages charged for {PAGES}"
    );
    assert!(more(&touch, &after, "charges") >= charged / BATCH);
    assert_eq!(more(&touch, &after, "growth_requests"), 0, "faults are no requests");
    env.end();
}

/// What two counters of `requests` say more after a program has asked for so many MiB in the cgroup, and whether it got
/// them.
fn asked(unit: &str, mib: &str) -> (bool, [u64; 3]) {
    let before = counters(unit);
    let got = try_sh(&format!("{PROGRAMS}/alloc_in_cgroup /system.slice/{unit} {mib}"));
    let after = counters(unit);
    (got.status == 0, ["growth_pages", "growth_failed", "growth_denied"].map(|key| after[key] - before[key]))
}

/// More address space than the machine has memory and swap, in MiB and in pages.
const TOO_MUCH: &str = "1000000";
const TOO_MANY: u64 = 256_000_000;
const OWN: &str = "/etc/memcg-bpf/policies";

#[test]
#[ignore = "needs root in the test machine: make check"]
fn growth_counted_once() {
    let mut env = TestEnv::new("observe-growth");
    let by_core = || sh("ls /sys/fs/bpf/memcg-bpf/*/").contains("core-count_growth__0");
    for unit in ["mpseen.service", "mpboth.service", "mpthird.service"] {
        // What it needs to start is not to be counted later.
        let out = env.out(unit);
        let text =
            format!("[Service]\nExecStart={PROGRAMS}/maps 0\nStandardOutput=append:{}\n", out.display());
        env.unit(unit, &text);
    }
    env.policy("mpseen.service", "observe");
    env.at_end(
        "sysctl -q vm.overcommit_memory=0 vm.overcommit_ratio=50; systemctl reload memcg-bpfd".to_owned(),
    );
    sh("sysctl -q vm.overcommit_memory=0");
    env.reload();
    systemd::start("mpseen.service mpboth.service mpthird.service");
    for unit in ["mpseen.service", "mpboth.service", "mpthird.service"] {
        done(&env, unit);
    }
    active("/system.slice/mpseen.service");
    // Programs stay attached for some seconds after their last use, also those of earlier tests.
    wait_for("core to count, because no policy has the growth hook", || by_core().then_some(()));
    let refused = |(got, [pages, refused, denied]): (bool, [u64; 3])| {
        // What perror() wants to say its sentence with is asked for as well.
        assert!(!got && pages >= TOO_MANY && refused == 1, "got {got}, {pages} pages, refused {refused}");
        denied
    };
    assert_eq!(refused(asked("mpseen.service", TOO_MUCH)), 0, "the kernel refuses");
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));

    sh("memcg-bpf attach /system.slice/mpboth.service 'observe; deny limit=64M'");
    assert!(!by_core(), "deny is asked, and counts for all");
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));
    assert_eq!(refused(asked("mpseen.service", TOO_MUCH)), 0, "the kernel refuses");
    assert_eq!(refused(asked("mpboth.service", TOO_MUCH)), 1, "deny refuses");

    // Another object of it, and another policy that is asked as well.
    env.at_end(format!("rm -f {OWN}/deny.bpf.o {OWN}/scripted.bpf.o; rmdir {OWN}"));
    sh(&format!("mkdir -p {OWN} && cp /usr/lib/memcg-bpf/policies/deny.bpf.o {OWN}/ && memcg-bpf reload"));
    assert!(!by_core());
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));
    assert_eq!(refused(asked("mpboth.service", TOO_MUCH)), 1, "deny refuses");
    sh(&format!("rm {OWN}/deny.bpf.o; cp /data/policies/scripted.bpf.o {OWN}/ && memcg-bpf reload"));
    assert!(!by_core());
    sh("memcg-bpf attach /system.slice/mpthird.service 'scripted verb=high'");
    assert!(by_core(), "two are asked");
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));
    sh("memcg-bpf detach /system.slice/mpthird.service");
    // Programs stay attached for some seconds after their last use.
    wait_for("the other policy to be detached", || (!by_core()).then_some(()));

    // A kernel that grants every request, and one that may reject requests.
    sh("sysctl -q vm.overcommit_memory=1 && memcg-bpf reload");
    assert!(!by_core());
    assert_eq!(asked("mpseen.service", TOO_MUCH), (true, [TOO_MANY, 0, 0]));
    sh("sysctl -q vm.overcommit_ratio=400 vm.overcommit_memory=2 && memcg-bpf reload");
    assert!(by_core(), "only who comes after the kernel can tell");
    assert_eq!(refused(asked("mpseen.service", TOO_MUCH)), 0, "the kernel refuses");
    assert_eq!(refused(asked("mpboth.service", TOO_MUCH)), 1, "deny refuses");

    // Nor does anything change when the daemon does.
    sh("sysctl -q vm.overcommit_memory=0; systemctl restart memcg-bpfd");
    active("/system.slice/mpboth.service");
    wait_for("the next daemon's programs", || (!by_core()).then_some(()));
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));
    sh("memcg-bpf detach /system.slice/mpboth.service");
    wait_for("the detach of the last policy with the hook", || by_core().then_some(()));
    assert_eq!(asked("mpseen.service", "128"), (true, [32768, 0, 0]));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reclaim_counted_and_timed() {
    let mut env = TestEnv::new("observe-reclaim");
    // 32 MiB of file cache, written out, are easy to give back.
    let cache = "sh -c 'dd if=/dev/zero of=/root/cache bs=1M count=32 && sync /root/cache && echo done; exec sleep 1000'";
    observed(&mut env, "mpreclaim.service", &format!("/bin/{cache}"), "");
    env.at_end("rm -f /root/cache".to_owned()).reload();
    unit_in_state("mpreclaim.service", "registered");
    systemd::start("mpreclaim.service");
    done(&env, "mpreclaim.service");
    // Slab is reclaimed too and is in no statistics of the cgroup; asynchronous reclaim is not counted here.
    let stolen = || {
        let stat = knob("/system.slice/mpreclaim.service", "memory.stat");
        let of = |key: &str| -> u64 {
            stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0)
        };
        of("pgsteal ") - of("pgsteal_kswapd ")
    };
    let (before, stolen_before) = (counters("mpreclaim.service"), stolen());
    sh("echo 16M > /sys/fs/cgroup/system.slice/mpreclaim.service/memory.reclaim");
    let after = counters("mpreclaim.service");
    assert!(after["reclaim_runs"] > before["reclaim_runs"], "{after:?}");
    let pages = after["reclaimed_pages"] - before["reclaimed_pages"];
    let stolen = stolen() - stolen_before;
    assert!(
        pages >= 4096 && pages.abs_diff(stolen) <= 512,
        "{pages} pages reclaimed for 16 MiB, {stolen} stolen"
    );
    assert!(after["reclaim_ns"] > before["reclaim_ns"]);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn oom_counter_matches_memory_events() {
    let mut env = TestEnv::new("observe-oom");
    let eat = format!("/bin/sh -c '{PROGRAMS}/alloc 200; echo done; exec sleep 1000'");
    observed(&mut env, "mpoom.service", &eat, "MemoryMax=32M\nMemorySwapMax=0\nOOMPolicy=continue");
    env.reload();
    unit_in_state("mpoom.service", "registered");
    systemd::start("mpoom.service");
    done(&env, "mpoom.service");
    let report = active("/system.slice/mpoom.service");
    let told = events("/system.slice/mpoom.service");
    assert_eq!(report.events, told);
    assert!(told["oom_kill"] >= 1 && told["max"] >= 1, "{told:?}");
    assert_eq!(report.counters["oom"], told["oom"], "{:?} {told:?}", report.counters);
    assert!(report.counters["reclaim_runs"] >= 1);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn thrashing_shows_refaults_and_stalls() {
    let mut env = TestEnv::new("observe-thrash");
    // Read again and again through a cache of half its size; what the test itself has of it in cache is dropped.
    sh("dd if=/dev/zero of=/root/large bs=1M count=48 status=none; sync; echo 1 > /proc/sys/vm/drop_caches");
    env.at_end("rm -f /root/large".to_owned());
    let read =
        "/bin/sh -c 'for i in 1 2 3 4; do cat /root/large >/dev/null; done; echo done; exec sleep 1000'";
    // On one processor, as the kernel weighs the time that is waited on each by how busy it is.
    observed(&mut env, "mpthrash.service", read, "MemoryMax=24M\nMemorySwapMax=0\nCPUAffinity=0");
    env.reload();
    unit_in_state("mpthrash.service", "registered");
    systemd::start("mpthrash.service");
    done(&env, "mpthrash.service");
    let counted = counters("mpthrash.service");
    for key in ["reclaim_runs", "reclaimed_pages", "refaults", "stalls", "stall_ns"] {
        assert!(counted[key] > 0, "{key}: {counted:?}");
    }
    // The kernel's own statistics of the cgroup; a large folio is one refault of ours and many pages of its. Nobody but
    // this program waits in it, so that the time of all is that of some.
    // memory.stat may be some pages behind, as it is summed up from time to time.
    wait_for("memory.stat to have as many refaults", || {
        let stat = knob("/system.slice/mpthrash.service", "memory.stat");
        let of_all =
            stat.lines().filter_map(|line| line.strip_prefix("workingset_refault_")?.split_once(' '));
        let refaults: u64 = of_all.filter_map(|(_, number)| number.parse::<u64>().ok()).sum();
        (counted["refaults"] <= refaults).then_some(())
    });
    let pressure = knob("/system.slice/mpthrash.service", "memory.pressure");
    let some_us: u64 =
        pressure.lines().find_map(|l| l.strip_prefix("some ")?.split_once("total=")?.1.parse().ok()).unwrap();
    let stall_us = counted["stall_ns"] / 1000;
    assert!(
        (some_us / 2..=some_us * 3 / 2).contains(&stall_us),
        "{some_us} us in memory.pressure, {counted:?}"
    );
    env.end();
}

/// Policies on nested cgroups hide no stall from the one above them.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn stalls_counted_above_six_nested_policies() {
    let mut env = TestEnv::new("observe-deep");
    env.unit("mpdeep.slice", "[Slice]\nMemoryHigh=8M\nMemorySwapMax=0\n").reload();
    sh("systemctl start mpdeep.slice");
    let mut path = "/mpdeep.slice".to_owned();
    for _ in 0..6 {
        attach(&path, "observe");
        sh(&format!(
            "echo +memory >/sys/fs/cgroup{path}/cgroup.subtree_control; mkdir /sys/fs/cgroup{path}/n"
        ));
        path.push_str("/n");
    }
    attach(&path, "observe");
    let procs = format!("/sys/fs/cgroup{path}/cgroup.procs");
    env.at_end(
        "echo 1 >/sys/fs/cgroup/mpdeep.slice/cgroup.kill; sleep 1; \
        find /sys/fs/cgroup/mpdeep.slice -mindepth 1 -depth -type d -exec rmdir {} +"
            .to_owned(),
    );
    sh(&format!("sh -c 'echo $$ >{procs}; exec {PROGRAMS}/alloc 200 hold' >/dev/null 2>&1 &"));
    for cgroup in [path.as_str(), "/mpdeep.slice"] {
        wait_for("stalls to be counted", || (active(cgroup).counters["stalls"] > 0).then_some(()));
    }
    env.end();
}
