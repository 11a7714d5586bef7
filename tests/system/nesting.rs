//! Nested policies: each covers its own subtree, and the limit that is reached first denies.

use crate::support::{
    PROGRAMS, TestEnv, active, assert_denied_at, assert_no_oom, first_line, sh, status, systemd,
    unit_in_state, wait_for,
};

/// A slice with a limit and two services that allocate and hold, the first of which has a limit of its own.
fn nest(env: &mut TestEnv, slice: &str, outer: u64, inner: u64) {
    env.unit(&format!("{slice}.slice"), "[Slice]\n");
    env.policy(&format!("{slice}.slice"), &format!("deny limit={outer}M"));
    for name in [format!("{slice}-a.service"), format!("{slice}-b.service")] {
        let out = env.out(&name);
        let text = format!(
            "[Service]\nSlice={slice}.slice\nType=exec\nExecStart={PROGRAMS}/alloc 200 hold\nStandardOutput=file:{}\n",
            out.display()
        );
        env.unit(&name, &text);
    }
    env.policy(&format!("{slice}-a.service"), &format!("deny limit={inner}M")).reload();
    unit_in_state(&format!("{slice}.slice"), "registered");
    unit_in_state(&format!("{slice}-a.service"), "registered");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn nested_limits_first_reached_denies() {
    let mut env = TestEnv::new("nesting");
    nest(&mut env, "mpin", 64, 40);
    nest(&mut env, "mpout", 40, 64);

    // The inner limit first; what it left is the sibling's, which has only the outer one.
    systemd::start("mpin-a.service");
    assert_denied_at(&first_line(&env.out("mpin-a.service")), 40);
    systemd::start("mpin-b.service");
    assert_denied_at(&first_line(&env.out("mpin-b.service")), 64 - 40 + 4);
    let (outer, inner) = (active("/mpin.slice"), active("/mpin.slice/mpin-a.service"));
    assert!(outer.usage > inner.usage, "{:?} {:?}", outer.usage, inner.usage);
    assert!(inner.counters["growth_denied"] >= 1 && outer.counters["growth_denied"] >= 1);
    assert!(
        sh("memcg-bpf explain /mpin.slice/mpin-a.service").contains("Inherited from: /mpin.slice (deny)."),
        "explain names the policy above"
    );

    // The outer limit first.
    systemd::start("mpout-a.service");
    assert_denied_at(&first_line(&env.out("mpout-a.service")), 40);
    let (outer, inner) = (active("/mpout.slice"), active("/mpout.slice/mpout-a.service"));
    assert_eq!(inner.counters["growth_denied"], 0, "its own limit was not reached");
    assert!(outer.counters["growth_denied"] >= 1);
    assert_no_oom("/mpin.slice");
    assert_no_oom("/mpout.slice");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn container_and_slice_policies_both_apply() {
    let mut env = TestEnv::new("nesting-container");
    env.unit("mpbox.slice", "[Slice]\n").policy("mpbox.slice", "deny limit=64M").reload();
    unit_in_state("mpbox.slice", "registered");
    // The container's limit is the smaller one for the first and the larger one for the second.
    for (name, limit, expected) in [("one", 40, 40), ("two", 96, 64 - 40 + 4)] {
        let options = format!(
            "--cgroup-parent=mpbox.slice --annotation memcg.bpf/required=true --annotation memcg.bpf/policy=\"deny limit={limit}M\""
        );
        let id = env.podman_id(
            &format!("nested-{name}"),
            &options,
            &format!("{PROGRAMS}/alloc 200 hold > /out/{name}"),
        );
        assert_denied_at(&first_line(&env.dir.join(name)), expected);
        let report = active(&format!("/mpbox.slice/libpod-{id}.scope"));
        assert_eq!(report.counters["growth_denied"] > 0, name == "one", "{:?}", report.counters);
    }
    assert_no_oom("/mpbox.slice");
    sh("podman rm -f -t 0 nested-one nested-two");
    wait_for("only the slice to be left", || (status().len() == 1).then_some(()));
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn percentage_follows_ancestor_max() {
    let mut env = TestEnv::new("percent");
    env.unit("mppct.slice", "[Slice]\nMemoryMax=200M\n");
    env.service("mppct-a.service", &format!("{PROGRAMS}/alloc 300 hold"), "Slice=mppct.slice\nType=exec\n");
    env.policy("mppct-a.service", "deny limit=50%").reload();
    unit_in_state("mppct-a.service", "registered");
    for (max, expected) in [(200, 100), (120, 60)] {
        sh(&format!(
            "systemctl set-property --runtime mppct.slice MemoryMax={max}M; systemctl start mppct-a"
        ));
        assert_denied_at(&first_line(&env.out("mppct-a.service")), expected);
        systemd::stop("mppct-a.service");
        drop(std::fs::remove_file(env.out("mppct-a.service")));
    }
    env.at_end("systemctl revert mppct.slice".to_owned());
    env.end();
}

/// A container may create cgroups of its own below the attached one, to any depth.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn deep_nesting_cannot_escape() {
    let mut env = TestEnv::new("deep");
    sh("mkdir /sys/fs/cgroup/mpdeep && memcg-bpf attach /mpdeep 'deny limit=64M'");
    env.at_end("cd /sys/fs/cgroup && find mpdeep -depth -type d -exec rmdir {} +".to_owned());
    let out = env.dir.join("deep");
    for levels in [1, 40] {
        sh(&format!(
            "cd /sys/fs/cgroup/mpdeep; for i in $(seq {levels}); do echo +memory > cgroup.subtree_control; mkdir -p n; cd n; done; \
             sh -c 'echo $$ > cgroup.procs; exec {PROGRAMS}/alloc 200' > {}",
            out.display()
        ));
        assert_denied_at(&first_line(&out), 64);
    }
    env.end();
}
