//! Adopts the records of cgroups, which an earlier daemon or a hook wrote.

use super::eligibility::not_allowed;
use super::methods::authorized_cgroup;
use super::record_scan::RecordFound;
use super::state::Daemon;
use crate::cgroup::{mount, xattr};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::service::authorize::Caller;
use crate::source::xattr::{CgroupRecord, RecordError, owner_request};

/// Adopts a record that a scan found. The record is read again, because it may have been changed since then.
pub async fn adopt(daemon: &mut Daemon, found: RecordFound) {
    let RecordFound { path, owner } = found;
    match xattr::read_record(&path) {
        Ok(Some(bytes)) => adopt_one(daemon, &path, &bytes).await,
        Ok(None) => {}
        // The cgroup was most likely removed in the meantime.
        Err(error) => tracing::debug!(%error, %path, "reading the record"),
    }
    // After the record: the attribute may be newer.
    let Some(uid) = owner else { return };
    if let Ok(Some(policy)) = xattr::read_owner_policy(&path) {
        adopt_owner_policy(daemon, &path, uid, &policy).await;
    }
}

/// Adopts the request of the owner of a delegated cgroup. The attribute is ignored on other cgroups: a user who can
/// write a service's cgroup could override the drop-ins of the service.
async fn adopt_owner_policy(daemon: &mut Daemon, path: &CgroupPath, uid: u32, bytes: &[u8]) {
    let policy = owner_request(bytes).map_err(|error| error.to_string());
    let asked = match (policy, authorized_cgroup(daemon, path.clone(), Caller::Owner(uid))) {
        (Ok(request), Ok(cgroup)) => Ok((cgroup, request)),
        (Err(why), _) => Err(why),
        (_, Err(refusal)) => Err(refusal.to_string()),
    };
    match asked {
        // Errors in the line are kept, and reported with the cgroup.
        Ok((cgroup, request)) => {
            daemon.apply(Input::Request { cgroup, request }).await;
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
                // Without the hint to remove the record, which is removed here.
                RecordError::Malformed(why) => why,
                other => other.to_string(),
            };
            tracing::warn!("{path}: its record cannot be used and is removed: {why}");
            drop(xattr::remove_record(path));
            return;
        }
    };
    if path.is_root() {
        // The record of the root cgroup contains only the pause.
        if record.paused_until.is_some() && !daemon.actuator.pause.is_active() {
            daemon.actuator.set_pause(record.paused_until);
        }
        return;
    }
    if let Some(sentence) = not_allowed(path) {
        tracing::warn!("{sentence}");
        return;
    }
    if let Ok(cgroup) = mount::cgroup(path.clone()) {
        if !record.requests.is_empty() {
            let (cgroup, requests) = (cgroup.clone(), record.requests);
            daemon.apply(Input::Adopt { cgroup, requests }).await;
        }
        // After the policies that requested these constraints.
        if !record.knobs.is_empty() {
            daemon.actuator.adopt(cgroup, record.knobs);
            daemon.publish_actions().await;
        }
    }
}
