//! `reclaim` takes what nobody misses, and stops at its floor.

use crate::support::{Scene, active, bytes, first_line, last_action, sh, unit_in_state, wait_for};

const MIB: u64 = 1 << 20;
const COLD: &str = "/system.slice/mpcold.service";
const DRY: &str = "/system.slice/mpdry.service";

/// A service that has written 64 MiB of file and then sleeps.
fn cold(scene: &mut Scene, unit: &str, line: &str) {
    let (out, file) = (scene.out(unit), format!("/root/{unit}.file"));
    let write =
        format!("dd if=/dev/zero of={file} bs=1M count=64 && sync {file} && echo done; exec sleep 1000");
    scene.unit(
        unit,
        &format!(
            "[Service]\nType=exec\nExecStart=/bin/sh -c '{write}'\nStandardOutput=append:{}\nStandardError=null\n",
            out.display()
        ),
    );
    scene.at_end(format!("rm -f {file}")).policy(unit, line);
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn what_is_cold_is_given_back_down_to_the_floor_but_not_in_a_dry_run() {
    let mut scene = Scene::new("reclaim");
    let line = "reclaim interval=200ms step=20% floor=20M rate=1G";
    cold(&mut scene, "mpcold.service", line);
    cold(&mut scene, "mpdry.service", &format!("{line} mode=dry-run"));
    scene.reload();
    unit_in_state("mpcold.service", "registered");
    sh("systemctl start mpcold.service mpdry.service");
    for unit in ["mpcold.service", "mpdry.service"] {
        assert_eq!(first_line(&scene.out(unit)), "done");
    }
    wait_for("memory to be given back", || (bytes(COLD, "memory.current") < 26 * MIB).then_some(()));
    let action = last_action(COLD, "done");
    assert_eq!((action.policy.as_str(), action.verb.as_str()), ("reclaim", "memory.reclaim"), "{action:?}");
    // Somebody else's helpings, for comparison: it has had its turns meanwhile.
    last_action(DRY, "dry-run");
    let (left, dry) = (bytes(COLD, "memory.current"), bytes(DRY, "memory.current"));
    // The kernel may take more than it is asked for, in batches; without a floor nearly nothing would be left.
    assert!(left >= 14 * MIB, "{left} bytes are left of a floor of 20M");
    assert!(dry >= 60 * MIB && !active(DRY).actions.contains_key("done"), "{dry}");
    scene.end();
}
