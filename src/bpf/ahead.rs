//! Loading a policy beside the daemon's loop, which goes on answering meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use libbpf_rs::{Btf, MapHandle};

use super::error::BpfError;
use super::log;
use super::policy::PolicyObject;

/// All it takes to load one policy, for any thread.
pub struct Loading {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) shared: BTreeMap<String, MapHandle>,
}

/// One policy in the kernel; nothing of it is attached.
pub struct Loaded {
    pub(super) name: String,
    pub(super) object: PolicyObject,
}

impl Loading {
    /// Loads it: the verifier needs some tenths of a second, on a slow machine seconds.
    pub fn load(self) -> Result<Loaded, BpfError> {
        // libbpf shares no BTF between threads.
        let (btf, _) = log::quietly(Btf::from_vmlinux);
        let object =
            PolicyObject::load(&self.name, &self.path, &btf.map_err(BpfError::NoBtf)?, &self.shared)?;
        Ok(Loaded { name: self.name, object })
    }
}
