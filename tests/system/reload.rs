//! `systemctl reload memcg-bpfd`: configuration, profiles and objects read again while everything stays in force.

use std::fs;

use crate::support::{
    PROGRAMS, Scene, active, another_daemon_after, find, greedy_asked, greedy_starts, journal_of, main_pid,
    setting, sh, try_sh, unit_in_state, wait_for,
};

const RELOADS: usize = 6;
const OWN: &str = "/etc/memcg-bpf/policies/deny.bpf.o";

/// The pins of one program, whichever of a policy's objects it is from.
fn pins_of(program: &str) -> usize {
    sh(&format!("ls /sys/fs/bpf/memcg-bpf/*/ | grep -c '{program}$'")).parse().unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_program_never_gets_what_is_denied_while_the_object_that_denies_it_is_replaced() {
    let mut scene = Scene::new("replace");
    greedy_starts(&mut scene, "mpreplace.service");
    let cgroup = "/mpalone.slice/mpreplace.service";
    scene
        .service("mplater.service", &format!("{PROGRAMS}/first"), "")
        .policy("mplater.service", "deny limit=64M");
    scene.reload();
    unit_in_state("mplater.service", "registered");
    scene.at_end(format!("rm -f {OWN}; rmdir /etc/memcg-bpf/policies; systemctl reload memcg-bpfd"));
    let pid = main_pid();
    for n in 0..RELOADS {
        // Another file of the same name, and the packaged one again.
        sh(if n.is_multiple_of(2) {
            "mkdir -p /etc/memcg-bpf/policies && cp /usr/lib/memcg-bpf/policies/deny.bpf.o /etc/memcg-bpf/policies/"
        } else {
            "rm /etc/memcg-bpf/policies/deny.bpf.o"
        });
        let said = sh("memcg-bpf reload --json");
        assert!(said.contains("\"deny\"") && find(cgroup).unwrap().state == "active", "{said}");
        assert_eq!(pins_of("growth__0"), 1, "{}", sh("ls /sys/fs/bpf/memcg-bpf/*/"));
    }
    assert_eq!(sh("memcg-bpf reload"), "Read again: nothing has changed.");
    // The registration is the new object's, too.
    sh("systemctl start mplater.service");
    assert_eq!(fs::read_to_string(scene.out("mplater.service")).unwrap(), "refused\n");
    assert_eq!(main_pid(), pid, "it is the same daemon");
    // What replaced it outlives a daemon as that did.
    another_daemon_after(|| drop(sh("systemctl kill -s KILL memcg-bpfd")));
    let denied = active(cgroup).counters["growth_denied"];
    let (refused, got) = greedy_asked(&scene, "mpreplace.service");
    assert!(got == 0 && denied > 0, "got it {got} times, refused {refused} times");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn profiles_and_configuration_count_from_a_reload_on() {
    let mut scene = Scene::new("files");
    let profile = "/etc/memcg-bpf/profiles.d/mpgold.profile";
    scene.file(profile, "[Profile]\nPolicy=deny limit=64M\n");
    scene.file("/etc/memcg-bpf/memcg-bpf.conf.d/mp.conf", "");
    scene.at_end(format!(
        "rm -f {profile} /etc/memcg-bpf/memcg-bpf.conf.d/mp.conf; systemctl reload memcg-bpfd"
    ));
    assert_eq!(sh("memcg-bpf reload"), "Read again: took other profiles: mpgold.");
    scene
        .unit("mpgold.service", "[Service]\nExecStart=sleep 1000\n")
        .policy("mpgold.service", "mpgold")
        .reload();
    sh("systemctl start mpgold.service");
    let limit = |report| setting(&report, "deny", "limit").map(str::to_owned);
    assert_eq!(limit(active("/system.slice/mpgold.service")).as_deref(), Some("64M"));

    // The signal that daemons know for it does the same, and nobody is told but the journal.
    fs::write(profile, "[Profile]\nPolicy=deny limit=48M\n").unwrap();
    sh("systemctl kill -s HUP --kill-whom=main memcg-bpfd");
    wait_for("the profile to count", || {
        (limit(active("/system.slice/mpgold.service")).as_deref() == Some("48M")).then_some(())
    });
    assert!(journal_of(&main_pid()).ends_with("read again: took other profiles: mpgold"));

    fs::write(profile, "[Profile]\nPolicy=deny limit=32M\n").unwrap();
    fs::write("/etc/memcg-bpf/memcg-bpf.conf.d/mp.conf", "[Annotations]\nAllowPolicies=observe\n").unwrap();
    let said = sh(
        "systemctl reload memcg-bpfd && journalctl --sync && journalctl -q -o cat -n 1 -t memcg-bpfd --grep 'read again'",
    );
    assert_eq!(said, "read again: took other profiles: mpgold; the configuration has changed");
    assert_eq!(limit(active("/system.slice/mpgold.service")).as_deref(), Some("32M"));
    let bundle = scene.bundle("files").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    bundle.write("sleep 1000");
    let crun = bundle.command("crun");
    scene.at_end("crun delete -f files".to_owned());
    sh(&crun);
    wait_for("the annotation to be refused", || {
        let report =
            crate::support::status().into_iter().find(|r| r.container.as_deref() == Some("files"))?;
        (report.state == "invalid" && report.errors[0].contains("observe")).then_some(())
    });
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_reload_with_a_mistake_in_it_changes_nothing_and_says_which() {
    let mut scene = Scene::new("mistake");
    scene
        .unit("mpkept.service", "[Service]\nExecStart=sleep 1000\n")
        .policy("mpkept.service", "deny limit=64M");
    scene.reload();
    sh("systemctl start mpkept.service");
    let cgroup = "/system.slice/mpkept.service";
    active(cgroup);
    scene.at_end("systemctl reload memcg-bpfd".to_owned());
    let mistakes = [
        (OWN, "nonsense", "/etc/memcg-bpf/policies/deny.bpf.o is not a BPF object that can be used"),
        ("/etc/memcg-bpf/profiles.d/mpbad.profile", "x\n", "/etc/memcg-bpf/profiles.d/mpbad.profile: "),
        (
            "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf",
            "[Log]\nLevel=loud\n",
            "/etc/memcg-bpf/memcg-bpf.conf.d/mpbad.conf:2: unknown level 'loud'",
        ),
    ];
    for (file, text, sentence) in mistakes {
        fs::create_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        let (by_hand, by_systemd) = (try_sh("memcg-bpf reload"), try_sh("systemctl reload memcg-bpfd"));
        fs::remove_file(file).unwrap();
        let wanted = format!("memcg-bpf: nothing was changed: {sentence}");
        assert!(by_hand.status == 1 && by_hand.err.starts_with(&wanted), "{}", by_hand.err);
        assert_ne!(by_systemd.status, 0);
        assert_eq!(find(cgroup).unwrap().state, "active");
    }
    // One that reads well, and that the kernel refuses; its verifier says why to who asks.
    let astray = "/etc/memcg-bpf/policies/astray.bpf.o";
    sh(&format!("cp /data/policies/astray.bpf.o {astray}"));
    scene.at_end(format!("rm -f {astray}"));
    let refused = format!("the kernel refused {astray}: ");
    let (reload, load) = (try_sh("memcg-bpf reload"), try_sh("memcg-bpf policies astray --load"));
    assert!(reload.err.starts_with(&format!("memcg-bpf: nothing was changed: {refused}")), "{}", reload.err);
    assert!(load.status == 1 && load.err.contains(&format!("memcg-bpf: {refused}")), "{}", load.err);
    assert!(
        load.err.contains("END PROG LOAD LOG") && load.err.contains("invalid mem access"),
        "{}",
        load.err
    );
    assert_eq!(try_sh("memcg-bpf policies deny --load").status, 0);
    assert_eq!(find(cgroup).unwrap().state, "active");
    sh(&format!("rm {astray}"));
    try_sh("rmdir /etc/memcg-bpf/policies");
    assert_eq!(sh("memcg-bpf reload"), "Read again: nothing has changed.");
    scene.end();
}
