use super::*;

const ID: &str = "1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c5b6a7988";

fn find(proc_cgroup: &str, cgroups_path: Option<&str>) -> Result<String, String> {
    let proc_cgroup = proc_cgroup.replace("$ID", ID);
    let cgroups_path = cgroups_path.map(|text| text.replace("$ID", ID));
    container_cgroup(&proc_cgroup, cgroups_path.as_deref(), &ContainerId::parse(ID).unwrap())
        .map(|path| path.to_string().replace(ID, "$ID"))
        .map_err(|error| error.to_string().replace(ID, "$ID"))
}

#[test]
fn the_scope_is_found_with_every_engine_and_driver() {
    let cases: [(&str, Option<&str>, &str); 20] = [
        // crun under podman nests the process one level below the scope, runc and youki do not.
        (
            "0::/machine.slice/libpod-$ID.scope/container",
            Some("machine.slice:libpod:$ID"),
            "/machine.slice/libpod-$ID.scope",
        ),
        (
            "0::/machine.slice/libpod-$ID.scope\n",
            Some("machine.slice:libpod:$ID"),
            "/machine.slice/libpod-$ID.scope",
        ),
        ("0::/machine.slice/libpod-$ID.scope/container", None, "/machine.slice/libpod-$ID.scope"),
        // An empty slice means the engine's default.
        ("0::/system.slice/crun-x.scope", Some(":crun:x"), "/system.slice/crun-x.scope"),
        // An empty prefix: runc, crun, then youki.
        ("0::/system.slice/-x.scope", Some("system.slice::x"), "/system.slice/-x.scope"),
        ("0::/system.slice/x.scope", Some("system.slice::x"), "/system.slice/x.scope"),
        // A slice asked for in so many words.
        ("0::/a.slice/a-b.slice/init", Some("a.slice:x:a-b.slice"), "/a.slice/a-b.slice"),
        // systemd's escape for names that could pass for cgroup files.
        (
            "0::/system.slice/_memory.a-x.scope",
            Some("system.slice:memory.a:x"),
            "/system.slice/_memory.a-x.scope",
        ),
        // Rootless.
        (
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$ID.scope/container",
            Some("user.slice:libpod:$ID"),
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$ID.scope",
        ),
        // Kubernetes: containerd, CRI-O, cgroupfs driver.
        (
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-$ID.scope",
            Some("kubepods-burstable-pod1.slice:cri-containerd:$ID"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-$ID.scope",
        ),
        ("0::/kubepods.slice/crio-$ID.scope/container", None, "/kubepods.slice/crio-$ID.scope"),
        (
            "0::/kubepods/burstable/pod1/$ID",
            Some("/kubepods/burstable/pod1/$ID"),
            "/kubepods/burstable/pod1/$ID",
        ),
        ("0::/kubepods/burstable/pod1/$ID", None, "/kubepods/burstable/pod1/$ID"),
        // podman's cgroupfs driver.
        (
            "0::/libpod_parent/libpod-$ID/container",
            Some("/libpod_parent/libpod-$ID"),
            "/libpod_parent/libpod-$ID",
        ),
        ("0::/libpod_parent/libpod-$ID", None, "/libpod_parent/libpod-$ID"),
        // A relative path lies below the runtime's own cgroup.
        ("0::/user.slice/user-0.slice/mine/leaf", Some("mine"), "/user.slice/user-0.slice/mine"),
        // crun's systemd driver with a bare name.
        ("0::/system.slice/mine.scope/container", Some("mine"), "/system.slice/mine.scope"),
        // An engine in a container sees a shorter path than we do.
        (
            "0::/machine.slice/outer.scope/libpod_parent/libpod-$ID",
            Some("/libpod_parent/libpod-$ID"),
            "/machine.slice/outer.scope/libpod_parent/libpod-$ID",
        ),
        // A VPN's net_cls beside a pure v2 system.
        ("1:net_cls:/\n0::/machine.slice/libpod-$ID.scope", None, "/machine.slice/libpod-$ID.scope"),
        // Below its scope a container may use any names, also that of the scope.
        (
            "0::/machine.slice/libpod-$ID.scope/libpod-$ID.scope",
            Some("machine.slice:libpod:$ID"),
            "/machine.slice/libpod-$ID.scope",
        ),
    ];
    for (proc_cgroup, cgroups_path, wanted) in cases {
        assert_eq!(
            find(proc_cgroup, cgroups_path),
            Ok(wanted.to_owned()),
            "{proc_cgroup} with {cgroups_path:?}"
        );
    }
}

/// `/proc/PID/cgroup`, `linux.cgroupsPath` and the error.
fn assert_errors(cases: &[(&str, Option<&str>, &str)]) {
    for (proc_cgroup, cgroups_path, error) in cases {
        assert_eq!(
            find(proc_cgroup, *cgroups_path),
            Err((*error).to_owned()),
            "{proc_cgroup} with {cgroups_path:?}"
        );
    }
}

#[test]
fn invalid_proc_cgroup_has_its_error() {
    assert_errors(&[
        (
            "",
            None,
            "/proc/PID/cgroup has no line for cgroup v2 ('0::…'); is the pid that of a running process, and cgroup v2 mounted?",
        ),
        (
            "garbage\n::\n0:x:/y",
            None,
            "/proc/PID/cgroup has no line for cgroup v2 ('0::…'); is the pid that of a running process, and cgroup v2 mounted?",
        ),
        (
            "12:memory:/docker/$ID\n0::/docker/$ID",
            None,
            "the container's process is in a cgroup v1 hierarchy ('12:memory:/docker/1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c5b6a79…'); memory policies need cgroup v2 alone: boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (
            "1:name=systemd:/x\n0::/x",
            None,
            "the container's process is in a cgroup v1 hierarchy ('1:name=systemd:/x'); memory policies need cgroup v2 alone: boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (
            "0::/x.scope (deleted)",
            Some(":x:y"),
            "the container's cgroup '/x.scope' is already deleted: the container has ended",
        ),
        (
            "0::/",
            None,
            "the container's process is in the root cgroup: the runtime gave the container no cgroup of its own (yet)",
        ),
        (
            "0::/../../x.scope",
            None,
            "the container's cgroup '/../../x.scope' lies outside of what this cgroup namespace shows; run memcg-bpfd in the host's cgroup namespace",
        ),
        (
            "0::relative",
            None,
            "the container's cgroup 'relative' lies outside of what this cgroup namespace shows; run memcg-bpfd in the host's cgroup namespace",
        ),
    ]);
}

#[test]
fn container_that_is_not_in_the_expected_cgroup_has_its_error() {
    assert_errors(&[
        (
            "0::/user.slice/session-3.scope",
            None,
            "the container's process is in '/user.slice/session-3.scope', no part of which is named after container $ID, and the bundle has no linux.cgroupsPath",
        ),
        (
            "0::/machine.slice/libpod-1f2e.scope",
            None,
            "the container's process is in '/machine.slice/libpod-1f2e.scope', no part of which is named after container $ID, and the bundle has no linux.cgroupsPath",
        ),
        (
            "0::/system.slice/podman.service",
            Some("machine.slice:libpod:$ID"),
            "the container's process is in '/system.slice/podman.service', which is not in 'libpod-$ID.scope' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups",
        ),
        (
            "0::/system.slice/podman.service",
            Some("/libpod_parent/x"),
            "the container's process is in '/system.slice/podman.service', which is not in '/libpod_parent/x' as linux.cgroupsPath of the bundle says; the runtime has not moved it there, or runs without cgroups",
        ),
        (
            "0::/x",
            Some("a:b"),
            "linux.cgroupsPath 'a:b' of the bundle is neither a path nor 'slice:prefix:name'",
        ),
        (
            "0::/x",
            Some("a:b:c:d"),
            "linux.cgroupsPath 'a:b:c:d' of the bundle is neither a path nor 'slice:prefix:name'",
        ),
        (
            "0::/x",
            Some("a:b:"),
            "linux.cgroupsPath 'a:b:' of the bundle is neither a path nor 'slice:prefix:name'",
        ),
        (
            "0::/x",
            Some("/a/../x"),
            "linux.cgroupsPath '/a/../x' of the bundle is neither a path nor 'slice:prefix:name'",
        ),
        (
            "0::/x",
            Some("/"),
            "the container's process is in the root cgroup: the runtime gave the container no cgroup of its own (yet)",
        ),
        (
            "0::/a/x/b/x",
            Some("x"),
            "'x' occurs more than once in '/a/x/b/x'; give the bundle an absolute linux.cgroupsPath",
        ),
    ]);
}

#[test]
fn container_named_as_slice_does_not_match_slice() {
    let id = ContainerId::parse("system.slice").unwrap();
    assert!(container_cgroup("0::/system.slice/x.service", None, &id).is_err());
    let found = container_cgroup("0::/system.slice/crun-system.slice.scope", None, &id).unwrap();
    assert_eq!(found.as_str(), "/system.slice/crun-system.slice.scope");
}

#[test]
fn a_short_id_is_not_found_in_a_session() {
    let id = ContainerId::parse("3").unwrap();
    assert!(container_cgroup("0::/user.slice/session-3.scope", None, &id).is_err());
}

#[test]
fn control_characters_do_not_reach_the_sentence() {
    let error = find("0::/x\u{1b}[2J", Some("a:b:\u{7}c")).unwrap_err();
    assert!(!error.contains(char::is_control), "{error:?}");
}

proptest::proptest! {
    #[test]
    fn found_cgroup_contains_process(proc_cgroup in "0::(/[a-c.]{1,3}){1,5}", path in "(/?[a-c]{1,2}){1,2}|[a-c]:[a-c]:[a-c]") {
        let id = ContainerId::parse("a").unwrap();
        if let Ok(found) = container_cgroup(&proc_cgroup, Some(&path), &id) {
            let process = process_cgroup(&proc_cgroup).unwrap();
            proptest::prop_assert!(process.is_within(&found) && !found.is_root());
        }
    }

    #[test]
    fn no_text_panics(proc_cgroup in "\\PC*", path in "\\PC*") {
        let _ = container_cgroup(&proc_cgroup, Some(&path), &ContainerId::parse("a").unwrap());
    }
}
