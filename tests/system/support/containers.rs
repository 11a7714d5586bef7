//! Containers: by podman, and by crun and runc with a bundle.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CmdOutput, TestEnv, hook_timeouts_since, sh, since_now, try_sh};

/// The hook, as installed by the package.
pub const HOOK: &str = "/usr/libexec/oci/hooks.d/memcg-bpf-hook";

/// The test programs, on the machine as well as in containers.
pub const PROGRAMS: &str = "/data/programs";

/// Busybox, built for the tests.
const ROOT: &str = "/srv/busybox";

impl TestEnv {
    /// The podman command line of a detached container, with its directory as /out and the programs at the usual
    /// path.
    pub fn podman(&mut self, name: &str, options: &str, script: &str) -> CmdOutput {
        let remove = format!("podman rm -f -t 0 {name}");
        self.at_end(remove.clone());
        let remove = format!("{remove}; {}", self.unsaid(script));
        let start = format!(
            "podman run -d --name {name} --network=none --log-driver=none -v {}:/out -v {PROGRAMS}:{PROGRAMS}:ro \
             {options} --rootfs {ROOT} sh -c '{script}'",
            self.dir.display()
        );
        retry_on_hook_timeout(|| try_sh(&start), || drop(try_sh(&remove)))
    }

    /// Removes the output of a container's script, so that the next one's is not confused with it.
    fn unsaid(&self, script: &str) -> String {
        let names = script.split("/out/").skip(1).filter_map(|rest| rest.split([';', ' ', ')']).next());
        names.map(|name| format!("rm -f {}/{name}; ", self.dir.display())).collect()
    }

    /// As [`TestEnv::podman`], which must succeed. The container's id.
    pub fn podman_id(&mut self, name: &str, options: &str, script: &str) -> String {
        let output = self.podman(name, options, script);
        assert_eq!(output.status, 0, "{}", output.err);
        output.out
    }

    /// A bundle for crun or runc, which is not written yet.
    pub fn bundle(&mut self, name: &str) -> Bundle {
        let dir = self.dir.join(format!("{name}.bundle"));
        Bundle {
            name: name.to_owned(),
            dir,
            out: self.dir.clone(),
            annotations: json!({}),
            hooks: json!({}),
            cgroups_path: None,
        }
    }

    /// Runs a bundle; deletes the container at the end.
    pub fn run_bundle(&mut self, engine: &str, bundle: &Bundle, script: &str) -> CmdOutput {
        let remove = format!("{engine} delete -f {}", bundle.name);
        bundle.write(script);
        self.at_end(remove.clone());
        let remove = format!("{remove}; {}", self.unsaid(script));
        retry_on_hook_timeout(|| try_sh(&bundle.command(engine)), || drop(try_sh(&remove)))
    }
}

/// Starts a container, and again up to three times if the hook timed out: two seconds may be too short on this
/// machine, and then the policy is attached later, or the container does not start, as documented.
pub fn retry_on_hook_timeout(start: impl Fn() -> CmdOutput, remove: impl Fn()) -> CmdOutput {
    for _ in 0..3 {
        let since = since_now();
        let output = start();
        if hook_timeouts_since(&since) == 0 {
            return output;
        }
        remove();
    }
    start()
}

/// The contents of a bundle's config.json.
pub struct Bundle {
    name: String,
    dir: PathBuf,
    out: PathBuf,
    annotations: Value,
    hooks: Value,
    cgroups_path: Option<String>,
}

impl Bundle {
    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    /// Adds the hook for a start stage, and for poststop.
    pub fn hook(mut self, stage: &str) -> Self {
        self.hooks[stage] = json!([{ "path": HOOK, "args": ["memcg-bpf-hook"], "timeout": 10 }]);
        self.hooks["poststop"] =
            json!([{ "path": HOOK, "args": ["memcg-bpf-hook", "poststop"], "timeout": 10 }]);
        self
    }

    /// A path (driver cgroupfs), or `slice:prefix:name` (driver systemd).
    pub fn cgroup(mut self, path: &str) -> Self {
        self.cgroups_path = Some(path.to_owned());
        self
    }

    /// Writes config.json.
    pub fn write(&self, script: &str) {
        let bind = |from: &str, to: &str| json!({"destination": to, "source": from, "type": "bind", "options": ["rbind", "rw"]});
        let namespaces = ["pid", "mount", "ipc", "uts", "cgroup"].map(|kind| json!({ "type": kind }));
        let mut linux = json!({ "namespaces": namespaces });
        if let Some(path) = &self.cgroups_path {
            linux["cgroupsPath"] = json!(path);
        }
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "cwd": "/",
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin"],
            },
            "root": {"path": ROOT},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                bind(PROGRAMS, PROGRAMS),
                bind(self.out.to_str().unwrap(), "/out"),
            ],
            "annotations": self.annotations,
            "hooks": self.hooks,
            "linux": linux,
        });
        fs::create_dir_all(&self.dir).unwrap();
        fs::write(self.dir.join("config.json"), config.to_string()).unwrap();
    }

    /// The shell command that starts the container in the background. The container must not have the caller's
    /// output, because it would keep the pipe open.
    pub fn command(&self, engine: &str) -> String {
        let systemd =
            if self.cgroups_path.as_ref().is_some_and(|p| p.contains(':')) { "--systemd-cgroup" } else { "" };
        let log = self.out.join(format!("{}.log", self.name));
        format!(
            "{engine} {systemd} run -d -b {} {} </dev/null >{log} 2>&1 || {{ s=$?; cat {log} >&2; exit $s; }}",
            self.dir.display(),
            self.name,
            log = log.display(),
        )
    }
}

/// The cgroup of a process, read from the kernel.
pub fn cgroup_of(pid: &str) -> String {
    sh(&format!("sed -n s/^0:://p /proc/{pid}/cgroup"))
}
