//! Forwards systemd's signals from the bus through the [`Coalescer`] to the daemon, without waiting for either.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use zbus::message::Type;
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath};

use super::client::SystemdClient;
use super::coalesce::{Coalescer, Signal};
use super::error::{SystemdError, with_timeout};
use super::event::Event;
use super::proxy::{MANAGER_INTERFACE, MANAGER_PATH, SYSTEMD};
use crate::names::UnitName;

/// Capacity of the queue of events. If it is full, the events are replaced by one full scan.
const EVENTS_MAX: usize = 256;
/// Capacity of zbus's queue of signals. If it is full, zbus stops reading the socket.
const SIGNALS_MAX: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(signals) => signals,
    None => NonZeroUsize::MIN,
};
/// The bus driver, whose name is also its interface.
const BUS: &str = "org.freedesktop.DBus";
/// Interval between attempts to subscribe after systemd returned.
const RETRY: Duration = Duration::from_secs(5);

/// The receiving end of systemd's events.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the connection to the bus is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// Number of events dropped because the queue was full. [`Event::RescanRequired`] follows each loss.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Subscribes, then sends events until the returned receiver is dropped. Call [`SystemdClient::candidates`] only after
/// this, because systemd does not announce units that it loaded earlier. Registers for the signals first, so that none
/// is lost in between.
pub async fn subscribe(systemd: &SystemdClient) -> Result<Events, SystemdError> {
    let connection = systemd.connection();
    let what = "its signals";
    let manager =
        with_timeout(what, signals(connection, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE, None)).await?;
    let bus =
        with_timeout(what, signals(connection, BUS, "/org/freedesktop/DBus", BUS, Some(SYSTEMD))).await?;
    systemd.subscribe().await?;
    let owner = systemd.owner().await?;
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let forwarder = SignalForwarder {
        systemd: systemd.clone(),
        owner,
        sender,
        dropped: Arc::clone(&dropped),
        lost: false,
    };
    tokio::spawn(forwarder.run(manager, bus));
    Ok(Events { receiver, dropped })
}

async fn signals(
    connection: &Connection,
    sender: &'static str,
    path: &'static str,
    interface: &'static str,
    name: Option<&'static str>,
) -> zbus::Result<MessageStream> {
    let mut rule = MatchRule::builder().msg_type(Type::Signal).sender(sender).path(path).interface(interface);
    if let Some(name) = name {
        rule = rule.member("NameOwnerChanged").add_arg(name);
    }
    MessageStream::for_match_rule(rule.build()?, connection, Some(SIGNALS_MAX)).await
}

struct SignalForwarder {
    systemd: SystemdClient,
    /// The unique name of PID 1. Other connections can send messages that look like systemd's signals.
    owner: Option<OwnedUniqueName>,
    sender: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// True if events were dropped and the full scan is not queued yet.
    lost: bool,
}

impl SignalForwarder {
    async fn run(mut self, mut manager: MessageStream, mut bus: MessageStream) {
        let mut coalescer = Coalescer::default();
        let sender = self.sender.clone();
        let (reconnected_sender, mut reconnected) = mpsc::channel::<()>(1);
        loop {
            let due = coalescer.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                // In this order, so that a new owner is known before its signals arrive.
                biased;
                message = bus.next() => match message {
                    Some(Ok(message)) => self.owner_changed(&message, &mut coalescer, &reconnected_sender),
                    Some(Err(_)) => {}
                    None => break,
                },
                Some(()) = reconnected.recv() => coalescer.take(Signal::ManagerBack, Instant::now()),
                () = sleep_until(due) => {
                    for event in coalescer.drain_due(Instant::now()) {
                        self.send(event);
                    }
                }
                message = manager.next() => match message {
                    Some(Ok(message)) => {
                        let now = Instant::now();
                        if let Some(signal) = self.signal(&message) && !self.is_noise(&signal, now) {
                            coalescer.take(signal, now);
                        }
                    }
                    Some(Err(_)) => {}
                    None => break,
                },
                permit = sender.reserve(), if self.lost => match permit {
                    Ok(permit) => {
                        permit.send(Event::RescanRequired);
                        self.lost = false;
                    }
                    Err(_) => return,
                },
                () = sender.closed() => return,
            }
        }
        // The connection ended, so nothing else arrives.
        let _ = sender.send(Event::ManagerLost).await;
    }

    fn send(&mut self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.lost = true;
        }
    }

    fn owner_changed(
        &mut self,
        message: &Message,
        coalescer: &mut Coalescer,
        reconnected: &mpsc::Sender<()>,
    ) {
        if message.header().sender().is_none_or(|sender| sender.as_str() != BUS) {
            return;
        }
        let Ok((_, _, new)) = message.body().deserialize::<(String, String, String)>() else { return };
        self.owner = OwnedUniqueName::try_from(new).ok();
        if self.owner.is_none() {
            coalescer.take(Signal::ManagerLost, Instant::now());
            return;
        }
        let (systemd, reconnected) = (self.systemd.clone(), reconnected.clone());
        // Not awaited: PID 1 may reply late, and signals must be received in the meantime.
        tokio::spawn(async move {
            while systemd.subscribe().await.is_err() && !systemd.connection().is_closed() {
                tokio::time::sleep(RETRY).await;
            }
            let _ = reconnected.send(()).await;
        });
    }

    fn is_noise(&self, signal: &Signal, now: Instant) -> bool {
        matches!(signal, Signal::UnitNew(_) | Signal::UnitRemoved(_))
            && self.systemd.is_ignoring_load_signals(now)
    }

    /// The signal in `message`, if PID 1 sent it and the unit can have a policy.
    fn signal(&self, message: &Message) -> Option<Signal> {
        let header = message.header();
        let owner = self.owner.as_ref().map(|owner| owner.as_str());
        if !is_from(owner, header.sender().map(|sender| sender.as_str())) {
            return None;
        }
        parse_signal(header.member()?.as_str(), message)
    }
}

