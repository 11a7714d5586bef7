//! `throttle` lowers memory.high while protected cgroups stall, and restores it.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{
    PROGRAMS, TestEnv, acted, active, bytes, first_line, knob, knob_becomes, last_action, sh,
    stored_journal_entries, systemd, unit_in_state, wait_for, waited,
};

const MIB: u64 = 1 << 20;

/// A service that reads a file of so many MiB again and again, in a slice of its own.
fn reader(env: &mut TestEnv, unit: &str, mib: u32, more: &str) -> String {
    let file = format!("/root/{unit}.file");
    sh(&format!("dd if=/dev/zero of={file} bs=1M count={mib} status=none; sync {file}"));
    env.at_end(format!("rm -f {file}"));
    let loop_ = format!("/bin/sh -c 'while :; do cat {file} >/dev/null; done'");
    env.unit(unit, &format!("[Service]\nExecStart={loop_}\nSlice=mpshare.slice\nMemorySwapMax=0\n{more}\n"));
    format!("/mpshare.slice/{unit}")
}

/// A service that uses all of so many MiB again and again: nothing of it can be swapped out for good.
fn works(busy: &Path, mib: u32, line: &str) -> String {
    format!("[Service]\nExecStart={PROGRAMS}/touch_loop {mib} {}\n{line}\n", busy.display())
}

/// What lets such a service work while it exists.
fn busy(env: &TestEnv) -> PathBuf {
    let busy = env.dir.join("busy");
    std::fs::write(&busy, "").unwrap();
    busy
}

/// Swap in memory: with a disk, tasks stall on its I/O, and kswapd alone keeps up with them.
fn zram(env: &mut TestEnv) {
    sh("modprobe zram; echo 1536M >/sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0");
    env.at_end("swapoff /dev/zram0; echo 1 >/sys/block/zram0/reset".to_owned());
}

/// Waits for direct reclaim of the whole machine. `filling` may take as long as it needs to fill the machine, provided
/// it makes progress.
fn wait_for_host_reclaim(filling: &str) {
    let stalls = || sh("awk '/^allocstall/ { n += $2 } END { print n }' /proc/vmstat");
    let used = || bytes(filling, "memory.current") + bytes(filling, "memory.swap.current");
    let before = stalls();
    let mut had = used();
    while stalls() == before {
        had = wait_for(&format!("{filling} to fill the machine"), || {
            let now = used();
            (now > had || stalls() != before).then_some(now)
        });
    }
}

