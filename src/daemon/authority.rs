//! Who may ask for what. Root and our own user: everything. Owners of a delegated cgroup: what concerns that cgroup, which
//! the daemon's loop judges once more where it knows the cgroup's id. Everybody else: what polkit says.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::BusName;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::command::Refusal;
use crate::cgroup::delegation;
use crate::names::CgroupPath;

/// Calls of one user without privilege that are under way at once; more are refused. polkit may wait for a password.
const CALLS_PER_USER: usize = 8;
/// The same for all such users together: one person can have many uids.
const CALLS_OF_USERS: usize = 32;

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Change who is governed by what, and whether policies act.
    Manage,
    /// See who is governed by what.
    Look,
}

impl Deed {
    /// The name of polkit's action, in systemd/org.memcg.Bpf1.policy.
    const fn action(self) -> &'static str {
        match self {
            Deed::Manage => "org.memcg.Bpf1.manage",
            Deed::Look => "org.memcg.Bpf1.inspect",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Deed::Manage => "change memory policies",
            Deed::Look => "see memory policies",
        }
    }
}

/// Whom a command comes from, and in which quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// May ask for anything.
    Administrator(u32),
    /// May ask for policies that bind only themselves, on cgroups that were delegated to this uid.
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

/// Decides; counts what is under way for whom.
#[derive(Debug, Clone, Default)]
pub struct Authority {
    under_way: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// Leave to go on. Counts against the caller until it is dropped.
#[derive(Debug)]
pub struct Permit {
    /// Who was let in.
    pub caller: Caller,
    counted: Option<Authority>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(authority) = self.counted.take() {
            authority.leave(self.caller.uid());
        }
    }
}

impl Authority {
    /// Lets root in, owners of `cgroup` where one is named, and whom polkit lets in.
    pub async fn permit(
        &self,
        deed: Deed,
        cgroup: Option<&CgroupPath>,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Permit, Refusal> {
        let uid = uid(connection, header).await?;
        if privileged(uid) {
            return Ok(Permit { caller: Caller::Administrator(uid), counted: None });
        }
        let mut permit = self.enter(uid)?;
        if cgroup.is_some_and(|path| delegation::delegated_cgroup(path, uid).is_ok()) {
            return Ok(permit);
        }
        polkit(deed, uid, connection, header).await?;
        permit.caller = Caller::Administrator(uid);
        Ok(permit)
    }

    /// Lets in whoever starts containers: root, and users for their own cgroups. Does not ask polkit: nobody types a
    /// password while a container starts.
    pub async fn engine(&self, connection: &Connection, header: &Header<'_>) -> Result<Permit, Refusal> {
        let uid = uid(connection, header).await?;
        if privileged(uid) {
            return Ok(Permit { caller: Caller::Administrator(uid), counted: None });
        }
        self.enter(uid)
    }

    fn enter(&self, uid: u32) -> Result<Permit, Refusal> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = under_way.values().sum();
        let own = under_way.get(&uid).copied().unwrap_or_default();
        if own >= CALLS_PER_USER {
            return Err(Refusal::Busy(format!("uid {uid} has too many requests under way; ask again")));
        }
        if all >= CALLS_OF_USERS {
            // Whoever comes now need not have any.
            return Err(Refusal::Busy(format!(
                "users without privilege have {CALLS_OF_USERS} requests under way, as many as all may have together; ask again"
            )));
        }
        under_way.insert(uid, own.saturating_add(1));
        Ok(Permit { caller: Caller::Owner(uid), counted: Some(self.clone()) })
    }

    fn leave(&self, uid: u32) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = under_way.get_mut(&uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                under_way.remove(&uid);
            }
        }
    }
}

fn privileged(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// The caller's uid, by the bus driver's word, not the caller's.
async fn uid(connection: &Connection, header: &Header<'_>) -> Result<u32, Refusal> {
    match header.sender() {
        Some(sender) => {
            let bus = DBusProxy::new(connection).await.map_err(|_| unknown_caller())?;
            let sender = BusName::from(sender.clone());
            bus.get_connection_unix_user(sender).await.map_err(|_| unknown_caller())
        }
        // Without a bus the kernel tells who is at the other end of the socket.
        None => connection.peer_creds().await.ok().and_then(|c| c.unix_user_id()).ok_or_else(unknown_caller),
    }
}

async fn polkit(deed: Deed, uid: u32, connection: &Connection, header: &Header<'_>) -> Result<(), Refusal> {
    let denied =
        |why: &str| Refusal::AccessDenied(format!("uid {uid} may not {}{why}; use sudo", deed.words()));
    let Ok(subject) = Subject::new_for_message_header(header) else { return Err(denied("")) };
    // Only where the caller said that a person is there to be asked.
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
        polkit.check_authorization(&subject, deed.action(), &HashMap::new(), flags, "").await
    };
    match answer.await {
        Ok(result) if result.is_authorized => Ok(()),
        Ok(result) if result.is_challenge => {
            Err(denied(&format!(" without a password (polkit action {})", deed.action())))
        }
        Ok(_) => Err(denied(&format!(" (polkit action {})", deed.action()))),
        Err(error) => {
            tracing::debug!("polkit: {error}");
            Err(denied(", and polkit, which could let it, cannot be asked"))
        }
    }
}

/// What a caller is told that has left the bus, or is not known to it.
pub fn unknown_caller() -> Refusal {
    Refusal::Failed("the bus does not say who is calling; nothing was changed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_user_has_under_way_is_bounded_and_so_is_what_all_have() {
        let authority = Authority::default();
        let mut held: Vec<Permit> = (0..CALLS_PER_USER).map(|_| authority.enter(1000).unwrap()).collect();
        let refusal = authority.enter(1000).unwrap_err();
        assert_eq!(refusal, Refusal::Busy("uid 1000 has too many requests under way; ask again".to_owned()));
        for uid in 1001.. {
            match authority.enter(uid) {
                Ok(permit) => held.push(permit),
                Err(refusal) => {
                    let sentence = refusal.to_string();
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
        assert!(authority.under_way.lock().unwrap().is_empty());
        drop(authority.enter(1000).unwrap());
    }

    #[test]
    fn the_actions_are_those_that_polkit_is_told_of() {
        let shipped = include_str!("../../systemd/org.memcg.Bpf1.policy");
        for deed in [Deed::Manage, Deed::Look] {
            assert!(shipped.contains(&format!("<action id=\"{}\">", deed.action())), "{deed:?}");
        }
        assert_eq!(shipped.matches("<action id=").count(), 2);
    }
}
