//! Decides which messages of the bus are parsed: those of bounded size, by callers that have calls left.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use zbus::{DBusError, Message};

use super::callers::{Callers, unknown_caller};
use super::error::Error;
use super::frame::{Fields, Frame, Kind};
use super::quota::{BURST, PER_SECOND, Rates};

/// Limit of the size of a call in bytes: the longest policy line, path and container id, with a header and room for
/// options.
pub const CALL_BYTES_MAX: usize = 16 * 1024;
/// Limit of the size of a signal in bytes. systemd's signals are shorter.
const SIGNAL_BYTES_MAX: usize = 64 * 1024;
/// Error replies that wait to be sent. Beyond it, a rejected caller gets no reply.
pub const REPLIES_MAX: usize = 256;

/// The name of the bus itself.
const BUS: &str = "org.freedesktop.DBus";

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is parsed.
    Admit,
    /// It is discarded without being read into memory.
    Discard,
}

/// Which messages a connection receives.
#[derive(Debug)]
pub enum Admission {
    /// The connection with the service's name.
    Service(Service),
    /// A connection that makes calls only. A caller of its unique name gets no reply.
    Client,
}

/// Admission to the service.
#[derive(Debug)]
pub struct Service {
    callers: Arc<Callers>,
    rates: Mutex<Rates>,
    /// Notified if a hook was rejected, which then records its request on the cgroup.
    rescan_requested: Arc<Notify>,
    replies: mpsc::Sender<Message>,
}

impl Service {
    /// Rejected calls are answered through `replies`.
    pub fn new(callers: Arc<Callers>, rescan_requested: Arc<Notify>, replies: mpsc::Sender<Message>) -> Self {
        Service { callers, rates: Mutex::default(), rescan_requested, replies }
    }

    /// `sender` is set by the bus. A call without it has no rate and is not served.
    async fn admit_call(&self, frame: &Frame, sender: &str) -> Result<(), Error> {
        let identity = self.callers.identify(sender).await?;
        let within_rate = || {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(&identity.share, Instant::now())
        };
        if !identity.is_privileged() && !within_rate() {
            let uid = identity.uid;
            return Err(Error::Busy(format!(
                "uid {uid} calls too often: {BURST} calls at once and {PER_SECOND} per second are allowed; ask again"
            )));
        }
        if frame.total > CALL_BYTES_MAX {
            let bytes = frame.total;
            return Err(Error::InvalidArgument(format!(
                "the call has {bytes} bytes; at most {CALL_BYTES_MAX} are allowed"
            )));
        }
        Ok(())
    }

    fn reject(&self, frame: &Frame, fields: &Fields, error: &Error) {
        let is_busy = matches!(error, Error::Busy(_)) || *error == unknown_caller();
        if is_busy && fields.member == "AttachContainer" {
            self.rescan_requested.notify_one();
        }
        if !frame.wants_reply || fields.sender.is_empty() {
            return;
        }
        match error_reply(frame.serial, &fields.sender, error) {
            // If the queue is full, the caller times out.
            Ok(reply) => drop(self.replies.try_send(reply)),
            Err(error) => tracing::debug!(%error, "replying to a rejected call"),
        }
    }
}

impl Admission {
    /// Decides on a message by its header.
    pub async fn admit(&self, frame: &Frame, fields: &Fields) -> Verdict {
        // The bus sets the sender of every message, also of its own.
        let is_from_bus = fields.sender == BUS;
        let admitted = match (self, frame.kind) {
            (Admission::Service(service), Kind::Call) if !fields.is_valid => {
                service.reject(
                    frame,
                    fields,
                    &Error::InvalidArgument("the header of the call is invalid".to_owned()),
                );
                false
            }
            (..) if !fields.is_valid => false,
            (Admission::Service(service), Kind::Call) => {
                match service.admit_call(frame, &fields.sender).await {
                    Ok(()) => true,
                    Err(error) => {
                        service.reject(frame, fields, &error);
                        false
                    }
                }
            }
            // The service's connection calls no other service.
            (Admission::Service(_), _) => is_from_bus && frame.total <= SIGNAL_BYTES_MAX,
            (Admission::Client, Kind::Call) => false,
            // Any user can send a signal to the connection.
            (Admission::Client, Kind::Signal) => frame.total <= SIGNAL_BYTES_MAX,
            // The bus passes on only replies that are expected.
            (Admission::Client, Kind::Reply) => true,
        };
        if admitted { Verdict::Admit } else { Verdict::Discard }
    }
}

/// The reply to a call of which only the header was read.
fn error_reply(serial: u32, sender: &str, error: &Error) -> zbus::Result<Message> {
    let call = Message::method_call("/", "Rejected").sender(sender);
    let call = match serial.try_into() {
        Ok(serial) => call.serial(serial),
        Err(_) => return Err(zbus::Error::InvalidField),
    };
    let call = call.build(&())?;
    Message::error(&call.header(), error.name()).build(&(error.to_string(),))
}
