#![allow(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use zbus::{Connection, Guid, Message, OwnedVariant, Variant};

use super::*;
use crate::service::admission::{CALL_BYTES_MAX, REPLIES_MAX, Service};
use crate::service::api;
use crate::service::authorize::Authorizer;
use crate::service::call::{CallQueue, queue};
use crate::service::callers::{Callers, Identity};
use crate::service::quota::{BURST, Share};

/// The service at one end of a socket with admission, and its callers, which share the other end, as behind a bus.
struct Bus {
    _server: Connection,
    client: Connection,
    calls: CallQueue,
    rescan_requested: Arc<Notify>,
}

async fn bus() -> Bus {
    let (here, there) = StdStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    there.set_nonblocking(true).unwrap();
    let callers = Callers::default();
    for (name, uid, share) in [
        (":1.0", 0, Share::Uid(0)),
        (":1.1", 1000, Share::User(1000)),
        (":1.2", 100_000, Share::User(1000)),
        (":1.3", 1001, Share::User(1001)),
    ] {
        callers.remember(name, Identity { uid, share });
    }
    let callers = Arc::new(callers);
    let rescan_requested = Arc::new(Notify::new());
    let (replies, mut rejected) = mpsc::channel(REPLIES_MAX);
    let service = Service::new(Arc::clone(&callers), Arc::clone(&rescan_requested), replies);
    let stream = UnixStream::from_std(here).unwrap();
    let socket = BoundedSocket::new(stream, Admission::Service(service));
    let server = Builder::socket(socket).server(Guid::generate()).p2p().build();
    let client = Builder::unix_stream(there).p2p().build();
    let both = async { tokio::try_join!(server, client) };
    let (server, client) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap().unwrap();
    let (sender, calls) = queue(8);
    let authorizer = Authorizer::new(callers);
    api::serve(&server, sender, Arc::clone(&rescan_requested), "{}".to_owned(), authorizer).await.unwrap();
    let replying = server.clone();
    tokio::spawn(async move {
        while let Some(reply) = rejected.recv().await {
            replying.send(&reply).await.unwrap();
        }
    });
    Bus { _server: server, client, calls, rescan_requested }
}

impl Bus {
    /// Calls a method as the connection `sender`; returns the sentence of the reply, or `Error.Name: sentence`.
    async fn call<B>(&self, sender: &str, method: &str, body: &B) -> String
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        let mut replies = zbus::MessageStream::from(&self.client);
        let call = Message::method_call(api::OBJECT_PATH, method)
            .interface("org.memcg.Bpf1.Manager")
            .sender(sender)
            .build(body)
            .unwrap();
        self.client.send(&call).await.unwrap();
        let reply = async {
            loop {
                let reply = futures_util::StreamExt::next(&mut replies).await.unwrap().unwrap();
                if reply.header().reply_serial() == Some(call.primary_header().serial_num()) {
                    return reply;
                }
            }
        };
        let reply = tokio::time::timeout(Duration::from_secs(30), reply).await.unwrap();
        let sentence: String = reply.body().deserialize().unwrap_or_default();
        match reply.header().error_name() {
            Some(name) => {
                format!("{}: {sentence}", name.as_str().trim_start_matches("org.memcg.Bpf1.Error."))
            }
            None => sentence,
        }
    }
}

/// A call of AttachContainer with this many options.
fn container(options: usize) -> (String, u32, String, BTreeMap<String, OwnedVariant>) {
    let value = || Variant::from(true).try_to_owned().unwrap();
    let options = (0..options).map(|n| (format!("option{n}"), value())).collect();
    ("1f2e".to_owned(), 1, "observe".to_owned(), options)
}

#[tokio::test]
async fn big_message_is_discarded_and_answered() {
    let bus = bus().await;
    for sender in [":1.1", ":1.0"] {
        let error = bus.call(sender, "AttachContainer", &container(300_000)).await;
        assert!(error.starts_with("InvalidArgument: the call has "), "{error}");
        assert!(error.ends_with(" bytes; at most 16384 are allowed"), "{error}");
    }
    let at_most = "x".repeat(CALL_BYTES_MAX);
    assert!(bus.call(":1.1", &at_most[..100], &(1,)).await.contains("Unknown method"));
    let error = bus.call(":1.1", "Detach", &(at_most,)).await;
    assert!(error.contains("at most 16384"), "{error}");
    // The next call is read from its beginning.
    let error = bus.call(":1.0", "AttachContainer", &container(300)).await;
    assert_eq!(error, "InvalidArgument: more than 16 options; only four exist");
    let error = bus.call(":1.0", "Detach", &("a",)).await;
    assert!(error.contains("does not start with '/'"), "{error}");
}

#[tokio::test]
async fn user_beyond_rate_is_busy_and_root_and_others_are_not() {
    let bus = bus().await;
    // Two uids of one user.
    for call in 0..BURST {
        let sender = if call % 2 == 0 { ":1.1" } else { ":1.2" };
        let error = bus.call(sender, "Detach", &("a",)).await;
        assert!(error.contains("does not start with '/'"), "{call}: {error}");
    }
    // Many at once, because calls are regained with time. An admitted one fails for its arguments.
    let busy = loop {
        let calls = (0..16).map(|_| bus.call(":1.1", "AttachContainer", &("a",)));
        let errors = futures_util::future::join_all(calls).await;
        if let Some(error) = errors.into_iter().find(|error| error.starts_with("Busy")) {
            break error;
        }
    };
    assert_eq!(
        busy,
        "Busy: uid 1000 calls too often: 32 calls at once and 8 per second are allowed; ask again"
    );
    // The hook records its request, which a scan finds.
    tokio::time::timeout(Duration::from_secs(5), bus.rescan_requested.notified()).await.unwrap();
    for sender in [":1.3", ":1.0"] {
        for _ in 0..BURST {
            assert!(bus.call(sender, "Detach", &("a",)).await.contains("does not start with '/'"));
        }
    }
    assert!(bus.call(":1.0", "Detach", &("a",)).await.contains("does not start with '/'"));
}

#[tokio::test]
async fn unknown_senders_and_foreign_signals_do_not_reach_the_service() {
    let mut bus = bus().await;
    assert_eq!(
        bus.call(":1.99", "List", &()).await,
        "Failed: the bus does not say who is calling; nothing was changed"
    );
    let signal = Message::signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost").sender(":1.1");
    bus.client.send(&signal.build(&("org.memcg.Bpf1",)).unwrap()).await.unwrap();
    let error = bus.call(":1.0", "Detach", &("a",)).await;
    assert!(error.contains("does not start with '/'"), "the stream is read on: {error}");
    assert!(bus.calls.try_recv().is_err());
}
