//! Authorization: polkit rules, owners of delegated cgroups, and rootless podman.

use std::fs;

use serde_json::Value;

use crate::support::{
    CmdOutput, PROGRAMS, TestEnv, active, assert_denied_at, first_line, hook_messages, retry_on_hook_timeout,
    sh, status, systemd, try_sh, wait_for,
};

/// A user with a service manager of its own, as after a login.
const USER: &str = "mpuser";
/// Another one.
const OTHER: &str = "mpother";

/// Puts up both users with their managers; gives the uid of the first.
fn users(env: &mut TestEnv) -> u32 {
    for user in [USER, OTHER] {
        env.at_end(format!("loginctl disable-linger {user}; loginctl terminate-user {user}; systemctl stop user@$(id -u {user}); userdel -rf {user}"));
        sh(&format!("useradd --create-home --shell /bin/bash {user} && loginctl enable-linger {user}"));
        wait_for("the user's manager", || {
            let bus = format!(
                "test -S /run/user/$(id -u {user})/bus && systemctl is-active -q user@$(id -u {user})"
            );
            (try_sh(&bus).status == 0).then_some(())
        });
    }
    sh(&format!("id -u {USER}")).parse().unwrap()
}

fn by(user: &str, script: &str) -> CmdOutput {
    let script = script.replace('\'', r"'\''");
    try_sh(&format!(
        "cd / && exec runuser -u {user} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {user}) HOME=/home/{user} bash -c '{script}'"
    ))
}

