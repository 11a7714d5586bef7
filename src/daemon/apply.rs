//! Applies the effects of the engine to BPF and to the records of cgroups. Failures are logged and returned to the
//! caller.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::attach_log::AttachLog;
use super::change::StateChange;
use super::linger::Linger;
use crate::bpf::objects::ObjectFile;
use crate::bpf::{
    BpfError, BpfRuntime, LoadTask, PolicyLoader, PreparedPolicy, RequiredAttachments, Takeover, settings,
};
use crate::cgroup::{memory, mount, xattr};
use crate::engine::{AttachSet, Effect, Failure, Performed};
use crate::names::{CgroupId, CgroupPath, CgroupRef};
use crate::report::BindingReport;

/// Applies effects.
pub struct EffectApplier {
    bpf: BpfRuntime,
    machine: u64,
    reporting_all: bool,
    /// The programs that stay attached after their last use.
    linger: Linger,
    /// The journal lines about attached policies, and the limit of lines that users can cause.
    pub log: AttachLog,
    /// Failures by cgroup, shown until the cgroup's binding changes.
    errors_by_cgroup: BTreeMap<CgroupPath, String>,
    /// Slots that could not be written. Cgroups that are bound to one have no active policy.
    slots_unwritten: BTreeMap<u32, String>,
    /// The policies in each slot.
    slot_policies: BTreeMap<u32, Vec<String>>,
    /// Policies that could not be attached, and why; "" stands for the core programs.
    unattached: BTreeMap<String, String>,
    /// The counters of earlier bindings of cgroups that still have requests.
    earlier_counters: BTreeMap<CgroupId, BTreeMap<String, u64>>,
    /// Warnings already logged, so that a unit that starts and stops all day does not fill the journal.
    warned: BTreeSet<(CgroupPath, String)>,
    /// The guards of kills that are set in the kernel.
    kill_guards: Option<(u64, u32)>,
}

/// Limit of the number of warnings. Beyond it all are removed, and logged again.
const WARNINGS_MAX: usize = 1000;

impl EffectApplier {
    /// `machine` is the size of the memory in bytes.
    pub fn new(bpf: BpfRuntime, machine: u64) -> Self {
        EffectApplier {
            bpf,
            machine,
            reporting_all: false,
            linger: Linger::default(),
            log: AttachLog::default(),
            errors_by_cgroup: BTreeMap::new(),
            slots_unwritten: BTreeMap::new(),
            slot_policies: BTreeMap::new(),
            unattached: BTreeMap::new(),
            earlier_counters: BTreeMap::new(),
            warned: BTreeSet::new(),
            kill_guards: None,
        }
    }

    /// Applies all effects in order, and adds the signals to send to `changes`. A failure does not stop the others.
    pub fn apply_all(&mut self, effects: Vec<Effect>, changes: &mut Vec<StateChange>) -> Performed {
        let mut result = Performed::default();
        for effect in effects {
            let path = path_of(&effect).cloned();
            let concerns = effect.concerns().cloned();
            if let Some(path) = &path {
                self.errors_by_cgroup.remove(path);
            }
            if let Err(sentence) = self.apply(effect, &mut result, changes) {
                tracing::error!("{sentence}");
                if let Some(path) = path {
                    self.errors_by_cgroup.insert(path, sentence.clone());
                }
                result.failures.push(Failure { path: concerns, sentence });
            }
        }
        result
    }

    /// True if a policy is attached to the cgroup. Only bound cgroups have counters.
    pub fn has_binding(&self, cgroup: CgroupId) -> bool {
        !self.bpf.counters(cgroup).is_empty()
    }

