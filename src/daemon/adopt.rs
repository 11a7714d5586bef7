//! Finding again what an earlier daemon, or a hook that could not reach us, recorded on cgroups.

use super::authority::Caller;
use super::requests::forbidden;
use super::state::Daemon;
use super::walks::Found;
use crate::cgroup::{mount, xattr};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::source::xattr::{CgroupRecord, RecordError, owner_request};

impl Daemon {
    /// Takes up what a walk found. Reads it again: since then it may have been taken back.
    pub async fn adopt(&mut self, found: Found) {
        let Found { path, wish_of } = found;
        match xattr::read_record(&path) {
            Ok(Some(bytes)) => self.adopt_one(&path, &bytes).await,
            Ok(None) => {}
            // Vanished meanwhile, most likely.
            Err(error) => tracing::debug!(%error, %path, "reading the record"),
        }
        // Last: it may be newer than what was recorded of it.
        let Some(uid) = wish_of else { return };
        if let Ok(Some(wish)) = xattr::read_owner_policy(&path) {
            self.adopt_wish(&path, uid, &wish).await;
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
                self.apply(Input::Request { cgroup, path: path.clone(), request }).await;
            }
            Err(why) => tracing::warn!("{path}: the wish of its owner is not followed: {why}"),
        }
    }

    async fn adopt_one(&mut self, path: &CgroupPath, bytes: &[u8]) {
        let record = match CgroupRecord::parse(bytes) {
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
                drop(xattr::remove_record(path));
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
        if let Ok(cgroup) = mount::cgroup_id(path) {
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