/// Asserts that a user was denied with this message.
fn refused(output: &CmdOutput, why: &str) {
    assert!(output.status != 0 && output.err.contains(why), "{output:?}");
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn polkit_grants_exactly_the_action() {
    let mut env = TestEnv::new("polkit");
    let uid = users(&mut env);
    // Its start may take longer than a caller waits.
    systemd::start("polkit.service");
    env.unit("mppolkit.service", "[Service]\nType=exec\nExecStart=sleep 10000\n").reload();
    systemd::start("mppolkit.service");
    let attach = "memcg-bpf attach mppolkit.service deny limit=64M";
    let manage = format!(
        "uid {uid} may not change memory policies without a password (polkit action org.memcg.Bpf1.manage); use sudo"
    );
    let look = format!(
        "uid {uid} may not see memory policies without a password (polkit action org.memcg.Bpf1.inspect); use sudo"
    );
    refused(&by(USER, attach), &manage);
    refused(&by(USER, "memcg-bpf status"), &look);
    assert_eq!(status(), []);

    env.file(
        "/etc/polkit-1/rules.d/50-memcg-bpf-test.rules",
        &format!(
            "polkit.addRule(function(action, subject) {{\n\
             if (action.id == \"org.memcg.Bpf1.manage\" && subject.user == \"{USER}\") return polkit.Result.YES;\n}});\n"
        ),
    );
    let output = wait_for("polkit to have read the rule", || {
        let output = by(USER, attach);
        (output.status == 0).then_some(output)
    });
    assert!(output.err.is_empty(), "{output:?}");
    let report = active("/system.slice/mppolkit.service");
    assert_eq!(report.policies[0].origin, "operator");
    assert_eq!(report.policies[0].location, format!("uid {uid}"));
    // The right to change includes the right to read.
    assert_eq!(by(USER, "memcg-bpf status").status, 0);
    refused(&by(OTHER, "memcg-bpf detach mppolkit.service"), "may not change memory policies");
    assert_eq!(by(USER, "memcg-bpf pause --for 1min && memcg-bpf resume").status, 0);
    assert_eq!(by(USER, "memcg-bpf detach mppolkit.service").status, 0);

    // Without polkit, no rule can grant it.
    sh("systemctl mask --now --runtime polkit.service");
    env.at_end("systemctl unmask --runtime polkit.service".to_owned());
    refused(&by(USER, attach), "and polkit, which could let it, cannot be asked; use sudo");
    systemd::stop("mppolkit.service");
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn owner_may_attach_to_delegated_cgroups_only() {
    let mut env = TestEnv::new("owner");
    let uid = users(&mut env);
    let manager = format!("/user.slice/user-{uid}.slice/user@{uid}.service");
    let own = format!("{manager}/app.slice/mpown.service");
    for user in [USER, OTHER] {
        let output = by(user, "systemd-run --user --quiet --unit mpown sleep 10000");
        assert_eq!(output.status, 0, "{output:?}");
    }
    let attach = |path: &str, line: &str| by(USER, &format!("memcg-bpf attach {path} {line}"));

    assert_eq!(attach(&own, "deny limit=64M").status, 0, "{:?}", attach(&own, "deny limit=64M"));
    assert_eq!(active(&own).policies[0].origin, "xattr");
    let seen: Value =
        serde_json::from_str(&by(USER, &format!("memcg-bpf explain {own} --json")).out).unwrap();
    assert_eq!(seen["policies"][0]["name"], "deny", "{seen}");

    // Above, beside, and what takes from others.
    let other = own.replace(&uid.to_string(), &sh(&format!("id -u {OTHER}")));
    for path in [&manager, &format!("/user.slice/user-{uid}.slice"), "/system.slice", &other] {
        refused(&attach(path, "deny limit=64M"), "may not change memory policies");
        refused(&attach(path, "none"), "may not change memory policies");
    }
    refused(&attach(&own, "protect low=100M"), "policy 'protect' may not be requested by xattrs");
    refused(&by(OTHER, &format!("memcg-bpf detach {own}")), "may not change memory policies");

    // A request of the administrator stays, and the owner can remove the owner's request.
    sh(&format!("memcg-bpf attach {own} deny limit=32M"));
    assert_eq!(by(USER, &format!("memcg-bpf detach {own}")).status, 0);
    let report = active(&own);
    assert_eq!((report.policies.len(), report.policies[0].origin.as_str()), (1, "operator"), "{report:?}");
    sh(&format!("memcg-bpf detach {own}"));

    // One user cannot take all parameter slots: the limit holds for any cgroup names.
    let many = by(
        USER,
        &format!(
            "cd /sys/fs/cgroup{manager}/app.slice && for i in $(seq 0 260); do mkdir mp$i; \
             until out=$(busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager Attach ss {manager}/app.slice/mp$i observe 2>&1); \
             do case $out in *'calls too often'*) sleep 1;; *) echo \"$out\" >&2; break 2;; esac; done; \
             done; echo $i; rmdir mp*[0-9]"
        ),
    );
    assert_eq!(many.out.trim(), "256", "{many:?}");
    assert!(
        many.err.contains("has policy lines on 256 cgroups, which is the maximum for a user"),
        "{many:?}"
    );
    for user in [USER, OTHER] {
        by(user, "systemctl --user stop mpown");
    }
    env.end();
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn rootless_podman_container_gets_policy() {
    let mut env = TestEnv::new("rootless");
    let uid = users(&mut env);
    fs::set_permissions(&env.dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // Rootless engines must own their root file system.
    let output = by(USER, "mkdir -p ~/root/{bin,dev,proc,sys,tmp,etc,run} && cp -a /srv/busybox/bin ~/root/");
    assert_eq!(output.status, 0, "{output:?}");
    let out = env.dir.display().to_string();
    let run = |name: &str, annotations: &str, script: &str| {
        let start = || {
            by(
                USER,
                &format!(
                    "podman run -d --name {name} --network=none --log-driver=none -v {PROGRAMS}:{PROGRAMS}:ro -v {}:/out {annotations} \
                 --rootfs ~/root sh -c \"{script}\"",
                    out
                ),
            )
        };
        retry_on_hook_timeout(start, || drop(by(USER, &format!("podman rm -f -t 0 {name}"))))
    };
    let eat = |name: &str| format!("{PROGRAMS}/alloc 200 hold >/out/{name}");
    let output = run(
        "mpmine",
        "--annotation memcg.bpf/required=true --annotation memcg.bpf/policy=\"deny limit=64M\"",
        &eat("mpmine"),
    );
    assert_eq!(output.status, 0, "{output:?}");
    assert_denied_at(&first_line(&env.dir.join("mpmine")), 64);
    let id = output.out.trim().to_owned();
    let ours = status();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(
        ours[0].cgroup.starts_with(&format!("/user.slice/user-{uid}.slice/user@{uid}.service/")),
        "{ours:?}"
    );
    assert_eq!(
        (ours[0].container.as_deref(), ours[0].policies[0].origin.as_str()),
        (Some(id.as_str()), "annotation")
    );

    // Annotations may not request policies that take memory from others; the container starts, and the hook logs it.
    let output = run("mpgreedy", "--annotation memcg.bpf/policy=\"protect low=100M\"", "sleep 1000");
    assert_eq!(output.status, 0, "{output:?}");
    assert!(hook_messages("").contains("policy 'protect' may not be requested by annotations"),);
    // Without the daemon the hook notes what its user wished; the daemon follows it when it starts.
    sh("systemctl stop memcg-bpfd; systemctl mask --runtime memcg-bpfd");
    env.at_end("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd".to_owned());
    let output = run("mplate", "--annotation memcg.bpf/policy=\"deny limit=96M\"", "sleep 1000");
    assert_eq!(output.status, 0, "{output:?}");
    sh("systemctl unmask --runtime memcg-bpfd; systemctl start memcg-bpfd");
    let late = output.out.trim().to_owned();
    let adopted = wait_for("the owner's policy to be attached", || {
        status().into_iter().find(|report| report.cgroup.contains(&late))
    });
    assert_eq!(
        (adopted.policies[0].origin.as_str(), adopted.requests[0].line.as_str()),
        ("xattr", "deny limit=96M")
    );

    // Gone with its container.
    let output = by(USER, "podman rm -af -t 0");
    assert_eq!(output.status, 0, "{output:?}");
    wait_for("the bindings to go", || status().is_empty().then_some(()));
    env.end();
}
