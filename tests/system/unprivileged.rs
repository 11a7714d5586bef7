//! Attempts by an unprivileged user, root of a user namespace, and root of a container: each is denied, and nothing
//! changes.

use std::collections::BTreeMap;

use crate::support::{
    HOOK, PROGRAMS, TestEnv, active, main_pid, recorded_cgroups, sh, status, systemd, try_sh, wait_for,
};

/// Texts of denials by the bus, systemd, the kernel, and the programs of this package.
const REFUSALS: [&str; 18] = [
    "is not a cgroup path",
    "at most 4096 are allowed",
    "at most 16384 are allowed",
    "no part of which is named",
    "is neither a path nor",
    "uid 65534 may not ",
    "does not belong to uid 65534",
    "ccess denied",
    "ermission denied",
    "not permitted",
    "ead-only file system",
    "nteractive authentication required",
    "emcg-bpfd needs",
    "o such process",
    "can't find",
    "sudo",
    "not supported",
    "does not start, because memcg.bpf/required is true",
];

const BUS: &str = "busctl call --system org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

/// The identity that an attempt runs as.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// A user without any privilege; the cgroup of `mpowner.service` is delegated to it.
    User,
    /// The same, with all capabilities over namespaces of its own: root in a rootless container.
    NamespaceRoot,
    /// Root in a container of podman's, with the capabilities that podman gives by default.
    ContainerRoot,
}

impl Who {
    fn command(self, script: &str) -> String {
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let script = script.replace('\'', r"'\''");
        match self {
            Who::User => format!("{nobody} bash -c '{script}'"),
            Who::NamespaceRoot => {
                format!("{nobody} unshare --user --map-root-user --mount --cgroup bash -c '{script}'")
            }
            Who::ContainerRoot => format!("podman exec attacker sh -c '{script}'"),
        }
    }
}

/// What must not change: bindings and records, the knobs of the attacked, what stands still, the daemon itself and its
/// pins
/// and files.
fn everything(cgroups: &[String]) -> BTreeMap<&'static str, String> {
    let bindings = status().into_iter().map(|mut report| {
        // Counts of what passes by go on.
        report.counters.clear();
        report.events.clear();
        report.usage = None;
        format!("{report:?}")
    });
    let knobs = cgroups.iter().map(|cgroup| {
        sh(&format!("cd /sys/fs/cgroup{cgroup} && grep -H . memory.high memory.max memory.low cgroup.freeze && stat -c '%i %u' ."))
    });
    BTreeMap::from([
        ("bindings", bindings.collect::<Vec<_>>().join("\n")),
        ("records", recorded_cgroups().join("\n")),
        ("knobs", knobs.collect::<Vec<_>>().join("\n")),
        ("daemon", sh("systemctl show -P MainPID -P NRestarts memcg-bpfd")),
        ("stats", sh(&format!("{BUS} Stats"))),
        ("pins", sh("find /sys/fs/bpf/memcg-bpf")),
        (
            "files",
            sh(
                "find /etc/memcg-bpf /usr/lib/memcg-bpf /run/memcg-bpf -printf '%p %s %U %m\n' 2>/dev/null || true",
            ),
        ),
    ])
}

/// What the attempts are directed at.
struct Targets {
    /// A cgroup with a policy, the id of its process, and a container with a policy.
    victim: String,
    pid: String,
    container_id: String,
    /// The process of the daemon.
    daemon: String,
    /// A forged state of a container, with the victim's process.
    state: String,
}

/// The cgroup that systemd delegated to the user.
const OWN: &str = "/system.slice/mpowner.service";
const TREE: &str = "/sys/fs/cgroup";
const PINS: &str = "/sys/fs/bpf/memcg-bpf";

