//! The layouts and constants shared with the programs in `bpf/`. Names are those of `bpf/memcg_bpf.h` and
//! `bpf/core/`; `layout_is_that_of_the_object` compares the sizes with the object's BTF.

use std::path::Path;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};

/// Deepest level of a cgroup that can have a policy (`MEMCG_BPF_MAX_LEVEL`).
pub const MAX_LEVEL: usize = 32;
/// Longest path of a registration in bytes, with its terminating zero (`MEMCG_BPF_PATH_MAX`).
pub const PATH_MAX: usize = 256;
/// `MEMCG_BPF_BINDING_COUNT`: the subtree's counters are kept.
pub const BINDING_COUNT: u32 = 1;
/// `MEMCG_BPF_BINDING_DAEMON`: registered for the cgroup of the daemon that follows.
pub const BINDING_DAEMON: u32 = 2;
/// The map behind the variable `memcg_globals`: libbpf names it as the variable's section.
pub const GLOBALS: &str = ".data.memcg";

/// True for the maps of core that every policy object declares too, and that replace the object's own.
pub fn is_shared(map: &str) -> bool {
    map.starts_with("memcg_") || map == GLOBALS
}

/// Size of the header of a slot in a policy's `params` map, in bytes: the member `active`.
pub const SLOT_HEADER: usize = 8;

/// `enum memcg_bpf_op`.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Op {
    Unbind = 0,
    Bind = 1,
    Announce = 2,
    Machine = 3,
    Daemon = 4,
    Growth = 5,
    Kills = 6,
}

/// Encodes a `struct memcg_bpf_command`.
pub fn encode_command(op: Op, value: u64, slot: u32, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend_from_slice(&value.to_ne_bytes());
    for word in [op as u32, slot, flags, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// `struct memcg_bpf_binding`; its last member, `cgroup_ptr`, is set by the kernel side.
pub fn binding(slot: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, rest) = bytes.split_at_mut(4);
    low.copy_from_slice(&slot.to_ne_bytes());
    let (high, _) = rest.split_at_mut(4);
    high.copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// Encodes a `struct memcg_bpf_path`, zero-padded; `None` if the path is so long that the kernel's truncation of a
/// longer path would equal it.
pub fn path_key(path: &str) -> Option<[u8; PATH_MAX]> {
    let mut key = [0; PATH_MAX];
    if path.len() >= PATH_MAX.saturating_sub(1) {
        return None;
    }
    key.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
    Some(key)
}

/// The offset in bytes of a member of `struct memcg_bpf_globals` by the object's BTF; `None` if it has no such member.
pub fn global_offset(core: &Path, member: &str) -> Option<usize> {
    let btf = Btf::from_path(core).ok()?;
    let globals = btf.type_by_name::<Struct<'_>>("memcg_bpf_globals")?;
    let member = globals.iter().find(|m| m.name.is_some_and(|name| name == member))?;
    let MemberAttr::Normal { offset: bits } = member.attr else { return None };
    usize::try_from(bits).ok()?.checked_div(8)
}
