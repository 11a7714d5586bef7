//! Finding again what an earlier daemon, or a hook that could not reach us, recorded on cgroups.

use super::eligibility::not_allowed;
use super::methods::authorized_cgroup;
use super::record_scan::RecordFound;
use super::state::Daemon;
use crate::cgroup::{mount, xattr};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::service::authorize::Caller;
use crate::source::xattr::{CgroupRecord, RecordError, owner_request};

/// Takes up what a walk found. Reads it again: since then it may have been taken back.
pub async fn adopt(daemon: &mut Daemon, found: RecordFound) {
    let RecordFound { path, owner } = found;
    match xattr::read_record(&path) {
        Ok(Some(bytes)) => adopt_one(daemon, &path, &bytes).await,
        Ok(None) => {}
        // Most likely removed meanwhile.
        Err(error) => tracing::debug!(%error, %path, "reading the record"),
    }
    // Last: it may be newer than what was recorded of it.
    let Some(uid) = owner else { return };
    if let Ok(Some(policy)) = xattr::read_owner_policy(&path) {
        adopt_owner_policy(daemon, &path, uid, &policy).await;
    }
}

/// What the owner of a delegated cgroup wrote there. Nobody else's `user.` attribute counts: whoever may write a
/// service's cgroup could overrule the drop-ins of that service.
async fn adopt_owner_policy(daemon: &mut Daemon, path: &CgroupPath, uid: u32, bytes: &[u8]) {
    let policy = owner_request(bytes).map_err(|error| error.to_string());
    let asked = match (policy, authorized_cgroup(daemon, path, Caller::Owner(uid))) {
        (Ok(request), Ok(cgroup)) => Ok((cgroup, request)),
        (Err(why), _) => Err(why),
        (_, Err(refusal)) => Err(refusal.to_string()),
    };
    match asked {
        // Its errors are kept, and reported with the cgroup.
        Ok((cgroup, request)) => {
            daemon.apply(Input::Request { cgroup, path: path.clone(), request }).await;
        }
        Err(why) => tracing::warn!("{path}: ignoring policy requested by cgroup owner: {why}"),
    }
}

async fn adopt_one(daemon: &mut Daemon, path: &CgroupPath, bytes: &[u8]) {
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
        if record.paused_until.is_some() && !daemon.actuator.pause.is_active() {
            daemon.actuator.set_pause(record.paused_until);
        }
        return;
    }
    if let Some(sentence) = not_allowed(path) {
        tracing::warn!("{sentence}");
        return;
    }
    if let Ok(cgroup) = mount::cgroup_id(path) {
        if !record.requests.is_empty() {
            let (path, requests) = (path.clone(), record.requests);
            daemon.apply(Input::Adopt { cgroup, path, requests }).await;
        }
        // After the policies, whose wants these are.
        if !record.knobs.is_empty() {
            daemon.actuator.adopt(cgroup, path.clone(), record.knobs);
            daemon.publish_actions().await;
        }
    }
}
