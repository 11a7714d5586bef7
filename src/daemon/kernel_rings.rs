//! What the kernel reports: cgroups, requested actions, denied requests and kills, each in a ring buffer of its own.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use tokio::io::unix::AsyncFd;

use super::state::Daemon;
use super::unit_sync::UnitSync;
use crate::bpf::{Actions, BpfRuntime, Denials, Events, OomKills};

/// The ring buffers.
pub struct KernelRings {
    events: Events,
    actions: Actions,
    denials: Denials,
    /// Kills by the kernel's OOM killer.
    kills: OomKills,
    fds: [AsyncFd<OwnedFd>; 4],
}

/// A ring buffer that has entries.
#[derive(Debug, Clone, Copy)]
pub enum Readable {
    Events,
    Actions,
    Denials,
    Kills,
}

impl KernelRings {
    /// Opens the ring buffers. Must be called inside a tokio runtime.
    pub fn open(kernel: &BpfRuntime) -> Result<Self> {
        let (events, actions) = (kernel.events()?, kernel.actions()?);
        let (denials, kills) = (kernel.denials()?, kernel.oom_kills()?);
        let fds = [
            events.async_fd().context("watching the kernel's events")?,
            actions.async_fd().context("watching what policies request")?,
            denials.async_fd().context("watching what policies deny")?,
            kills.async_fd().context("watching the kernel's kills")?,
        ];
        Ok(KernelRings { events, actions, denials, kills, fds })
    }

    /// Waits for entries. Can be cancelled: the entries stay in their ring buffer.
    pub async fn readable(&self) -> std::io::Result<Readable> {
        let [events, actions, denials, kills] = &self.fds;
        let (mut ready, readable) = tokio::select! {
            ready = events.readable() => (ready?, Readable::Events),
            ready = actions.readable() => (ready?, Readable::Actions),
            ready = denials.readable() => (ready?, Readable::Denials),
            ready = kills.readable() => (ready?, Readable::Kills),
        };
        ready.clear_ready();
        Ok(readable)
    }

    /// Handles the entries of a ring buffer.
    pub async fn handle(&self, readable: Readable, daemon: &mut Daemon, units: &mut UnitSync) {
        // Events first: the actions and denials of a new cgroup are ignored until its binding is known.
        units.kernel_events(daemon, self.events.drain()).await;
        match readable {
            Readable::Events => units.events_lost(daemon).await,
            Readable::Actions => daemon.handle_actions(self.actions.drain()).await,
            Readable::Denials => daemon.handle_denials(self.denials.drain()).await,
            Readable::Kills => daemon.report_oom_kills(self.kills.drain()).await,
        }
    }
}
