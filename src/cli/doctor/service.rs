//! Checks of systemd, the system bus, the installed files and the daemon.

use std::path::Path;

use super::finding::{Finding, shown};
use crate::cli::client::{Client, ClientError};
use crate::report::ActionStats;

/// Checks systemd.
pub(super) fn systemd(root: &Path) -> Finding {
    if !root.join("run/systemd/system").is_dir() {
        return Finding::fail(
            "systemd",
            "systemd is not running",
            "memcg-bpf needs systemd as process 1; inside a container, run it on the host",
        );
    }
    // The version is in the name of the library, so no program needs to be run.
    let dirs = ["usr/lib/systemd", "lib/systemd", "usr/lib64/systemd"];
    let version = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(root.join(dir)).ok())
        .flatten()
        .flatten()
        .find_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let digits: String =
                name.strip_prefix("libsystemd-shared-")?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
    match version {
        Some(version) if version < 244 => Finding::warn(
            "systemd",
            format!("systemd {version} is running"),
            "memcg-bpf is tested with systemd 252 and later; older ones may order drop-ins differently",
        ),
        Some(version) => Finding::ok("systemd", format!("systemd {version} is running")),
        None => Finding::ok("systemd", "systemd is running"),
    }
}

/// Checks the system bus.
pub(super) fn bus(root: &Path) -> Finding {
    if root.join("run/dbus/system_bus_socket").exists() {
        Finding::ok("system bus", "listens at /run/dbus/system_bus_socket")
    } else {
        Finding::fail(
            "system bus",
            "/run/dbus/system_bus_socket is missing",
            "install dbus or dbus-broker, then: systemctl start dbus.socket",
        )
    }
}

/// Checks the files of the daemon: its program, its unit, and its configuration of the system bus.
pub(super) fn installed(root: &Path) -> Vec<Finding> {
    let files: [(&str, &[&str]); 5] = [
        ("daemon program", &["usr/sbin/memcg-bpfd", "usr/local/sbin/memcg-bpfd"]),
        (
            "daemon unit",
            &[
                "usr/lib/systemd/system/memcg-bpfd.service",
                "lib/systemd/system/memcg-bpfd.service",
                "usr/local/lib/systemd/system/memcg-bpfd.service",
                "etc/systemd/system/memcg-bpfd.service",
            ],
        ),
        (
            "bus policy",
            &["usr/share/dbus-1/system.d/org.memcg.Bpf1.conf", "etc/dbus-1/system.d/org.memcg.Bpf1.conf"],
        ),
        ("polkit actions", &["usr/share/polkit-1/actions/org.memcg.Bpf1.policy"]),
        ("bus activation", &["usr/share/dbus-1/system-services/org.memcg.Bpf1.service"]),
    ];
    let mut found = Vec::new();
    for (check, paths) in files {
        found.push(match paths.iter().find(|path| root.join(path).exists()) {
            Some(path) => Finding::ok(check, shown(path)),
            None => Finding::fail(
                check,
                format!("{} is missing", shown(paths.first().unwrap_or(&""))),
                "install the package memcg-bpf, or run make install",
            ),
        });
    }
    found
}

/// Checks the daemon and its actions.
pub(super) fn daemon() -> Vec<Finding> {
    let client = Client::connect_to_look();
    let mut found = vec![check_version(client.as_ref().map_err(Clone::clone).and_then(Client::version))];
    if let Ok(client) = client
        && let Ok(report) = client.stats()
    {
        found.push(actions(&report));
    }
    found
}

fn actions(report: &ActionStats) -> Finding {
    let count = |word: &str| report.counts.get(word).copied().unwrap_or(0);
    if report.paused {
        return Finding::warn("actions", "are paused: policies change nothing", "memcg-bpf resume");
    }
    match (count("lost"), count("failed")) {
        (0, 0) => Finding::ok("actions", format!("{} done since the daemon started", count("done"))),
        (0, failed) => Finding::warn(
            "actions",
            format!("{failed} failed since the daemon started"),
            "journalctl -u memcg-bpfd MEMCG_BPF_OUTCOME=failed",
        ),
        (lost, _) => Finding::warn(
            "actions",
            format!("{lost} were lost since the daemon started because a ring buffer was full"),
            "a policy requests actions too often; see: journalctl -u memcg-bpfd",
        ),
    }
}

fn check_version(answer: Result<String, ClientError>) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    match answer {
        Ok(version) if version == own => Finding::ok("daemon", format!("memcg-bpfd {version} is running")),
        Ok(version) => Finding::warn(
            "daemon",
            format!("memcg-bpfd {version} is running, but {own} is installed"),
            "systemctl restart memcg-bpfd",
        ),
        Err(ClientError::Denied) => Finding::warn("daemon", "permission denied", "use sudo memcg-bpf doctor"),
        Err(error @ ClientError::Stopped) => {
            Finding::fail("daemon", error.to_string(), "systemctl start memcg-bpfd")
        }
        Err(error) => Finding::fail("daemon", error.to_string(), "see: journalctl -u memcg-bpfd -n 20"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;

    #[test]
    fn pause_and_lost_actions_are_warnings() {
        let report = |paused, counts: &[(&str, u64)]| ActionStats {
            paused,
            counts: counts.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect(),
            ..ActionStats::default()
        };
        assert_eq!(actions(&report(false, &[("done", 3)])).message, "3 done since the daemon started");
        assert_eq!(actions(&report(true, &[])).advice.as_deref(), Some("memcg-bpf resume"));
        assert_eq!(actions(&report(false, &[("failed", 1)])).verdict, CheckResult::Warn);
        assert_eq!(actions(&report(false, &[("lost", 1)])).verdict, CheckResult::Warn);
    }

    #[test]
    fn daemon_of_other_version_needs_restart() {
        let finding = check_version(Ok("0.0.1".to_owned()));
        assert_eq!(finding.verdict, CheckResult::Warn);
        assert_eq!(finding.advice.as_deref(), Some("systemctl restart memcg-bpfd"));
        assert_eq!(check_version(Ok(env!("CARGO_PKG_VERSION").to_owned())).verdict, CheckResult::Ok);
        assert_eq!(check_version(Err(ClientError::Denied)).verdict, CheckResult::Warn);
        assert_eq!(
            check_version(Err(ClientError::Timeout(std::time::Duration::ZERO))).verdict,
            CheckResult::Fail
        );
    }
}
