//! The journal lines about attached and detached policies: with the names of pods, and at a limited rate.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::log::audit;
use crate::log::line_limit::LineLimit;
use crate::names::{CgroupId, CgroupRef, PodName};

/// Writes the lines.
#[derive(Default)]
pub struct AttachLog {
    limit: LineLimit,
    /// The names of pods and containers, by cgroups with attached policies.
    pods: BTreeMap<CgroupId, PodName>,
}

impl AttachLog {
    /// Policies are attached.
    pub fn attached(&mut self, cgroup: &CgroupRef, pod: Option<PodName>, policies: &[String]) {
        if self.limit.admit(&cgroup.path, Instant::now()) {
            audit::attached(&cgroup.path, pod.as_ref(), &policies.join(", "));
        }
        self.pods.remove(&cgroup.id);
        self.pods.extend(pod.map(|pod| (cgroup.id, pod)));
    }

    /// All policies are detached.
    pub fn detached(&mut self, cgroup: &CgroupRef, reason: &str) {
        let pod = self.pods.remove(&cgroup.id);
        if self.limit.admit(&cgroup.path, Instant::now()) {
            audit::detached(&cgroup.path, pod.as_ref(), reason);
        }
    }

    /// The names of the pod and of the container of a cgroup.
    pub fn pod(&self, cgroup: CgroupId) -> Option<&PodName> {
        self.pods.get(&cgroup)
    }

    /// When [`AttachLog::tick`] is due.
    pub fn due(&self) -> Option<Instant> {
        self.limit.due()
    }

    /// Logs how many lines were left out.
    pub fn tick(&mut self, now: Instant) {
        self.limit.expire(now).iter().for_each(|(subject, lines)| audit::left_out(subject, *lines));
    }
}
