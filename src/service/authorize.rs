//! Authorizes callers. Root and the daemon's own user may call everything. Owners of a delegated cgroup may manage
//! that cgroup; the daemon's loop checks this again by the cgroup's id. For other users, polkit decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

pub use super::callers::unknown_caller;
use super::callers::{Callers, Identity};
use super::error::Error;
use super::quota::Share;
use crate::cgroup::delegation;
use crate::names::CgroupPath;

/// Limits of the calls in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Places {
    /// Calls that wait for the loop only: of engines and owners of cgroups.
    Loop,
    /// Calls that wait for polkit, which may wait for a password. They take no place of the others.
    Polkit,
}

impl Places {
    /// Limit for each share.
    const fn per_share(self) -> usize {
        match self {
            Places::Loop => 8,
            Places::Polkit => 4,
        }
    }

    /// Limit for all shares together.
    const fn in_total(self) -> usize {
        match self {
            Places::Loop => 64,
            Places::Polkit => 16,
        }
    }
}

/// Timeout of polkit if a password can be entered.
const INTERACTIVE_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of polkit if it decides without a password.
const POLKIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The operation of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Attach and detach policies, pause, resume and reload.
    Manage,
    /// Read which cgroups have which policies.
    Inspect,
}

impl Operation {
    /// The name of the polkit action, in systemd/org.memcg.Bpf1.policy.
    const fn action(self) -> &'static str {
        match self {
            Operation::Manage => "org.memcg.Bpf1.manage",
            Operation::Inspect => "org.memcg.Bpf1.inspect",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Operation::Manage => "change memory policies",
            Operation::Inspect => "see memory policies",
        }
    }
}

/// The caller of a command, with its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// May request everything.
    Administrator(u32),
    /// May request self-binding policies on cgroups that are delegated to this uid.
    Owner(u32),
}

impl Caller {
    /// The caller's uid.
    pub const fn uid(self) -> u32 {
        match self {
            Caller::Administrator(uid) | Caller::Owner(uid) => uid,
        }
    }
}

/// Authorizes calls, and counts those in progress for each share.
#[derive(Debug, Clone, Default)]
pub struct Authorizer {
    callers: Arc<Callers>,
    in_progress: Arc<Mutex<BTreeMap<(Places, Share), usize>>>,
}

/// An authorized call. It counts as in progress until it is dropped.
#[derive(Debug)]
pub struct Authorization {
    /// The caller.
    pub caller: Caller,
    _place: Option<Place>,
}

/// A call that counts as in progress.
#[derive(Debug)]
struct Place {
    authorizer: Authorizer,
    key: (Places, Share),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_progress = self.authorizer.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = in_progress.get_mut(&self.key) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                in_progress.remove(&self.key);
            }
        }
    }
}

impl Authorizer {
    /// Authorizes these callers.
    pub fn new(callers: Arc<Callers>) -> Self {
        Authorizer { callers, in_progress: Arc::default() }
    }

