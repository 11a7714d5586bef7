//! Carries out the engine's effects: on the kernel's BPF and on the records of cgroups. What fails is said, and
//! handed back so that whoever asked hears of it.

use std::collections::{BTreeMap, BTreeSet};

use super::told;
use crate::bpf::objects::ObjectFile;
use crate::bpf::{BpfError, BpfRuntime, LoadTask, PolicyLoader, PreparedPolicy};
use crate::cgroup::{memory, mount, xattr};
use crate::engine::{AttachSet, Effect};
use crate::names::{CgroupId, CgroupPath};
use crate::report::BindingReport;

/// Something to tell the world on D-Bus.
#[derive(Debug, Clone)]
pub enum News {
    /// Policies are in force.
    Attached(CgroupPath, CgroupId, Vec<String>),
    /// None is any more.
    Detached(CgroupPath, CgroupId, &'static str),
    /// They could not be put into force; not told as a signal, for the failure is.
    Unbound(CgroupPath, CgroupId),
}

/// What came of a list of effects.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Signals to send.
    pub news: Vec<News>,
    /// What failed, one sentence each.
    pub failures: Vec<String>,
    /// Cgroups that went away while we bound them.
    pub vanished: Vec<CgroupId>,
}

/// The hands and the little they must remember.
pub struct Hands {
    kernel: BpfRuntime,
    machine: u64,
    announcing: bool,
    /// Failures by cgroup, shown until the cgroup's binding changes.
    troubles: BTreeMap<CgroupPath, String>,
    /// Slots that could not be filled: whoever is bound to one has no policy in force.
    unfilled: BTreeMap<u32, String>,
    /// The policies in each slot.
    holds: BTreeMap<u32, Vec<String>>,
    /// Policies that could not be attached, and why; "" stands for what all need.
    unattached: BTreeMap<String, String>,
    /// Complaints already made, so that a unit that starts and stops all day does not fill the journal.
    complained: BTreeSet<(CgroupPath, String)>,
}

/// More complaints than that are forgotten, and then made again.
const COMPLAINTS_MAX: usize = 1000;

impl Hands {
    /// `machine`: its memory in bytes.
    pub fn new(kernel: BpfRuntime, machine: u64) -> Self {
        Hands {
            kernel,
            machine,
            announcing: false,
            troubles: BTreeMap::new(),
            unfilled: BTreeMap::new(),
            holds: BTreeMap::new(),
            unattached: BTreeMap::new(),
            complained: BTreeSet::new(),
        }
    }

    /// Carries out everything, in order. One failure does not keep the rest from being done.
    pub fn perform(&mut self, effects: Vec<Effect>) -> Outcome {
        let mut outcome = Outcome::default();
        for effect in effects {
            let path = path_of(&effect).cloned();
            if let Some(path) = &path {
                self.troubles.remove(path);
            }
            if let Err(sentence) = self.one(effect, &mut outcome) {
                tracing::error!("{sentence}");
                if let Some(path) = path {
                    self.troubles.insert(path, sentence.clone());
                }
                outcome.failures.push(sentence);
            }
        }
        outcome
    }

    /// Is a policy in force on the cgroup? Counters are kept for none but the bound.
    pub fn governs(&self, cgroup: CgroupId) -> bool {
        !self.kernel.counters(cgroup).is_empty()
    }

