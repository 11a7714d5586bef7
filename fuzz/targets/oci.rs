//! What a runtime tells the hook: the state, `config.json`, and the kernel's `/proc/PID/cgroup`, in this order.

use memcg_bpf::names::{CGROUP_PATH_MAX, ContainerId};
use memcg_bpf::source::container_cgroup::{container_cgroup, process_cgroup};
use memcg_bpf::source::oci_config::{BundleConfig, HOOK};
use memcg_bpf::source::oci_state::{ContainerState, cgroups_path};

use super::{PART, part, parts, sentence};

/// Longest sentence: two paths of 512 characters and what is said about them.
const SENTENCE_MAX: usize = 8192;

pub fn run(bytes: &[u8]) {
    // The state is bytes, not text: what is no UTF-8 has to be refused.
    let json = bytes.split(|byte| char::from(*byte) == PART).next().unwrap_or_default();
    let parts = parts(bytes);
    let id = state(json).unwrap_or_else(|| ContainerId::parse("c1").unwrap());
    let path = match cgroups_path(part(&parts, 1).as_bytes()) {
        Ok(path) => path,
        Err(error) => {
            sentence(&error.to_string(), SENTENCE_MAX);
            None
        }
    };
    config(part(&parts, 1).as_bytes());
    if let Some(path) = &path {
        assert!(!path.is_empty() && path.len() <= CGROUP_PATH_MAX && !path.contains('\0'));
    }
    let proc_cgroup = part(&parts, 2);
    for path in [path.as_deref(), None, Some(part(&parts, 3))] {
        match container_cgroup(proc_cgroup, path, &id) {
            Ok(cgroup) => {
                assert!(!cgroup.is_root(), "the root cgroup is nobody's");
                assert!(process_cgroup(proc_cgroup).unwrap().is_within(&cgroup), "its process is in it");
            }
            Err(error) => sentence(&error.to_string(), SENTENCE_MAX),
        }
    }
}

/// The hook is added at most once, to whatever parses, and the rest stays.
fn config(json: &[u8]) {
    let config = match BundleConfig::parse(json) {
        Ok(config) => config,
        Err(error) => return sentence(&error.to_string(), SENTENCE_MAX),
    };
    let (annotated, required) = (config.is_annotated(), config.is_required());
    match config.with_hook(HOOK) {
        Ok(None) => {}
        Ok(Some(text)) => {
            let changed = BundleConfig::parse(&text).unwrap();
            assert_eq!((changed.is_annotated(), changed.is_required()), (annotated, required));
            assert_eq!(changed.with_hook(HOOK), Ok(None), "the hook is there");
        }
        Err(error) => sentence(&error.to_string(), SENTENCE_MAX),
    }
}

fn state(json: &[u8]) -> Option<ContainerId> {
    let state = match ContainerState::parse(json) {
        Ok(state) => state,
        Err(error) => {
            sentence(&error.to_string(), SENTENCE_MAX);
            return None;
        }
    };
    let request = state.policy_request();
    // Annotations are kept in no order: what is told must not depend on it.
    assert_eq!(Ok(&request), ContainerState::parse(json).map(|state| state.policy_request()).as_ref());
    assert!(request.warnings.len() <= 8, "{:?}", request.warnings);
    for warning in &request.warnings {
        sentence(warning, SENTENCE_MAX);
    }
    if let Some(line) = &request.line {
        assert!(!line.is_empty() && line.trim() == line, "{line:?}");
    }
    assert!(request.pid != Some(0));
    Some(state.id)
}
