//! Attaches and detaches programs.
//!
//! A program is detached when the last reference to its link is closed. Other processes can hold references: a tool
//! that lists links opens each for a moment, and until October 2025 kernels released a pin some time after its file
//! was removed. While the link exists, the program cannot be attached again (EBUSY; for tracepoints before Linux
//! 6.10, EEXIST). A link that still exists is therefore reopened.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use libbpf_rs::{Link, ProgramMut, libbpf_sys};

use super::error::BpfError;
use super::pins::Pins;

/// How long to wait for the removal of a link after its last reference was closed.
const LINK_RELEASE_DELAY: Duration = Duration::from_millis(50);

/// The attached programs of one object.
#[derive(Debug)]
pub struct Links {
    object: String,
    held: Vec<(String, Link)>,
    /// The last link of each detached program. The kernel reuses an id only after all others.
    detached: BTreeMap<String, u32>,
}

impl Links {
    /// No attached programs.
    pub fn new(object: &str) -> Self {
        Links { object: object.to_owned(), held: Vec::new(), detached: BTreeMap::new() }
    }

    /// True if no program is attached.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True if this program is attached.
    pub fn has(&self, program: &str) -> bool {
        self.held.iter().any(|(held, _)| held == program)
    }

    /// Attaches a program of this object. The link is kept by [`Links::adopt`].
    pub fn attach(&self, name: &str, program: &ProgramMut<'_>, pins: &Pins) -> Result<Link, BpfError> {
        let ended = self.detached.get(name);
        if let (Some(id), Some(place)) = (ended, pins.pin_path(&self.object, name))
            && let Some(link) = reopen(*id, &place)
        {
            return Ok(link);
        }
        let attached = match program.attach() {
            Err(_) if ended.is_some() => {
                std::thread::sleep(LINK_RELEASE_DELAY);
                program.attach()
            }
            attached => attached,
        };
        attached.map_err(|why| BpfError::Attach { program: name.to_owned(), why })
    }

    /// Keeps links by the names of their programs.
    pub fn adopt(&mut self, links: Vec<(String, Link)>, pins: &Pins) {
        self.held.extend(links);
        // The program stays attached while this process runs.
        if let Err(error) = self.pin(pins) {
            tracing::warn!(
                "failed to pin programs of {}; they are detached when memcg-bpfd exits: {error:#}",
                self.object
            );
        }
    }

    /// Pins the links that are not pinned.
    pub fn pin(&mut self, pins: &Pins) -> libbpf_rs::Result<()> {
        for (program, link) in &mut self.held {
            if link.pin_path().is_none()
                && let Some(place) = pins.pin_path(&self.object, program)
            {
                link.pin(place)?;
            }
        }
        Ok(())
    }

    /// Detaches all programs.
    pub fn detach_all(&mut self) {
        self.detach_except(&[]);
    }

    /// Detaches all programs except these.
    pub fn detach_except(&mut self, programs: &[String]) {
        let ended = &mut self.detached;
        self.held.retain_mut(|(program, link)| {
            if programs.contains(program) {
                return true;
            }
            if link.pin_path().is_some()
                && let Err(error) = link.unpin()
            {
                tracing::error!(%error, "failed to unpin {program}; it stays attached");
                return true;
            }
            // Without the id, the program is attached again, which fails only while another process holds the link.
            if let Ok(info) = link.info() {
                ended.insert(program.clone(), info.id);
            }
            false
        });
    }
}

/// The link with this id, if it still exists. `place` is a path at which it can be pinned.
fn reopen(id: u32, place: &Path) -> Option<Link> {
    let place_c = CString::new(place.as_os_str().as_bytes()).ok()?;
    // SAFETY: takes a number, and gives a new file descriptor or a negative error.
    let fd = unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) };
    if fd < 0 {
        return None;
    }
    // SAFETY: it was made just now, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // libbpf opens links only from pins.
    // SAFETY: descriptor and path live longer than this call.
    let pinned = unsafe { libbpf_sys::bpf_obj_pin(fd.as_raw_fd(), place_c.as_ptr()) };
    if pinned < 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "failed to pin link {id}");
        return None;
    }
    let opened = Link::open(place).and_then(|mut link| link.unpin().map(|()| link));
    opened.inspect_err(|error| tracing::debug!(%error, "failed to open link {id}")).ok()
}
