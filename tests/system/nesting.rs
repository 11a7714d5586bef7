//! Policies within policies: each speaks for its own subtree, and whichever limit is reached first refuses.

use crate::support::{
    PROGRAMS, Scene, active, first_line, no_oom, refused_at, sh, status, unit_in_state, wait_for,
};

/// A slice with a limit and two services that eat and hold, the first of which has a limit of its own.
fn nest(scene: &mut Scene, slice: &str, outer: u64, inner: u64) {
    scene.unit(&format!("{slice}.slice"), "[Slice]\n");
    scene.policy(&format!("{slice}.slice"), &format!("deny limit={outer}M"));
    for name in [format!("{slice}-a.service"), format!("{slice}-b.service")] {
        let out = scene.out(&name);
        let text = format!(
            "[Service]\nSlice={slice}.slice\nType=exec\nExecStart={PROGRAMS}/eat 200 hold\nStandardOutput=file:{}\n",
            out.display()
        );
        scene.unit(&name, &text);
    }
    scene.policy(&format!("{slice}-a.service"), &format!("deny limit={inner}M")).reload();
    unit_in_state(&format!("{slice}.slice"), "registered");
    unit_in_state(&format!("{slice}-a.service"), "registered");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn the_limit_that_is_reached_first_refuses_and_usage_counts_for_the_subtree() {
    let mut scene = Scene::new("nesting");
    nest(&mut scene, "mpin", 64, 40);
    nest(&mut scene, "mpout", 40, 64);

    // The inner limit first; what it left is the sibling's, which has only the outer one.
    sh("systemctl start mpin-a.service");
    refused_at(&first_line(&scene.out("mpin-a.service")), 40);
    sh("systemctl start mpin-b.service");
    refused_at(&first_line(&scene.out("mpin-b.service")), 64 - 40 + 4);
    let (outer, inner) = (active("/mpin.slice"), active("/mpin.slice/mpin-a.service"));
    assert!(outer.usage > inner.usage, "{:?} {:?}", outer.usage, inner.usage);
    assert!(inner.counters["growth_denied"] >= 1 && outer.counters["growth_denied"] >= 1);
    assert!(
        sh("memcg-bpf explain /mpin.slice/mpin-a.service").contains("deny on /mpin.slice above it"),
        "explain names the policy above"
    );

    // The outer limit first.
    sh("systemctl start mpout-a.service");
    refused_at(&first_line(&scene.out("mpout-a.service")), 40);
    let (outer, inner) = (active("/mpout.slice"), active("/mpout.slice/mpout-a.service"));
    assert_eq!(inner.counters["growth_denied"], 0, "its own limit was not reached");
    assert!(outer.counters["growth_denied"] >= 1);
    no_oom("/mpin.slice");
    no_oom("/mpout.slice");
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_container_in_a_governed_slice_obeys_both() {
    let mut scene = Scene::new("nesting-container");
    scene.unit("mpbox.slice", "[Slice]\n").policy("mpbox.slice", "deny limit=64M").reload();
    unit_in_state("mpbox.slice", "registered");
    // The container's limit is the smaller one for the first and the larger one for the second.
    for (name, limit, expected) in [("one", 40, 40), ("two", 96, 64 - 40 + 4)] {
        let options = format!(
            "--cgroup-parent=mpbox.slice --annotation memcg.bpf/required=true --annotation memcg.bpf/policy=\"deny limit={limit}M\""
        );
        let id = scene.podman_id(
            &format!("nested-{name}"),
            &options,
            &format!("{PROGRAMS}/eat 200 hold > /out/{name}"),
        );
        refused_at(&first_line(&scene.dir.join(name)), expected);
        let report = active(&format!("/mpbox.slice/libpod-{id}.scope"));
        assert_eq!(report.counters["growth_denied"] > 0, name == "one", "{:?}", report.counters);
    }
    no_oom("/mpbox.slice");
    sh("podman rm -f -t 0 nested-one nested-two");
    wait_for("only the slice to be left", || (status().len() == 1).then_some(()));
    scene.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn a_percentage_follows_a_maximum_that_changes_anywhere_above() {
    let mut scene = Scene::new("percent");
    scene.unit("mppct.slice", "[Slice]\nMemoryMax=200M\n");
    scene.service("mppct-a.service", &format!("{PROGRAMS}/eat 300 hold"), "Slice=mppct.slice\nType=exec\n");
    scene.policy("mppct-a.service", "deny limit=50%").reload();
    unit_in_state("mppct-a.service", "registered");
    for (max, expected) in [(200, 100), (120, 60)] {
        sh(&format!(
            "systemctl set-property --runtime mppct.slice MemoryMax={max}M; systemctl start mppct-a"
        ));
        refused_at(&first_line(&scene.out("mppct-a.service")), expected);
        sh("systemctl stop mppct-a.service");
        drop(std::fs::remove_file(scene.out("mppct-a.service")));
    }
    scene.at_end("systemctl revert mppct.slice".to_owned());
    scene.end();
}

/// A container may make cgroups of its own below the governed one, as many levels down as it likes.
#[test]
#[ignore = "needs root in the test machine: make check"]
fn nobody_slips_away_by_nesting_deeper_than_can_be_governed() {
    let mut scene = Scene::new("deep");
    sh("mkdir /sys/fs/cgroup/mpdeep && memcg-bpf attach /mpdeep 'deny limit=64M'");
    scene.at_end("cd /sys/fs/cgroup && find mpdeep -depth -type d -exec rmdir {} +".to_owned());
    let out = scene.dir.join("deep");
    for levels in [1, 40] {
        sh(&format!(
            "cd /sys/fs/cgroup/mpdeep; for i in $(seq {levels}); do echo +memory > cgroup.subtree_control; mkdir -p n; cd n; done; \
             sh -c 'echo $$ > cgroup.procs; exec {PROGRAMS}/eat 200' > {}",
            out.display()
        ));
        refused_at(&first_line(&out), 64);
    }
    scene.end();
}
