//! What is attached: as little as is needed, the new before the old, and pinned so that it outlives the daemon.

use std::collections::{BTreeMap, BTreeSet};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use super::core::{BpfRuntime, COUNTERS, LIFECYCLE_PROGRAMS};
use super::error::BpfError;
use super::links::Links;
use super::pins;
use super::policy_object::PolicyObject;
use super::schema::CounterSet;

impl BpfRuntime {
    /// Attaches what is needed and detaches what is not: `policies` in use, counters, and the lifecycle programs. Errors
    /// are returned by policy; "" stands for the lifecycle programs, without which nothing is attached. Tries again when called again.
    /// `commit`: pages beyond which the kernel rejects a request by itself; `None`: it may reject any.
    pub fn set_attachments(
        &mut self,
        policies: &BTreeSet<String>,
        counting: &BTreeSet<String>,
        life: bool,
        commit: Option<u64>,
    ) -> BTreeMap<String, BpfError> {
        let mut failed = BTreeMap::new();
        // New programs first, so that attached policies have no gap.
        if life
            && self.lifecycle_links.is_empty()
            && let Err(error) = self.attach_lifecycle()
        {
            self.lifecycle_links.detach_all();
            failed.insert(String::new(), error);
        }
        let counts = self.required_counters(counting);
        self.counter_names_attached = self.counter_programs(counts).collect();
        let first = counting.first();
        if let (Some(first), Err(error)) = (first, self.attach_counting()) {
            failed.insert(first.clone(), error);
        }
        // Whoever counts growth now may be about to go.
        if self.growth_counter.is_some()
            && let Err(error) = self.elect_growth_counter(commit, |name| policies.contains(name))
        {
            tracing::warn!("growth is not counted for a moment: {error}");
        }
        for (name, policy) in &mut self.policies {
            if !policies.contains(name) {
                policy.detach();
            } else if let Err(error) = policy.attach(&self.pins) {
                failed.insert(name.clone(), error);
            }
        }
        if let (Err(error), Some(first)) = (self.elect_growth_counter(commit, |_| true), first) {
            failed.entry(first.clone()).or_insert(error);
        }
        if !life {
            self.lifecycle_links.detach_all();
        }
        failed
    }

    fn attach_lifecycle(&mut self) -> Result<(), BpfError> {
        let links = LIFECYCLE_PROGRAMS
            .iter()
            .map(|name| Ok(((*name).to_owned(), self.attach(&self.lifecycle_links, name)?)));
        let links = links.collect::<Result<_, BpfError>>()?;
        self.lifecycle_links.adopt(links, &self.pins);
        Ok(())
    }

    fn attach_counting(&mut self) -> Result<(), BpfError> {
        let growth = self.growth_counter_program();
        let new = self
            .counter_names_attached
            .iter()
            .filter(|name| !self.counter_links.has(name) && Some(name.as_str()) != growth);
        let links = new.map(|name| Ok((name.clone(), self.attach(&self.counter_links, name)?)));
        let links = links.collect::<Result<_, BpfError>>()?;
        self.counter_links.adopt(links, &self.pins);
        Ok(())
    }

    /// Called when everything is attached: pins it, so that it stays attached without the daemon, and removes the programs of
    /// earlier daemons. Returns their number.
    pub fn take_over(&mut self) -> Result<usize, BpfError> {
        self.pins.create_dir().map_err(BpfError::NoBpffs)?;
        let pins = &self.pins;
        self.lifecycle_links.pin(pins).and_then(|()| self.counter_links.pin(pins)).map_err(BpfError::Pin)?;
        self.policies.values_mut().try_for_each(|policy| policy.pin(pins))?;
        if let Some(counters) = self.shared.get_mut(COUNTERS) {
            for earlier in pins::previous_maps(pins, "core", COUNTERS) {
                migrate_counters(&earlier, counters);
            }
            pins::pin_map(pins, "core", COUNTERS, counters).map_err(BpfError::Pin)?;
        }
        let earlier = pins.previous().len();
        pins.remove_previous().map_err(BpfError::NoBpffs)?;
        Ok(earlier)
    }

    /// Attaches one of core's programs, for `links` to hold.
    pub(super) fn attach(&self, links: &Links, name: &str) -> Result<Link, BpfError> {
        links.attach(name, &self.program(name)?, &self.pins)
    }

    /// What must be counted for these policies.
    fn required_counters(&self, policies: &BTreeSet<String>) -> CounterSet {
        let of = |name| self.policies.get(name).map_or(CounterSet::None, PolicyObject::counts);
        policies.iter().map(of).max().unwrap_or_default()
    }

    /// The programs that count it.
    fn counter_programs(&self, counts: CounterSet) -> impl Iterator<Item = String> {
        let hooks = self.counting_hooks.iter().filter(move |(hook, _)| counts.needs(hook));
        hooks.filter_map(|(_, c)| c.program().map(str::to_owned))
    }
}

/// The earlier daemon's programs have counted until now, ours only since they were attached.
fn migrate_counters(earlier: &MapHandle, counters: &MapHandle) {
    for cgroup in earlier.keys() {
        let (Ok(Some(old)), Ok(Some(new))) =
            (earlier.lookup(&cgroup, MapFlags::ANY), counters.lookup(&cgroup, MapFlags::ANY))
        else {
            continue;
        };
        // Another version may count other things.
        if old.len() == new.len()
            && let Err(error) = counters.update(&cgroup, &old, MapFlags::EXIST)
        {
            tracing::debug!(%error, "carrying counters over");
        }
    }
}