/// The daemon's D-Bus object.
fn dbus_attempts(targets: &Targets) -> Vec<(Who, String)> {
    use Who::{NamespaceRoot, User};
    let Targets { victim, pid, container_id, .. } = targets;
    let long = "x".repeat(100_000);
    vec![
        (User, format!("{BUS} Attach ss {victim} 'deny limit=1M'")),
        (User, format!("{BUS} Attach ss {OWN} 'deny limit=1M'")),
        (User, format!("{BUS} Attach ss {OWN}/../mpvictim.service observe")),
        (User, format!("{BUS} Attach ss $'{OWN}\\n{victim}' observe")),
        (User, format!("{BUS} Attach ss {victim} {long}")),
        (User, format!("{BUS} Detach s {victim}")),
        (User, format!("{BUS} AttachContainer 'susa{{sv}}' forged {pid} 'deny limit=1M' 0")),
        (User, format!("{BUS} AttachContainer 'susa{{sv}}' forged 1 'deny limit=1M' 0")),
        (
            User,
            format!(
                "{BUS} AttachContainer 'susa{{sv}}' {container_id} $$ none 1 cgroups-path s ../..{victim}"
            ),
        ),
        (User, format!("{BUS} DetachContainer s {container_id}")),
        (User, format!("{BUS} List")),
        (User, format!("{BUS} Explain s {victim}")),
        (User, format!("{BUS} Pause t 0")),
        (User, format!("{BUS} Resume")),
        (User, format!("{BUS} Reload")),
        (NamespaceRoot, format!("{BUS} Attach ss {victim} 'deny limit=1M'")),
        (NamespaceRoot, format!("{BUS} Pause t 0")),
        (User, "timeout 20 busctl monitor --system org.memcg.Bpf1".to_owned()),
    ]
}

/// The programs, and the daemon's process.
fn program_attempts(targets: &Targets) -> Vec<(Who, String)> {
    use Who::{ContainerRoot, NamespaceRoot, User};
    let Targets { victim, daemon, state, .. } = targets;
    vec![
        (User, format!("memcg-bpf attach {victim} 'deny limit=1M'")),
        (User, format!("memcg-bpf detach {victim}")),
        (User, "memcg-bpf pause".to_owned()),
        (User, format!("printf %s '{state}' | {HOOK} createRuntime")),
        (NamespaceRoot, format!("printf %s '{state}' | {HOOK} createRuntime")),
        (User, "/usr/sbin/memcg-bpfd".to_owned()),
        (User, "/usr/sbin/memcg-bpfd --cleanup".to_owned()),
        (NamespaceRoot, "/usr/sbin/memcg-bpfd --cleanup".to_owned()),
        (User, "systemctl --no-ask-password stop memcg-bpfd".to_owned()),
        (
            User,
            "systemctl --no-ask-password set-property --runtime mpvictim.service MemoryHigh=1M".to_owned(),
        ),
        (User, format!("kill -KILL {daemon}")),
        (NamespaceRoot, format!("kill -STOP {daemon}")),
        (ContainerRoot, format!("kill -KILL {daemon}")),
        (User, format!("timeout 20 strace -p {daemon}")),
        (NamespaceRoot, format!("cat /proc/{daemon}/environ")),
    ]
}

/// Records and cgroup files, and the kernel's BPF objects.
fn kernel_attempts(targets: &Targets) -> Vec<(Who, String)> {
    use Who::{ContainerRoot, NamespaceRoot, User};
    let Targets { victim, .. } = targets;
    let record = "setfattr -n trusted.memcg_bpf -v '{\"version\":1}'";
    vec![
        (User, format!("{record} {TREE}{victim}")),
        (User, format!("{record} {TREE}{OWN}")),
        (NamespaceRoot, format!("{record} {TREE}{OWN}")),
        (User, format!("setfattr -x trusted.memcg_bpf {TREE}{victim}")),
        (User, format!("setfattr -n user.memcg_bpf -v 'deny limit=1M' {TREE}{victim}")),
        (User, format!("echo 1M > {TREE}{victim}/memory.high")),
        (User, format!("echo $$ > {TREE}{victim}/cgroup.procs")),
        (User, format!("rmdir {TREE}{victim}")),
        (User, format!("mv {TREE}{victim} {TREE}/system.slice/mpmoved.service")),
        (ContainerRoot, "echo max > /sys/fs/cgroup/memory.high".to_owned()),
        (ContainerRoot, "mkdir /sys/fs/cgroup/below".to_owned()),
        (ContainerRoot, "mount -o remount,rw /sys/fs/cgroup".to_owned()),
        (ContainerRoot, "mount -t cgroup2 none /out".to_owned()),
        (User, format!("ls {PINS}")),
        (User, format!("rm -r {PINS}")),
        (NamespaceRoot, format!("rm -r {PINS}")),
        (User, "bpftool map list".to_owned()),
        (NamespaceRoot, "bpftool prog list".to_owned()),
        (ContainerRoot, "mount -t bpf none /out".to_owned()),
    ]
}

