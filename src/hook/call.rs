//! The one call to the daemon, over the system bus and with a deadline for everything: connecting, the daemon's
//! activation, its answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::{Connection, Variant};

use crate::bus::{CallFailure, INTERFACE, NAME, OPTION_CGROUPS_PATH, OPTION_REQUIRED, PATH};
use crate::text::printable::{QUOTE_MESSAGE_MAX, quote};

/// The most time a container's start is held up by the call.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Between two tries at a daemon that is busy: some ten in all, so that a flood of starts is not made worse.
const AGAIN: Duration = Duration::from_millis(200);

/// Why the daemon did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// It is not there, or not in time; it may do it later.
    #[error("{0}")]
    Unreachable(String),
    /// The caller has no right to ask.
    #[error("{0}")]
    Denied(String),
    /// It says no, and would say so again.
    #[error("{0}")]
    Refused(String),
}

/// What AttachContainer is told.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its first process.
    pub pid: u32,
    /// The policy line.
    pub line: &'a str,
    /// `linux.cgroupsPath`, when the bundle could be read.
    pub cgroups_path: Option<&'a str>,
    /// Whether the container must not start without its policy.
    pub required: bool,
}

/// Asks the daemon on the bus at `address` to put a container's policy into force; returns when it is. Asks one that is
/// busy again as long as there is time.
pub fn attach(address: &str, deadline: Duration, wish: Attachment<'_>) -> Result<(), CallError> {
    let busy = RefCell::new(None);
    let answer = within(deadline, async {
        let connection = connect(address).await?;
        let mut options: HashMap<&str, Variant<'_>> = HashMap::new();
        options.insert(OPTION_REQUIRED, Variant::from(wish.required));
        if let Some(path) = wish.cgroups_path {
            options.insert(OPTION_CGROUPS_PATH, Variant::from(path));
        }
        let body = (wish.id, wish.pid, wish.line, options);
        loop {
            let answer =
                connection.call_method(Some(NAME), PATH, Some(INTERFACE), "AttachContainer", &body).await;
            match answer {
                Err(error) if CallFailure::from(&error).is_busy() => drop(busy.replace(Some(error))),
                other => return other.map(|_| ()),
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    match (answer, busy.into_inner()) {
        // It did answer.
        (Err(CallError::Unreachable(_)), Some(busy)) => Err(CallError::from(busy)),
        (answer, _) => answer,
    }
}

/// Tells the daemon that a container has ended. Does not start a daemon for that: there would be nothing to detach.
pub fn detach(address: &str, deadline: Duration, id: &str) -> Result<(), CallError> {
    within(deadline, async {
        let connection = connect(address).await?;
        let daemon = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(&connection)
            .destination(NAME)
            .path(PATH)
            .interface(INTERFACE)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        daemon
            .call_with_flags::<_, _, ()>("DetachContainer", MethodFlags::NO_AUTO_START, &(id,))
            .await
            .map(|_| ())
    })
}

async fn connect(address: &str) -> zbus::Result<Connection> {
    let builder = zbus::connection::Builder::address(address);
    let builder = match host_uid() {
        Some(uid) => builder.user_id(uid),
        None => builder,
    };
    builder.build().await
}

/// The caller's user id outside of its user namespace, which is the one the bus sees: rootless engines run hooks as
/// "root" of a namespace of their own. `None` when it is not known.
fn host_uid() -> Option<u32> {
    host_uid_in(nix::unistd::geteuid().as_raw(), &std::fs::read_to_string("/proc/self/uid_map").ok()?)
}

fn host_uid_in(uid: u32, uid_map: &str) -> Option<u32> {
    uid_map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = uid.checked_sub(inside)?;
        if offset < count { outside.checked_add(offset) } else { None }
    })
}

fn within(deadline: Duration, call: impl Future<Output = zbus::Result<()>>) -> Result<(), CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::Unreachable(format!("the system bus cannot be used: {error}")))?;
    let result = runtime.block_on(async { tokio::time::timeout(deadline, call).await });
    // Whatever hangs in a helper thread must not hang the container.
    runtime.shutdown_background();
    match result {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::Unreachable(format!("memcg-bpfd did not answer within {deadline:?}"))),
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> CallError {
        let unreachable = |text: &str| CallError::Unreachable(text.to_owned());
        let line = |text: &str| quote(text, QUOTE_MESSAGE_MAX);
        let failure = CallFailure::from(&error);
        let busy = failure.is_busy();
        match failure {
            CallFailure::Replied { message, .. } if busy => CallError::Unreachable(line(&message)),
            CallFailure::Replied { message, .. } => CallError::Refused(line(&message)),
            CallFailure::NotStarted(text) => CallError::Unreachable(line(&text)),
            CallFailure::NotRunning(_) => unreachable(
                "memcg-bpfd is not running and cannot be started over D-Bus; try: systemctl start memcg-bpfd",
            ),
            CallFailure::Forbidden => {
                CallError::Denied("the system bus does not let this user ask memcg-bpfd".to_owned())
            }
            CallFailure::Rejected => CallError::Denied("the system bus does not accept this user".to_owned()),
            CallFailure::NoBus(_) => {
                unreachable("there is no system bus at /run/dbus/system_bus_socket (is dbus running?)")
            }
            CallFailure::Disconnected(text) => {
                CallError::Unreachable(line(&format!("the system bus cannot be reached: {text}")))
            }
            CallFailure::Timeout => unreachable("memcg-bpfd did not answer in time"),
            CallFailure::WrongArguments(text) => CallError::Refused(line(&format!(
                "memcg-bpfd does not understand this hook; are they of the same version? ({text})"
            ))),
            CallFailure::NoMethod(_) => unreachable(
                "the memcg-bpfd that runs has no AttachContainer; is it just starting, or older than this hook?",
            ),
            CallFailure::BusError(text) => {
                CallError::Unreachable(line(&format!("memcg-bpfd cannot be reached: {text}")))
            }
            CallFailure::Other(text) => {
                CallError::Unreachable(line(&format!("the system bus cannot be used: {text}")))
            }
        }
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
