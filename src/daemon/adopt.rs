//! Finding again what an earlier daemon, or a hook that could not reach us, recorded on cgroups.

use std::collections::BTreeMap;

use super::authority::Caller;
use super::requests::{BINDINGS_PER_USER, forbidden};
use super::state::Daemon;
use crate::cgroup::{mount, owner, record, tree};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::source::record::{Record, RecordError, owner_request};

impl Daemon {
    /// Walks the cgroup tree for records.
    pub async fn adopt(&mut self) {
        // Wishes read of each user: anybody can have a walk made, and write more of them than it should take in.
        let mut wishes: BTreeMap<u32, usize> = BTreeMap::new();
        for path in tree::all(&CgroupPath::root()) {
            match record::read_record(&path) {
                Ok(Some(bytes)) => self.adopt_one(&path, &bytes).await,
                Ok(None) => {}
                // Vanished meanwhile, most likely.
                Err(error) => tracing::debug!(%error, %path, "reading the record"),
            }
            // Last: it may be newer than what was recorded of it.
            let Some(uid) = owner::user(&path) else { continue };
            let Ok(Some(wish)) = record::read_wish(&path) else { continue };
            let read = wishes.entry(uid).or_default();
            if *read == BINDINGS_PER_USER {
                tracing::warn!(
                    "uid {uid} has more than {BINDINGS_PER_USER} cgroups with wishes; the rest is not followed"
                );
            } else if *read < BINDINGS_PER_USER {
                self.adopt_wish(&path, uid, &wish).await;
            }
            *read = read.saturating_add(1);
        }
    }

    /// What the owner of a delegated cgroup wrote there. Nobody else's `user.` attribute counts: whoever may write a
    /// service's cgroup could overrule the drop-ins of that service.
    async fn adopt_wish(&mut self, path: &CgroupPath, uid: u32, bytes: &[u8]) {
        let wish = owner_request(bytes).map_err(|error| error.to_string());
        let asked = match (wish, self.target(path, Caller::Owner(uid))) {
            (Ok(request), Ok(cgroup)) => Ok((cgroup, request)),
            (Err(why), _) => Err(why),
            (_, Err(refusal)) => Err(refusal.to_string()),
        };
        match asked {
            // Its mistakes are kept, and told with the cgroup.
            Ok((cgroup, request)) => {
                self.apply(Input::Ask { cgroup, path: path.clone(), request }).await;
            }
            Err(why) => tracing::warn!("{path}: the wish of its owner is not followed: {why}"),
        }
    }

    async fn adopt_one(&mut self, path: &CgroupPath, bytes: &[u8]) {
        let record = match Record::parse(bytes) {
            Ok(record) => record,
            Err(error @ RecordError::Version(_)) => {
                tracing::warn!("{path}: its record is left for the version that wrote it: {error}");
                return;
            }
            Err(error) => {
                let why = match error {
                    // Without the advice to remove it.
                    RecordError::Malformed(why) => why,
                    other => other.to_string(),
                };
                tracing::warn!("{path}: its record cannot be used and is removed: {why}");
                drop(record::erase_record(path));
                return;
            }
        };
        if path.is_root() {
            // Of the root cgroup only a pause is recorded.
            if record.paused_until.is_some() && self.acting.paused_for().is_none() {
                self.acting.paused(record.paused_until);
            }
            return;
        }
        if let Some(sentence) = forbidden(path) {
            tracing::warn!("{sentence}");
            return;
        }
        if let Ok(cgroup) = mount::id(path) {
            if !record.requests.is_empty() {
                let (path, requests) = (path.clone(), record.requests);
                self.apply(Input::Adopt { cgroup, path, requests }).await;
            }
            // After the policies, whose wants these are.
            if !record.knobs.is_empty() {
                self.acting.adopt(cgroup, path.clone(), record.knobs);
                self.tell_acted().await;
            }
        }
    }
}
