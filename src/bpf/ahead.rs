//! Loading a policy beside the daemon's loop, which goes on answering meanwhile.

use std::collections::BTreeMap;

use libbpf_rs::{Btf, MapHandle};

use super::catalog::ObjectFile;
use super::error::BpfError;
use super::log;
use super::policy::PolicyObject;

/// One policy in the kernel; nothing of it is attached.
pub struct Loaded {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) object: PolicyObject,
}

/// What it takes to load policies on any thread.
pub struct Loader {
    shared: BTreeMap<String, MapHandle>,
}

impl Loader {
    /// With the maps that policies share with core.
    pub(super) fn new(shared: &BTreeMap<String, MapHandle>) -> Result<Self, BpfError> {
        let copy = |map| MapHandle::try_from(map).map_err(|why| BpfError::Map { map: "core", why });
        let shared = shared.iter().map(|(name, map)| Ok((name.clone(), copy(map)?)));
        Ok(Loader { shared: shared.collect::<Result<_, BpfError>>()? })
    }

    /// Loads a policy from its file, if that is as it was looked at: the verifier needs some tenths of a second, on a slow
    /// machine seconds.
    pub fn load(&self, name: &str, file: &ObjectFile) -> Result<Loaded, BpfError> {
        // libbpf shares no BTF between threads.
        let (btf, _) = log::quietly(Btf::from_vmlinux);
        let object = PolicyObject::load(name, file, &btf.map_err(BpfError::NoBtf)?, &self.shared)?;
        Ok(Loaded { name: name.to_owned(), file: file.clone(), object })
    }
}

/// All it takes to load one policy.
pub struct Loading {
    pub(super) name: String,
    pub(super) file: ObjectFile,
    pub(super) loader: Loader,
}

impl Loading {
    /// Loads it.
    pub fn load(self) -> Result<Loaded, BpfError> {
        self.loader.load(&self.name, &self.file)
    }
}
