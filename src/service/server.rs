//! Serves the bus on a thread of its own, so that neither a message nor a caller occupies the daemon's loop before its
//! call is checked and authorized.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use zbus::{Connection, Message};

use super::admission::{Admission, REPLIES_MAX, Service};
use super::api::{self, PublishedObject};
use super::authorize::Authorizer;
use super::call::CallSender;
use super::callers::Callers;
use super::socket;

/// The running service.
#[derive(Debug)]
pub struct Server {
    /// The object, for signals.
    pub published: PublishedObject,
    /// Completes when the connection to the bus is lost.
    pub closed: oneshot::Receiver<()>,
}

/// A connection to the system bus for calls only. Messages that other users send to it are discarded.
pub async fn connect_client() -> zbus::Result<Connection> {
    socket::connect(Admission::Client).await
}

/// Starts the thread, and returns when the service has its name. See [`api::serve`].
pub async fn start(calls: CallSender, rescan_requested: Arc<Notify>, kernel: String) -> zbus::Result<Server> {
    let (ready, started) = oneshot::channel();
    let (closing, closed) = oneshot::channel();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error.into()))),
        };
        runtime.block_on(async {
            match publish(calls, rescan_requested, kernel).await {
                Ok((connection, lookup, published, replies)) => {
                    if ready.send(Ok(published)).is_ok() {
                        tokio::select! {
                            () = send_replies(&connection, replies) => {}
                            // Without it, no caller can be identified.
                            () = lookup.closed() => {}
                        }
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        drop(closing);
    };
    std::thread::Builder::new().name("bus".to_owned()).spawn(serve)?;
    let published =
        started.await.map_err(|_| zbus::Error::Failure("the bus thread has ended".to_owned()))??;
    Ok(Server { published, closed })
}

async fn publish(
    calls: CallSender,
    rescan_requested: Arc<Notify>,
    kernel: String,
) -> zbus::Result<(Connection, Connection, PublishedObject, mpsc::Receiver<Message>)> {
    let lookup = connect_client().await?;
    let callers = Arc::new(Callers::new(lookup.clone()));
    let (sender, replies) = mpsc::channel(REPLIES_MAX);
    let service = Service::new(Arc::clone(&callers), Arc::clone(&rescan_requested), sender);
    let connection = socket::connect(Admission::Service(service)).await?;
    let authorizer = Authorizer::new(callers);
    let published = api::serve(&connection, calls, rescan_requested, kernel, authorizer).await?;
    Ok((connection, lookup, published, replies))
}

/// Sends the replies to rejected calls until the connection is lost.
async fn send_replies(connection: &Connection, mut replies: mpsc::Receiver<Message>) {
    loop {
        tokio::select! {
            () = connection.closed() => return,
            Some(reply) = replies.recv() => {
                if let Err(error) = connection.send(&reply).await {
                    tracing::debug!(%error, "replying to a rejected call");
                }
            }
        }
    }
}
