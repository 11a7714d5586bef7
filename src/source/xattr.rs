//! The extended attributes of a cgroup: the daemon's record, so that a restarted daemon finds every binding again,
//! and the policy line of an owner. Parses bytes and returns requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::action::Knob;
use crate::policy::normalize::normalize;
use crate::policy::request::{Origin, Request};
use crate::text::printable::{QUOTE_ERROR_MAX, quote};

/// The attribute with the record: JSON, which only root can write.
pub const RECORD_XATTR: &str = "trusted.memcg_bpf";

/// The attribute in which a cgroup's owner may write a plain policy line.
pub const OWNER_POLICY_XATTR: &str = "user.memcg_bpf";

/// Longest record in bytes: the shares of all origins and of the knobs. The kernel keeps extended attributes of cgroups
/// in unswappable memory.
pub const RECORD_MAX: usize = 24_576;

/// The share of each origin in bytes: a line of full length with its location. No origin can use the share of another,
/// nor that of the knobs.
pub const ORIGIN_MAX: usize = 5632;

/// The origin of the requests that hooks record.
const HOOK_ORIGIN: Origin = Origin::Annotation;

/// The share of the knobs in bytes. Knobs that exceed it are recorded without their constraints.
const KNOBS_MAX: usize = 1920;

/// Longest owner's line in bytes: that of a policy line.
pub const OWNER_LINE_MAX: usize = 4096;

/// The version of the record.
const VERSION: u32 = 1;

/// Why an attribute is not a valid record, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Longer than [`RECORD_MAX`].
    #[error("the record {RECORD_XATTR} is {0} bytes long, the most is {RECORD_MAX}")]
    TooLong(usize),
    /// The attribute is not a record.
    #[error(
        "the record {RECORD_XATTR} cannot be read: {0}; remove it with: setfattr -x {RECORD_XATTR} CGROUP"
    )]
    Malformed(String),
    /// The record was written by another version.
    #[error(
        "the record {RECORD_XATTR} has version {0}, this program knows version {VERSION}; it was written by a newer memcg-bpf"
    )]
    Version(u64),
    /// The requests of an origin exceed its share.
    #[error(
        "the policy line of the {0} needs {1} bytes in {RECORD_XATTR}, and {ORIGIN_MAX} are the most for each origin; shorten \
         the line"
    )]
    DoesNotFit(Origin, usize),
    /// The owner's line is too long.
    #[error("{OWNER_POLICY_XATTR} is {0} bytes long, the most is {OWNER_LINE_MAX}")]
    OwnerTooLong(usize),
    /// The owner's line is not UTF-8.
    #[error("{OWNER_POLICY_XATTR} is not UTF-8 text")]
    OwnerNotText,
}

/// The requests for a cgroup and its changed knobs, as recorded on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupRecord {
    /// All requests, in no particular order.
    pub requests: Vec<Request>,
    /// The knobs that contain a value of the daemon.
    pub knobs: Vec<KnobRecord>,
    /// On the root cgroup: the end of a pause, in nanoseconds since boot.
    pub paused_until: Option<u64>,
}

/// A knob that contains, or may soon contain, a value of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnobRecord {
    /// The knob.
    pub knob: Knob,
    /// The value that another program wrote last, which is restored.
    pub original: u64,
    /// The values that the daemon wrote last, and may have written since. Any other value is that of another program.
    pub written: Vec<u64>,
    /// The constraint of each policy.
    pub constraints: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct RecordV1 {
    version: u32,
    requests: Vec<Request>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    knobs: Vec<KnobRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_until: Option<u64>,
}