    fn one(&mut self, effect: Effect, outcome: &mut Outcome) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match effect {
            Effect::WriteParams { slot, policies } => {
                self.holds.insert(slot, policies.iter().map(|(name, _)| name.clone()).collect());
                self.fill(slot, &policies)
            }
            Effect::RewriteParams { slot, policies } => self.fill(slot, &policies),
            Effect::ClearSlot { slot } => {
                self.unfilled.remove(&slot);
                self.holds.remove(&slot);
                self.kernel.clear(slot).map_err(|e| text(&e))
            }
            Effect::Bind { cgroup, path, slot, count } => {
                let bound = self
                    .usable(slot)
                    .and_then(|()| self.kernel.bind(cgroup, slot, count).map_err(|e| format!("{path}: {e}")));
                if bound.is_err() {
                    // Never leave it on the old slot, which somebody else may get.
                    self.kernel.unbind(cgroup);
                    outcome.news.push(News::Unbound(path, cgroup));
                    return bound;
                }
                // It may have been removed, and even made anew, between the request and now.
                if mount::cgroup_id(&path).ok() != Some(cgroup) {
                    outcome.vanished.push(cgroup);
                }
                Ok(())
            }
            Effect::Unbind { cgroup } => {
                self.kernel.unbind(cgroup);
                Ok(())
            }
            Effect::Register { path, slot, count } => {
                let registered = self
                    .usable(slot)
                    .and_then(|()| self.kernel.register(&path, slot, count).map_err(|e| text(&e)));
                if registered.is_err() {
                    self.kernel.unregister(&path);
                }
                registered
            }
            Effect::Unregister { path } => {
                self.kernel.unregister(&path);
                Ok(())
            }
            Effect::SetAttachments(need) => self.need(&need),
            Effect::WriteRecord { path, requests } => {
                xattr::update_record(&path, |record| record.requests = requests)
            }
            // What is still to be put back stays on record until it is.
            Effect::RemoveRecord { path } => xattr::update_record(&path, |record| record.requests.clear()),
            // Bound to nothing: said already.
            Effect::Attached { path, .. } if self.troubles.contains_key(&path) => Ok(()),
            Effect::Attached { cgroup, path, policies } => {
                told::attached(&path, &policies.join(", "));
                outcome.news.push(News::Attached(path, cgroup, policies));
                Ok(())
            }
            Effect::Detached { cgroup, path, reason } => {
                told::detached(&path, reason);
                outcome.news.push(News::Detached(path, cgroup, reason));
                Ok(())
            }
            Effect::Fail { path, sentence } => Err(format!("{path}: {sentence}")),
            Effect::Warn { path, sentence, .. }
                if self.complained.contains(&(path.clone(), sentence.clone())) =>
            {
                Ok(())
            }
            Effect::Warn { path, unit, sentence } => {
                if self.complained.len() >= COMPLAINTS_MAX {
                    self.complained.clear();
                }
                self.complained.insert((path.clone(), sentence.clone()));
                // journald shows this line with the unit (journalctl -u UNIT), for we are root.
                let unit = unit.unwrap_or_default();
                tracing::warn!(OBJECT_SYSTEMD_UNIT = unit.as_str(), "{path}: {sentence}");
                Ok(())
            }
        }
    }

    fn fill(&mut self, slot: u32, policies: &[(String, Vec<u8>)]) -> Result<(), String> {
        let put = policies.iter().try_for_each(|(name, params)| self.kernel.put(name, slot, params));
        put.map_err(|error| {
            self.unfilled.insert(slot, error.to_string());
            error.to_string()
        })
    }

    /// Is what the slot holds in the kernel and attached?
    fn usable(&self, slot: u32) -> Result<(), String> {
        let of_policy = |name: &String| self.unattached.get(name);
        let lacking = self.unfilled.get(&slot).or_else(|| of_policy(&String::new()));
        let lacking = lacking.or_else(|| self.holds.get(&slot)?.iter().find_map(of_policy));
        match lacking {
            Some(sentence) => Err(sentence.clone()),
            None => Ok(()),
        }
    }

    fn need(&mut self, need: &AttachSet) -> Result<(), String> {
        let failed = self.kernel.set_attachments(
            &need.policies,
            &need.counting,
            need.cgroup_events,
            memory::commit_limit_pages(),
        );
        self.unattached = failed.into_iter().map(|(name, error)| (name, error.to_string())).collect();
        if need.report_all_cgroups != self.announcing {
            self.kernel.report_all_cgroups(need.report_all_cgroups).map_err(|e| e.to_string())?;
            self.announcing = need.report_all_cgroups;
        }
        // Not an error of this effect: those who are bound to such a policy hear of it, the others are well.
        self.unattached.values().for_each(|sentence| tracing::error!("{sentence}"));
        Ok(())
    }

    /// All that is to be in force is: from here on it stays so without us, and what an earlier daemon left in force ends.
    pub fn settle(&mut self) {
        match self.kernel.take_over() {
            Ok(0) => {}
            Ok(_) => tracing::info!("took over from the memcg-bpfd before; its programs are detached"),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// What loads this policy beside the loop; `None` when it is loaded.
    pub fn loading(&self, policy: &str) -> Option<LoadTask> {
        self.kernel.loading(policy)
    }

    /// Takes what was loaded beside the loop.
    pub fn loaded(&mut self, policy: PreparedPolicy) {
        self.kernel.loaded(policy);
    }

    /// What loads policies beside the loop, for [`Hands::replace`].
    pub fn loader(&self) -> Result<PolicyLoader, BpfError> {
        self.kernel.loader()
    }

    /// Policies are these files' objects from here on; what they replace stays in force until [`Hands::retire`].
    pub fn replace(
        &mut self,
        files: BTreeMap<String, ObjectFile>,
        loaded: Vec<PreparedPolicy>,
    ) -> Result<(), BpfError> {
        self.kernel.replace(files, loaded)
    }

    /// Ends what was replaced.
    pub fn retire(&mut self) {
        self.kernel.drop_replaced(memory::commit_limit_pages());
    }

    /// How many events of the kernel were lost so far.
    pub fn dropped(&self) -> u64 {
        self.kernel.events_dropped()
    }

    /// How many actions of policies were lost so far.
    pub fn actions_dropped(&self) -> u64 {
        self.kernel.actions_dropped()
    }

    /// Adds what only the kernel and the cgroup's files know.
    pub fn complete(&self, report: &mut BindingReport) {
        let Ok(path) = CgroupPath::parse(&report.cgroup) else { return };
        if let Some(sentence) = self.troubles.get(&path) {
            report.errors.push(sentence.clone());
            report.state = "failed".to_owned();
        }
        if report.cgroup_id == 0 {
            return;
        }
        report.usage = memory::usage(&path).ok();
        report.effective_max = Some(memory::effective_max(&path, self.machine));
        report.counters = self.kernel.counters(CgroupId(report.cgroup_id));
        report.events = memory::events(&path);
    }
}

fn path_of(effect: &Effect) -> Option<&CgroupPath> {
    match effect {
        Effect::Bind { path, .. } | Effect::Register { path, .. } => Some(path),
        _ => None,
    }
}
