//! `systemctl reload memcg-bpfd`: configuration, profiles and objects are read again while all policies stay active.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{
    PROGRAMS, TestEnv, active, find, journal_of, main_pid, setting, sh, start_alloc_loop, stop_alloc_loop,
    systemd, try_sh, unit_in_state, wait_for, wait_for_daemon_restart,
};

const RELOADS: usize = 6;
const OWN: &str = "/etc/memcg-bpf/policies/deny.bpf.o";

/// The pins of one program, whichever of a policy's objects it is from.
fn pins_of(program: &str) -> usize {
    sh(&format!("ls /sys/fs/bpf/memcg-bpf/*/ | grep -c '{program}$'")).parse().unwrap()
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn no_gap_during_policy_replace() {
    let mut env = TestEnv::new("replace");
    start_alloc_loop(&mut env, "mpreplace.service");
    let cgroup = "/mpalone.slice/mpreplace.service";
    env.service("mplater.service", &format!("{PROGRAMS}/alloc_at_exec"), "")
        .policy("mplater.service", "deny limit=64M");
    env.reload();
    unit_in_state("mplater.service", "registered");
    env.at_end(format!("rm -f {OWN}; rmdir /etc/memcg-bpf/policies; systemctl reload memcg-bpfd"));
    let pid = main_pid();
    for n in 0..RELOADS {
        // Another file of the same name, and the packaged one again.
        sh(if n.is_multiple_of(2) {
            "mkdir -p /etc/memcg-bpf/policies && cp /usr/lib/memcg-bpf/policies/deny.bpf.o /etc/memcg-bpf/policies/"
        } else {
            "rm /etc/memcg-bpf/policies/deny.bpf.o"
        });
        let output = sh("memcg-bpf reload --json");
        assert!(output.contains("\"deny\"") && find(cgroup).unwrap().state == "active", "{output}");
        assert_eq!(pins_of("growth__0"), 1, "{}", sh("ls /sys/fs/bpf/memcg-bpf/*/"));
    }
    assert_eq!(sh("memcg-bpf reload"), "Reloaded: nothing has changed.");
    // The registration is the new object's, too.
    systemd::start("mplater.service");
    assert_eq!(fs::read_to_string(env.out("mplater.service")).unwrap(), "denied\n");
    assert_eq!(main_pid(), pid, "it is the same daemon");
    // What replaced it outlives a daemon as that did.
    wait_for_daemon_restart(|| systemd::kill("memcg-bpfd", "all", Signal::SIGKILL));
    let denied = active(cgroup).counters["growth_denied"];
    let (refused, got) = stop_alloc_loop(&env, "mpreplace.service");
    assert!(got == 0 && denied > 0, "got it {got} times, refused {refused} times");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reload_applies_profiles_and_config() {
    let mut env = TestEnv::new("files");
    let profile = "/etc/memcg-bpf/profiles.d/mpgold.profile";
    env.file(profile, "[Profile]\nPolicy=deny limit=64M\n");
    env.file("/etc/memcg-bpf/memcg-bpf.conf.d/mp.conf", "");
    env.at_end(format!(
        "rm -f {profile} /etc/memcg-bpf/memcg-bpf.conf.d/mp.conf; systemctl reload memcg-bpfd"
    ));
    assert_eq!(sh("memcg-bpf reload"), "Reloaded: changed the profiles mpgold.");
    env.unit("mpgold.service", "[Service]\nExecStart=sleep 1000\n")
        .policy("mpgold.service", "mpgold")
        .reload();
    systemd::start("mpgold.service");
    let limit = |report| setting(&report, "deny", "limit").map(str::to_owned);
    assert_eq!(limit(active("/system.slice/mpgold.service")).as_deref(), Some("64M"));

    // SIGHUP does the same, and reports to the journal only.
    fs::write(profile, "[Profile]\nPolicy=deny limit=48M\n").unwrap();
    systemd::kill("memcg-bpfd", "main", Signal::SIGHUP);
    wait_for("the profile to count", || {
        (limit(active("/system.slice/mpgold.service")).as_deref() == Some("48M")).then_some(())
    });
    assert!(journal_of(&main_pid()).ends_with("reloaded: changed the profiles mpgold"));

    fs::write(profile, "[Profile]\nPolicy=deny limit=32M\n").unwrap();
    fs::write("/etc/memcg-bpf/memcg-bpf.conf.d/mp.conf", "[Annotations]\nAllowPolicies=observe\n").unwrap();
    let output = sh(
        "systemctl reload memcg-bpfd && journalctl --sync && journalctl -q -o cat -n 1 -t memcg-bpfd --grep 'reloaded: '",
    );
    assert_eq!(output, "reloaded: changed the profiles mpgold; the configuration has changed");
    assert_eq!(limit(active("/system.slice/mpgold.service")).as_deref(), Some("32M"));
    let bundle = env.bundle("files").annotation("memcg.bpf/policy", "deny limit=64M").hook("createRuntime");
    bundle.write("sleep 1000");
    let crun = bundle.command("crun");
    env.at_end("crun delete -f files".to_owned());
    sh(&crun);
    wait_for("the annotation to be refused", || {
        let report =
            crate::support::status().into_iter().find(|r| r.container.as_deref() == Some("files"))?;
        (report.state == "invalid" && report.errors[0].contains("observe")).then_some(())
    });
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn reload_with_error_changes_nothing() {
    let mut env = TestEnv::new("mistake");
    env.unit("mpkept.service", "[Service]\nExecStart=sleep 1000\n")
        .policy("mpkept.service", "deny limit=64M");
    env.reload();
    systemd::start("mpkept.service");
    let cgroup = "/system.slice/mpkept.service";
    active(cgroup);
    env.at_end("systemctl reload memcg-bpfd".to_owned());
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
    // A readable object that the kernel rejects; the verifier's log is shown on request.
    let bad_pointer = "/etc/memcg-bpf/policies/bad_pointer.bpf.o";
    sh(&format!("cp /data/policies/bad_pointer.bpf.o {bad_pointer}"));
    env.at_end(format!("rm -f {bad_pointer}"));
    let refused = format!("the kernel rejected {bad_pointer}: ");
    let (reload, load) = (try_sh("memcg-bpf reload"), try_sh("memcg-bpf policies bad_pointer --load"));
    assert!(reload.err.starts_with(&format!("memcg-bpf: nothing was changed: {refused}")), "{}", reload.err);
    assert!(load.status == 1 && load.err.contains(&format!("memcg-bpf: {refused}")), "{}", load.err);
    assert!(
        load.err.contains("END PROG LOAD LOG") && load.err.contains("invalid mem access"),
        "{}",
        load.err
    );
    assert_eq!(try_sh("memcg-bpf policies deny --load").status, 0);
    assert_eq!(find(cgroup).unwrap().state, "active");
    sh(&format!("rm {bad_pointer}"));
    try_sh("rmdir /etc/memcg-bpf/policies");
    assert_eq!(sh("memcg-bpf reload"), "Reloaded: nothing has changed.");
    env.end();
}
