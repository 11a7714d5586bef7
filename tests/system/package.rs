//! The package: complete after installation, gone after purge. Runs by an invocation of its own (`package::`, see
//! tests/vm/check) after all others, as it removes what they test. Names sort so that `purge_leaves_nothing` is the
//! last.

use std::path::Path;

use crate::support::docker::{DAEMON_JSON, Docker};
use crate::support::{
    PROGRAMS, TestEnv, active, assert_no_leftovers, ensure_daemon, first_line, main_pid, pin_to_cpu, sh,
    systemd, try_sh, unit_in_state, wait_for,
};

#[test]
#[ignore = "needs root in the test machine: make check"]
fn installed_package_passes_doctor() {
    ensure_daemon();
    assert_eq!(sh("systemctl is-enabled memcg-bpfd"), "enabled");
    assert_eq!(systemd::active_state("memcg-bpfd"), "active");
    let output = try_sh("memcg-bpf doctor");
    assert_eq!(output.status, 0, "{}\n{}", output.out, output.err);
    assert!(sh("memcg-bpf policies").contains("deny"));
    sh("memcg-bpf policies --json | grep -q observe");
    let explained = sh("journalctl --list-catalog | grep -c 'memcg-bpf: Memory policy'");
    assert_eq!(explained, "4", "journalctl -x");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn assignment_spellings_verify_cleanly() {
    let mut env = TestEnv::new("verify");
    let text = |assignment: &str| format!("{assignment}\n[Service]\nExecStart={PROGRAMS}/alloc 1\n");
    env.unit("mpverify1.service", &text("[X-MemoryBPF]\nPolicy=deny limit=2000M"));
    env.unit("mpverify2.service", &format!("{}X-MemoryBPFPolicy=deny limit=2000M\n", text("")));
    env.unit("mpverify.slice", "[Slice]\nX-MemoryBPFPolicy=observe\n");
    for unit in ["mpverify1.service", "mpverify2.service", "mpverify.slice"] {
        let output = try_sh(&format!("systemd-analyze verify --man=no /run/systemd/system/{unit}"));
        assert_eq!((output.status, output.out.as_str(), output.err.as_str()), (0, "", ""), "{unit}");
    }
    let output = try_sh("systemd-analyze verify --man=no /usr/lib/systemd/system/memcg-bpfd.service");
    assert_eq!((output.status, output.err.as_str()), (0, ""));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn capabilities_and_sandbox() {
    ensure_daemon();
    // In tenths: 2.0 is the promise.
    sh("systemd-analyze security --no-pager --threshold=20 memcg-bpfd.service");
    let pid = main_pid();
    // CAP_DAC_OVERRIDE 1, CAP_KILL 5, CAP_SYS_ADMIN 21, CAP_PERFMON 38, CAP_BPF 39; of every thread.
    let needed = format!("{:016x}", 1u64 << 1 | 1 << 5 | 1 << 21 | 1 << 38 | 1 << 39);
    let none = "0".repeat(16);
    for (set, wanted) in
        [("CapPrm", &needed), ("CapEff", &needed), ("CapBnd", &needed), ("CapInh", &none), ("CapAmb", &none)]
    {
        let output = sh(&format!("sed -n 's/^{set}:\t//p' /proc/{pid}/task/*/status | sort -u"));
        assert_eq!(&output, wanted, "{set}");
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
fn docker_works_after_purge() {
    let mut env = TestEnv::new("docker-purge");
    env.at_end("command -v memcg-bpfd || dpkg -i /data/memcg-bpf_*.deb".to_owned());
    let docker = Docker::start(&mut env);
    let config = std::fs::read_to_string(DAEMON_JSON).unwrap();
    let annotated = "--runtime memcg-bpf --annotation memcg.bpf/policy=\"deny limit=64M\"";
    let id = docker.run_id(&env, "governed", annotated, "sleep 1000");
    active(&format!("/system.slice/docker-{id}.scope"));

    let said = sh("dpkg --purge memcg-bpf 2>&1");
    assert!(said.contains("/usr/bin/memcg-bpf-runc links to /usr/"), "{said}");
    assert_eq!(std::fs::read_to_string(DAEMON_JSON).unwrap(), config, "docker's configuration is unchanged");
    assert_no_leftovers();
    // The container can still be used, and others are created as by runc.
    assert_eq!(sh("docker exec governed echo alive"), "alive");
    let script = format!("{PROGRAMS}/alloc 100 > /out/without; sleep 1000");
    docker.run_id(&env, "without", annotated, &script);
    assert_eq!(first_line(&env.dir.join("without")), "reached 100 MiB");
    sh("docker rm -f governed without");
    docker.run_id(&env, "plain", "", &format!("{PROGRAMS}/alloc 100 > /out/plain; sleep 1000"));
    assert_eq!(first_line(&env.dir.join("plain")), "reached 100 MiB");
    docker.configure(false, "");
    // A reload keeps the runtimes that the file does not name any more.
    sh("systemctl restart docker.service; rm /usr/bin/memcg-bpf-runc");
    let runtimes = sh("docker info -f '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}'");
    assert!(!runtimes.contains("memcg-bpf"), "{runtimes}");
    sh("docker rm -f plain");
    sh("dpkg -i /data/memcg-bpf_*.deb 2>&1");
    ensure_daemon();
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn downgrade_and_upgrade_without_gap() {
    let mut env = TestEnv::new("upgrade");
    let dir = env.dir.display().to_string();
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
    env.at_end(format!(
        "cp -p {dir}/conf {conf}; systemctl enable -q memcg-bpfd; dpkg -i /data/memcg-bpf_*.deb"
    ));
    env.at_end("podman rm -f -t 0 upgraded".to_owned());
    // It exceeds its limit all the time, on a processor without other tasks.
    pin_to_cpu(&mut env, "machine.slice");
    let id = env.podman_id(
        "upgraded",
        "--annotation memcg.bpf/policy=\"deny limit=64M\"",
        &format!(": > /out/asked; while :; do {PROGRAMS}/alloc 100 >> /out/asked; done"),
    );
    first_line(&env.dir.join("asked"));
    let asked = || sh(&format!("wc -l <{dir}/asked")).parse::<usize>().unwrap();
    for (file, version) in [("0.0.9.deb", "0.0.9"), ("9.9.deb", "9.9"), ("/data/memcg-bpf_*.deb", "0.1.0")] {
        sh(&format!("cd {dir}; dpkg -i --force-confold {file} 2>&1"));
        assert_eq!(sh("dpkg-query -W -f '${Version}' memcg-bpf"), version);
        assert_eq!(sh(&format!("grep -x PerSecond=7 {conf}")), "PerSecond=7");
        assert_eq!(try_sh("systemctl is-enabled memcg-bpfd").out, "disabled", "after {version}");
        systemd::start("memcg-bpfd");
        active(&format!("/machine.slice/libpod-{id}.scope"));
        let before = asked();
        wait_for("the container to ask on", || (asked() > before).then_some(()));
    }
    let answers = sh(&format!("cut -d ' ' -f 1-3 {dir}/asked | sort -u"));
    assert_eq!(answers, "malloc returned NULL", "there was a gap");
    sh(&format!("rm -f {conf}.dpkg-*"));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn purge_leaves_nothing() {
    let mut env = TestEnv::new("purge");
    // One unit is attached, one registered, and a container is running.
    for unit in ["mppurge1.service", "mppurge2.service"] {
        env.unit(unit, "[Service]\nType=exec\nExecStart=sleep 1000\n")
            .policy(unit, "deny limit=1000M; observe");
    }
    env.reload();
    systemd::start("mppurge1.service");
    active("/system.slice/mppurge1.service");
    unit_in_state("mppurge2.service", "registered");
    let id = env.podman_id("purged", "--annotation memcg.bpf/policy=\"deny limit=64M\"", "sleep 1000");
    active(&format!("/machine.slice/libpod-{id}.scope"));

    let files = sh("dpkg -L memcg-bpf");
    assert!(
        files.contains("/usr/sbin/memcg-bpfd") && files.contains("/etc/memcg-bpf/memcg-bpf.conf"),
        "{files}"
    );
    sh("dpkg --purge memcg-bpf");
    assert_no_leftovers();
    let left: Vec<&str> =
        files.lines().filter(|f| f.contains("memcg") && Path::new(f).symlink_metadata().is_ok()).collect();
    assert_eq!(left, Vec::<&str>::new());
    let strays = sh(
        "find /etc /usr /var/lib /run -xdev -ipath '*memcg*bpf*' -not -path '/run/memcg-bpf-test*' -not -path '/var/lib/dpkg/*' 2>/dev/null || true",
    );
    assert_eq!(strays, "");
    assert_eq!(systemd::active_state("memcg-bpfd"), "inactive");
    assert!(!sh("busctl list --activatable --no-legend").contains("org.memcg"), "the bus forgot the name");
    // Units keep running without policies; containers start as if the package had never been installed.
    assert_eq!(systemd::active_state("mppurge1.service"), "active");
    assert_eq!(sh("podman inspect -f '{{.State.Status}}' purged"), "running");
    env.podman_id(
        "after",
        "--annotation memcg.bpf/policy=\"deny limit=64M\"",
        &format!("{PROGRAMS}/alloc 100 > /out/eat; sleep 1000"),
    );
    assert_eq!(first_line(&env.dir.join("eat")), "reached 100 MiB");
    env.end_without_daemon();
}
