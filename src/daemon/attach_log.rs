//! The journal lines about attached and detached policies, with the names of pods, and the limit of these lines and of
//! those about denials and kills.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::log::audit;
use crate::log::line_limit::LineLimit;
use crate::names::{CgroupId, CgroupPath, CgroupRef, PodName};

/// Writes the lines.
#[derive(Default)]
pub struct AttachLog {
    limit: LineLimit,
    /// The names of pods and containers, by cgroups with attached policies.
    pods: BTreeMap<CgroupId, PodName>,
}

impl AttachLog {
    /// Counts a line about a cgroup. False if it is to be left out.
    pub fn admit(&mut self, path: &CgroupPath) -> bool {
        self.limit.admit(path, Instant::now())
    }

    /// Policies are attached.
    pub fn attached(&mut self, cgroup: &CgroupRef, pod: Option<PodName>, policies: &[String]) {
        if self.admit(&cgroup.path) {
            audit::attached(&cgroup.path, pod.as_ref(), &policies.join(", "));
        }
        self.pods.remove(&cgroup.id);
        self.pods.extend(pod.map(|pod| (cgroup.id, pod)));
    }

    /// All policies are detached.
    pub fn detached(&mut self, cgroup: &CgroupRef, reason: &str) {
        let pod = self.pods.remove(&cgroup.id);
        if self.admit(&cgroup.path) {
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