    fn apply(
        &mut self,
        effect: Effect,
        result: &mut Performed,
        changes: &mut Vec<StateChange>,
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match effect {
            Effect::WriteParams { slot, policies } => {
                self.slot_policies.insert(slot, policies.iter().map(|(name, _)| name.clone()).collect());
                self.fill(slot, &policies)
            }
            Effect::RewriteParams { slot, policies } => self.fill(slot, &policies),
            Effect::ClearSlot { slot } => {
                self.slots_unwritten.remove(&slot);
                self.slot_policies.remove(&slot);
                self.bpf.clear(slot).map_err(|e| text(&e))
            }
            Effect::Bind { cgroup, slot, count } => {
                let id = cgroup.id;
                let is_removed = self.bind(cgroup, slot, count, changes)?;
                result.removed.extend(is_removed.then_some(id));
                Ok(())
            }
            Effect::Unbind { cgroup, keep_counters } => {
                if keep_counters {
                    let counters = self.counters(cgroup);
                    self.earlier_counters.insert(cgroup, counters);
                }
                self.bpf.unbind(cgroup);
                Ok(())
            }
            Effect::Register { path, slot, count } => {
                let registered = self
                    .check_slot(slot)
                    .and_then(|()| self.bpf.register(&path, slot, count).map_err(|e| text(&e)));
                if registered.is_err() {
                    self.bpf.unregister(&path);
                }
                registered
            }
            Effect::Unregister { path } => {
                self.bpf.unregister(&path);
                Ok(())
            }
            Effect::SetAttachments(set) => self.set_attachments(&set),
            Effect::WriteRecord { cgroup, before, requests } => {
                if requests.is_empty() {
                    self.forget(cgroup.id);
                }
                xattr::update_record(&cgroup, |record| record.set_requests(&before, requests))
            }
            // Changed knobs stay in the record until they are restored.
            Effect::RemoveRecord { cgroup } => {
                self.forget(cgroup.id);
                xattr::update_record(&cgroup, |record| record.requests.clear())
            }
            // The cgroup is not bound, and the error is already logged.
            Effect::Attached { cgroup, .. } if self.errors_by_cgroup.contains_key(&cgroup.path) => Ok(()),
            Effect::Attached { cgroup, policies, pod } => {
                self.log.attached(&cgroup, pod, &policies);
                changes.push(StateChange::Attached(cgroup, policies));
                Ok(())
            }
            Effect::Detached { cgroup, reason } => {
                self.log.detached(&cgroup, reason);
                changes.push(StateChange::Detached(cgroup, reason));
                Ok(())
            }
            Effect::Fail { path, sentence } => Err(format!("{path}: {sentence}")),
            Effect::Warn { path, unit, sentence } => {
                self.warn(path, &unit.unwrap_or_default(), sentence);
                Ok(())
            }
        }
    }

    /// Binds a cgroup. Returns true if it has been removed since the request.
    fn bind(
        &mut self,
        cgroup: CgroupRef,
        slot: u32,
        count: bool,
        changes: &mut Vec<StateChange>,
    ) -> Result<bool, String> {
        let bound = self
            .check_slot(slot)
            .and_then(|()| self.bpf.bind(cgroup.id, slot, count).map_err(|e| format!("{cgroup}: {e}")));
        if let Err(sentence) = bound {
            // The cgroup must not stay bound to the old slot, which may be reused for another cgroup.
            self.bpf.unbind(cgroup.id);
            changes.push(StateChange::Unbound(cgroup));
            return Err(sentence);
        }
        // Another cgroup may have been created at the same path.
        Ok(mount::cgroup_id(&cgroup.path).ok() != Some(cgroup.id))
    }

    /// The counters of a cgroup since it has requests.
    fn counters(&self, cgroup: CgroupId) -> BTreeMap<String, u64> {
        let mut counters = self.bpf.counters(cgroup);
        for (name, earlier) in self.earlier_counters.get(&cgroup).into_iter().flatten() {
            let counter = counters.entry(name.clone()).or_default();
            *counter = counter.saturating_add(*earlier);
        }
        counters
    }

    /// Forgets a cgroup that was removed or has no requests any more.
    pub fn forget(&mut self, cgroup: CgroupId) {
        self.earlier_counters.remove(&cgroup);
    }

    /// Logs a warning, unless it was logged before.
    fn warn(&mut self, path: CgroupPath, unit: &str, sentence: String) {
        let warning = (path, sentence);
        if self.warned.contains(&warning) {
            return;
        }
        // journald accepts the unit of a message from root and shows it with that unit (journalctl -u UNIT).
        tracing::warn!(OBJECT_SYSTEMD_UNIT = unit, "{}: {}", warning.0, warning.1);
        if self.warned.len() >= WARNINGS_MAX {
            self.warned.clear();
        }
        self.warned.insert(warning);
    }

    fn fill(&mut self, slot: u32, policies: &[(String, Vec<u8>)]) -> Result<(), String> {
        let put = policies.iter().try_for_each(|(name, params)| self.bpf.put(name, slot, params));
        put.map_err(|error| {
            self.slots_unwritten.insert(slot, error.to_string());
            error.to_string()
        })
    }

    /// Checks that the policies of the slot are loaded and attached.
    fn check_slot(&self, slot: u32) -> Result<(), String> {
        let of_policy = |name: &String| self.unattached.get(name);
        let lacking = self.slots_unwritten.get(&slot).or_else(|| of_policy(&String::new()));
        let lacking = lacking.or_else(|| self.slot_policies.get(&slot)?.iter().find_map(of_policy));
        match lacking {
            Some(sentence) => Err(sentence.clone()),
            None => Ok(()),
        }
    }

    /// When [`EffectApplier::tick`] is due.
    pub fn due(&self) -> Option<Instant> {
        self.linger.due().into_iter().chain(self.log.due()).min()
    }