/// Policies, settings and unit files.
fn file_attempts() -> Vec<(Who, String)> {
    use Who::User;
    vec![
        (User, "echo '[Actions]' > /etc/memcg-bpf/memcg-bpf.conf".to_owned()),
        (User, "ln -s /tmp /run/memcg-bpf".to_owned()),
        (User, format!("cp {PROGRAMS}/alloc /usr/lib/memcg-bpf/policies/deny.bpf.o")),
        (User, "mkdir -p /run/systemd/system/mpvictim.service.d".to_owned()),
    ]
}

#[test]
#[ignore = "needs root in the test machine: make check"]
fn unprivileged_attempts_denied_without_effect() {
    let mut env = TestEnv::new("attacks");
    env.unit("mpvictim.service", "[Service]\nType=exec\nExecStart=sleep 10000\n");
    env.unit("mpowner.service", "[Service]\nType=exec\nUser=nobody\nDelegate=yes\nExecStart=sleep 10000\n");
    env.policy("mpvictim.service", "deny limit=1000M").reload();
    systemd::start("mpvictim.service mpowner.service");
    let id = env.podman_id("attacker", "--annotation memcg.bpf/policy=\"deny limit=500M\"", "sleep 10000");
    let victim = "/system.slice/mpvictim.service".to_owned();
    let container = format!("/machine.slice/libpod-{id}.scope");
    active(&victim);
    active(&container);
    let cgroups = [victim.clone(), container, OWN.to_owned()];

    let pid = sh("systemctl show -P MainPID mpvictim.service");
    let state = format!(
        "{{\"ociVersion\":\"1.0.2\",\"id\":\"forged\",\"status\":\"created\",\"pid\":{pid},\"bundle\":\"/tmp\",\
         \"annotations\":{{\"memcg.bpf/policy\":\"deny limit=1M\",\"memcg.bpf/required\":\"true\"}}}}"
    );
    let targets = Targets { victim, pid, container_id: id, daemon: main_pid(), state };
    let attempts =
        [dbus_attempts(&targets), program_attempts(&targets), kernel_attempts(&targets), file_attempts()]
            .concat();

    // Programs stay attached for some seconds after their last use, also those of earlier tests.
    let others = "! -name 'core-cgroup_*' ! -name 'core-record_*' ! -name 'core-memcg_*' ! -name 'deny-*'";
    wait_for("other programs to be detached", || {
        sh(&format!("find /sys/fs/bpf/memcg-bpf -type f {others}")).is_empty().then_some(())
    });
    let before = everything(&cgroups);
    let mut through = Vec::new();
    for (who, script) in &attempts {
        let output = try_sh(&who.command(script));
        let words = format!("{}\n{}", output.out, output.err);
        let refused = REFUSALS.iter().any(|refusal| words.contains(refusal));
        if output.status == 0 || !refused {
            let script: String = script.chars().take(200).collect();
            through.push(format!("{who:?}: {script}\n  exit {}: {}", output.status, words.trim()));
        }
    }
    // An unprivileged engine starts its container nevertheless; the hook reports that it has no policy.
    let passed_by = targets.state.replace("\"memcg.bpf/required\":\"true\"", "\"a\":\"b\"");
    let output = try_sh(&Who::User.command(&format!("printf %s '{passed_by}' | {HOOK} createRuntime")));
    assert!(output.status == 0 && output.err.contains("it starts without a policy"), "{output:?}");
    assert!(through.is_empty(), "not refused as they should be:\n{}", through.join("\n"));
    let after = everything(&cgroups);
    for (what, was) in &before {
        assert_eq!(&after[what], was, "{what}");
    }
    assert!(attempts.len() >= 50);
    env.end();
}
