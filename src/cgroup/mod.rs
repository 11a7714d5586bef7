//! The only room that touches cgroupfs: where it is mounted, ids and paths, memory files, records on cgroups,
//! processes and their ends. Knows nothing of policies and of why something is to be done.

pub mod delegation;
pub mod kill;
pub mod knob;
pub mod memory;
pub mod mount;
pub mod process;
pub mod reclaim;
pub mod tree;
pub mod victim;
pub mod xattr;