/// True if PID 1 is the sender. Without a bus, as in tests, messages have no sender.
fn is_from(owner: Option<&str>, sender: Option<&str>) -> bool {
    owner == sender
}

fn parse_signal(member: &str, message: &Message) -> Option<Signal> {
    let body = message.body();
    let unit = |name: &str| UnitName::parse(name).ok();
    match member {
        "UnitNew" | "UnitRemoved" => {
            let (name, _): (&str, OwnedObjectPath) = body.deserialize().ok()?;
            let make = if member == "UnitNew" { Signal::UnitNew } else { Signal::UnitRemoved };
            unit(name).map(make)
        }
        "JobNew" => {
            let (_, _, name): (u32, OwnedObjectPath, &str) = body.deserialize().ok()?;
            unit(name).map(Signal::JobNew)
        }
        "JobRemoved" => {
            let (_, _, name, _): (u32, OwnedObjectPath, &str, &str) = body.deserialize().ok()?;
            unit(name).map(Signal::JobRemoved)
        }
        "Reloading" => body.deserialize().ok().map(Signal::Reloading),
        "UnitFilesChanged" => Some(Signal::UnitFilesChanged),
        _ => None,
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(member: &str, body: &(impl serde::Serialize + zbus::wire::DynamicType)) -> Message {
        Message::signal(MANAGER_PATH, MANAGER_INTERFACE, member).build(body).unwrap()
    }

    #[test]
    fn only_pid_1_is_believed() {
        assert!(is_from(Some(":1.0"), Some(":1.0")));
        assert!(!is_from(Some(":1.0"), Some(":1.7")));
        assert!(!is_from(Some(":1.0"), None));
        // PID 1 is no longer on the bus: signals are from another sender.
        assert!(!is_from(None, Some(":1.7")));
    }

    #[test]
    fn signals_of_another_shape_are_passed_over() {
        let unit = UnitName::parse("a.service").unwrap();
        let job = || OwnedObjectPath::try_from("/job/1").unwrap();
        assert_eq!(
            parse_signal("UnitNew", &message("UnitNew", &("a.service", job()))),
            Some(Signal::UnitNew(unit.clone()))
        );
        let removed = message("JobRemoved", &(1u32, job(), "a.service", "done"));
        assert_eq!(parse_signal("JobRemoved", &removed), Some(Signal::JobRemoved(unit)));
        assert_eq!(parse_signal("UnitNew", &message("UnitNew", &("a.service",))), None);
        assert_eq!(parse_signal("UnitNew", &message("UnitNew", &("../a.service", job()))), None);
        assert_eq!(parse_signal("UnitNew", &message("UnitNew", &("x".repeat(1 << 20), job()))), None);
        assert_eq!(parse_signal("Reloading", &message("Reloading", &("true",))), None);
        assert_eq!(parse_signal("StartupFinished", &message("StartupFinished", &(1u64,))), None);
    }
}
