//! Loading a policy beside the daemon's loop, which goes on answering meanwhile.

use std::collections::BTreeMap;

use libbpf_rs::{Btf, MapHandle};

use super::catalog::ObjectFile;
use super::error::BpfError;
use super::log;
use super::policy::PolicyObject;

/// All it takes to load one policy, for any thread.
pub struct Loading {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) shared: BTreeMap<String, MapHandle>,
}

/// One policy in the kernel; nothing of it is attached.
pub struct Loaded {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) object: PolicyObject,
}

/// What it takes to load any policy, for another thread.
pub struct Loader {
    pub(super) shared: BTreeMap<String, MapHandle>,
}

impl Loader {
    /// Loads one policy from its file as that was looked at.
    pub fn load(&self, name: &str, file: &ObjectFile) -> Result<Loaded, BpfError> {
        let shared = copies(&self.shared)?;
        Loading { name: name.to_owned(), file: file.clone(), shared }.load()
    }
}

/// The same maps once more.
pub(super) fn copies(maps: &BTreeMap<String, MapHandle>) -> Result<BTreeMap<String, MapHandle>, BpfError> {
    let copy = |map| MapHandle::try_from(map).map_err(|why| BpfError::Map { map: "core", why });
    maps.iter().map(|(name, map)| Ok((name.clone(), copy(map)?))).collect()
}

impl Loading {
    /// Loads it: the verifier needs some tenths of a second, on a slow machine seconds.
    pub fn load(self) -> Result<Loaded, BpfError> {
        // libbpf shares no BTF between threads.
        let (btf, _) = log::quietly(Btf::from_vmlinux);
        let object =
            PolicyObject::load(&self.name, &self.file, &btf.map_err(BpfError::NoBtf)?, &self.shared)?;
        Ok(Loaded { name: self.name, file: self.file, object })
    }
}