fn share(name: &str) -> TestEnv {
    let mut env = TestEnv::new(name);
    env.unit("mpshare.slice", "[Slice]\nMemoryMax=64M\n");
    env
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_lowers_high_for_stalled_protected_cgroup() {
    let mut env = share("throttle");
    let low = reader(&mut env, "mplow.service", 40, "");
    reader(&mut env, "mphigh.service", 56, "MemoryLow=16M");
    env.policy("mplow.service", "throttle interval=100ms hold=1s floor=12M").reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mplow.service");
    active(&low);
    sleep(Duration::from_secs(2));
    assert_eq!(knob(&low, "memory.high"), "max", "no protected cgroup is stalled");
    assert!(active(&low).actions.is_empty());
    systemd::start("mphigh.service");
    wait_for("memory.high to go down", || (bytes(&low, "memory.high") < 48 * MIB).then_some(()));
    let action = last_action(&low, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("throttle", "memory.high"), "{action:?}");
    for _ in 0..20 {
        assert!(bytes(&low, "memory.high") >= 12 * MIB, "below its floor");
        sleep(Duration::from_millis(100));
    }
    systemd::stop("mphigh.service");
    knob_becomes(&low, "memory.high", "max");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_ignores_itself_and_unprotected() {
    let mut env = share("throttle-self");
    let own = reader(&mut env, "mpown.service", 96, "MemoryLow=8M");
    reader(&mut env, "mpother.service", 96, "");
    env.policy("mpown.service", "throttle interval=100ms floor=8M").reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mpown.service mpother.service");
    active(&own);
    wait_for("it to wait", || (active(&own).counters["stalls"] > 200).then_some(()));
    assert_eq!(knob(&own, "memory.high"), "max");
    assert_eq!(acted(&own, "done"), 0);
    env.end();
}

/// The owner of a delegated subtree can protect a cgroup in it and let it stall at will.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_ignores_stall_on_foreign_limit() {
    let mut env = share("throttle-walls");
    let low = reader(&mut env, "mplow.service", 40, "");
    env.policy("mplow.service", "throttle interval=100ms floor=8M");
    env.unit("mpwalls.slice", "[Slice]\nMemoryMax=32M\n");
    reader(&mut env, "mpwalled.service", 96, "MemoryLow=8M\nSlice=mpwalls.slice");
    env.reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mplow.service");
    active(&low);
    systemd::start("mpwalled.service");
    wait_for("it to wait", || waited("/mpwalls.slice").filter(|us| *us > 1_000_000));
    assert_eq!(knob("/mpwalls.slice/mpwalled.service", "memory.low"), (8 * MIB).to_string());
    assert_eq!(knob(&low, "memory.high"), "max");
    assert_eq!(acted(&low, "done"), 0);
    env.end();
}

/// Short of memory without any limit: what it uses is taken from it again and again. A third of it:
/// the kernel counts waiting only for what it finds in the working set, and of nothing left there
/// is none.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_honours_protection_set_by_root_only() {
    let mut env = TestEnv::new("throttle-user");
    zram(&mut env);
    let (low, starved) = ("/system.slice/mplow.service", "/system.slice/mpstarved.service");
    env.unit("mplow.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    env.policy("mplow.service", "throttle pressure=0.5% interval=100ms hold=1s high=64M");
    let busy = busy(&env);
    env.unit("mpstarved.service", &works(&busy, 64, "MemoryLow=8M")).reload();
    systemd::start("mplow.service");
    active(low);
    sh(&format!("systemctl start mpstarved.service; chown 65534 /sys/fs/cgroup{starved}"));
    let take = || drop(std::fs::write(format!("/sys/fs/cgroup{starved}/memory.reclaim"), "20M"));
    wait_for("it to wait", || {
        take();
        waited(starved).filter(|us| *us > 200_000)
    });
    assert_eq!(acted(low, "done"), 0, "a user could have protected it");
    sh(&format!("chown 0 /sys/fs/cgroup{starved}"));
    wait_for("memory.high to go down", || {
        take();
        (knob(low, "memory.high") == (64 * MIB).to_string()).then_some(())
    });
    systemd::stop("mpstarved.service");
    knob_becomes(low, "memory.high", "max");
    env.end();
}

/// A map of core by its name, which the kernel cuts: the ids of the cgroups in it.
fn cgroups_in(map: &str) -> Vec<u64> {
    let dump: serde_json::Value =
        serde_json::from_str(&sh(&format!("bpftool -j map dump name {map}"))).unwrap();
    let bytes = |entry: &serde_json::Value| -> Vec<u8> {
        let hex = entry["key"].as_array().unwrap().iter();
        hex.map(|byte| u8::from_str_radix(&byte.as_str().unwrap()[2..], 16).unwrap()).collect()
    };
    let id = |entry| u64::from_le_bytes(bytes(entry).try_into().unwrap());
    dump.as_array().unwrap().iter().map(id).collect()
}

/// Root in a container without a user namespace can write memory.low below the container's cgroup, and make any number
/// of cgroups there.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_ignores_protection_set_in_container() {
    let mut env = TestEnv::new("throttle-container");
    zram(&mut env);
    let (low, container) = ("/system.slice/mplow.service", "/system.slice/mpstarved.service");
    env.unit("mplow.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    env.policy("mplow.service", "throttle pressure=0.5% interval=100ms hold=1s high=64M");
    let busy = busy(&env);
    // In the cgroup namespace of a container, and with two cgroups inside.
    let inside = format!(
        "cd /sys/fs/cgroup{container} && mkdir one two && echo 0 >one/cgroup.procs && echo +memory >cgroup.subtree_control && \
         echo 8M >one/memory.low && echo 8M >two/memory.low && ({PROGRAMS}/touch_loop 32 {busy} & echo 0 >two/cgroup.procs; \
         exec {PROGRAMS}/touch_loop 32 {busy})",
        busy = busy.display()
    );
    env.file("/run/mpstarved.sh", &inside);
    env.unit(
        "mpstarved.service",
        "[Service]\nDelegate=yes\nExecStart=/usr/bin/unshare --cgroup /bin/sh /run/mpstarved.sh\n",
    );
    env.reload();
    systemd::start("mplow.service");
    active(low);
    systemd::start("mpstarved.service");
    let inner = ["one", "two"].map(|name| format!("{container}/{name}"));
    let take = || {
        for cgroup in &inner {
            drop(std::fs::write(format!("/sys/fs/cgroup{cgroup}/memory.reclaim"), "10M"));
        }
    };
    let id = |path: &str| {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(format!("/sys/fs/cgroup{path}")).unwrap())
    };
    let made = Path::new("/sys/fs/cgroup/system.slice/mpstarved.service/two/memory.low");
    wait_for("the cgroups inside", || {
        std::fs::read_to_string(made).is_ok_and(|low| low != "0\n").then_some(())
    });
    wait_for("both to wait", || {
        take();
        inner.iter().all(|cgroup| waited(cgroup).is_some_and(|us| us > 200_000)).then_some(())
    });
    assert_eq!(knob(&inner[0], "memory.low"), (8 * MIB).to_string());
    assert_eq!(acted(low, "done"), 0, "the container protected it");
    assert_eq!(knob(low, "memory.high"), "max");
    let known = cgroups_in("memcg_inner_pro");
    assert!(inner.iter().all(|cgroup| known.contains(&id(cgroup))), "{known:?}");
    // What the host says of the container counts, and takes one place however many cgroups are inside.
    sh("systemctl set-property --runtime mpstarved.service MemoryLow=16M");
    wait_for("memory.high to go down", || {
        take();
        (knob(low, "memory.high") == (64 * MIB).to_string()).then_some(())
    });
    let known = cgroups_in("memcg_protected");
    assert!(
        known.contains(&id(container)) && !inner.iter().any(|cgroup| known.contains(&id(cgroup))),
        "{known:?}"
    );
    systemd::stop("mpstarved.service");
    knob_becomes(low, "memory.high", "max");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_growth_delays_burst() {
    let mut env = TestEnv::new("throttle-growth");
    // It waits for the policy: earlier allocations are not delayed.
    let (go, enough) = (env.dir.join("go"), env.dir.join("enough"));
    // Again and again: a starved machine may be too slow for a burst, which is 28 MB in a second here.
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.1; done; until [ -e {} ]; do {PROGRAMS}/alloc 96; done; exec sleep 1000",
        go.display(),
        enough.display()
    );
    let out = env.out("mpburst.service");
    let text = format!(
        "[Service]\nExecStart=/bin/sh -c '{script}'\nStandardOutput=append:{}\nMemorySwapMax=0\n",
        out.display()
    );
    env.unit("mpburst.service", &text);
    env.policy("mpburst.service", "throttle when=growth rate=8M floor=8M interval=400ms hold=1s").reload();
    systemd::start("mpburst.service");
    let burst = "/system.slice/mpburst.service";
    active(burst);
    std::fs::write(go, "").unwrap();
    wait_for("memory.high to be set", || (bytes(burst, "memory.high") < 128 * MIB).then_some(()));
    let action = last_action(burst, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("throttle", "memory.high"), "{action:?}");
    assert_eq!(first_line(&out), "reached 96 MiB");
    std::fs::write(enough, "").unwrap();
    knob_becomes(burst, "memory.high", "max");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_host_pressure() {
    let mut env = TestEnv::new("throttle-host");
    zram(&mut env);
    let busy = busy(&env);
    env.unit("mphost.service", &works(&busy, 128, ""));
    env.policy("mphost.service", "throttle when=host hold=1s floor=16M");
    // A limit of its own is not the machine's want.
    env.unit("mpcramped.service", &works(&busy, 128, "MemoryHigh=64M"));
    env.unit("mphungry.service", &works(&busy, 1900, "")).reload();
    unit_in_state("mphost.service", "registered");
    systemd::start("mphost.service");
    let host = "/system.slice/mphost.service";
    active(host);
    systemd::start("mpcramped.service");
    sleep(Duration::from_secs(2));
    assert_eq!(knob(host, "memory.high"), "max", "the machine has enough");
    systemd::stop("mpcramped.service");
    systemd::start("mphungry.service");
    wait_for_host_reclaim("/system.slice/mphungry.service");
    // It may have come back again by now: the machine is not short all the time.
    let first = wait_for("memory.high to go down", || stored_journal_entries(host).into_iter().next());
    for (field, value) in
        [("MEMCG_BPF_POLICY", "throttle"), ("MEMCG_BPF_ACTION", "memory.high"), ("MEMCG_BPF_OUTCOME", "done")]
    {
        assert_eq!(first[field], value, "{first:?}");
    }
    let reason = first["MEMCG_BPF_REASON"].as_str().unwrap();
    assert!(reason.starts_with("the machine was short of memory for "), "{first:?}");
    systemd::stop("mphungry.service");
    knob_becomes(host, "memory.high", "max");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn throttle_always_respects_memory_high() {
    let mut env = TestEnv::new("throttle-always");
    let always = "throttle when=always high=64M";
    env.unit("mpdry.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    env.policy("mpdry.service", &format!("{always} mode=dry-run"));
    env.unit("mpstrict.service", "[Service]\nExecStart=/bin/sleep 1000\nMemoryHigh=32M\n");
    env.policy("mpstrict.service", always);
    env.unit("mpalways.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    env.policy("mpalways.service", always).reload().at_end("memcg-bpf resume".to_owned());
    unit_in_state("mpalways.service", "registered");
    systemd::start("mpdry.service mpstrict.service mpalways.service");
    let [dry, strict, always] =
        ["mpdry", "mpstrict", "mpalways"].map(|unit| format!("/system.slice/{unit}.service"));

    last_action(&dry, "dry-run");
    assert_eq!(knob(&dry, "memory.high"), "max");
    wait_for("the want to be known", || active(&strict).knobs.first().map(|_| ()));
    assert_eq!(bytes(&strict, "memory.high"), 32 * MIB);

    knob_becomes(&always, "memory.high", "67108864");
    sh("memcg-bpf pause");
    knob_becomes(&always, "memory.high", "max");
    sh("memcg-bpf resume");
    knob_becomes(&always, "memory.high", "67108864");
    sh("rm /etc/systemd/system/mpalways.service.d/50-memory.conf; systemctl daemon-reload");
    knob_becomes(&always, "memory.high", "max");
    env.end();
}
