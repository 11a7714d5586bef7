//! The only room that touches cgroupfs: where it is mounted, ids and paths, memory files, records on cgroups,
//! processes' cgroups. Knows nothing of policies.

pub mod memory;
pub mod mount;
pub mod process;
pub mod record;
pub mod tree;
