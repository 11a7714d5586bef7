//! Authorizes callers. Root and the daemon's own user may call everything. Owners of a delegated cgroup may manage
//! that cgroup; the daemon's loop checks this again by the cgroup's id. For other users, polkit decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::BusName;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::error::Error;
use crate::cgroup::delegation;
use crate::names::CgroupPath;

/// Limit of the calls in progress of one unprivileged user, because polkit may wait for a password.
const CALLS_PER_USER: usize = 8;
/// Limit of the calls in progress of all unprivileged users together, because one person can have many uids.
const CALLS_OF_USERS: usize = 32;

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

/// Authorizes calls, and counts those in progress for each user.
#[derive(Debug, Clone, Default)]
pub struct Authorizer {
    in_progress: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// An authorized call. It counts as in progress until it is dropped.
#[derive(Debug)]
pub struct Authorization {
    /// The caller.
    pub caller: Caller,
    counted: Option<Authorizer>,
}

impl Drop for Authorization {
    fn drop(&mut self) {
        if let Some(authorizer) = self.counted.take() {
            authorizer.release(self.caller.uid());
        }
    }
}

impl Authorizer {
    /// Authorizes root, the owner of `cgroup` if one is given, and users that polkit authorizes.
    pub async fn authorize(
        &self,
        operation: Operation,
        cgroup: Option<&CgroupPath>,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Authorization, Error> {
        let uid = uid(connection, header).await?;
        if is_privileged(uid) {
            return Ok(Authorization { caller: Caller::Administrator(uid), counted: None });
        }
        let mut authorization = self.acquire(uid)?;
        if cgroup.is_some_and(|path| delegation::delegated_cgroup(path, uid).is_ok()) {
            return Ok(authorization);
        }
        polkit(operation, uid, connection, header).await?;
        authorization.caller = Caller::Administrator(uid);
        Ok(authorization)
    }

    /// Authorizes callers that start containers: root, and users for their own cgroups. Does not query polkit,
    /// because no password can be entered while a container starts.
    pub async fn authorize_engine(
        &self,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Authorization, Error> {
        let uid = uid(connection, header).await?;
        if is_privileged(uid) {
            return Ok(Authorization { caller: Caller::Administrator(uid), counted: None });
        }
        self.acquire(uid)
    }

    fn acquire(&self, uid: u32) -> Result<Authorization, Error> {
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = in_progress.values().sum();
        let own = in_progress.get(&uid).copied().unwrap_or_default();
        if own >= CALLS_PER_USER {
            return Err(Error::Busy(format!("uid {uid} has too many requests under way; ask again")));
        }
        if all >= CALLS_OF_USERS {
            // The calls of all users are limited together.
            return Err(Error::Busy(format!(
                "users without privilege have {CALLS_OF_USERS} requests under way, as many as all may have together; ask again"
            )));
        }
        in_progress.insert(uid, own.saturating_add(1));
        Ok(Authorization { caller: Caller::Owner(uid), counted: Some(self.clone()) })
    }

    fn release(&self, uid: u32) {
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = in_progress.get_mut(&uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                in_progress.remove(&uid);
            }
        }
    }
}

fn is_privileged(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// The caller's uid, as reported by the bus.
async fn uid(connection: &Connection, header: &Header<'_>) -> Result<u32, Error> {
    match header.sender() {
        Some(sender) => {
            let bus = DBusProxy::new(connection).await.map_err(|_| unknown_caller())?;
            let sender = BusName::from(sender.clone());
            bus.get_connection_unix_user(sender).await.map_err(|_| unknown_caller())
        }
        // Without a bus, the kernel reports the peer of the socket.
        None => connection.peer_creds().await.ok().and_then(|c| c.unix_user_id()).ok_or_else(unknown_caller),
    }
}

async fn polkit(
    operation: Operation,
    uid: u32,
    connection: &Connection,
    header: &Header<'_>,
) -> Result<(), Error> {
    let denied = |why: &str| {
        Error::AccessDenied(format!("uid {uid} may not {}{why}; use sudo", operation.description()))
    };
    let Ok(subject) = Subject::new_for_message_header(header) else { return Err(denied("")) };
    // Only if the caller allows interactive authorization.
    let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let flags = if interactive {
        CheckAuthorizationFlags::ALLOW_USER_INTERACTION
    } else {
        CheckAuthorizationFlags::default()
    };
    let answer = async {
        let polkit = AuthorityProxy::builder(connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        polkit.check_authorization(&subject, operation.action(), &HashMap::new(), flags, "").await
    };
    match answer.await {
        Ok(result) if result.is_authorized => Ok(()),
        Ok(result) if result.is_challenge => {
            Err(denied(&format!(" without a password (polkit action {})", operation.action())))
        }
        Ok(_) => Err(denied(&format!(" (polkit action {})", operation.action()))),
        Err(error) => {
            tracing::debug!("polkit: {error}");
            Err(denied(", and polkit, which could let it, cannot be asked"))
        }
    }
}

/// The error for a caller that has left the bus, or is unknown to it.
pub fn unknown_caller() -> Error {
    Error::Failed("the bus does not say who is calling; nothing was changed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_limited_per_user_and_in_total() {
        let authorizer = Authorizer::default();
        let mut held: Vec<Authorization> =
            (0..CALLS_PER_USER).map(|_| authorizer.acquire(1000).unwrap()).collect();
        let error = authorizer.acquire(1000).unwrap_err();
        assert_eq!(error, Error::Busy("uid 1000 has too many requests under way; ask again".to_owned()));
        for uid in 1001.. {
            match authorizer.acquire(uid) {
                Ok(authorization) => held.push(authorization),
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(
                        sentence.starts_with("users without privilege have 32 requests under way"),
                        "{sentence}"
                    );
                    break;
                }
            }
        }
        assert_eq!(held.len(), CALLS_OF_USERS);
        held.clear();
        assert!(authorizer.in_progress.lock().unwrap().is_empty());
        drop(authorizer.acquire(1000).unwrap());
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
