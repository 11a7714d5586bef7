//! `throttle` gives way while others suffer, and comes back.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{
    PROGRAMS, Scene, acted, active, bytes, first_line, knob, knob_becomes, last_action, sh, told,
    unit_in_state, wait_for,
};

const MIB: u64 = 1 << 20;

/// A service that reads a file of so many MiB again and again, in a slice of its own.
fn reader(scene: &mut Scene, unit: &str, mib: u32, more: &str) -> String {
    let file = format!("/root/{unit}.file");
    sh(&format!("dd if=/dev/zero of={file} bs=1M count={mib} status=none; sync {file}"));
    scene.at_end(format!("rm -f {file}"));
    let loop_ = format!("/bin/sh -c 'while :; do cat {file} >/dev/null; done'");
    scene
        .unit(unit, &format!("[Service]\nExecStart={loop_}\nSlice=mpshare.slice\nMemorySwapMax=0\n{more}\n"));
    format!("/mpshare.slice/{unit}")
}

/// A service that uses all of so many MiB again and again: nothing of it can be swapped out for good.
fn works(busy: &Path, mib: u32, line: &str) -> String {
    format!("[Service]\nExecStart={PROGRAMS}/work {mib} {}\n{line}\n", busy.display())
}

/// What lets such a service work while it exists.
fn busy(scene: &Scene) -> PathBuf {
    let busy = scene.dir.join("busy");
    std::fs::write(&busy, "").unwrap();
    busy
}

/// Swap in memory: with a disk, who wants memory waits for that, and kswapd alone keeps up with it.
fn zram(scene: &mut Scene) {
    sh("modprobe zram; echo 1536M >/sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0");
    scene.at_end("swapoff /dev/zram0; echo 1 >/sys/block/zram0/reset".to_owned());
}

/// Microseconds for which some task of a cgroup has waited for memory.
fn waited(cgroup: &str) -> Option<u64> {
    knob(cgroup, "memory.pressure").lines().next()?.rsplit_once("total=")?.1.parse().ok()
}