    /// Detaches the programs that have not been used for some time, and logs how many lines were left out.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if let Some(set) = self.linger.expire(now) {
            self.attach(&set);
        }
        self.log.tick(now);
    }

    /// Detaches all programs that are not used: nothing is left after a stop.
    pub fn detach_unused_now(&mut self) {
        let set = self.linger.end();
        self.attach(&set);
    }

    fn attach(&mut self, set: &AttachSet) {
        let failed = self.bpf.set_attachments(&RequiredAttachments {
            policies: &set.policies,
            counting: &set.counting,
            cgroup_events: set.cgroup_events,
            commit: memory::commit_limit_pages(),
        });
        self.unattached = failed.into_iter().map(|(name, error)| (name, with_cause(&error))).collect();
    }

    fn set_attachments(&mut self, set: &AttachSet) -> Result<(), String> {
        let attached = self.linger.set(set, Instant::now());
        self.attach(&attached);
        if set.report_all_cgroups != self.reporting_all {
            self.bpf.report_all_cgroups(set.report_all_cgroups).map_err(|e| e.to_string())?;
            self.reporting_all = set.report_all_cgroups;
        }
        // Only cgroups that are bound to these policies are affected, so this effect does not fail.
        self.unattached.values().for_each(|sentence| tracing::error!("{sentence}"));
        Ok(())
    }

    /// Pins the attached programs, and detaches those of the previous daemon. Returns the kills that were performed
    /// since it was killed.
    pub fn take_over(&mut self) -> Takeover {
        match self.bpf.take_over() {
            Ok(takeover) => {
                if takeover.daemons > 0 {
                    tracing::info!("took over from the previous memcg-bpfd; its programs are detached");
                }
                takeover
            }
            Err(error) => {
                tracing::warn!("{error}");
                Takeover::default()
            }
        }
    }

    /// Sets the guards of kills that the kernel performs, if they have changed: the end of the pause, and
    /// `KillsPerMinute=`.
    pub fn set_kill_guards(&mut self, guards: (u64, u32)) {
        if self.kill_guards == Some(guards) {
            return;
        }
        match self.bpf.set_kill_guards(guards.0, guards.1) {
            Ok(()) => self.kill_guards = Some(guards),
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// A task that loads this policy on another thread; `None` if it is loaded.
    pub fn loading(&self, policy: &str) -> Option<LoadTask> {
        self.bpf.loading(policy)
    }

    /// Adds a policy that was loaded on another thread.
    pub fn loaded(&mut self, policy: PreparedPolicy) {
        self.bpf.loaded(policy);
    }

    /// A loader of policies on another thread, for [`EffectApplier::replace`].
    pub fn loader(&self) -> Result<PolicyLoader, BpfError> {
        self.bpf.loader()
    }

    /// Replaces the policy objects by these files. The replaced ones stay attached until
    /// [`EffectApplier::drop_replaced`].
    pub fn replace(
        &mut self,
        files: BTreeMap<String, ObjectFile>,
        loaded: Vec<PreparedPolicy>,
    ) -> Result<(), BpfError> {
        self.bpf.replace(files, loaded)
    }

    /// Detaches the replaced objects.
    pub fn drop_replaced(&mut self) {
        self.bpf.drop_replaced(memory::commit_limit_pages());
    }

    /// Number of events lost since the start.
    pub fn events_dropped(&self) -> u64 {
        self.bpf.events_dropped()
    }

    /// Number of actions lost since the start.
    pub fn actions_dropped(&self) -> u64 {
        self.bpf.actions_dropped()
    }

    /// Adds the data of the kernel and of the cgroup's files.
    pub fn fill_report(&self, report: &mut BindingReport) {
        let Ok(path) = CgroupPath::parse(&report.cgroup) else { return };
        if let Some(sentence) = self.errors_by_cgroup.get(&path) {
            report.errors.push(sentence.clone());
            report.state = "failed".to_owned();
        }
        if report.cgroup_id == 0 {
            return;
        }
        report.usage = memory::usage(&path).ok();
        report.effective_max = Some(memory::effective_max(&path, self.machine));
        report.counters = self.counters(CgroupId(report.cgroup_id));
        report.events = memory::events(&path);
    }
}

/// The error of attaching a program, with the setting of the machine that causes it.
fn with_cause(error: &BpfError) -> String {
    let causes = settings::problems(Path::new("/")).into_iter().filter(|problem| problem.fatal);
    causes.fold(error.to_string(), |text, cause| format!("{text} ({}; {})", cause.message, cause.advice))
}

fn path_of(effect: &Effect) -> Option<&CgroupPath> {
    match effect {
        Effect::Bind { cgroup, .. } => Some(&cgroup.path),
        Effect::Register { path, .. } => Some(path),
        _ => None,
    }
}
