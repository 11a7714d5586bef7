//! Finding again what an earlier daemon, or a hook that could not reach us, recorded on cgroups.

use super::requests::forbidden;
use super::state::Daemon;
use crate::cgroup::{mount, record, tree};
use crate::engine::Input;
use crate::names::CgroupPath;
use crate::source::record::{Record, RecordError};

impl Daemon {
    /// Walks the cgroup tree for records.
    pub async fn adopt(&mut self) {
        for path in tree::all(&CgroupPath::root()) {
            let bytes = match record::read_record(&path) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) => {
                    // Vanished meanwhile, most likely.
                    tracing::debug!(%error, %path, "reading the record");
                    continue;
                }
            };
            self.adopt_one(&path, &bytes).await;
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
