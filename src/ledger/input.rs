//! The inputs and effects of the ledger, and the result of an action.

use std::collections::BTreeSet;

use super::admission::Facts;
use super::knob::{Cause, WriteOutcome};
use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::policy::action::{ActionKind, Knob};
use crate::source::xattr::KnobRecord;

/// An input of the ledger.
#[derive(Debug, Clone)]
pub enum Input {
    /// These policies are attached to a cgroup now, and no others. The constraints of detached policies are removed.
    PoliciesBound {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The policies.
        policies: BTreeSet<String>,
    },
    /// A cgroup was removed.
    CgroupRemoved(CgroupId),
    /// A policy sets or (`None`) releases its constraint of a knob.
    Constrain {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// The value after admission.
        value: Option<u64>,
        /// The value that the policy requested, before admission.
        requested: u64,
        /// The current value in the file.
        current: u64,
        /// The cause.
        cause: Cause,
    },
    /// A policy renews its constraint.
    Renew {
        /// The cgroup.
        cgroup: CgroupId,
        /// The policy's name.
        policy: String,
        /// The knob.
        knob: Knob,
        /// The current value in the file.
        current: u64,
    },
    /// The knobs that an earlier daemon recorded on a cgroup, each with the value in its file now. Follows
    /// [`Input::PoliciesBound`].
    Adopt {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The knobs.
        kept: Vec<(KnobRecord, u64)>,
    },
    /// The outcome of a [`Write`].
    WriteDone {
        /// The cgroup.
        cgroup: CgroupId,
        /// The knob.
        knob: Knob,
        /// The outcome.
        outcome: WriteOutcome,
    },
    /// Time has passed: constraints expire, failed writes are repeated.
    Tick,
    /// While paused, all knobs have their original values.
    Pause(bool),
}

/// An effect. Effects are performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Record on the cgroup the knobs that are changed or about to be changed.
    Record {
        /// The cgroup.
        cgroup: CgroupRef,
        /// The knobs. If empty, there is nothing left to restore.
        knobs: Vec<KnobRecord>,
    },
    /// Write a knob, unless its value is not one of the expected. Answered by [`Input::WriteDone`]; until then there is no other
    /// write to this knob.
    Write(Write),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The cgroup.
    pub cgroup: CgroupRef,
    /// The knob.
    pub knob: Knob,
    /// The values that the file may contain before the write.
    pub expect: Vec<u64>,
    /// The value.
    pub value: u64,
    /// The cause.
    pub cause: Cause,
}

impl Write {
    /// The write that restores a knob.
    pub fn restoring(cgroup: &CgroupRef, kept: &KnobRecord, reason: &str) -> Self {
        Write {
            cgroup: cgroup.clone(),
            knob: kept.knob,
            expect: kept.written.clone(),
            value: kept.original,
            cause: Cause::internal(reason),
        }
    }
}

/// The result of an action that a policy requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// The policy is detached, or the cgroup was removed.
    Stale,
    /// The policy renews its constraint, or releases one that does not exist.
    Unchanged,
    /// A guard blocks the action, with the reason.
    Blocked(CgroupPath, String),
    /// The constraint of a knob is set. In a dry run, only an earlier constraint of the policy is released.
    Constrained {
        /// The cgroup's path.
        path: CgroupPath,
        /// The knob.
        knob: Knob,
        /// The value after admission.
        value: Option<u64>,
        /// The value in the file before the action.
        current: u64,
    },
    /// A reclaim or a kill is allowed, possibly with a smaller value.
    Allowed(CgroupPath, ActionKind, Facts),
}
