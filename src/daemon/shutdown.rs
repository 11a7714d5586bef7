//! Stops the daemon: if another daemon will follow, all policies stay attached; otherwise all changes are undone.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::state::Daemon;
use crate::actuator::restore::restore_from_record;
use crate::bpf::pins;
use crate::cgroup::{tree, xattr};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::source::xattr::CgroupRecord;
use crate::systemd::{SystemdClient, UnitQueries};

/// Exit code for an unsupported machine: systemd does not restart the daemon then (sysexits.h: EX_CONFIG).
pub const EXIT_UNSUPPORTED: u8 = 78;
/// Timeout of the query. systemd replies in milliseconds, and kills the daemon after 90 s.
const JOB_ANSWER: Duration = Duration::from_secs(2);

/// Detaches all policies, unless another daemon follows, which takes over programs and records.
pub async fn stop(daemon: &mut Daemon, queries: Option<&UnitQueries>) {
    let ends = match queries {
        Some(queries) => is_stop_job(queries.systemd()).await,
        None => true,
    };
    daemon.actuator.stop(ends).await;
    daemon.publish_actions().await;
    if !ends {
        tracing::info!("stopped; all policies stay attached for the next start");
        return;
    }
    let lost = daemon.engine.report_all().iter().filter(|b| b.container.is_some()).count();
    if lost > 0 {
        tracing::warn!(
            "stopping detaches the policies of {lost} running containers; 'systemctl restart' keeps them"
        );
    }
    daemon.apply(Input::Shutdown).await;
    daemon.applier.detach_unused_now();
    if let Err(error) = pins::remove_all(Path::new(pins::PIN_ROOT)) {
        tracing::error!("removing {}: {error}", pins::PIN_ROOT);
    }
    tracing::info!("stopped; all policies are detached");
}

/// True if no other daemon follows: only a stop job is an end. If systemd does not reply, or did not request the
/// stop, all policies stay attached.
async fn is_stop_job(systemd: &SystemdClient) -> bool {
    let asked = systemd.own_job_type(std::process::id());
    matches!(tokio::time::timeout(JOB_ANSWER, asked).await, Ok(Some(job)) if job == "stop")
}

/// True if systemd does not restart the daemon, by `$EXIT_CODE` and `$EXIT_STATUS` (systemd.exec(5)): the exit status
/// is that of `RestartPreventExitStatus=`.
fn is_final_exit(code: Option<&str>, status: Option<&str>) -> bool {
    code == Some("exited") && status == Some(EXIT_UNSUPPORTED.to_string().as_str())
}

/// `memcg-bpfd --stop-post`, which systemd runs after every exit of the daemon: a daemon that was killed during a
/// stop leaves policies attached. If the machine is unsupported, no daemon restores the knobs that the daemon before
/// it changed; verdicts and records stay.
pub fn stop_post() -> ExitCode {
    let (code, status) = (std::env::var("EXIT_CODE").ok(), std::env::var("EXIT_STATUS").ok());
    if is_final_exit(code.as_deref(), status.as_deref()) {
        return restore_knobs();
    }
    if !Path::new(pins::PIN_ROOT).exists() {
        return ExitCode::SUCCESS;
    }
    let asked = async {
        let connection = zbus::Connection::system().await.ok()?;
        let systemd = SystemdClient::connect(&connection).await.ok()?;
        Some(is_stop_job(&systemd).await)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(asked)) {
        Ok(Some(true)) => cleanup(),
        _ => ExitCode::SUCCESS,
    }
}

/// Restores all changed knobs, and keeps policies and their records for the next daemon.
fn restore_knobs() -> ExitCode {
    let mut failed = false;
    for path in tree::descendants(&CgroupPath::root()) {
        let Ok(Some(bytes)) = xattr::read_record(&path) else { continue };
        let knobs = CgroupRecord::parse(&bytes).map(|record| record.knobs).unwrap_or_default();
        if knobs.is_empty() {
            continue;
        }
        for sentence in &restore_from_record(&path, &knobs) {
            failed = true;
            eprintln!("memcg-bpfd: {sentence}");
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `memcg-bpfd --cleanup`: detaches the policies of a daemon that is not running, restores all knobs and removes all
/// records. Used when the package is removed.
pub fn cleanup() -> ExitCode {
    let (mut erased, mut failed) = (0u32, 0u32);
    let unpinned = pins::remove_all(Path::new(pins::PIN_ROOT)).unwrap_or_else(|error| {
        failed = failed.saturating_add(1);
        eprintln!("memcg-bpfd: removing {}: {error}", pins::PIN_ROOT);
        0
    });
    for path in tree::descendants(&CgroupPath::root()) {
        let Ok(Some(bytes)) = xattr::read_record(&path) else { continue };
        let knobs = CgroupRecord::parse(&bytes).map(|record| record.knobs).unwrap_or_default();
        let stuck = restore_from_record(&path, &knobs);
        for sentence in &stuck {
            failed = failed.saturating_add(1);
            eprintln!("memcg-bpfd: {sentence}");
        }
        // The original values are stored only in the record.
        if !stuck.is_empty() {
            continue;
        }
        match xattr::remove_record(&path) {
            Ok(()) => erased = erased.saturating_add(1),
            Err(error) => {
                failed = failed.saturating_add(1);
                eprintln!("memcg-bpfd: removing the record of {path}: {error}");
            }
        }
    }
    let programs = if unpinned > 0 { ", and the programs of a previous daemon" } else { "" };
    println!("memcg-bpfd: {erased} records removed{programs}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_restored_if_systemd_does_not_restart_the_daemon() {
        let unit = include_str!("../../systemd/memcg-bpfd.service");
        let status = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        assert!(is_final_exit(Some("exited"), status));
        for (code, status) in [("exited", "0"), ("exited", "1"), ("killed", "KILL"), ("killed", "78")] {
            assert!(!is_final_exit(Some(code), Some(status)), "{code} {status}: another daemon follows");
        }
        assert!(!is_final_exit(None, None));
        // Otherwise systemd gives up after five ends within ten seconds, and nothing restores the knobs.
        assert!(unit.lines().any(|line| line == "StartLimitIntervalSec=0"));
    }
}
