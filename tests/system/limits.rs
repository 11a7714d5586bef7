//! Full ring buffers and maps: what does not fit is counted and logged, and attached policies stay active.

use std::fmt::Write;

use crate::support::{
    PROGRAMS, TestEnv, action_counts, action_stats, alloc_in_cgroup, find, install_abi_variant,
    install_scripted_policy, journal_of, main_pid, recursion_misses, sh, status, systemd, try_sh,
    unit_in_state, wait_for, with_daemon_stopped,
};

#[test]
#[ignore = "needs root in the test machine: make check"]
fn event_ring_overflow_recovers() {
    let mut env = TestEnv::new("events");
    env.file("/etc/systemd/system/mplost-.scope.d/10.conf", "[Scope]\nX-MemoryBPFPolicy=deny limit=40M\n");
    env.reload();
    let starts = |name: &str| {
        format!("systemd-run --quiet --scope --unit={name} sleep 1000 </dev/null >/dev/null 2>&1 &")
    };
    env.stops("mplost-first.scope").stops("mplost-late.scope");
    sh(&starts("mplost-first.scope"));
    unit_in_state("mplost-first.scope", "active");
    env.at_end("rmdir /sys/fs/cgroup/mplost/* /sys/fs/cgroup/mplost*".to_owned());
    sh("cd /sys/fs/cgroup && mkdir mplost mplost-gone mplost-again");
    sh("memcg-bpf attach /mplost-gone 'deny limit=64M'; memcg-bpf attach /mplost-again 'deny limit=64M'");
    let pid = main_pid();
    // The ring has room for some 940.
    let script = format!(
        "cd /sys/fs/cgroup/mplost && mkdir $(seq 1200) && rmdir $(seq 1200) && cd .. && \
             rmdir mplost-gone mplost-again && mkdir mplost-again && {{ {} }}; sleep 1",
        starts("mplost-late.scope")
    );
    with_daemon_stopped(&mut env, |_| sh(&script));
    unit_in_state("mplost-late.scope", "active");
    wait_for("what is gone to be forgotten", || {
        (find("/mplost-gone").is_none() && find("/mplost-again").is_none()).then_some(())
    });
    assert!(alloc_in_cgroup("/mplost-again", "128"));
    unit_in_state("mplost-first.scope", "active");
    let lost = action_stats().events_lost;
    assert!((1..=300).contains(&lost), "{lost} were lost");
    let sentence = format!("{lost} events from the kernel were lost because a ring buffer was full");
    assert!(journal_of(&pid).contains(&sentence));
    assert!(sh("memcg-bpf status").contains(&format!("{lost} events from the kernel were lost")));
    assert!(sh("memcg-bpf metrics").contains(&format!("\nmemcg_bpf_events_lost_total {lost}\n")));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn action_ring_overflow_counted() {
    const ASKED: usize = 1300;
    let mut env = TestEnv::new("actions");
    install_scripted_policy(&mut env);
    // Counts from zero.
    systemd::restart("memcg-bpfd");
    env.at_end("rmdir /sys/fs/cgroup/mpmany".to_owned());
    sh("mkdir /sys/fs/cgroup/mpmany; memcg-bpf attach /mpmany 'scripted verb=reclaim value=1048576'");
    let (pid, missed) = (main_pid(), recursion_misses());
    // The ring has room for some 1090.
    let script = format!("{PROGRAMS}/alloc_in_cgroup /mpmany {}", "64 ".repeat(ASKED));
    with_daemon_stopped(&mut env, |_| sh(&script));
    let asked = u64::try_from(ASKED - (recursion_misses() - missed)).unwrap();
    let counts = wait_for("every action to be counted", || {
        let counts = action_counts();
        (counts.values().sum::<u64>() >= asked).then_some(counts)
    });
    assert!(counts.values().sum::<u64>() <= u64::try_from(ASKED).unwrap(), "{counts:?}");
    let lost = counts.get("lost").copied().unwrap_or(0);
    assert!((1..=300).contains(&lost), "{counts:?}");
    let sentence = format!(
        "{lost} actions of policies and kills by the kernel were lost because a ring buffer was full"
    );
    assert!(journal_of(&pid).contains(&sentence));
    assert!(sh("memcg-bpf status").contains(&format!("{lost} actions of policies")));
    assert!(try_sh("memcg-bpf doctor").out.contains(&format!("{lost} were lost since the daemon started")));
    assert!(
        sh("memcg-bpf metrics").contains(&format!("\nmemcg_bpf_actions_total{{outcome=\"lost\"}} {lost}\n"))
    );
    env.end();
}

/// With smaller maps, which are full sooner.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn full_maps_reject_new_bindings_only() {
    const ROOM: usize = 48;
    let mut env = TestEnv::new("maps");
    install_abi_variant(&mut env);
    env.at_end("rmdir /sys/fs/cgroup/mproom-*".to_owned());
    sh(&format!("mkdir $(seq -f /sys/fs/cgroup/mproom-%g {})", ROOM + 1));
    let attach = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager Attach ss";
    sh(&format!(
        "for i in $(seq {ROOM}); do {attach} /mproom-$i 'deny limit=64M' || exit 1; done >/dev/null"
    ));
    let last = format!("/mproom-{}", ROOM + 1);
    let output = try_sh(&format!("memcg-bpf attach {last} 'deny limit=64M'"));
    let refused = format!("{last}: failed to bind cgroup ");
    assert!(output.status != 0 && output.err.contains(&refused), "{output:?}");
    assert!(output.err.contains(": at most 4096 cgroups can have policies at once"), "{output:?}");
    let all = status();
    assert_eq!(all.iter().filter(|r| r.state == "active").count(), ROOM);
    assert!(all.iter().all(|r| r.cgroup != last), "a request that failed is not kept");
    assert!(!alloc_in_cgroup("/mproom-1", "128 128 128") && alloc_in_cgroup(&last, "128"));
    // As soon as there is room.
    sh(&format!("memcg-bpf detach /mproom-1; memcg-bpf attach {last} 'deny limit=64M'"));
    assert!(alloc_in_cgroup("/mproom-1", "128") && !alloc_in_cgroup(&last, "128 128 128"));
    sh("rmdir /sys/fs/cgroup/mproom-*");
    wait_for("no cgroup to have a policy", || status().is_empty().then_some(()));

    // The daemon's own cgroup is registered too.
    for n in 0..=ROOM {
        env.file(
            &format!("/run/systemd/system/mproom{n}.service"),
            "[Service]\nExecStart=sleep 1000\nX-MemoryBPFPolicy=deny limit=64M\n",
        );
    }
    env.reload();
    let of = |state: &str| status().into_iter().filter(|r| r.state == state).collect::<Vec<_>>();
    wait_for("as many to be registered as can be", || {
        (of("registered").len() == ROOM - 1 && of("failed").len() == 2).then_some(())
    });
    for left in of("failed") {
        let sentence = format!(
            "failed to register {}: at most 4096 cgroups can be registered; its policy is attached after the cgroup is created",
            left.cgroup
        );
        assert_eq!(left.errors, [sentence.as_str()]);
        assert!(journal_of(&main_pid()).contains(&sentence));
        let unit = left.unit.unwrap();
        env.stops(&unit);
        systemd::start(&unit);
        unit_in_state(&unit, "active");
    }
    env.end();
}

