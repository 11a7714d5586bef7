//! The package: in order after installation, gone after purge. The name makes it the last: it removes what all others
//! test.

use std::path::Path;

use crate::support::{
    PROGRAMS, Scene, active, alone, daemon_runs, first_line, nothing_is_left, sh, try_sh, unit_in_state,
    wait_for,
};

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_installed_it_runs_and_the_doctor_has_no_complaint() {
    daemon_runs();
    assert_eq!(sh("systemctl is-enabled memcg-bpfd"), "enabled");
    assert_eq!(sh("systemctl is-active memcg-bpfd"), "active");
    let said = try_sh("memcg-bpf doctor");
    assert_eq!(said.status, 0, "{}\n{}", said.out, said.err);
    assert!(sh("memcg-bpf policies").contains("deny"));
    sh("memcg-bpf policies --json | grep -q observe");
    let explained = sh("journalctl --list-catalog | grep -c 'memcg-bpf: .*memory policy'");
    assert_eq!(explained, "3", "journalctl -x");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn b_systemd_is_silent_about_the_recommended_spellings() {
    let mut scene = Scene::new("verify");
    let text = |assignment: &str| format!("{assignment}\n[Service]\nExecStart={PROGRAMS}/eat 1\n");
    scene.unit("mpverify1.service", &text("[X-MemoryBPF]\nPolicy=deny limit=2000M"));
    scene.unit("mpverify2.service", &format!("{}X-MemoryBPFPolicy=deny limit=2000M\n", text("")));
    scene.unit("mpverify.slice", "[Slice]\nX-MemoryBPFPolicy=observe\n");
    for unit in ["mpverify1.service", "mpverify2.service", "mpverify.slice"] {
        let said = try_sh(&format!("systemd-analyze verify --man=no /run/systemd/system/{unit}"));
        assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""), "{unit}");
    }
    let said = try_sh("systemd-analyze verify --man=no /usr/lib/systemd/system/memcg-bpfd.service");
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn b_the_daemon_has_what_it_needs_and_no_more_and_the_other_programs_carry_nothing() {
    daemon_runs();
    // In tenths: 2.0 is the promise.
    sh("systemd-analyze security --no-pager --threshold=20 memcg-bpfd.service");
    let pid = sh("systemctl show -P MainPID memcg-bpfd");
    // CAP_DAC_OVERRIDE 1, CAP_KILL 5, CAP_SYS_ADMIN 21, CAP_PERFMON 38, CAP_BPF 39; of every thread.
    let needed = format!("{:016x}", 1u64 << 1 | 1 << 5 | 1 << 21 | 1 << 38 | 1 << 39);
    let none = "0".repeat(16);
    for (set, wanted) in
        [("CapPrm", &needed), ("CapEff", &needed), ("CapBnd", &needed), ("CapInh", &none), ("CapAmb", &none)]
    {
        let said = sh(&format!("sed -n 's/^{set}:\t//p' /proc/{pid}/task/*/status | sort -u"));
        assert_eq!(&said, wanted, "{set}");
    }
    assert_eq!(sh(&format!("sed -n 's/^NoNewPrivs:\t//p; s/^Seccomp:\t//p' /proc/{pid}/status")), "1\n2");
    let programs = "/usr/sbin/memcg-bpfd /usr/bin/memcg-bpf /usr/libexec/oci/hooks.d/memcg-bpf-hook";
    assert_eq!(sh(&format!("stat -c '%a %u %g' {programs} | sort -u")), "755 0 0", "no setuid, no setgid");
    assert_eq!(sh(&format!("getfattr -m security.capability {programs}")), "", "no file capabilities");
    // /sys is closed to it, but for cgroups and its pins.
    let mounts = sh(&format!(
        "grep -E ' /sys(/fs/(cgroup|bpf))? ' /proc/{pid}/mountinfo | cut -d' ' -f5,6 | cut -d, -f1 | sort -u"
    ));
    assert!(mounts.contains("/sys ro") && !mounts.contains("/sys rw"), "{mounts}");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn c_upgraded_and_downgraded_it_leaves_no_gap_and_keeps_what_was_configured() {
    let mut scene = Scene::new("upgrade");
    let dir = scene.dir.display().to_string();
    // The same programs as an older and a newer package, with another configuration file each.
    sh(&format!(
        "cd {dir}; for version in 0.0.9 9.9; do
            dpkg-deb -R /data/memcg-bpf_*.deb tree
            sed -i \"s/^Version:.*/Version: $version/\" tree/DEBIAN/control
            echo \"# $version\" >>tree/etc/memcg-bpf/memcg-bpf.conf
            dpkg-deb -Znone -b tree $version.deb && rm -r tree || exit 1
        done"
    ));
    let conf = "/etc/memcg-bpf/memcg-bpf.conf";
    sh(&format!(
        "cp -p {conf} {dir}/conf; sed -i s/^#PerSecond=.*/PerSecond=7/ {conf}; systemctl disable -q memcg-bpfd"
    ));
    scene.at_end(format!(
        "cp -p {dir}/conf {conf}; systemctl enable -q memcg-bpfd; dpkg -i /data/memcg-bpf_*.deb"
    ));
    scene.at_end("podman rm -f -t 0 upgraded".to_owned());
    // It asks for too much all the time, on a processor on which nobody else is interrupted.
    alone(&mut scene, "machine.slice");
    let id = scene.podman_id(
        "upgraded",
        "--annotation memcg.bpf/policy=\"deny limit=64M\"",
        &format!(": > /out/asked; while :; do {PROGRAMS}/eat 100 >> /out/asked; done"),
    );
    first_line(&scene.dir.join("asked"));
    let asked = || sh(&format!("wc -l <{dir}/asked")).parse::<usize>().unwrap();
    for (file, version) in [("0.0.9.deb", "0.0.9"), ("9.9.deb", "9.9"), ("/data/memcg-bpf_*.deb", "0.1.0")] {
        sh(&format!("cd {dir}; dpkg -i --force-confold {file} 2>&1"));
        assert_eq!(sh("dpkg-query -W -f '${Version}' memcg-bpf"), version);
        assert_eq!(sh(&format!("grep -x PerSecond=7 {conf}")), "PerSecond=7");
        assert_eq!(try_sh("systemctl is-enabled memcg-bpfd").out, "disabled", "after {version}");
        sh("systemctl start memcg-bpfd");
        active(&format!("/machine.slice/libpod-{id}.scope"));
        let before = asked();
        wait_for("the container to ask on", || (asked() > before).then_some(()));
    }
    let answers = sh(&format!("cut -d ' ' -f 1-3 {dir}/asked | sort -u"));
    assert_eq!(answers, "malloc returned NULL", "there was a gap");
    sh(&format!("rm -f {conf}.dpkg-*"));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn d_purged_it_leaves_nothing() {
    let mut scene = Scene::new("purge");
    // Something is governed, something registered, and a container is running.
    for unit in ["mppurge1.service", "mppurge2.service"] {
        scene
            .unit(unit, "[Service]\nType=exec\nExecStart=sleep 1000\n")
            .policy(unit, "deny limit=1000M; observe");
    }
    scene.reload();
    sh("systemctl start mppurge1.service");
    active("/system.slice/mppurge1.service");
    unit_in_state("mppurge2.service", "registered");
    let id = scene.podman_id("purged", "--annotation memcg.bpf/policy=\"deny limit=64M\"", "sleep 1000");
    active(&format!("/machine.slice/libpod-{id}.scope"));

    let files = sh("dpkg -L memcg-bpf");
    assert!(
        files.contains("/usr/sbin/memcg-bpfd") && files.contains("/etc/memcg-bpf/memcg-bpf.conf"),
        "{files}"
    );
    sh("dpkg --purge memcg-bpf");
    nothing_is_left();
    let left: Vec<&str> =
        files.lines().filter(|f| f.contains("memcg") && Path::new(f).symlink_metadata().is_ok()).collect();
    assert_eq!(left, Vec::<&str>::new());
    let strays = sh(
        "find /etc /usr /var/lib /run -xdev -ipath '*memcg*bpf*' -not -path '/run/memcg-bpf-test*' -not -path '/var/lib/dpkg/*' 2>/dev/null || true",
    );
    assert_eq!(strays, "");
    assert_eq!(try_sh("systemctl is-active memcg-bpfd").out, "inactive");
    assert!(!sh("busctl list --activatable --no-legend").contains("org.memcg"), "the bus forgot the name");
    // What was governed runs on; containers start as if there had never been anything.
    assert_eq!(sh("systemctl is-active mppurge1.service"), "active");
    assert_eq!(sh("podman inspect -f '{{.State.Status}}' purged"), "running");
    scene.podman_id(
        "after",
        "--annotation memcg.bpf/policy=\"deny limit=64M\"",
        &format!("{PROGRAMS}/eat 100 > /out/eat; sleep 1000"),
    );
    assert_eq!(first_line(&scene.dir.join("eat")), "reached 100 MiB");
    scene.end_without_daemon();
}
