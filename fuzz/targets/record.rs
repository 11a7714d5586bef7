//! The record on a cgroup and the line of its owner: bytes of extended attributes.

use memcg_bpf::policy::precedence::{AllowList, resolve};
use memcg_bpf::source::xattr::{CgroupRecord, OWNER_LINE_MAX, RECORD_MAX, RecordError, owner_request};

use super::policy_line::SENTENCE_MAX;
use super::{CATALOG, sentence};

pub fn run(bytes: &[u8]) {
    match owner_request(bytes) {
        Ok(request) => assert!(request.line.len() <= OWNER_LINE_MAX && request.container.is_none()),
        Err(error) => sentence(&error.to_string(), SENTENCE_MAX),
    }
    let record = match CgroupRecord::parse(bytes) {
        Ok(record) => record,
        Err(error) => return sentence(&error.to_string(), SENTENCE_MAX),
    };
    match record.encode() {
        Ok(again) => {
            assert!(again.len() <= RECORD_MAX);
            let stored = CgroupRecord::parse(&again).expect("what is written is read back");
            assert_eq!(stored.requests.len(), record.requests.len());
            // Lines are normalized, and once is enough.
            assert_eq!(stored.encode().as_ref(), Ok(&again));
        }
        // JSON can be shorter than ours, without the names of fields.
        Err(error) => {
            assert!(matches!(error, RecordError::DoesNotFit(..) | RecordError::TooLong(_)), "{error}");
            sentence(&error.to_string(), SENTENCE_MAX);
        }
    }
    let mut filled = CgroupRecord::default();
    for request in &record.requests {
        filled.put(request.clone());
        assert!(!filled.put(request.clone()), "the same once more changes nothing");
    }
    assert!(filled.requests.len() <= record.requests.len());
    let resolved = resolve(&filled.requests, &CATALOG, &AllowList::default());
    for fault in &resolved.errors {
        // A place is shown up to 1024 characters.
        sentence(&fault.to_string(), SENTENCE_MAX + 12_000);
    }
    for bound in &resolved.policies {
        assert_eq!(bound.params.bytes.len(), CATALOG.policies[&bound.name].size);
    }
}
