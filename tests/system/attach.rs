//! Attached, changed and detached while it runs: each counts at once.

use crate::support::{PROGRAMS, Scene, active, setting, sh, try_sh};

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
    assert_eq!(setting(&active("/mpcache"), "deny", "cache"), Some("spare"));
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=160M cache=count");
    assert_eq!(here.asks(), "refused");
    sh("memcg-bpf detach /mpcache");
    scene.end();
}