/// Waits until somebody has to reclaim for the whole machine. Filling it takes `filling` its time: it may have all that
/// it needs as long as it gets on.
fn machine_is_short(filling: &str) {
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

fn share(name: &str) -> Scene {
    let mut scene = Scene::new(name);
    scene.unit("mpshare.slice", "[Slice]\nMemoryMax=64M\n");
    scene
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn it_gives_way_while_a_protected_cgroup_waits_and_comes_back() {
    let mut scene = share("throttle");
    let low = reader(&mut scene, "mplow.service", 40, "");
    reader(&mut scene, "mphigh.service", 56, "MemoryLow=16M");
    scene.policy("mplow.service", "throttle interval=100ms hold=1s floor=12M").reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mplow.service");
    active(&low);
    sleep(Duration::from_secs(2));
    assert_eq!(knob(&low, "memory.high"), "max", "nobody suffers");
    assert!(active(&low).actions.is_empty());
    sh("systemctl start mphigh.service");
    wait_for("memory.high to go down", || (bytes(&low, "memory.high") < 48 * MIB).then_some(()));
    let action = last_action(&low, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("throttle", "memory.high"), "{action:?}");
    for _ in 0..20 {
        assert!(bytes(&low, "memory.high") >= 12 * MIB, "below its floor");
        sleep(Duration::from_millis(100));
    }
    sh("systemctl stop mphigh.service");
    knob_becomes(&low, "memory.high", "max");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn it_does_not_give_way_to_itself_nor_to_who_is_not_protected() {
    let mut scene = share("throttle-self");
    let own = reader(&mut scene, "mpown.service", 96, "MemoryLow=8M");
    reader(&mut scene, "mpother.service", 96, "");
    scene.policy("mpown.service", "throttle interval=100ms floor=8M").reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mpown.service mpother.service");
    active(&own);
    wait_for("it to wait", || (active(&own).counters["stalls"] > 200).then_some(()));
    assert_eq!(knob(&own, "memory.high"), "max");
    assert_eq!(acted(&own, "done"), 0);
    scene.end();
}

/// Whoever has cgroups of its own can protect one and let it wait as much as it likes.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn it_does_not_give_way_to_who_waits_for_a_limit_that_others_cannot_help_with() {
    let mut scene = share("throttle-walls");
    let low = reader(&mut scene, "mplow.service", 40, "");
    scene.policy("mplow.service", "throttle interval=100ms floor=8M");
    scene.unit("mpwalls.slice", "[Slice]\nMemoryMax=32M\n");
    reader(&mut scene, "mpwalled.service", 96, "MemoryLow=8M\nSlice=mpwalls.slice");
    scene.reload();
    sh("echo 1 > /proc/sys/vm/drop_caches; systemctl start mplow.service");
    active(&low);
    sh("systemctl start mpwalled.service");
    wait_for("it to wait", || waited("/mpwalls.slice").filter(|us| *us > 1_000_000));
    assert_eq!(knob("/mpwalls.slice/mpwalled.service", "memory.low"), (8 * MIB).to_string());
    assert_eq!(knob(&low, "memory.high"), "max");
    assert_eq!(acted(&low, "done"), 0);
    scene.end();
}

/// Short of memory without any limit: what it uses is taken from it again and again. A third of it:
/// the kernel counts waiting only for what it finds in the working set, and of nothing left there
/// is none.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn it_gives_way_to_a_protected_cgroup_without_a_limit_unless_a_user_protected_it() {
    let mut scene = Scene::new("throttle-user");
    zram(&mut scene);
    let (low, starved) = ("/system.slice/mplow.service", "/system.slice/mpstarved.service");
    scene.unit("mplow.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    scene.policy("mplow.service", "throttle pressure=0.5% interval=100ms hold=1s high=64M");
    let busy = busy(&scene);
    scene.unit("mpstarved.service", &works(&busy, 64, "MemoryLow=8M")).reload();
    sh("systemctl start mplow.service");
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
    sh("systemctl stop mpstarved.service");
    knob_becomes(low, "memory.high", "max");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_burst_is_held_up_and_then_let_through() {
    let mut scene = Scene::new("throttle-growth");
    // It waits to be governed: what is taken before that is not held up.
    let (go, enough) = (scene.dir.join("go"), scene.dir.join("enough"));
    // Again and again: a starved machine may be too slow for a burst, which is 28 MB in a second here.
    let script = format!(
        "while ! [ -e {} ]; do sleep 0.1; done; until [ -e {} ]; do {PROGRAMS}/eat 96; done; exec sleep 1000",
        go.display(),
        enough.display()
    );
    let out = scene.out("mpburst.service");
    let text = format!(
        "[Service]\nExecStart=/bin/sh -c '{script}'\nStandardOutput=append:{}\nMemorySwapMax=0\n",
        out.display()
    );
    scene.unit("mpburst.service", &text);
    scene.policy("mpburst.service", "throttle when=growth rate=8M floor=8M interval=400ms hold=1s").reload();
    sh("systemctl start mpburst.service");
    let burst = "/system.slice/mpburst.service";
    active(burst);
    std::fs::write(go, "").unwrap();
    wait_for("memory.high to be set", || (bytes(burst, "memory.high") < 128 * MIB).then_some(()));
    let action = last_action(burst, "done");
    assert_eq!((action.policy.as_str(), action.action.as_str()), ("throttle", "memory.high"), "{action:?}");
    assert_eq!(first_line(&out), "reached 96 MiB");
    std::fs::write(enough, "").unwrap();
    knob_becomes(burst, "memory.high", "max");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn it_gives_way_while_the_machine_itself_is_short() {
    let mut scene = Scene::new("throttle-host");
    zram(&mut scene);
    let busy = busy(&scene);
    scene.unit("mphost.service", &works(&busy, 128, ""));
    scene.policy("mphost.service", "throttle when=host hold=1s floor=16M");
    // A limit of its own is not the machine's want.
    scene.unit("mpcramped.service", &works(&busy, 128, "MemoryHigh=64M"));
    scene.unit("mphungry.service", &works(&busy, 1900, "")).reload();
    unit_in_state("mphost.service", "registered");
    sh("systemctl start mphost.service");
    let host = "/system.slice/mphost.service";
    active(host);
    sh("systemctl start mpcramped.service");
    sleep(Duration::from_secs(2));
    assert_eq!(knob(host, "memory.high"), "max", "the machine has enough");
    sh("systemctl stop mpcramped.service; systemctl start mphungry.service");
    machine_is_short("/system.slice/mphungry.service");
    // It may have come back again by now: the machine is not short all the time.
    let first = wait_for("memory.high to go down", || told(host).into_iter().next());
    for (field, value) in
        [("MEMCG_BPF_POLICY", "throttle"), ("MEMCG_BPF_ACTION", "memory.high"), ("MEMCG_BPF_OUTCOME", "done")]
    {
        assert_eq!(first[field], value, "{first:?}");
    }
    let reason = first["MEMCG_BPF_REASON"].as_str().unwrap();
    assert!(reason.starts_with("the machine was short of memory for "), "{first:?}");
    sh("systemctl stop mphungry.service");
    knob_becomes(host, "memory.high", "max");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_is_always_wanted_is_never_more_than_the_administrator_gives_and_pauses_with_all() {
    let mut scene = Scene::new("throttle-always");
    let always = "throttle when=always high=64M";
    scene.unit("mpdry.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    scene.policy("mpdry.service", &format!("{always} mode=dry-run"));
    scene.unit("mpstrict.service", "[Service]\nExecStart=/bin/sleep 1000\nMemoryHigh=32M\n");
    scene.policy("mpstrict.service", always);
    scene.unit("mpalways.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    scene.policy("mpalways.service", always).reload().at_end("memcg-bpf resume".to_owned());
    unit_in_state("mpalways.service", "registered");
    sh("systemctl start mpdry.service mpstrict.service mpalways.service");
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
    scene.end();
}
