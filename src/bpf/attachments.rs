//! The attached programs: only the required ones are attached, new programs before old ones are detached, and all are
//! pinned so that they outlive the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::actions;
use super::core_object::{COUNTERS, CoreObject, LIFECYCLE_PROGRAMS};
use super::error::BpfError;
use super::growth_counter::{self, GrowthCounter};
use super::hooks::GROWTH;
use super::links::Links;
use super::oom_kills;
use super::pins::{self, Pins};
use super::policy_object::PolicyObject;
use super::ring::Ring;
use super::schema::CounterSet;
use crate::policy::action::Action;
use crate::report::oom_kill::OomKill;

/// The programs that are required.
pub struct RequiredAttachments<'a> {
    /// The policies that are in use.
    pub policies: &'a BTreeSet<String>,
    /// The policies among them that read counters of the subtree.
    pub counting: &'a BTreeSet<String>,
    /// True if the programs that follow the creation and removal of cgroups are required.
    pub cgroup_events: bool,
    /// Number of pages above which the kernel itself rejects a request; `None` if it may reject any.
    pub commit: Option<u64>,
}

/// The loaded policies by name.
type Policies = BTreeMap<String, PolicyObject>;

/// The attached programs of core, and the pins of all attached programs.
pub struct Attachments {
    pins: Pins,
    lifecycle: Links,
    counters: Links,
    /// The program that records kills by the kernel's OOM killer. Attached with or without a policy.
    oom_kills: Links,
    /// The programs of core that keep the required counters, attached or not (see growth_counter.rs).
    required_counters: Vec<String>,
    growth_counter: GrowthCounter,
}

impl Attachments {
    /// No attached programs. `pin_root` is the directory of the pins.
    pub fn new(pin_root: &Path) -> Self {
        Attachments {
            pins: Pins::new(pin_root),
            lifecycle: Links::new("core"),
            counters: Links::new("core"),
            oom_kills: Links::new("core"),
            required_counters: Vec::new(),
            growth_counter: GrowthCounter::default(),
        }
    }

    /// The pins, for the programs of a policy.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Attaches the program that records kills by the kernel's OOM killer.
    pub fn record_oom_kills(&mut self, core: &CoreObject) -> Result<(), BpfError> {
        attach(core, &mut self.oom_kills, &self.pins, &[oom_kills::PROGRAM])
    }

    /// Attaches the required programs and detaches the others. Returns the errors by policy; "" stands for the
    /// lifecycle programs, which every policy needs. A later call tries again.
    pub fn set(
        &mut self,
        core: &CoreObject,
        policies: &mut Policies,
        required: &RequiredAttachments<'_>,
    ) -> BTreeMap<String, BpfError> {
        let mut failed = BTreeMap::new();
        // New programs first, so that attached policies have no gap.
        if required.cgroup_events
            && self.lifecycle.is_empty()
            && let Err(error) = attach(core, &mut self.lifecycle, &self.pins, &LIFECYCLE_PROGRAMS)
        {
            self.lifecycle.detach_all();
            failed.insert(String::new(), error);
        }
        self.required_counters = core.counter_programs(counter_set(policies, required.counting));
        let first = required.counting.first();
        if let (Some(first), Err(error)) = (first, self.attach_counters(core)) {
            failed.insert(first.clone(), error);
        }
        // The program that counts growth may be detached below.
        if self.growth_counter.is_policy()
            && let Err(error) = self.elect_growth_counter(core, policies, required.commit, |name| {
                required.policies.contains(name)
            })
        {
            tracing::warn!(
                "failed to change the growth counter; growth requests are not counted until it is attached: {error}"
            );
        }
        for (name, policy) in policies.iter_mut() {
            if !required.policies.contains(name) {
                policy.detach();
            } else if let Err(error) = policy.attach(&self.pins) {
                failed.insert(name.clone(), error);
            }
        }
        let elected = self.elect_growth_counter(core, policies, required.commit, |_| true);
        if let (Err(error), Some(first)) = (elected, first) {
            failed.entry(first.clone()).or_insert(error);
        }
        if !required.cgroup_events {
            self.lifecycle.detach_all();
        }
        failed
    }

    /// Attaches the required counters except that of growth, which is selected separately.
    fn attach_counters(&mut self, core: &CoreObject) -> Result<(), BpfError> {
        let growth = core.growth_counter_program();
        let names = self.required_counters.iter().map(String::as_str);
        let new: Vec<&str> = names.filter(|name| !self.counters.has(name) && Some(*name) != growth).collect();
        attach(core, &mut self.counters, &self.pins, &new)
    }

