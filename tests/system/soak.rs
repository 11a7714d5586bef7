//! Long runs, for `make soak` only: a hundred kills of the daemon at random moments; a thousand units and two hundred
//! containers that start while systemd reloads. MEMCG_BPF_SOAK shortens them, in percent.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::support::{
    HOOK, PROGRAMS, TestEnv, active, assert_no_leftovers, daemon_resources, hook_timeouts_since,
    recursion_misses, sh, since_now, soak, start_alloc_loop, status, stop_alloc_loop, try_sh, unit_in_state,
    wait_for, wait_for_daemon_restart,
};

/// So many in a long run, and at least `few`.
fn rounds(many: usize, few: usize) -> usize {
    (many * soak() / 100).max(few)
}

/// Something that goes on beside the test, and can be held still.
struct Churn {
    gate: Arc<Mutex<()>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    fn new(mut step: impl FnMut(usize) + Send + 'static) -> Self {
        let (gate, over) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let (held, ended) = (gate.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for round in 0.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                {
                    let _open = held.lock().unwrap_or_else(PoisonError::into_inner);
                    step(round);
                }
                // Lets a thread waiting at the gate in, and leaves the emulated machine time for other work.
                sleep(Duration::from_millis(400));
            }
        });
        Churn { gate, over, thread: Some(thread) }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Numbers that look random and are the same in each run (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const UNITS: usize = 4;
const CONTAINERS: usize = 2;

/// What units that run and containers that exist ask for; units that do not run are registered.
fn carriers() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for n in 0..UNITS {
        let cgroup = format!("/system.slice/mpsoak{n}.service");
        let runs = try_sh(&format!("systemctl is-active -q mpsoak{n}")).status == 0;
        all.insert(cgroup, if runs { "active 64M" } else { "registered 64M" }.to_owned());
    }
    for n in 0..CONTAINERS {
        let cgroup = format!("/bundles/soak{n}");
        if fs::metadata(format!("/sys/fs/cgroup{cgroup}")).is_ok() {
            all.insert(cgroup, "active 96M".to_owned());
        }
    }
    all
}

