//! docker, as Debian packages it, with `memcg-bpf-runc` as a runtime in its configuration.

use super::{CmdOutput, PROGRAMS, TestEnv, retry_on_hook_timeout, sh, systemd, try_sh};

/// docker's configuration.
pub const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// The image, made of the root file system.
const IMAGE: &str = "busybox";

/// The daemon, running.
pub struct Docker;

impl Docker {
    /// Starts it with the runtime `memcg-bpf` and the image imported. Stopped at the end, with all containers.
    pub fn start(env: &mut TestEnv) -> Docker {
        let docker = Docker;
        env.at_end(
            "docker ps -aq | xargs -r docker rm -f; systemctl stop docker.socket docker.service containerd.service; \
             systemctl reset-failed docker.service; rm -rf /var/lib/docker /var/lib/containerd /run/docker"
                .to_owned(),
        );
        env.file(DAEMON_JSON, &docker.config(true, ""));
        // Stopped at the end of an earlier test: the starts are rate-limited.
        systemd::reset_failed("docker.service");
        systemd::start("docker.service");
        sh(&format!("tar -C /srv/busybox -c . | docker import - {IMAGE}"));
        docker
    }

    /// The text of docker's configuration, which needs neither a network nor overlayfs.
    fn config(&self, with_runtime: bool, more: &str) -> String {
        let runtime = r#""runtimes": {"memcg-bpf": {"path": "/usr/bin/memcg-bpf-runc"}}, "#;
        let runtime = if with_runtime { runtime } else { "" };
        format!(
            "{{{runtime}{more}\"storage-driver\": \"vfs\", \"bridge\": \"none\", \"iptables\": false, \"ip6tables\": false}}\n"
        )
    }

    /// Changes the configuration while docker runs.
    pub fn configure(&self, with_runtime: bool, more: &str) {
        std::fs::write(DAEMON_JSON, self.config(with_runtime, more)).unwrap();
        sh("systemctl reload docker.service");
    }

    /// Runs a detached container with the directory of the test as /out.
    pub fn run(&self, env: &TestEnv, name: &str, options: &str, script: &str) -> CmdOutput {
        let start = format!(
            "docker run -d --name {name} --network=host -v {}:/out -v {PROGRAMS}:{PROGRAMS}:ro {options} {IMAGE} \
             sh -c '{script}'",
            env.dir.display()
        );
        let remove = || drop(try_sh(&format!("docker rm -f {name}; rm -f {}/{name}", env.dir.display())));
        retry_on_hook_timeout(|| try_sh(&start), remove)
    }

    /// As [`Docker::run`], which must succeed. The container's id.
    pub fn run_id(&self, env: &TestEnv, name: &str, options: &str, script: &str) -> String {
        let output = self.run(env, name, options, script);
        assert_eq!(output.status, 0, "{}", output.err);
        output.out
    }
}
