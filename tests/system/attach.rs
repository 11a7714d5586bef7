//! Attach, change and detach at run time: each takes effect immediately.

use crate::support::{PROGRAMS, TestEnv, active, attach, find, setting, sh, systemd, try_sh, wait_for};

/// A cgroup in which programs run. `asks` returns the output of one that requests 128 MiB.
struct Here(&'static str);

impl Here {
    fn new(env: &mut TestEnv, cgroup: &'static str) -> Self {
        sh(&format!("mkdir /sys/fs/cgroup{cgroup}"));
        env.at_end(format!("rmdir /sys/fs/cgroup{cgroup}"));
        Here(cgroup)
    }

    fn run(&self, command: &str) -> String {
        try_sh(&format!("sh -c 'echo $$ > /sys/fs/cgroup{}/cgroup.procs && exec {command}'", self.0)).out
    }

    fn asks(&self) -> String {
        self.run(&format!("{PROGRAMS}/alloc_at_exec"))
    }

    fn attach(&self, line: &str) {
        attach(self.0, line);
    }
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn attach_and_detach_take_effect_immediately() {
    let mut env = TestEnv::new("attach");
    let here = Here::new(&mut env, "/mpattach");
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "denied");
    here.attach("deny limit=256M");
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=64M mode=dry-run");
    assert_eq!(here.asks(), "granted");
    assert_eq!(active("/mpattach").counters["growth_dry_run"], 1);
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "denied");
    // Another cgroup with the same line keeps it when this one's is taken back.
    let there = Here::new(&mut env, "/mpattach2");
    there.attach("deny limit=64M");
    sh("memcg-bpf detach /mpattach");
    assert_eq!((here.asks().as_str(), there.asks().as_str()), ("granted", "denied"));
    sh("memcg-bpf detach /mpattach2");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn detach_gives_back_drop_in_and_counters_go_on() {
    let mut env = TestEnv::new("giveback");
    let cgroup = "/system.slice/mpback.service";
    env.unit("mpback.service", "[Service]\nType=exec\nExecStart=sleep 1000\n");
    env.policy("mpback.service", "deny limit=64M");
    env.reload();
    systemd::start("mpback.service");
    active(cgroup);
    let here = Here(cgroup);
    assert_eq!(here.asks(), "denied");
    let denied = active(cgroup).counters["growth_denied"];
    here.attach("deny limit=96M");
    assert_eq!(setting(&active(cgroup), "deny", "limit"), Some("96M"));
    assert_eq!(active(cgroup).counters["growth_denied"], denied);
    here.attach("none");
    assert_eq!(here.asks(), "granted");
    assert_eq!(find(cgroup).unwrap().counters["growth_denied"], denied);
    sh("memcg-bpf detach mpback");
    assert_eq!(setting(&active(cgroup), "deny", "limit"), Some("64M"));
    assert_eq!(here.asks(), "denied");
    assert_eq!(active(cgroup).counters["growth_denied"], 2 * denied);
    let text = sh("memcg-bpf explain mpback");
    assert!(text.contains("deny is attached, requested by drop-in"), "{text}");
    env.end();
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
fn held_link_is_reused_on_reattach() {
    let mut env = TestEnv::new("kept");
    let here = Here::new(&mut env, "/mpkept");
    here.attach("deny limit=64M");
    env.at_end("rm -f /sys/fs/bpf/mpheld-*".to_owned());
    // Programs stay attached for some seconds after their last use, also those of earlier tests.
    wait_for("other programs to be detached", || (links(false).lines().count() == 3).then_some(()));
    let before = links(true);
    sh("memcg-bpf detach /mpkept");
    assert_eq!(here.asks(), "granted");
    wait_for("the program to be detached", || {
        sh("find /sys/fs/bpf/memcg-bpf -name 'deny-*'").is_empty().then_some(())
    });
    here.attach("deny limit=64M");
    assert_eq!((here.asks(), links(false)), ("denied".to_owned(), before.clone()));
    // Without another holder they are links like any other, ...
    sh("rm /sys/fs/bpf/mpheld-*");
    assert_eq!((here.asks(), links(false)), ("denied".to_owned(), before.clone()));
    sh("rmdir /sys/fs/cgroup/mpkept");
    wait_for("the end of the cgroup to be noticed", || find("/mpkept").is_none().then_some(()));
    // ... and end with the last binding that needs them, on older kernels a moment later.
    // By what it prints: the exit status of bpftool is not 0 either if the link exists.
    let ended = |line: &str| {
        try_sh(&format!("bpftool link show id {}", line.rsplit(' ').next().unwrap())).out.is_empty()
    };
    wait_for("the links to end", || before.lines().all(ended).then_some(()));
    sh("mkdir /sys/fs/cgroup/mpkept");
    here.attach("deny limit=64M");
    assert_eq!(here.asks(), "denied");
    assert_ne!(links(false), before);
    sh("memcg-bpf detach /mpkept");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn observe_does_not_mask_parent_deny() {
    let mut env = TestEnv::new("shield");
    let above = Here::new(&mut env, "/mpshield");
    sh("echo +memory > /sys/fs/cgroup/mpshield/cgroup.subtree_control");
    let below = Here::new(&mut env, "/mpshield/below");
    below.attach("deny limit=32M mode=dry-run");
    assert_eq!(below.asks(), "granted");
    above.attach("deny limit=64M");
    assert_eq!(below.asks(), "denied");
    let counted = |cgroup: &str| {
        let counters = active(cgroup).counters;
        (counters["growth_denied"], counters["growth_dry_run"])
    };
    assert_eq!((counted("/mpshield/below"), counted("/mpshield")), ((0, 2), (1, 0)));
    sh("memcg-bpf detach /mpshield/below; memcg-bpf detach /mpshield");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn deny_ignores_file_cache_by_default() {
    let mut env = TestEnv::new("cache");
    let here = Here::new(&mut env, "/mpcache");
    env.at_end("rm -f /root/mpcache".to_owned());
    here.run("dd if=/dev/zero of=/root/mpcache bs=1M count=64 conv=fsync status=none");
    // Reading the statistics also brings them up to date for everybody else.
    let file: u64 = sh("sed -n 's/^file //p' /sys/fs/cgroup/mpcache/memory.stat").parse().unwrap();
    assert!(file > 60 << 20, "{file} bytes of file cache");
    // The request of 128 MiB exceeds the limit only if file cache is included.
    here.attach("deny limit=160M");
    assert_eq!(setting(&active("/mpcache"), "deny", "cache"), Some("exclude"));
    assert_eq!(here.asks(), "granted");
    here.attach("deny limit=160M cache=include");
    assert_eq!(here.asks(), "denied");
    sh("memcg-bpf detach /mpcache");
    env.end();
}
