//! What is pulled from under the daemon: cgroups, the bus, bpffs, systemd itself, and its own sources.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use memcg_bpf::report::BindingReport;

use crate::support::{
    PROGRAMS, Scene, actions, active, another_daemon_after, asked_in, find, greedy_asked, greedy_starts,
    journal_of, knob_becomes, main_pid, passed_over, puppet_enters, relaid, setting, sh, status, told,
    try_sh, unit_in_state, wait_for, while_it_stands_still,
};

/// What must be the same afterwards.
fn bindings() -> Vec<(String, u64, String, String)> {
    let one = |r: BindingReport| (r.cgroup, r.cgroup_id, r.state, format!("{:?}", r.policies));
    status().into_iter().map(one).collect()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_is_asked_for_cgroups_that_go_away_meanwhile_is_accounted_for_and_the_daemon_goes_on() {
    const ROUNDS: u64 = 24;
    let mut scene = Scene::new("vanish");
    puppet_enters(&mut scene);
    scene.at_end("systemctl kill -s CONT --kill-whom=main memcg-bpfd".to_owned());
    scene.at_end("rmdir /sys/fs/cgroup/mpvanish /sys/fs/cgroup/mpvanish-not".to_owned());
    let (pid, missed) = (main_pid(), passed_over());
    for round in 0..ROUNDS {
        let verb =
            ["high", "reclaim value=1048576", "kill detail=2 value=1"][usize::try_from(round % 3).unwrap()];
        sh(&format!("mkdir /sys/fs/cgroup/mpvanish; memcg-bpf attach /mpvanish 'puppet verb={verb}'"));
        // In every other round it cannot even look before the cgroup is gone.
        let signal = |name: &str| match round / 3 % 2 {
            0 => format!("kill -{name} {pid};"),
            _ => String::new(),
        };
        let (stop, go_on) = (signal("STOP"), signal("CONT"));
        try_sh(&format!(
            "{stop} {PROGRAMS}/ask /mpvanish 64; until rmdir /sys/fs/cgroup/mpvanish; do sleep 0.01; done; {go_on}"
        ));
    }
    let counts = wait_for("every wish to be accounted for", || {
        let missed = u64::try_from(passed_over() - missed).unwrap();
        let counts = actions().counts;
        (counts.values().sum::<u64>() + missed >= ROUNDS).then_some(counts)
    });
    assert!(counts.values().sum::<u64>() <= ROUNDS, "{counts:?}");
    let too_late: u64 = ["stale", "removed"].iter().filter_map(|word| counts.get(*word)).sum();
    let missed = u64::try_from(passed_over() - missed).unwrap();
    assert!(too_late + missed >= ROUNDS / 2, "{counts:?}");
    // Each that was begun is told with its reason.
    let told = journal_of(&pid).lines().filter(|line| line.contains("the cgroup went away before")).count();
    assert_eq!(told, usize::try_from(counts.get("removed").copied().unwrap_or(0)).unwrap(), "{counts:?}");

    sh("mkdir /sys/fs/cgroup/mpvanish-not; memcg-bpf attach /mpvanish-not 'puppet verb=high'");
    sh(&format!("{PROGRAMS}/ask /mpvanish-not 64"));
    knob_becomes("/mpvanish-not", "memory.high", &(64 << 20).to_string());
    assert_eq!(main_pid(), pid);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_kill_that_waited_for_its_turn_spares_who_has_the_path_by_then() {
    /// As many as are on their way at once (src/daemon/jobs.rs).
    const KILLS: usize = 16;
    let mut scene = Scene::new("turn");
    puppet_enters(&mut scene);
    let all = KILLS + 1;
    scene.at_end(
        "cd /sys/fs/cgroup; for d in mpturn-*; do echo 1 > $d/cgroup.kill; until rmdir $d; do sleep 0.1; done; done".to_owned(),
    );
    sh(&format!(
        "mkdir $(seq -f /sys/fs/cgroup/mpturn-%g {all}); \
         for i in $(seq {all}); do memcg-bpf attach /mpturn-$i 'puppet verb=kill detail=2 value=300000000000' || exit 1; done"
    ));
    // All but the last have somebody inside who does not heed SIGTERM, and is waited for.
    let lives_in = |at: &str| {
        let joins = format!("trap '' TERM; echo $BASHPID > /sys/fs/cgroup/{at}/cgroup.procs");
        format!("({joins}; exec sleep 1000) </dev/null >/dev/null 2>&1 & disown")
    };
    sh(&format!(
        "for i in $(seq {KILLS}); do {}; done; for i in $(seq {KILLS}); do \
         until [ -n \"$(cat /sys/fs/cgroup/mpturn-$i/cgroup.procs)\" ]; do sleep 0.1; done; done",
        lives_in("mpturn-$i")
    ));
    // Asked for until it is on its way: then the next one is refused. Who asks may be among those that are killed.
    let on_its_way = |i: usize| {
        let at = format!("/mpturn-{i}");
        wait_for(&format!("a kill in {at} to be on its way"), || {
            if find(&at)?.last_action.is_some_and(|last| last.detail.ends_with("is not over yet")) {
                return Some(());
            }
            try_sh(&format!("{PROGRAMS}/ask {at} 64 64"));
            None
        });
    };
    // The last one waits; then one of the others is over.
    (1..=all).for_each(on_its_way);
    sh(&format!(
        "cd /sys/fs/cgroup; until rmdir mpturn-{all}; do sleep 0.1; done; \
         mkdir mpturn-{all}; {}; until [ -n \"$(cat mpturn-{all}/cgroup.procs)\" ]; do sleep 0.1; done; \
         echo 1 > mpturn-1/cgroup.kill",
        lives_in(&format!("mpturn-{all}"))
    ));
    wait_for("the kill to have had its turn", || (actions().counts.get("removed") == Some(&1)).then_some(()));
    assert_eq!(sh(&format!("wc -l < /sys/fs/cgroup/mpturn-{all}/cgroup.procs")), "1");
    assert!(
        journal_of(&main_pid()).contains(&format!(
            "/mpturn-{all}: puppet: kill removed: the cgroup went away before it was done"
        ))
    );
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_grace_that_outlives_its_cgroup_spares_who_has_the_path_by_then() {
    let dir = "/sys/fs/cgroup/mpgrace";
    let mut scene = Scene::new("grace");
    puppet_enters(&mut scene);
    scene.at_end(format!("echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.1; done"));
    sh(&format!("mkdir {dir}; memcg-bpf attach /mpgrace 'puppet verb=kill detail=2 value=300000000000'"));
    // It hears SIGTERM and stays: the daemon waits for its end.
    let heard = scene.dir.join("heard");
    sh(&format!(
        "(trap 'touch {}' TERM; echo $BASHPID > {dir}/cgroup.procs; while :; do sleep 0.1; done) \
         </dev/null >/dev/null 2>&1 & disown",
        heard.display()
    ));
    wait_for("it to be inside", || {
        (!fs::read_to_string(format!("{dir}/cgroup.procs")).unwrap().is_empty()).then_some(())
    });
    wait_for("SIGTERM", || {
        try_sh(&format!("{PROGRAMS}/ask /mpgrace 64"));
        heard.exists().then_some(())
    });
    // The next cgroup is there before the daemon looks again.
    let mut successor = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    while_it_stands_still(&mut scene, |_| {
        sh(&format!("echo 1 > {dir}/cgroup.kill; until rmdir {dir}; do sleep 0.01; done; mkdir {dir}"));
        fs::write(format!("{dir}/cgroup.procs"), successor.id().to_string()).unwrap();
    });
    wait_for("the kill to be over", || (actions().counts.get("done") == Some(&1)).then_some(()));
    let line = told("/mpgrace").pop().unwrap();
    assert!(line["MESSAGE"].as_str().unwrap().contains("with SIGTERM"), "{line:?}");
    assert_eq!(successor.try_wait().unwrap(), None, "it lives");
    successor.kill().unwrap();
    successor.wait().unwrap();
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_new_cgroup_under_an_old_path_has_nothing_of_the_old_one_fifty_times_in_a_row() {
    let mut scene = Scene::new("again");
    scene.at_end("rmdir /sys/fs/cgroup/mpagain".to_owned());
    let mut ids = BTreeSet::new();
    for _ in 0..50 {
        sh("mkdir /sys/fs/cgroup/mpagain");
        let id = fs::metadata("/sys/fs/cgroup/mpagain").unwrap().ino();
        assert!(ids.insert(id), "the kernel gave the id {id} twice");
        assert!(asked_in("/mpagain", "128"), "nobody has asked for a policy yet");
        let said = sh("memcg-bpf attach --json /mpagain 'deny limit=64M'");
        let report: BindingReport = serde_json::from_str(&said).unwrap();
        assert_eq!((report.cgroup_id, report.state.as_str()), (id, "active"));
        assert!(!asked_in("/mpagain", "128 128 128"));
        sh("until rmdir /sys/fs/cgroup/mpagain; do sleep 0.01; done");
    }
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn without_a_bpffs_the_daemon_says_so_once_and_governs() {
    let mut scene = Scene::new("nofs");
    scene.service("mpnofs.service", &format!("{PROGRAMS}/first"), "");
    scene.policy("mpnofs.service", "deny limit=64M").reload();
    sh("systemctl stop memcg-bpfd; umount /sys/fs/bpf");
    scene.at_end(
        "mountpoint -q /sys/fs/bpf || mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf; \
         systemctl reset-failed memcg-bpfd; systemctl restart memcg-bpfd"
            .to_owned(),
    );
    sh("systemctl start memcg-bpfd");
    let sentence = "verdicts will pause while memcg-bpfd is down, because nothing can be pinned: /sys/fs/bpf is not a bpffs";
    let governed = |scene: &Scene| {
        unit_in_state("mpnofs.service", "registered");
        sh("systemctl start mpnofs.service");
        let said = fs::read_to_string(scene.out("mpnofs.service")).unwrap();
        assert_eq!(said.lines().last(), Some("refused"));
        sh("memcg-bpf attach system.slice observe; memcg-bpf detach system.slice");
        assert_eq!(journal_of(&main_pid()).lines().filter(|line| line.contains(sentence)).count(), 1);
    };
    governed(&scene);
    assert_eq!(sh("ls /sys/fs/bpf"), "");
    sh("systemctl reset-failed memcg-bpfd");
    another_daemon_after(|| drop(sh("systemctl kill -s KILL memcg-bpfd")));
    governed(&scene);
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_the_bus_is_started_anew() {
    let mut scene = Scene::new("bus");
    scene.service("mpbus-later.service", &format!("{PROGRAMS}/first"), "");
    scene.policy("mpbus-later.service", "deny limit=64M");
    greedy_starts(&mut scene, "mpbus.service");
    unit_in_state("mpbus-later.service", "registered");
    let before = bindings();
    sh("systemctl reset-failed memcg-bpfd");
    // Nobody reaches a daemon without the bus: it ends, and systemd starts the next.
    another_daemon_after(|| drop(sh("systemctl restart dbus")));
    assert_eq!(bindings(), before);
    sh("systemctl start mpbus-later.service");
    assert_eq!(fs::read_to_string(scene.out("mpbus-later.service")).unwrap(), "refused\n");
    let (refused, got) = greedy_asked(&scene, "mpbus.service");
    assert_eq!(got, 0, "refused {refused} times");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_systemd_executes_itself_anew() {
    let mut scene = Scene::new("reexec");
    scene.service("mpexec-later.service", &format!("{PROGRAMS}/first"), "");
    scene.policy("mpexec-later.service", "deny limit=64M");
    greedy_starts(&mut scene, "mpexec.service");
    unit_in_state("mpexec-later.service", "registered");
    let (before, pid) = (bindings(), main_pid());
    sh("systemctl daemon-reexec");
    assert_eq!(bindings(), before);
    sh("systemctl start mpexec-later.service");
    assert_eq!(fs::read_to_string(scene.out("mpexec-later.service")).unwrap(), "refused\n");
    // The new systemd is heard as the old one was.
    scene.unit("mpexec-new.service", "[Service]\nExecStart=sleep 1000\n");
    scene.policy("mpexec-new.service", "deny limit=64M").reload();
    unit_in_state("mpexec-new.service", "registered");
    sh("systemctl start mpexec-new.service");
    active("/system.slice/mpexec-new.service");
    let (refused, got) = greedy_asked(&scene, "mpexec.service");
    assert_eq!(got, 0, "refused {refused} times");
    assert_eq!(main_pid(), pid, "it is the same daemon");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_other_maps_and_parameters_come_and_go() {
    let mut scene = Scene::new("relaid");
    greedy_starts(&mut scene, "mprelaid.service");
    let at = "/mpalone.slice/mprelaid.service";
    let former = |report: &BindingReport| {
        (setting(report, "deny", "former").map(str::to_owned), report.counters.get("former").copied())
    };
    assert_eq!(former(&active(at)), (None, None));
    relaid(&mut scene);
    let report = active(at);
    assert_eq!(former(&report), (Some("7".to_owned()), Some(0)));
    assert_eq!(setting(&report, "deny", "limit"), Some("64M"));
    // And back, as a downgrade does it.
    sh("umount /usr/lib/memcg-bpf/policies /usr/lib/memcg-bpf/core.bpf.o; systemctl restart memcg-bpfd");
    assert_eq!(former(&active(at)), (None, None));
    let (refused, got) = greedy_asked(&scene, "mprelaid.service");
    assert_eq!(got, 0, "refused {refused} times");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn the_daemons_own_memory_is_protected_and_what_it_needs_is_less() {
    let mut scene = Scene::new("own");
    scene.at_end("rmdir /sys/fs/cgroup/mpown".to_owned());
    sh("mkdir /sys/fs/cgroup/mpown");
    sh(
        "memcg-bpf attach /mpown 'observe; deny limit=64M; throttle when=always; reclaim; oom; protect low=16M'",
    );
    let bytes = |file: &str| -> u64 {
        sh(&format!("cat /sys/fs/cgroup/system.slice/memcg-bpfd.service/{file}")).parse().unwrap()
    };
    let min = bytes("memory.min");
    assert_eq!(min, 32 << 20);
    assert!(bytes("memory.current") < min, "{} are in use", bytes("memory.current"));
    assert_eq!(sh(&format!("cat /proc/{}/oom_score_adj", main_pid())), "-900");
    scene.end();
}