/// For `make soak` only: thousands of cgroups take an emulated machine minutes.
mod soak {
    use super::*;

    #[test]
    #[ignore = "needs root in the test machine: make check"]
    fn binding_limit_4096() {
        const ROOM: usize = 4096;
        let mut env = TestEnv::new("crowd");
        env.at_end("cd /sys/fs/cgroup && echo mpcrowd-* | xargs rmdir".to_owned());
        // As an earlier daemon would have recorded them.
        let record =
            r#"{"version":1,"requests":[{"origin":"operator","location":"uid 0","line":"deny limit=64M"}]}"#;
        let mut script = "cd /sys/fs/cgroup && systemctl stop memcg-bpfd && ".to_owned();
        write!(script, "seq -f mpcrowd-%g {} | xargs mkdir && ", ROOM + 10).unwrap();
        write!(script, "echo mpcrowd-* | xargs setfattr -n trusted.memcg_bpf -v '{record}'").unwrap();
        sh(&script);
        systemd::start("memcg-bpfd");
        let all = status();
        let of = |state: &str| all.iter().filter(|r| r.state == state).count();
        assert_eq!((of("active"), of("failed"), all.len()), (ROOM, 10, ROOM + 10));
        let faults = all.iter().flat_map(|r| &r.errors);
        assert!(
            faults.clone().count() == 10
                && faults.clone().all(|f| f.ends_with("at most 4096 cgroups can have policies at once"))
        );
        sh("cd /sys/fs/cgroup && echo mpcrowd-* | xargs rmdir");
        wait_for("no cgroup to have a policy", || status().is_empty().then_some(()));
        env.end();
    }
}
