//! Loads a policy on another thread, while the daemon handles inputs.

use std::collections::BTreeMap;

use libbpf_rs::{Btf, MapHandle};

use super::error::BpfError;
use super::libbpf_log;
use super::objects::ObjectFile;
use super::policy_object::PolicyObject;

/// A loaded policy whose programs are not attached.
pub struct PreparedPolicy {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) object: PolicyObject,
}

/// Loads policies on any thread.
pub struct PolicyLoader {
    shared: BTreeMap<String, MapHandle>,
}

impl PolicyLoader {
    /// A loader with the maps that policies share with core.
    pub(super) fn new(shared: &BTreeMap<String, MapHandle>) -> Result<Self, BpfError> {
        let copy = |map| MapHandle::try_from(map).map_err(|why| BpfError::Map { map: "core", why });
        let shared = shared.iter().map(|(name, map)| Ok((name.clone(), copy(map)?)));
        Ok(PolicyLoader { shared: shared.collect::<Result<_, BpfError>>()? })
    }

    /// Loads a policy from its file, unless the file has changed. Takes tenths of a second, and on a slow machine
    /// seconds, because of the verifier.
    pub fn load(&self, name: &str, file: &ObjectFile) -> Result<PreparedPolicy, BpfError> {
        // libbpf's BTF cannot be shared between threads.
        let (btf, _) = libbpf_log::capture(Btf::from_vmlinux);
        let object = PolicyObject::load(name, file, &btf.map_err(BpfError::NoBtf)?, &self.shared)?;
        Ok(PreparedPolicy { name: name.to_owned(), file: file.clone(), object })
    }
}

/// The loading of one policy.
pub struct LoadTask {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) loader: PolicyLoader,
}

impl LoadTask {
    /// Loads the policy.
    pub fn load(self) -> Result<PreparedPolicy, BpfError> {
        self.loader.load(&self.name, &self.file)
    }
}
