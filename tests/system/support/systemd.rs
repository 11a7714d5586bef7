//! Calls of systemd's manager on the persistent bus connection, with the meaning of `systemctl` verbs.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use zbus::{AsyncDrop, Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use super::bus::{call, on_bus};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";

/// `systemctl` waits for jobs without a timeout; a test must not.
const JOB_TIMEOUT: Duration = Duration::from_secs(300);
/// The timeout of `systemctl` for a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(180);
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// A unit's name as `systemctl` completes it.
fn full_name(unit: &str) -> String {
    const TYPES: [&str; 6] = [".service", ".slice", ".scope", ".socket", ".mount", ".target"];
    if TYPES.iter().any(|kind| unit.ends_with(kind)) { unit.to_owned() } else { format!("{unit}.service") }
}

/// The object of a unit: systemd loads the unit when it is first used.
fn object(unit: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_string(),
        c => c.to_string().bytes().map(|byte| format!("_{byte:02x}")).collect(),
    };
    format!("{PATH}/unit/{}", full_name(unit).chars().map(escape).collect::<String>())
}

/// Queues a job for each unit, then waits for all of them. Returns their results by unit.
async fn run_jobs(
    connection: Connection,
    method: &str,
    units: &[String],
) -> zbus::Result<Vec<(String, String)>> {
    // systemd sends job signals to subscribers only. An error means that the connection is subscribed already.
    match call(&connection, SYSTEMD, PATH, (MANAGER, "Subscribe"), &()).await {
        Err(error) if !matches!(error, zbus::Error::MethodError(..)) => return Err(error),
        _ => {}
    }
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    // Before the first job is queued, so that no end of a job is missed.
    let mut removed = MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(1024)).await?;
    let (mut pending, mut results) = (HashMap::new(), Vec::new());
    for unit in units {
        match call(&connection, SYSTEMD, PATH, (MANAGER, method), &(unit.as_str(), "replace")).await {
            Ok(reply) => drop(pending.insert(reply.body().deserialize::<OwnedObjectPath>()?, unit.clone())),
            // As with systemctl, a missing unit does not affect the others.
            Err(error @ zbus::Error::MethodError(..)) => results.push((unit.clone(), error.to_string())),
            Err(error) => return Err(error),
        }
    }
    while !pending.is_empty() {
        let Some(message) = removed.next().await else { break };
        let (_, job, _, result): (u32, OwnedObjectPath, String, String) = message?.body().deserialize()?;
        if let Some(unit) = pending.remove(&job) {
            results.push((unit, result));
        }
    }
    removed.async_drop().await;
    Ok(results)
}

/// The errors of jobs of the units (separated by white space); `None` if there are none.
fn try_jobs(method: &str, units: &str) -> Option<String> {
    let units: Vec<String> = units.split_whitespace().map(full_name).collect();
    let results = match on_bus(JOB_TIMEOUT, |connection| run_jobs(connection, method, &units)) {
        Ok(results) => results,
        Err(error) => return Some(error.to_string()),
    };
    let failed = results.iter().filter(|(_, result)| !["done", "skipped"].contains(&result.as_str()));
    let failed: Vec<String> = failed.map(|(unit, result)| format!("{unit}: {result}")).collect();
    (!failed.is_empty() || results.len() < units.len()).then(|| failed.join(", "))
}

#[track_caller]
fn jobs(method: &str, units: impl AsRef<str>) {
    if let Some(why) = try_jobs(method, units.as_ref()) {
        panic!("{method} of {}: {why}", units.as_ref());
    }
}

/// Starts units and waits, as `systemctl start`; each job must succeed.
#[track_caller]
pub fn start(units: impl AsRef<str>) {
    jobs("StartUnit", units);
}

/// The same for a unit that may fail.
pub fn try_start(units: impl AsRef<str>) {
    drop(try_jobs("StartUnit", units.as_ref()));
}

/// Stops units and waits, as `systemctl stop`.
#[track_caller]
pub fn stop(units: impl AsRef<str>) {
    jobs("StopUnit", units);
}

/// The same for units that may not exist.
pub fn try_stop(unit: &str) {
    drop(try_jobs("StopUnit", unit));
}

/// Stops units and starts them, as `systemctl restart`.
#[track_caller]
pub fn restart(units: impl AsRef<str>) {
    jobs("RestartUnit", units);
}

/// `systemctl reset-failed` of units, which need not be loaded.
pub fn reset_failed(units: impl AsRef<str>) {
    for unit in units.as_ref().split_whitespace().map(full_name) {
        drop(on_bus(CALL_TIMEOUT, async |connection| {
            call(&connection, SYSTEMD, PATH, (MANAGER, "ResetFailedUnit"), &unit).await
        }));
    }
}

/// `systemctl kill --kill-whom=WHOM --signal=SIGNAL`; the unit must have a process to kill.
#[track_caller]
pub fn kill(unit: &str, whom: &str, signal: Signal) {
    try_kill(unit, whom, signal).unwrap_or_else(|error| panic!("killing {unit}: {error}"));
}

/// The same for a unit that may not exist.
pub fn try_kill(unit: &str, whom: &str, signal: Signal) -> zbus::Result<()> {
    let unit = full_name(unit);
    on_bus(CALL_TIMEOUT, async |connection| {
        let arguments = (unit.as_str(), whom, signal as i32);
        call(&connection, SYSTEMD, PATH, (MANAGER, "KillUnit"), &arguments).await.map(drop)
    })
}

/// Makes systemd read all unit files again, and waits for the end.
#[track_caller]
pub fn daemon_reload() {
    try_daemon_reload().unwrap_or_else(|error| panic!("daemon-reload: {error}"));
}

/// The same, ignoring failures.
pub fn try_daemon_reload() -> zbus::Result<()> {
    on_bus(RELOAD_TIMEOUT, async |connection| {
        call(&connection, SYSTEMD, PATH, (MANAGER, "Reload"), &()).await.map(drop)
    })
}

/// A property of a unit. An error while the bus, or systemd, is being restarted.
pub fn property<T: TryFrom<OwnedVariant>>(unit: &str, interface: &str, name: &str) -> Option<T> {
    let (path, interface) = (object(unit), format!("{SYSTEMD}.{interface}"));
    let value = on_bus(CALL_TIMEOUT, async |connection| {
        let get = ("org.freedesktop.DBus.Properties", "Get");
        let reply = call(&connection, SYSTEMD, &path, get, &(interface.as_str(), name)).await?;
        reply.body().deserialize::<OwnedVariant>()
    });
    value.ok()?.try_into().ok()
}

/// The output of `systemctl is-active`; empty while systemd cannot be reached.
pub fn active_state(unit: &str) -> String {
    property(unit, "Unit", "ActiveState").unwrap_or_default()
}

/// A unit's sub-state, such as `running` or `stop-sigterm`; empty while systemd cannot be reached.
pub fn sub_state(unit: &str) -> String {
    property(unit, "Unit", "SubState").unwrap_or_default()
}

/// The daemon's process; `None` while systemd cannot be reached.
pub fn daemon_pid() -> Option<u32> {
    property("memcg-bpfd.service", "Service", "MainPID")
}
