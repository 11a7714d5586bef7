//! Units and their drop-ins: the assignment that wins by systemd's order sets the limit.

mod cases;

use std::collections::BTreeMap;
use std::fs;

use memcg_bpf::report::BindingReport;

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, assert_no_oom, find, first_line, setting, sh, status,
    systemd, unit_in_state, wait_for,
};
use cases::{MASK, cases};

const ETC: &str = "/etc/systemd/system";
const RUN: &str = "/run/systemd/system";
const LOCAL: &str = "/usr/local/lib/systemd/system";
const LIB: &str = "/usr/lib/systemd/system";

/// A unit, what stands in which file (`->` masks), and the limit in MiB that results.
#[derive(Clone)]
struct Case {
    unit: &'static str,
    files: Vec<(String, &'static str)>,
    limit: Option<u64>,
}

/// The file that decides: the last of systemd's own list in which a policy is assigned.
fn decides(unit: &str) -> Option<String> {
    let list = sh(&format!("systemctl show -P FragmentPath {unit}; systemctl show -P DropInPaths {unit}"));
    let assigns = |text: &str| {
        let assignment =
            |l: &str| ["MemoryBPFPolicy=", "X-MemoryBPFPolicy=", "Policy="].iter().any(|k| l.starts_with(k));
        text.lines().any(assignment)
    };
    list.split_whitespace().rfind(|file| assigns(&fs::read_to_string(file).unwrap())).map(str::to_owned)
}

fn file_of(report: &BindingReport) -> &str {
    report.policies[0].location.rsplit_once(':').expect("FILE:LINE").0
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn drop_in_precedence_matches_systemd() {
    let mut env = TestEnv::new("precedence");
    let go = env.dir.join("go");
    let out = env.dir.clone();
    // %n: one text serves templates too. Opening the pipe waits, so that policies of units
    // unknown beforehand are attached first; twenty shells polling a file would keep the machine busy.
    sh(&format!("mkfifo {}", go.display()));
    let fragment = format!(
        "[Service]\nType=exec\nStandardOutput=file:{}/%n.out\nExecStart=/bin/sh -c ': < {}; exec {PROGRAMS}/alloc 60 hold'\n",
        out.display(),
        go.display()
    );
    let cases = cases();
    for Case { unit, files, .. } in &cases {
        let file = match unit.split_once('@') {
            Some((name, _)) => format!("{name}@.service"),
            None => (*unit).to_owned(),
        };
        env.stops(unit);
        let path = format!("{RUN}/{file}");
        if !std::path::Path::new(&path).exists() {
            // The first case has an assignment in its fragment too, which the drop-in overrides.
            let first = if *unit == "mp1.service" { "X-MemoryBPFPolicy=deny limit=20M\n" } else { "" };
            env.file(&path, &format!("{fragment}{first}"));
        }
        for (path, text) in files {
            if *text == MASK {
                env.link(path, "/dev/null")
            } else {
                env.file(path, text)
            };
        }
    }
    // Once the daemon has seen the last unit, it has seen all.
    env.unit("mplast.service", "[Service]\nExecStart=sleep 1000\n").policy("mplast.service", "observe");
    unit_in_state("mplast.service", "registered");
    // Before systemd has read any of it the daemon has, in the same order. Instances that no file names come later.
    let foretold: Vec<&Case> = cases
        .iter()
        .filter(|c| c.limit.is_some() && (!c.unit.contains('@') || c.unit == "mpt@y.service"))
        .collect();
    let foretold: BTreeMap<&str, BindingReport> =
        foretold.iter().map(|case| (case.unit, unit_in_state(case.unit, "registered"))).collect();
    env.reload();
    let units: Vec<&str> = cases.iter().map(|c| c.unit).collect();
    sh(&format!("systemctl start {}", units.join(" ")));

    for Case { unit, limit, .. } in &cases {
        let Some(limit) = limit else { continue };
        let report = unit_in_state(unit, "active");
        assert_eq!(
            setting(&report, "deny", "limit"),
            Some(format!("{limit}M").as_str()),
            "{unit}: {report:?}"
        );
        assert_eq!(Some(file_of(&report)), decides(unit).as_deref(), "{unit}");
        if let Some(told) = foretold.get(unit) {
            assert_eq!((&told.cgroup, &told.policies), (&report.cgroup, &report.policies), "{unit}");
        }
    }
    let open = fs::OpenOptions::new().write(true).open(&go).unwrap();
    for Case { unit, limit, .. } in &cases {
        let line = first_line(&env.out(unit));
        match limit {
            Some(limit) => assert_denied_at(&line, *limit),
            None => assert_eq!(line, "reached 60 MiB", "{unit}"),
        }
    }
    let attached_units: Vec<String> =
        status().into_iter().filter(|r| r.state == "active").filter_map(|r| r.unit).collect();
    drop(open);
    assert_eq!(
        attached_units.len(),
        cases.iter().filter(|c| c.limit.is_some()).count(),
        "{attached_units:?}"
    );
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn service_drop_in_denies_at_limit() {
    let mut env = TestEnv::new("service");
    env.unit(
        "mp-eat.service",
        &format!(
            "[Service]\nType=exec\nExecStart={PROGRAMS}/alloc 200 hold\nStandardOutput=file:{}\n",
            env.out("eat").display()
        ),
    );
    env.policy("mp-eat.service", "deny limit=64M").reload();
    unit_in_state("mp-eat.service", "registered");
    systemd::start("mp-eat.service");
    assert_denied_at(&first_line(&env.out("eat")), 64);
    let report = active("/system.slice/mp-eat.service");
    assert_eq!(report.policies[0].origin, "drop-in");
    assert_eq!(report.policies[0].location, format!("{ETC}/mp-eat.service.d/50-memory.conf:2"));
    assert_no_oom("/system.slice/mp-eat.service");
    assert_eq!(systemd::active_state("mp-eat.service"), "active");
    // A change of the file counts from daemon-reload on, without a restart of the service.
    sh(&format!("sed -i s/64M/96M/ {ETC}/mp-eat.service.d/50-memory.conf; systemctl daemon-reload"));
    wait_for("the changed limit", || {
        let report = find("/system.slice/mp-eat.service")?;
        (setting(&report, "deny", "limit") == Some("96M")).then_some(())
    });
    // Stopped, it waits for its next start.
    systemd::stop("mp-eat.service");
    unit_in_state("mp-eat.service", "registered");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn changed_drop_in_applies_after_reload() {
    let mut env = TestEnv::new("changed");
    env.unit("mpchange.service", "[Service]\nExecStart=sleep 1000\nExecReload=true\nSlice=mpchange.slice\n");
    env.stops("mpchange.slice").policy("mpchange.service", "deny limit=40M").reload();
    let cgroup = "/mpchange.slice/mpchange.service";
    let limit = |state: &str| {
        let report = unit_in_state("mpchange.service", state);
        assert_eq!(report.cgroup, cgroup);
        setting(&report, "deny", "limit").unwrap().to_owned()
    };
    let write = |limit: u64| {
        // With a new mtime, by which systemd recognizes a changed file.
        sh(&format!("sleep 1; sed -i 's/limit=.*/limit={limit}M/' {ETC}/mpchange.service.d/50-memory.conf"));
    };
    systemd::start("mpchange.service");
    assert_eq!(limit("active"), "40M");
    // The daemon knows by systemd that it runs, whatever it has prepared for it.
    systemd::restart("memcg-bpfd");
    assert_eq!(limit("active"), "40M");
    // Neither the file nor a job of the unit changes what runs.
    write(50);
    sh("systemctl reload mpchange.service; systemctl start mpchange.service");
    env.file(
        &format!("{ETC}/mpchange-marker.service.d/50-memory.conf"),
        "[Service]\nX-MemoryBPFPolicy=observe\n",
    );
    env.unit("mpchange-marker.service", "[Service]\nExecStart=sleep 1000\n");
    unit_in_state("mpchange-marker.service", "registered");
    assert_eq!(limit("active"), "40M");
    systemd::daemon_reload();
    wait_for("the limit of the file", || (limit("active") == "50M").then_some(()));
    // What starts has the file as it is, and keeps it.
    write(60);
    env.unit("mpchange-second.service", "[Service]\nExecStart=sleep 1000\n");
    env.policy("mpchange-second.service", "observe");
    unit_in_state("mpchange-second.service", "registered");
    systemd::restart("mpchange.service");
    systemd::start("mpchange-marker.service");
    unit_in_state("mpchange-marker.service", "active");
    assert_eq!(limit("active"), "60M");
    write(70);
    systemd::stop("mpchange.service");
    wait_for("the limit of the file to be registered", || (limit("registered") == "70M").then_some(()));
    sh(&format!("rm {ETC}/mpchange.service.d/50-memory.conf"));
    wait_for("the registration to be gone", || {
        let registered = status().into_iter().any(|r| r.unit.as_deref() == Some("mpchange.service"));
        (!registered).then_some(())
    });
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn slice_limit_is_shared() {
    let mut env = TestEnv::new("slice");
    env.unit("mptwo.slice", "[Slice]\n").policy("mptwo.slice", "deny limit=64M");
    for name in ["mptwo-a.service", "mptwo-b.service"] {
        let most = if name == "mptwo-a.service" { 40 } else { 200 };
        let text = format!(
            "[Service]\nSlice=mptwo.slice\nType=exec\nExecStart={PROGRAMS}/alloc {most} hold\nStandardOutput=file:{}\n",
            env.out(name).display()
        );
        env.unit(name, &text);
    }
    env.reload();
    unit_in_state("mptwo.slice", "registered");
    systemd::start("mptwo-a.service");
    assert_eq!(first_line(&env.out("mptwo-a.service")), "reached 40 MiB");
    systemd::start("mptwo-b.service");
    assert_denied_at(&first_line(&env.out("mptwo-b.service")), 64 - 40);
    assert_eq!(status().len(), 1, "the slice alone carries the policy");
    assert_no_oom("/mptwo.slice");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn prefix_drop_in_applies_to_scope() {
    let mut env = TestEnv::new("scope");
    let go = env.dir.join("go");
    env.file(&format!("{ETC}/mpscope-.scope.d/10.conf"), "[Scope]\nX-MemoryBPFPolicy=deny limit=40M\n");
    env.stops("mpscope-x.scope").reload();
    // This unit is unknown beforehand: its policy is attached when its cgroup appears.
    sh(&format!(
        "systemd-run --quiet --scope --unit=mpscope-x.scope sh -c 'until [ -e {} ]; do sleep 0.2; done; {PROGRAMS}/alloc 100 hold' >{} 2>&1 &",
        go.display(),
        env.out("scope").display()
    ));
    let report = unit_in_state("mpscope-x.scope", "active");
    assert_eq!(setting(&report, "deny", "limit"), Some("40M"));
    assert_eq!(Some(file_of(&report)), decides("mpscope-x.scope").as_deref());
    fs::write(&go, "").unwrap();
    assert_denied_at(&first_line(&env.out("scope")), 40);
    assert_no_oom(&report.cgroup);
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn type_drop_in_applies_to_all_slices() {
    let mut env = TestEnv::new("type-level");
    env.file(&format!("{ETC}/slice.d/60-memory.conf"), "[Slice]\nX-MemoryBPFPolicy=deny limit=1900M\n");
    env.unit("mptype.slice", "[Slice]\n")
        .file(&format!("{RUN}/mptype.slice.d/60-memory.conf"), "[Slice]\nX-MemoryBPFPolicy=deny limit=40M\n");
    env.reload();
    systemd::start("mptype.slice");
    assert_eq!(setting(&active("/system.slice"), "deny", "limit"), Some("1900M"));
    let report = active("/mptype.slice");
    assert_eq!(setting(&report, "deny", "limit"), Some("40M"));
    assert_eq!(Some(file_of(&report)), decides("mptype.slice").as_deref());
    assert!(find("/").is_none_or(|root| root.policies.is_empty()), "the root cgroup never has a policy");
    env.end();
}