/// The same, as the daemon has it.
fn bindings() -> BTreeMap<String, String> {
    let ours = |cgroup: &str| cgroup.contains("/mpsoak") || cgroup.starts_with("/bundles/");
    let all = status().into_iter().filter(|report| ours(&report.cgroup));
    all.map(|report| {
        let limits: Vec<&str> =
            report.policies.iter().filter_map(|p| p.parameters.get("limit").map(String::as_str)).collect();
        (report.cgroup, format!("{} {}", report.state, limits.join(" ")))
    })
    .collect()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn bindings_survive_repeated_kill() {
    let kills = rounds(100, 4);
    let mut env = TestEnv::new("soak");
    start_alloc_loop(&mut env, "mpgreedy.service");
    // All else is kept off its processor, as there.
    sh("mkdir /sys/fs/cgroup/bundles && echo 0 >/sys/fs/cgroup/bundles/cpuset.cpus");
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    for n in 0..UNITS {
        let unit = format!("mpsoak{n}.service");
        env.unit(&unit, "[Service]\nType=exec\nExecStart=sleep 1000\n").policy(&unit, "deny limit=64M");
    }
    env.reload();
    for n in 0..UNITS {
        unit_in_state(&format!("mpsoak{n}.service"), "registered");
    }
    let containers: Vec<String> = (0..CONTAINERS)
        .map(|n| {
            let bundle = env.bundle(&format!("soak{n}")).annotation("memcg.bpf/policy", "deny limit=96M");
            let bundle = bundle.hook("createRuntime").cgroup(&format!("/bundles/soak{n}"));
            bundle.write("exec sleep 1000");
            bundle.command("crun")
        })
        .collect();
    for n in 0..CONTAINERS {
        env.at_end(format!("crun delete -f soak{n}"));
    }
    let units = Churn::new(|round| {
        let verb = if (round / UNITS).is_multiple_of(2) { "start" } else { "stop" };
        try_sh(&format!("systemctl {verb} mpsoak{}.service", round % UNITS));
    });
    let engine = Churn::new(move |round| {
        let n = round % CONTAINERS;
        let script = if (round / CONTAINERS).is_multiple_of(2) {
            containers[n].clone()
        } else {
            format!("crun delete -f soak{n}")
        };
        try_sh(&script);
    });
    let mut dice = Dice(20_261);
    let kill = "systemctl reset-failed memcg-bpfd; systemctl kill -s KILL memcg-bpfd";
    for round in 0..kills {
        sleep(Duration::from_millis(dice.below(1500)));
        wait_for_daemon_restart(|| {
            try_sh(kill);
            if round % 3 == 2 {
                // Once more while it starts.
                sleep(Duration::from_millis(1000 + dice.below(3000)));
                try_sh(kill);
            }
        });
        let _still = [&units, &engine].map(|churn| churn.gate.lock().unwrap_or_else(PoisonError::into_inner));
        let expected = carriers();
        println!("round {round}");
        wait_for(&format!("{expected:?}"), || (bindings() == expected).then_some(()));
    }
    drop((units, engine));
    let denied = active("/mpalone.slice/mpgreedy.service").counters["growth_denied"];
    let (refused, got) = stop_alloc_loop(&env, "mpgreedy.service");
    println!("{kills} rounds; refused {refused} times, got it {got} times");
    assert!(
        got == 0 && denied > 0,
        "got it {got} times, refused {refused} times, of which {denied} are counted"
    );
    for n in 0..CONTAINERS {
        try_sh(&format!("crun delete -f soak{n}"));
    }
    for n in 0..UNITS {
        try_sh(&format!("systemctl stop mpsoak{n}.service"));
    }
    sh("systemctl stop memcg-bpfd");
    assert_no_leftovers();
    sh("systemctl start memcg-bpfd");
    env.end();
}

/// Each of our policies, and none that acts.
const ALL: &str = "observe; deny limit=1G; throttle mode=dry-run; protect low=64M mode=dry-run; reclaim mode=dry-run; \
                   oom mode=dry-run";

/// Elements of our maps.
fn elements() -> usize {
    let dumps = "for map in memcg_bindings memcg_counters memcg_stalls; do bpftool -j map dump name $map 2>/dev/null; done";
    sh(&format!("{{ {dumps}; }} | grep -o '\"key\":\\[' | wc -l")).parse().unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn starts_during_reload_are_covered() {
    let (starts, containers) = (rounds(1000, 24), rounds(200, 6));
    let mut env = TestEnv::new("reloads");
    let out = env.out("first");
    // Half of the units are known by their files, half are transient in a slice that is.
    let first = format!(
        "[Service]\nType=oneshot\nExecStart={PROGRAMS}/alloc_at_exec\nStandardOutput=append:{}\n",
        out.display()
    );
    const KNOWN: usize = 8;
    for n in 0..KNOWN {
        let unit = format!("mpreload{n}.service");
        env.unit(&unit, &first).policy(&unit, "deny limit=64M");
    }
    env.unit("mpreload.slice", "[Slice]\n").policy("mpreload.slice", "deny limit=64M");
    env.reload();
    sh("systemctl start mpreload.slice");
    active("/mpreload.slice");
    for n in 0..KNOWN {
        unit_in_state(&format!("mpreload{n}.service"), "registered");
    }
    let bundle = env.bundle("reloads").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    let bundle = bundle.cgroup("/bundles/reloads");
    bundle.write(&format!("exec {PROGRAMS}/alloc_at_exec >>/out/contained"));
    let container = bundle.command("crun").replace("run -d", "run");
    env.at_end("rmdir /sys/fs/cgroup/bundles".to_owned());
    assert!(fs::metadata(HOOK).is_ok());
    // Policies are loaded some time after the daemon's start: by now, lest they look like a leak.
    sh(&format!(
        "mkdir /sys/fs/cgroup/mpall; memcg-bpf attach /mpall '{ALL}'; memcg-bpf detach /mpall; rmdir /sys/fs/cgroup/mpall"
    ));
    let (before, had, missed, since) = (daemon_resources(), elements(), recursion_misses(), since_now());

    // Not without a pause: PID 1 starts nothing while it reloads.
    let reloads = Churn::new(|_| {
        try_sh("systemctl daemon-reload; sleep 1");
    });
    let engine = std::thread::spawn(move || {
        try_sh(&format!("for i in $(seq {containers}); do ({container}); done"));
    });
    // Not --wait, which depends on signals that a reload may lose: the end of the start job is always reported.
    try_sh(&format!(
        "for i in $(seq 0 $(({starts} / 2 - 1))); do timeout 60 systemctl start mpreload$((i % {KNOWN})).service; \
         timeout 60 systemd-run --quiet -p Type=oneshot --slice=mpreload.slice --unit=mptransient$i -p StandardOutput=append:{} {PROGRAMS}/alloc_at_exec; done",
        out.display()
    ));
    engine.join().unwrap();
    drop(reloads);

    let contained = fs::read_to_string(env.dir.join("contained")).unwrap();
    let started = fs::read_to_string(&out).unwrap();
    let missed = recursion_misses().saturating_sub(missed) + hook_timeouts_since(&since);
    assert_eq!((started.lines().count(), contained.lines().count()), (starts / 2 * 2, containers));
    let granted = started.lines().chain(contained.lines()).filter(|line| *line != "denied").count();
    assert!(granted <= missed, "granted {granted}, passed over or too late {missed}");
    // What is left is what was there before.
    wait_for("the bindings of all that has ended to go", || (elements() <= had).then_some(()));
    let after = daemon_resources();
    println!(
        "{starts} units, {containers} containers, {granted} of them granted, {missed} passed over; \
         descriptors, KiB: before {before:?}, after {after:?}; map elements: before {had}, after {}",
        elements()
    );
    assert!(after.0 <= before.0 + 2, "descriptors: {before:?} {after:?}");
    assert!(after.1 <= before.1 + 4096, "memory: {before:?} {after:?}");
    env.end();
}
