//! Restores original values when the daemon stops, and without a daemon. The pause is kept for the next daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::clock::now;
use super::results::ActionLog;
use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::{mount, xattr};
use crate::ledger::{Ledger, Write};
use crate::log::audit::ActionOutcome;
use crate::names::CgroupPath;
use crate::policy::action::{Knob, MAX};
use crate::source::xattr::KnobRecord;

/// The suspension of all actions, recorded on the root cgroup.
#[derive(Debug, Default)]
pub struct Pause {
    /// [`MAX`]: until it is resumed.
    until: Option<u64>,
    flag: Arc<AtomicBool>,
}

impl Pause {
    /// Begins or ends the pause, and records it for the next daemon.
    pub fn set(&mut self, until: Option<u64>) {
        self.until = until;
        self.flag.store(until.is_some(), Ordering::Relaxed);
        let recorded = xattr::update_record(&CgroupPath::root(), |record| record.paused_until = until);
        if let Err(sentence) = recorded {
            tracing::warn!("{sentence}: the pause ends when memcg-bpfd is restarted");
        }
    }

    /// True if actions are suspended.
    pub fn is_active(&self) -> bool {
        self.until.is_some()
    }

    /// True if the end of the pause is reached.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= now())
    }

    /// The end of the pause on CLOCK_MONOTONIC in nanoseconds; `None` without an end.
    pub fn end(&self) -> Option<u64> {
        self.until.filter(|until| *until != MAX)
    }

    /// The end of the pause on CLOCK_MONOTONIC in nanoseconds: [`MAX`] if it has none, 0 if there is no pause.
    pub fn until(&self) -> u64 {
        self.until.unwrap_or(0)
    }

    /// The remaining time of the pause in nanoseconds; [`MAX`] without an end.
    pub fn remaining(&self) -> Option<u64> {
        self.until.map(|until| if until == MAX { MAX } else { until.saturating_sub(now()) })
    }

    /// A flag for kills in progress, which is true while actions are paused.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

/// Restores every knob, and removes the records of those that are restored.
pub fn restore_all(ledger: &Ledger, log: &mut ActionLog) {
    for write in ledger.restore_writes() {
        let Write { cgroup, ref path, knob, value, ref expect, .. } = write;
        match knob::write(path, cgroup, knob, expect, value) {
            WriteResult::Failed(error) => {
                log.log_write(ActionOutcome::Failed, &write, value, format!("writing {knob}: {error}"));
                continue;
            }
            WriteResult::Written(before) if before != value => {
                let detail = format!("{knob}: {} → {}", knob.format(before), knob.format(value));
                log.log_write(ActionOutcome::Done, &write, before, detail);
            }
            _ => {}
        }
        remove_knob_record(path, knob);
    }
}

/// Removes a knob from the record of a cgroup.
fn remove_knob_record(path: &CgroupPath, knob: Knob) {
    let done = xattr::update_record(path, |record| record.knobs.retain(|kept| kept.knob != knob));
    if let Err(sentence) = done {
        tracing::warn!("{sentence}");
    }
}

/// Restores the knobs of a record without a daemon. Returns one sentence for each failure.
pub fn restore_from_record(path: &CgroupPath, knobs: &[KnobRecord]) -> Vec<String> {
    let Ok(cgroup) = mount::cgroup_id(path) else { return Vec::new() };
    let back = |kept: &KnobRecord| match knob::write(path, cgroup, kept.knob, &kept.written, kept.original) {
        WriteResult::Failed(error) => Some(format!("restoring {} of {path}: {error}", kept.knob)),
        _ => None,
    };
    knobs.iter().filter_map(back).collect()
}
