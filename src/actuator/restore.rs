//! Putting everything back: for a pause, at the end, and without a daemon.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Actuator;
use super::clock::now;
use crate::cgroup::knob::{self, WriteResult};
use crate::cgroup::{mount, xattr};
use crate::ledger::{Input, Write};
use crate::log::audit::ActionOutcome;
use crate::names::CgroupPath;
use crate::policy::action::{Knob, MAX, human_duration};
use crate::source::xattr::KnobRecord;

/// How long a stop waits for writes that are on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

impl Actuator {
    /// Puts everything back and does nothing more, for so many nanoseconds; 0: until it is resumed.
    pub fn pause(&mut self, for_ns: u64) {
        let until = if for_ns == 0 { MAX } else { now().saturating_add(for_ns) };
        self.set_pause(Some(until));
        let long = if for_ns == 0 { String::new() } else { format!(" for {}", human_duration(for_ns)) };
        tracing::info!("actions are paused{long}; everything is put back as it was found");
    }

    /// Acts again.
    pub fn resume(&mut self) {
        if self.paused_until.is_some() {
            self.set_pause(None);
            tracing::info!("actions are resumed");
        }
    }

    /// As the record on the root cgroup says, which a restarted daemon finds there.
    pub fn set_pause(&mut self, until: Option<u64>) {
        self.paused_until = until;
        self.pause_flag.store(until.is_some(), Ordering::Relaxed);
        let recorded = xattr::update_record(&CgroupPath::root(), |record| record.paused_until = until);
        if let Err(sentence) = recorded {
            tracing::warn!("{sentence}: after a restart of memcg-bpfd this is forgotten");
        }
        self.step(Input::Pause(until.is_some()));
    }

    /// How much longer the pause lasts; [`MAX`]: until it is resumed.
    pub fn pause_remaining(&self) -> Option<u64> {
        self.paused_until.map(|until| if until == MAX { MAX } else { until.saturating_sub(now()) })
    }

    /// Ends all that is on its way. With `restore`, every knob is as it was found afterwards.
    pub async fn stop(&mut self, restore: bool) {
        self.jobs.stop(STOP_PATIENCE).await;
        if !restore {
            return;
        }
        for write in self.ledger.restore_writes() {
            let Write { cgroup, ref path, knob, value, ref expect, .. } = write;
            match knob::write(path, cgroup, knob, expect, value) {
                WriteResult::Failed(error) => {
                    self.log_write(ActionOutcome::Failed, &write, value, format!("writing {knob}: {error}"));
                    continue;
                }
                WriteResult::Written(before) if before != value => {
                    let detail = format!("{knob}: {} → {}", knob.format(before), knob.format(value));
                    self.log_write(ActionOutcome::Done, &write, before, detail);
                }
                _ => {}
            }
            remove_knob_record(path, knob);
        }
        if self.paused_until.is_some() {
            self.set_pause(None);
        }
    }
}

/// Takes one knob off the record of a cgroup.
fn remove_knob_record(path: &CgroupPath, knob: Knob) {
    let done = xattr::update_record(path, |record| record.knobs.retain(|kept| kept.knob != knob));
    if let Err(sentence) = done {
        tracing::warn!("{sentence}");
    }
}

/// Puts back what a record says, without a daemon. The sentences are of what failed.
pub fn restore_from_record(path: &CgroupPath, knobs: &[KnobRecord]) -> Vec<String> {
    let Ok(cgroup) = mount::cgroup_id(path) else { return Vec::new() };
    let back = |kept: &KnobRecord| match knob::write(path, cgroup, kept.knob, &kept.written, kept.original) {
        WriteResult::Failed(error) => Some(format!("putting back {} of {path}: {error}", kept.knob)),
        _ => None,
    };
    knobs.iter().filter_map(back).collect()
}
