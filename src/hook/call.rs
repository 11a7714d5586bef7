//! The call to the daemon over the system bus, with one timeout for connecting, the activation of the daemon, and its
//! reply.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::{Connection, Variant};

use crate::bus::{
    CallFailure, INTERFACE, NAME, OPTION_CGROUPS_PATH, OPTION_POD, OPTION_REQUIRED, OPTION_SANDBOX, PATH,
};
use crate::names::{ContainerId, PodName};
use crate::report::BindingReport;
use crate::text::printable::{QUOTE_MESSAGE_MAX, quote};

/// The longest time for which the call delays a container's start.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Interval between two calls while the daemon is busy.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Why the daemon did not attach the policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The daemon did not run or reply in time; it may attach the policy later.
    #[error("{0}")]
    Unreachable(String),
    /// The caller is not authorized.
    #[error("{0}")]
    Denied(String),
    /// The daemon rejected the request, and would reject it again.
    #[error("{0}")]
    Rejected(String),
}

/// The arguments of AttachContainer.
#[derive(Debug, Clone, Copy)]
pub struct AttachArgs<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its first process.
    pub pid: u32,
    /// The policy line.
    pub line: &'a str,
    /// `linux.cgroupsPath`, if the bundle could be read.
    pub cgroups_path: Option<&'a str>,
    /// The names of the pod and of the container, for display.
    pub pod: Option<&'a PodName>,
    /// The id of the pod's sandbox, if the line is that of the pod's own cgroup.
    pub sandbox: Option<&'a ContainerId>,
    /// Whether the container must not start without its policy.
    pub required: bool,
}

/// Calls the daemon on the bus at `address` to attach a container's policy; returns when it is attached. Repeats the call
/// while the daemon is busy and time is left.
pub fn attach(address: &str, deadline: Duration, args: AttachArgs<'_>) -> Result<(), CallError> {
    let busy = RefCell::new(None);
    let answer = within(deadline, async {
        let connection = connect(address).await?;
        let pod = args.pod.map(ToString::to_string);
        let mut options: HashMap<&str, Variant<'_>> = HashMap::new();
        options.insert(OPTION_REQUIRED, Variant::from(args.required));
        if let Some(path) = args.cgroups_path {
            options.insert(OPTION_CGROUPS_PATH, Variant::from(path));
        }
        if let Some(pod) = pod.as_deref() {
            options.insert(OPTION_POD, Variant::from(pod));
        }
        if let Some(sandbox) = args.sandbox {
            options.insert(OPTION_SANDBOX, Variant::from(sandbox.as_str()));
        }
        let body = (args.id, args.pid, args.line, options);
        loop {
            let answer =
                connection.call_method(Some(NAME), PATH, Some(INTERFACE), "AttachContainer", &body).await;
            match answer {
                Err(error) if CallFailure::from(&error).is_busy() => drop(busy.replace(Some(error))),
                other => return other.map(|_| ()),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    });
    match (answer, busy.into_inner()) {
        // The daemon replied that it is busy.
        (Err(CallError::Unreachable(_)), Some(busy)) => Err(CallError::from(busy)),
        (answer, _) => answer,
    }
}

/// The ids of all containers with a request that the daemon knows, without those of users: a user can request a policy
/// for an own cgroup with the id of any container.
pub fn list_containers(address: &str, deadline: Duration) -> Result<BTreeSet<String>, CallError> {
    let json: String = within(deadline, async {
        let connection = connect(address).await?;
        let answer = connection.call_method(Some(NAME), PATH, Some(INTERFACE), "List", &()).await?;
        answer.body().deserialize()
    })?;
    let bindings: Vec<BindingReport> = serde_json::from_str(&json).map_err(|error| {
        CallError::Rejected(format!("memcg-bpfd sent a list that cannot be read: {error}"))
    })?;
    let of_users = |cgroup: &str| cgroup.starts_with("/user.slice/user-");
    let known = bindings.into_iter().filter(|binding| !of_users(&binding.cgroup));
    Ok(known.filter_map(|binding| binding.container).collect())
}

/// Reports to the daemon that a container has ended. Does not start the daemon, because it would have nothing to detach.
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

/// The caller's uid outside of its user namespace, which is the one that the bus uses: rootless engines run hooks as
/// root of their own namespace. `None` if it is unknown.
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

fn within<T>(deadline: Duration, call: impl Future<Output = zbus::Result<T>>) -> Result<T, CallError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::Unreachable(format!("the system bus cannot be used: {error}")))?;
    let result = runtime.block_on(async { tokio::time::timeout(deadline, call).await });
    // A blocked helper thread must not delay the container.
    runtime.shutdown_background();
    match result {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::Unreachable(format!("memcg-bpfd did not reply within {deadline:?}"))),
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
            CallFailure::Replied { message, .. } => CallError::Rejected(line(&message)),
            CallFailure::NotStarted(text) => CallError::Unreachable(line(&text)),
            CallFailure::NotRunning(_) => unreachable(
                "memcg-bpfd is not running and cannot be started over D-Bus; try: systemctl start memcg-bpfd",
            ),
            CallFailure::Forbidden => {
                CallError::Denied("the system bus denies this user access to memcg-bpfd".to_owned())
            }
            CallFailure::Rejected => CallError::Denied("the system bus does not accept this user".to_owned()),
            CallFailure::NoBus(_) => {
                unreachable("there is no system bus at /run/dbus/system_bus_socket (is dbus running?)")
            }
            CallFailure::Disconnected(text) => {
                CallError::Unreachable(line(&format!("the system bus cannot be reached: {text}")))
            }
            CallFailure::Timeout => unreachable("memcg-bpfd did not reply in time"),
            CallFailure::WrongArguments(text) => CallError::Rejected(line(&format!(
                "memcg-bpfd rejected the call of this hook; their versions may differ ({text})"
            ))),
            CallFailure::NoMethod(_) => unreachable(
                "the running memcg-bpfd has no method AttachContainer; it is starting, or older than this hook",
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
