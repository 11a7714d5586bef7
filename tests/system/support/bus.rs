//! One connection to the system bus per test thread, because polling with a process for each call would be slow.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use memcg_bpf::report::BindingReport;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{Connection, DynamicType, Message};

/// The timeout of `memcg-bpf`.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(25);

struct Bus {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
}

thread_local! {
    static BUS: RefCell<Option<Bus>> = const { RefCell::new(None) };
}

impl Bus {
    fn connect() -> zbus::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(zbus::connection::Builder::system().build())?;
        Ok(Bus { runtime, connection })
    }
}

/// True if the connection is closed, because a test restarted the bus.
fn is_disconnected(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(why) if why.kind() != std::io::ErrorKind::TimedOut)
        || matches!(error, zbus::Error::Connection(..) | zbus::Error::Handshake(_))
}

fn timed_out() -> zbus::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply in time").into()
}

/// Makes a call on the connection. A closed connection is opened again, once, so the call must be repeatable.
pub fn on_bus<T, F: Future<Output = zbus::Result<T>>>(
    timeout: Duration,
    exchange: impl Fn(Connection) -> F,
) -> zbus::Result<T> {
    BUS.with_borrow_mut(|slot| {
        let reused = slot.is_some();
        let run = |slot: &mut Option<Bus>| {
            let bus = match slot {
                Some(bus) => bus,
                None => slot.insert(Bus::connect()?),
            };
            let exchange = exchange(bus.connection.clone());
            let result = bus.runtime.block_on(async {
                tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(timed_out()))
            });
            if result.as_ref().err().is_some_and(is_disconnected) {
                *slot = None;
            }
            result
        };
        match run(slot) {
            Err(error) if reused && is_disconnected(&error) => run(slot),
            result => result,
        }
    })
}

/// One method call.
pub async fn call<B: Serialize + DynamicType>(
    connection: &Connection,
    destination: &str,
    path: &str,
    method: (&str, &str),
    body: &B,
) -> zbus::Result<Message> {
    let (interface, name) = method;
    connection.call_method(Some(destination), path, Some(interface), name, body).await
}

/// A method of the daemon that returns JSON. As with `memcg-bpf`, the bus starts a daemon that is not running.
fn daemon<T: DeserializeOwned>(method: &str, arguments: &(impl Serialize + DynamicType)) -> zbus::Result<T> {
    let json: String = on_bus(DAEMON_TIMEOUT, async |connection| {
        let method = ("org.memcg.Bpf1.Manager", method);
        let reply = call(&connection, "org.memcg.Bpf1", "/org/memcg/Bpf1", method, arguments).await?;
        reply.body().deserialize::<String>()
    })?;
    Ok(serde_json::from_str(&json)
        .unwrap_or_else(|e| panic!("{method:?} returned no such document ({e}): {json}")))
}

/// All bindings and registrations.
#[track_caller]
pub fn status() -> Vec<BindingReport> {
    daemon("List", &()).unwrap_or_else(|error| panic!("List failed: {error}"))
}

/// The daemon's statistics of actions.
#[track_caller]
pub fn action_stats() -> memcg_bpf::report::ActionStats {
    daemon("Stats", &()).unwrap_or_else(|error| panic!("Stats failed: {error}"))
}

/// Attaches policies as `memcg-bpf attach` does, for tests of other features.
#[track_caller]
pub fn attach(cgroup: &str, line: &str) -> BindingReport {
    daemon("Attach", &(cgroup, line)).unwrap_or_else(|error| panic!("Attach {cgroup} '{line}': {error}"))
}
