//! The only module that accesses cgroupfs: the mount point, ids and paths, memory files, xattrs, processes and kills.
//! Does not depend on policies.

pub mod delegation;
pub mod directory;
pub mod kill;
pub mod knob;
pub mod memory;
pub mod mount;
pub mod process;
pub mod reclaim;
pub mod tree;
pub mod victim;
pub mod xattr;