    /// Authorizes root, the owner of `cgroup` if one is given, and users that polkit authorizes.
    pub async fn authorize(
        &self,
        operation: Operation,
        cgroup: Option<&CgroupPath>,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Authorization, Error> {
        let identity = self.identify(connection, header).await?;
        let uid = identity.uid;
        if identity.is_privileged() {
            return Ok(Authorization { caller: Caller::Administrator(uid), _place: None });
        }
        if cgroup.is_some_and(|path| delegation::delegated_cgroup(path, uid).is_ok()) {
            return self.owner(identity);
        }
        let waiting = self.acquire(Places::Polkit, &identity)?;
        polkit(operation, uid, self.callers.lookup().unwrap_or(connection), header).await?;
        drop(waiting);
        let place = self.acquire(Places::Loop, &identity)?;
        Ok(Authorization { caller: Caller::Administrator(uid), _place: Some(place) })
    }

    /// Authorizes callers that start containers: root, and users for their own cgroups. Does not query polkit,
    /// because no password can be entered while a container starts.
    pub async fn authorize_engine(
        &self,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Authorization, Error> {
        let identity = self.identify(connection, header).await?;
        if identity.is_privileged() {
            return Ok(Authorization { caller: Caller::Administrator(identity.uid), _place: None });
        }
        self.owner(identity)
    }

    fn owner(&self, identity: Identity) -> Result<Authorization, Error> {
        let place = self.acquire(Places::Loop, &identity)?;
        Ok(Authorization { caller: Caller::Owner(identity.uid), _place: Some(place) })
    }

    fn acquire(&self, places: Places, identity: &Identity) -> Result<Place, Error> {
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = in_progress.iter().filter(|((kind, _), _)| *kind == places);
        let all: usize = of_kind.map(|(_, count)| count).sum();
        let key = (places, identity.share.clone());
        let own = in_progress.get(&key).copied().unwrap_or_default();
        let uid = identity.uid;
        if own >= places.per_share() {
            return Err(Error::Busy(match places {
                Places::Loop => format!("uid {uid} has too many requests under way; ask again"),
                Places::Polkit => format!(
                    "uid {uid} has {own} requests that wait for a password or for polkit, the maximum; ask again"
                ),
            }));
        }
        if all >= places.in_total() {
            return Err(Error::Busy(format!(
                "users without privilege have {all} requests under way, as many as all may have together; ask again"
            )));
        }
        in_progress.insert(key.clone(), own.saturating_add(1));
        Ok(Place { authorizer: self.clone(), key })
    }

    /// The caller, as reported by the bus.
    async fn identify(&self, connection: &Connection, header: &Header<'_>) -> Result<Identity, Error> {
        if let Some(sender) = header.sender() {
            return self.callers.identify(sender.as_str()).await;
        }
        // Without a bus, the kernel reports the peer of the socket.
        let credentials = connection.peer_creds().await.ok();
        let uid = credentials.and_then(|c| c.unix_user_id()).ok_or_else(unknown_caller)?;
        Ok(Identity { uid, share: Share::Uid(uid) })
    }
}

async fn polkit(
    operation: Operation,
    uid: u32,
    connection: &Connection,
    header: &Header<'_>,
) -> Result<(), Error> {
    // Only if the caller allows interactive authorization.
    let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let timeout = if interactive { INTERACTIVE_TIMEOUT } else { POLKIT_TIMEOUT };
    let query = PolkitQuery { operation, uid, interactive };
    let id = format!("memcg-bpf-{}", CANCELLATION.fetch_add(1, Ordering::Relaxed));
    match tokio::time::timeout(timeout, query.check(connection, header, &id)).await {
        Ok(result) => result,
        Err(_) => {
            query.cancel(connection, &id).await;
            Err(query.denied(&format!(", because polkit did not reply within {} s", timeout.as_secs())))
        }
    }
}

/// Numbers the queries, so that a query can be cancelled.
static CANCELLATION: AtomicU64 = AtomicU64::new(0);

/// A query to polkit.
#[derive(Debug, Clone, Copy)]
struct PolkitQuery {
    operation: Operation,
    uid: u32,
    interactive: bool,
}

impl PolkitQuery {
    fn denied(self, why: &str) -> Error {
        let (uid, operation) = (self.uid, self.operation.description());
        Error::AccessDenied(format!("uid {uid} may not {operation}{why}; use sudo"))
    }

    async fn authority(connection: &Connection) -> zbus::Result<AuthorityProxy<'_>> {
        AuthorityProxy::builder(connection).cache_properties(zbus::proxy::CacheProperties::No).build().await
    }

    async fn check(self, connection: &Connection, header: &Header<'_>, id: &str) -> Result<(), Error> {
        let Ok(subject) = Subject::new_for_message_header(header) else { return Err(self.denied("")) };
        let flags = if self.interactive {
            CheckAuthorizationFlags::ALLOW_USER_INTERACTION
        } else {
            CheckAuthorizationFlags::default()
        };
        let action = self.operation.action();
        let answer = async {
            let polkit = Self::authority(connection).await?;
            polkit.check_authorization(&subject, action, &HashMap::new(), flags, id).await
        };
        match answer.await {
            Ok(result) if result.is_authorized => Ok(()),
            Ok(result) if result.is_challenge => {
                Err(self.denied(&format!(" without a password (polkit action {action})")))
            }
            Ok(_) => Err(self.denied(&format!(" (polkit action {action})"))),
            Err(error) => {
                tracing::debug!("polkit: {error}");
                Err(self.denied(", and polkit, which could let it, cannot be asked"))
            }
        }
    }

    /// Removes the prompt for a password.
    async fn cancel(self, connection: &Connection, id: &str) {
        let cancelled = async { Self::authority(connection).await?.cancel_check_authorization(id).await };
        match tokio::time::timeout(POLKIT_TIMEOUT, cancelled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cancelling a query to polkit"),
            Err(_) => tracing::debug!("polkit does not reply"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: u32, share: Share) -> Identity {
        Identity { uid, share }
    }

    /// The places that a caller gets.
    fn take(authorizer: &Authorizer, places: Places, caller: &Identity) -> Vec<Place> {
        (0..1000).map_while(|_| authorizer.acquire(places, caller).ok()).collect()
    }

    #[test]
    fn subordinate_uids_share_the_places_of_their_user() {
        let authorizer = Authorizer::default();
        let held: Vec<Place> = (100_000..100_100)
            .flat_map(|uid| take(&authorizer, Places::Polkit, &identity(uid, Share::User(1000))))
            .collect();
        assert_eq!(held.len(), 4);
        let error = authorizer.acquire(Places::Polkit, &identity(100_007, Share::User(1000))).unwrap_err();
        let wanted =
            "uid 100007 has 4 requests that wait for a password or for polkit, the maximum; ask again";
        assert_eq!(error, Error::Busy(wanted.to_owned()));
        assert_eq!(take(&authorizer, Places::Polkit, &identity(1001, Share::User(1001))).len(), 4);
    }

    #[test]
    fn callers_that_wait_for_a_password_take_no_place_of_engines() {
        let authorizer = Authorizer::default();
        let mut held: Vec<Place> = (1000..1100)
            .flat_map(|uid| take(&authorizer, Places::Polkit, &identity(uid, Share::User(uid))))
            .collect();
        assert_eq!(held.len(), 16, "of all users together");
        let engine = identity(1000, Share::User(1000));
        assert_eq!(take(&authorizer, Places::Loop, &engine).len(), 8);
        held.extend(
            (1000..1100).flat_map(|uid| take(&authorizer, Places::Loop, &identity(uid, Share::User(uid)))),
        );
        let error = authorizer.owner(identity(2000, Share::User(2000))).unwrap_err().to_string();
        assert!(error.starts_with("users without privilege have 64 requests under way"), "{error}");
        held.clear();
        assert!(authorizer.in_progress.lock().unwrap().is_empty());
        drop(authorizer.owner(engine).unwrap());
        assert!(authorizer.in_progress.lock().unwrap().is_empty());
    }

    #[test]
    fn actions_match_polkit_policy() {
        let shipped = include_str!("../../systemd/org.memcg.Bpf1.policy");
        for operation in [Operation::Manage, Operation::Inspect] {
            assert!(shipped.contains(&format!("<action id=\"{}\">", operation.action())), "{operation:?}");
        }
        assert_eq!(shipped.matches("<action id=").count(), 2);
    }
}
