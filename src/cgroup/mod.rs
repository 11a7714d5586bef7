//! The only room that touches cgroupfs: where it is mounted, ids and paths, memory files, records on cgroups,
//! processes and their ends. Knows nothing of policies and of why something is to be done.

pub mod kill;
pub mod knob;
pub mod memory;
pub mod mount;
pub mod owner;
pub mod process;
pub mod reclaim;
pub mod record;
pub mod tree;
pub mod victim;