    /// Selects the growth counter among core and the policies for which `stays` is true, and keeps those of core's
    /// programs that are needed then. The new counter is attached before it is selected, and only the selected one
    /// counts. `commit`: see [`RequiredAttachments`]. On an error the previous counter stays selected.
    pub fn elect_growth_counter(
        &mut self,
        core: &CoreObject,
        policies: &Policies,
        commit: Option<u64>,
        stays: impl Fn(&str) -> bool,
    ) -> Result<(), BpfError> {
        let required = |own: &&str| self.required_counters.iter().any(|name| name == own);
        let program = core.growth_counter_program().filter(required);
        let attached = policies
            .iter()
            .filter(|(name, policy)| policy.is_attached() && policy.has(GROWTH) && stays(name));
        let ids = attached.map(|(_, policy)| policy.object_id());
        let elected = growth_counter::elect(ids, commit).filter(|_| program.is_some());
        if let Some(own) = program.filter(|own| elected.is_none() && !self.counters.has(own)) {
            attach(core, &mut self.counters, &self.pins, &[own])?;
        }
        self.growth_counter.select(core, elected)?;
        let by_core =
            self.required_counters.iter().filter(|name| elected.is_none() || Some(name.as_str()) != program);
        self.counters.detach_except(&by_core.cloned().collect::<Vec<_>>());
        Ok(())
    }

    /// Pins the attached programs, so that they stay attached without the daemon, and removes the programs of earlier
    /// daemons. Returns the number of these daemons.
    pub fn take_over(
        &mut self,
        core: &mut CoreObject,
        policies: &mut Policies,
    ) -> Result<Takeover, BpfError> {
        self.pins.create_dir().map_err(BpfError::NoBpffs)?;
        let pins = &self.pins;
        for links in [&mut self.lifecycle, &mut self.counters, &mut self.oom_kills] {
            links.pin(pins).map_err(BpfError::Pin)?;
        }
        policies.values_mut().try_for_each(|policy| policy.pin(pins))?;
        if let Some(counters) = core.counters_map() {
            for earlier in pins::previous_maps(pins, "core", COUNTERS) {
                migrate_counters(&earlier, counters);
            }
            pins::pin_map(pins, "core", COUNTERS, counters).map_err(BpfError::Pin)?;
        }
        if let Some(kills) = core.kills_map() {
            pins::pin_map(pins, "core", actions::KILLS, kills).map_err(BpfError::Pin)?;
        }
        if let Some(kills) = core.oom_kills_map() {
            pins::pin_map(pins, "core", oom_kills::MAP, kills).map_err(BpfError::Pin)?;
        }
        let daemons = pins.previous().len();
        let kills = pins::previous_maps(pins, "core", actions::KILLS);
        let oom_kills = pins::previous_maps(pins, "core", oom_kills::MAP);
        pins.remove_previous().map_err(BpfError::NoBpffs)?;
        // Only now is nobody killed by the earlier programs any more.
        Ok(Takeover {
            daemons,
            kills: kills
                .iter()
                .flat_map(|map| Ring::read_previous(actions::KILLS, map, actions::decode_killed))
                .collect(),
            oom_kills: oom_kills
                .iter()
                .flat_map(|map| Ring::read_previous(oom_kills::MAP, map, oom_kills::decode))
                .collect(),
        })
    }
}

/// What earlier daemons left.
#[derive(Default)]
pub struct Takeover {
    /// Number of the daemons whose programs were attached.
    pub daemons: usize,
    /// Kills that the kernel performed for them and that nobody has reported.
    pub kills: Vec<Action>,
    /// Kills by the kernel's OOM killer that nobody has reported.
    pub oom_kills: Vec<OomKill>,
}

/// Attaches these programs of core: all of them, or none on an error.
fn attach(core: &CoreObject, links: &mut Links, pins: &Pins, programs: &[&str]) -> Result<(), BpfError> {
    let new = programs
        .iter()
        .map(|name| Ok(((*name).to_owned(), links.attach(name, &core.program(name)?, pins)?)))
        .collect::<Result<_, BpfError>>()?;
    links.adopt(new, pins);
    Ok(())
}

/// The counters that these policies need.
fn counter_set(policies: &Policies, counting: &BTreeSet<String>) -> CounterSet {
    let of = |name| policies.get(name).map_or(CounterSet::None, PolicyObject::counts);
    counting.iter().map(of).max().unwrap_or_default()
}

/// Adds the counts of the earlier daemon's programs, because the new programs count only since they were attached.
fn migrate_counters(earlier: &MapHandle, counters: &MapHandle) {
    for cgroup in earlier.keys() {
        let (Ok(Some(old)), Ok(Some(new))) =
            (earlier.lookup(&cgroup, MapFlags::ANY), counters.lookup(&cgroup, MapFlags::ANY))
        else {
            continue;
        };
        // The counters of another version may have another layout.
        if old.len() == new.len()
            && let Err(error) = counters.update(&cgroup, &old, MapFlags::EXIST)
        {
            tracing::debug!(%error, "carrying counters over");
        }
    }
}