/// Parsed first, because another version may have another layout.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl CgroupRecord {
    /// Parses the value of [`RECORD_XATTR`].
    pub fn parse(bytes: &[u8]) -> Result<CgroupRecord, RecordError> {
        if bytes.len() > RECORD_MAX {
            return Err(RecordError::TooLong(bytes.len()));
        }
        let malformed =
            |error: serde_json::Error| RecordError::Malformed(quote(&error.to_string(), QUOTE_ERROR_MAX));
        let Version { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != u64::from(VERSION) {
            return Err(RecordError::Version(version));
        }
        let stored: RecordV1 = serde_json::from_slice(bytes).map_err(malformed)?;
        Ok(CgroupRecord { requests: stored.requests, knobs: stored.knobs, paused_until: stored.paused_until })
    }

    /// The bytes for [`RECORD_XATTR`], with normalized lines. What exceeds the share of its origin is refused, for half a
    /// record would be another policy.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        check_shares(&self.requests)?;
        let mut stored = RecordV1 {
            version: VERSION,
            requests: self.requests.iter().map(normalized).collect(),
            knobs: self.knobs.clone(),
            paused_until: self.paused_until,
        };
        if encoded_len(&stored.knobs) > KNOBS_MAX {
            // The original value must be restored; the constraints are requested again.
            stored.knobs.iter_mut().for_each(|knob| knob.constraints.clear());
        }
        let bytes = serde_json::to_vec(&stored).map_err(|error| RecordError::Malformed(error.to_string()))?;
        if bytes.len() > RECORD_MAX { Err(RecordError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// Replaces the requests, of which `before` were recorded last. A request that a hook has recorded since is kept
    /// until the daemon adopts it, unless the daemon has another request of the origin in the meantime. One that exceeds
    /// the share of its origin is left out: it is invalid, and reported as such.
    pub fn set_requests(&mut self, before: &[Request], mut requests: Vec<Request>) {
        let of_hook = |request: &&Request| request.origin == HOOK_ORIGIN;
        if requests.iter().filter(of_hook).eq(before.iter().filter(of_hook)) {
            let known: Vec<Request> = before.iter().map(normalized).collect();
            let added = |request: &Request| of_hook(&request) && !known.contains(&normalized(request));
            let added: Vec<Request> =
                self.requests.iter().filter(|request| added(request)).cloned().collect();
            requests.retain(|request| added.is_empty() || request.origin != HOOK_ORIGIN);
            requests.extend(added);
        }
        self.requests.clear();
        for request in requests {
            self.requests.push(request);
            if check_shares(&self.requests).is_err() {
                self.requests.pop();
            }
        }
    }

    /// True if there is nothing to record.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.knobs.is_empty() && self.paused_until.is_none()
    }

    /// Adds a request, which replaces an earlier one of the same origin, container and unit. Returns true if the
    /// record has changed.
    pub fn put(&mut self, request: Request) -> bool {
        let same = |old: &&mut Request| {
            old.origin == request.origin && old.container == request.container && old.unit == request.unit
        };
        match self.requests.iter_mut().find(same) {
            Some(old) if *old == request => false,
            Some(old) => {
                *old = request;
                true
            }
            None => {
                self.requests.push(request);
                true
            }
        }
    }
}

/// Fails if the requests of an origin exceed its share of the record.
pub fn check_shares(requests: &[Request]) -> Result<(), RecordError> {
    let mut used: BTreeMap<Origin, usize> = BTreeMap::new();
    for request in requests {
        let bytes = used.entry(request.origin).or_default();
        *bytes = bytes.saturating_add(encoded_len(&normalized(request)));
        if *bytes > ORIGIN_MAX {
            return Err(RecordError::DoesNotFit(request.origin, *bytes));
        }
    }
    Ok(())
}

fn normalized(request: &Request) -> Request {
    Request { line: normalize(&request.line), ..request.clone() }
}

fn encoded_len(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// The request in [`OWNER_POLICY_XATTR`], whose value is a plain policy line; line ends and a terminating zero, as `setfattr`
/// and shells add them, do not count. Whether the owner may ask for it is decided elsewhere.
pub fn owner_request(value: &[u8]) -> Result<Request, RecordError> {
    if value.len() > OWNER_LINE_MAX {
        return Err(RecordError::OwnerTooLong(value.len()));
    }
    let text = std::str::from_utf8(value).map_err(|_| RecordError::OwnerNotText)?;
    let line = text.trim_end_matches(['\0', '\n', '\r']).trim_matches([' ', '\t']);
    Ok(Request {
        origin: Origin::Xattr,
        location: OWNER_POLICY_XATTR.to_owned(),
        line: line.to_owned(),
        container: None,
        pod: None,
        unit: None,
    })
}

#[cfg(test)]
#[path = "xattr_tests.rs"]
mod tests;
