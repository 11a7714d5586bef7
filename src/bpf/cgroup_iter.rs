//! Runs an `iter/cgroup` program for one cgroup, so that the program learns the cgroup's address without an event in
//! it. libbpf-rs supports only iterators by file descriptor; this module uses cgroup ids.

use std::io::Read;
use std::ptr::NonNull;

use libbpf_rs::libbpf_sys;
use libbpf_rs::{AsRawLibbpf, Iter, Link, ProgramMut};

use super::error::BpfError;
use crate::names::CgroupId;

/// Runs the program once for this cgroup. A removed cgroup is not an error.
pub fn run_for_cgroup(program: &ProgramMut<'_>, cgroup: CgroupId) -> Result<(), BpfError> {
    let fail = |why| BpfError::Run { program: "iter/cgroup", why };
    let link = match link(program, cgroup) {
        Ok(link) => link,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    let mut iter = Iter::new(&link).map_err(|e| fail(std::io::Error::other(e)))?;
    iter.read_to_end(&mut Vec::new()).map_err(fail)?;
    Ok(())
}

fn link(program: &ProgramMut<'_>, cgroup: CgroupId) -> Result<Link, std::io::Error> {
    let mut info = libbpf_sys::bpf_iter_link_info::default();
    info.cgroup.order = libbpf_sys::BPF_CGROUP_ITER_SELF_ONLY;
    info.cgroup.cgroup_id = cgroup.0;
    let options = libbpf_sys::bpf_iter_attach_opts {
        sz: size_of::<libbpf_sys::bpf_iter_attach_opts>() as libbpf_sys::size_t,
        link_info: &mut info,
        link_info_len: size_of_val(&info) as u32,
        ..Default::default()
    };
    // SAFETY: the program is loaded and lives longer than this call; libbpf copies what `options` points to.
    let link = unsafe { libbpf_sys::bpf_program__attach_iter(program.as_libbpf_object().as_ptr(), &options) };
    let link = NonNull::new(link).ok_or_else(std::io::Error::last_os_error)?;
    // SAFETY: libbpf made it just now, and nobody else has it.
    Ok(unsafe { Link::from_ptr(link) })
}
