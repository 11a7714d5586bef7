//! Attached, changed and detached while it runs: each counts at once.

use crate::support::{PROGRAMS, Scene, active, find, setting, sh, try_sh, wait_for};

/// A cgroup of our own making, and what a program hears in it that asks for 128 MiB.
struct Here(&'static str);

impl Here {
    fn new(scene: &mut Scene, cgroup: &'static str) -> Self {
        sh(&format!("mkdir /sys/fs/cgroup{cgroup}"));
        scene.at_end(format!("rmdir /sys/fs/cgroup{cgroup}"));
        Here(cgroup)
    }

    fn run(&self, command: &str) -> String {
        try_sh(&format!("sh -c 'echo $$ > /sys/fs/cgroup{}/cgroup.procs && exec {command}'", self.0)).out
    }

    fn asks(&self) -> String {
        self.run(&format!("{PROGRAMS}/first"))
    }

    fn attach(&self, line: &str) {
        sh(&format!("memcg-bpf attach {} '{line}'", self.0));
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_is_attached_counts_at_once_and_what_is_detached_no_more() {
    let mut scene = Scene::new("attach");
    let here = Here::new(&mut scene, "/mpattach");
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "refused");
    here.attach("deny limit=256M");
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=64M mode=dry-run");
    assert_eq!(here.asks(), "granted");
    assert_eq!(active("/mpattach").counters["growth_dry_run"], 1);
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "refused");
    // Another cgroup with the same line keeps it when this one's is taken back.
    let there = Here::new(&mut scene, "/mpattach2");
    there.attach("deny limit=64M");
    sh("memcg-bpf detach /mpattach");
    assert_eq!((here.asks().as_str(), there.asks().as_str()), ("granted", "refused"));
    sh("memcg-bpf detach /mpattach2");
    scene.end();
}

/// Our links, with their numbers; kept also under other names if `keep`, as a tool that lists links keeps each for a
/// moment.
fn links(keep: bool) -> String {
    let keep = if keep { "bpftool link pin pinned $pin /sys/fs/bpf/mpheld-${pin##*/}" } else { ":" };
    sh(&format!(
        "for pin in /sys/fs/bpf/memcg-bpf/*/{{deny-growth__,core-cgroup_}}*; do {keep}; \
         bpftool link show pinned $pin | sed -n \"s|^\\([0-9]*\\):.*|${{pin##*/}} \\1|p\"; done"
    ))
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_somebody_kept_from_being_detached_is_taken_up_again() {
    let mut scene = Scene::new("kept");
    let here = Here::new(&mut scene, "/mpkept");
    here.attach("deny limit=64M");
    scene.at_end("rm -f /sys/fs/bpf/mpheld-*".to_owned());
    let before = links(true);
    assert_eq!(before.lines().count(), 3, "{before}");
    sh("memcg-bpf detach /mpkept");
    assert_eq!(
        (here.asks().as_str(), sh("find /sys/fs/bpf/memcg-bpf -name 'deny-*'").as_str()),
        ("granted", "")
    );
    here.attach("deny limit=64M");
    assert_eq!((here.asks(), links(false)), ("refused".to_owned(), before.clone()));
    // When nobody else has them any more they are as ours as any, ...
    sh("rm /sys/fs/bpf/mpheld-*");
    assert_eq!((here.asks(), links(false)), ("refused".to_owned(), before.clone()));
    sh("rmdir /sys/fs/cgroup/mpkept");
    wait_for("the end of the cgroup to be noticed", || find("/mpkept").is_none().then_some(()));
    // ... and end with the last who needs them, on older kernels a moment later.
    let ended = |line: &str| {
        try_sh(&format!("bpftool link show id {}", line.rsplit(' ').next().unwrap())).status != 0
    };
    wait_for("the links to end", || before.lines().all(ended).then_some(()));
    sh("mkdir /sys/fs/cgroup/mpkept");
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "refused");
    assert_ne!(links(false), before);
    sh("memcg-bpf detach /mpkept");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_policy_that_only_watches_does_not_shield_from_one_above_it() {
    let mut scene = Scene::new("shield");
    let above = Here::new(&mut scene, "/mpshield");
    sh("echo +memory > /sys/fs/cgroup/mpshield/cgroup.subtree_control");
    let below = Here::new(&mut scene, "/mpshield/below");
    below.attach("deny limit=32M mode=dry-run");
    assert_eq!(below.asks(), "granted");
    above.attach("deny limit=64M");
    assert_eq!(below.asks(), "refused");
    let counted = |cgroup: &str| {
        let counters = active(cgroup).counters;
        (counters["growth_denied"], counters["growth_dry_run"])
    };
    assert_eq!((counted("/mpshield/below"), counted("/mpshield")), ((0, 2), (1, 0)));
    sh("memcg-bpf detach /mpshield/below; memcg-bpf detach /mpshield");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn file_cache_does_not_count_unless_it_is_to() {
    let mut scene = Scene::new("cache");
    let here = Here::new(&mut scene, "/mpcache");
    scene.at_end("rm -f /root/mpcache".to_owned());
    here.run("dd if=/dev/zero of=/root/mpcache bs=1M count=64 conv=fsync status=none");
    // Reading the statistics also brings them up to date for everybody else.
    let file: u64 = sh("sed -n 's/^file //p' /sys/fs/cgroup/mpcache/memory.stat").parse().unwrap();
    assert!(file > 60 << 20, "{file} bytes of file cache");
    // 128 MiB are asked for: with the cache it is too much, without it is not.
    here.attach("deny limit=160M");
    assert_eq!(setting(&active("/mpcache"), "deny", "cache"), Some("exclude"));
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=160M cache=include");
    assert_eq!(here.asks(), "refused");
    sh("memcg-bpf detach /mpcache");
    scene.end();
}
