//! The loaded objects: `core.bpf.o` and the policies, and the operations on their maps. Attached programs:
//! attachments.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libbpf_rs::{Btf, ErrorKind, MapCore, MapFlags};

use super::abi::{self, Op};
use super::attachments::{Attachments, RequiredAttachments, Takeover};
use super::core_object::{CoreObject, STORE_PTR_PROGRAM};
use super::error::BpfError;
use super::objects::ObjectFile;
use super::pins;
use super::policy_object::PolicyObject;
use super::preload::{LoadTask, PolicyLoader, PreparedPolicy};
use super::ring::Decoder;
use super::{actions, cgroup_iter, denials, events, libbpf_log, oom_kills};
use crate::names::{CgroupId, CgroupPath};

/// The loaded BPF objects.
pub struct BpfRuntime {
    core: CoreObject,
    attachments: Attachments,
    /// The policies of each slot.
    slot_policies: BTreeMap<u32, BTreeSet<String>>,
    policies: BTreeMap<String, PolicyObject>,
    /// Replaced objects, which stay attached until their successors are.
    replaced: Vec<PolicyObject>,
    generation: u32,
    files: BTreeMap<String, ObjectFile>,
    btf: Btf<'static>,
}

impl BpfRuntime {
    /// Loads `core.bpf.o` without attaching it. `files`: policy name → object file. `machine` is the size of the
    /// memory and `page` that of a page, in bytes.
    pub fn open(
        core: &Path,
        files: BTreeMap<String, ObjectFile>,
        machine: u64,
        page: u64,
    ) -> Result<Self, BpfError> {
        let (btf, said) = libbpf_log::capture(Btf::from_vmlinux);
        let btf = btf.map_err(BpfError::btf)?;
        tracing::trace!(%said, "kernel BTF");
        Ok(BpfRuntime {
            core: CoreObject::load(core, &btf, machine, page)?,
            attachments: Attachments::new(Path::new(pins::PIN_ROOT)),
            slot_policies: BTreeMap::new(),
            policies: BTreeMap::new(),
            replaced: Vec::new(),
            generation: 0,
            files,
            btf,
        })
    }

    /// Loads the policy's object, unless it is loaded.
    pub fn load_policy(&mut self, name: &str) -> Result<(), BpfError> {
        if self.policies.contains_key(name) {
            return Ok(());
        }
        let file = self.files.get(name).ok_or_else(|| BpfError::NoPolicy(name.to_owned()))?;
        let object = PolicyObject::load(name, file, &self.btf, self.core.shared())?;
        self.policies.insert(name.to_owned(), object);
        Ok(())
    }

    /// A task that loads the policy on another thread, for [`BpfRuntime::loaded`]; `None` if it is loaded.
    pub fn loading(&self, name: &str) -> Option<LoadTask> {
        let file = self.files.get(name).filter(|_| !self.policies.contains_key(name))?.clone();
        Some(LoadTask { name: name.to_owned(), file, loader: self.loader().ok()? })
    }

    /// A loader of policies on another thread, for [`BpfRuntime::replace`].
    pub fn loader(&self) -> Result<PolicyLoader, BpfError> {
        PolicyLoader::new(self.core.shared())
    }

    /// Adds a policy that was loaded on another thread, unless it was loaded here in the meantime.
    pub fn loaded(&mut self, policy: PreparedPolicy) {
        // The file may have been read again in the meantime.
        if self.files.get(&policy.name) == Some(&policy.file) {
            self.policies.entry(policy.name).or_insert(policy.object);
        }
    }

    /// Replaces the objects by those in `files`, of which `loaded` are loaded. The replaced programs stay attached
    /// until [`BpfRuntime::drop_replaced`]. On an error, nothing is changed.
    pub fn replace(
        &mut self,
        files: BTreeMap<String, ObjectFile>,
        mut loaded: Vec<PreparedPolicy>,
    ) -> Result<(), BpfError> {
        let attached = loaded.iter_mut().try_for_each(|PreparedPolicy { name, object, .. }| {
            self.generation = self.generation.saturating_add(1);
            object.set_generation(name, self.generation);
            match self.policies.get(name) {
                Some(old) if old.is_attached() => object.attach(self.attachments.pins()),
                _ => Ok(()),
            }
        });
        if attached.is_err() {
            loaded.iter_mut().for_each(|new| new.object.detach());
            return attached;
        }
        let gone: Vec<String> =
            self.policies.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        self.replaced.extend(gone.iter().filter_map(|name| self.policies.remove(name)));
        self.files = files;
        for new in loaded {
            self.replaced.extend(self.policies.insert(new.name, new.object));
        }
        Ok(())
    }

    /// Detaches the replaced objects. `commit`: see [`RequiredAttachments`].
    pub fn drop_replaced(&mut self, commit: Option<u64>) {
        let elected = self.attachments.elect_growth_counter(&self.core, &self.policies, commit, |_| true);
        if let Err(error) = elected {
            tracing::error!("failed to attach the growth counter; growth requests are not counted: {error}");
        }
        self.replaced.drain(..).for_each(|mut object| object.detach());
    }

    /// Attaches the required programs and detaches the others. Returns the errors by policy; "" stands for the
    /// lifecycle programs, which every policy needs. A later call tries again.
    pub fn set_attachments(&mut self, required: &RequiredAttachments<'_>) -> BTreeMap<String, BpfError> {
        self.attachments.set(&self.core, &mut self.policies, required)
    }

    /// Pins the attached programs, so that they stay attached without the daemon, and removes the programs of earlier
    /// daemons. Returns what they left. Must be called after all programs are attached.
    pub fn take_over(&mut self) -> Result<Takeover, BpfError> {
        self.attachments.take_over(&mut self.core, &mut self.policies)
    }

    /// Writes the parameters of a policy into a slot to which no cgroup is bound.
    pub fn put(&mut self, policy: &str, slot: u32, params: &[u8]) -> Result<(), BpfError> {
        self.load_policy(policy)?;
        self.slot_policies.entry(slot).or_default().insert(policy.to_owned());
        self.policies
            .get(policy)
            .ok_or_else(|| BpfError::NoPolicy(policy.to_owned()))?
            .write_params(slot, params)
    }

    /// Clears a slot in all loaded policies.
    pub fn clear(&mut self, slot: u32) -> Result<(), BpfError> {
        self.slot_policies.remove(&slot);
        self.policies.values().try_for_each(|policy| policy.clear(slot))
    }

    /// Binds a cgroup to a slot, or moves it to another one. The state of policies that are in both slots is kept.
    pub fn bind(&self, cgroup: CgroupId, slot: u32, count: bool) -> Result<(), BpfError> {
        let none = BTreeSet::new();
        let held = self.slot_policies.get(&slot).unwrap_or(&none);
        let (stay, go): (Vec<_>, Vec<_>) = self.policies.iter().partition(|(name, _)| held.contains(*name));
        // State first: a policy without state does nothing.
        stay.iter().try_for_each(|(_, policy)| policy.create_state(cgroup))?;
        self.core.command(Op::Bind, "bind", cgroup.0, slot, flags(count))?;
        go.iter().for_each(|(_, policy)| policy.delete_state(cgroup));
        if stay.iter().any(|(_, policy)| policy.has_timer()) {
            cgroup_iter::run_for_cgroup(&self.core.program(STORE_PTR_PROGRAM)?, cgroup)?;
        }
        stay.iter().try_for_each(|(_, policy)| policy.start_timer(cgroup))
    }

    /// Removes the binding of a cgroup, if it exists.
    pub fn unbind(&self, cgroup: CgroupId) {
        // ENOENT: the cgroup was removed and cgroup_rmdir was there first.
        if let Err(error) = self.core.command(Op::Unbind, "unbind", cgroup.0, 0, 0) {
            tracing::debug!(%error, "unbind");
        }
        self.policies.values().for_each(|policy| policy.delete_state(cgroup));
    }

    /// Exempts a cgroup from all verdicts: that of the daemon, and that of the next daemon at the same path, which
    /// starts while the pinned programs are attached.
    pub fn exempt_daemon(&self, cgroup: CgroupId, path: &CgroupPath) -> Result<(), BpfError> {
        self.core.command(Op::Daemon, "exempt", cgroup.0, 0, 0)?;
        self.register_binding(path, 0, abi::BINDING_DAEMON)
    }

    /// Registers a slot for a cgroup that will be created at this path.
    pub fn register(&self, path: &CgroupPath, slot: u32, count: bool) -> Result<(), BpfError> {
        self.register_binding(path, slot, flags(count))
    }

    fn register_binding(&self, path: &CgroupPath, slot: u32, flags: u32) -> Result<(), BpfError> {
        let key = abi::path_key(path.as_str()).ok_or_else(|| BpfError::PathTooLong(path.clone()))?;
        self.core.map("memcg_registered")?.update(&key, &abi::binding(slot, flags), MapFlags::ANY).map_err(
            |why| match why.kind() {
                ErrorKind::TooBig => BpfError::Registrations(path.clone()),
                _ => BpfError::Map { map: "memcg_registered", why },
            },
        )
    }

    /// Removes a registration, if it exists.
    pub fn unregister(&self, path: &CgroupPath) {
        if let (Some(key), Ok(map)) = (abi::path_key(path.as_str()), self.core.map("memcg_registered"))
            && let Err(error) = map.delete(&key)
        {
            tracing::debug!(%error, %path, "unregister");
        }
    }

    /// Sets whether all new cgroups are reported, or only registered ones.
    pub fn report_all_cgroups(&self, all: bool) -> Result<(), BpfError> {
        self.core.command(Op::Announce, "announce", u64::from(all), 0, 0)
    }

    /// The subtree's counters of a cgroup with a policy, by the names of `struct memcg_bpf_counters`.
    pub fn counters(&self, cgroup: CgroupId) -> BTreeMap<String, u64> {
        self.core.counters(cgroup)
    }

    /// Opens the events of the kernel.
    pub fn events(&self) -> Result<events::Events, BpfError> {
        events::Events::open(events::MAP, &[(self.core.map(events::MAP)?, events::Event::decode)])
    }

    /// Opens the actions that policies request.
    pub fn actions(&self) -> Result<actions::Actions, BpfError> {
        let (requested, kills) = (self.core.map(actions::MAP)?, self.core.map(actions::KILLS)?);
        let maps = [(requested, actions::decode_action as Decoder<_>), (kills, actions::decode_killed)];
        actions::Actions::open(actions::MAP, &maps)
    }

    /// Opens the reports of denied requests.
    pub fn denials(&self) -> Result<denials::Denials, BpfError> {
        denials::Denials::open(denials::MAP, &[(self.core.map(denials::MAP)?, denials::decode_denial)])
    }

    /// Attaches the program that records kills by the kernel's OOM killer.
    pub fn record_oom_kills(&mut self) -> Result<(), BpfError> {
        self.attachments.record_oom_kills(&self.core)
    }

    /// Opens the kills by the kernel's OOM killer.
    pub fn oom_kills(&self) -> Result<oom_kills::OomKills, BpfError> {
        oom_kills::OomKills::open(oom_kills::MAP, &[(self.core.map(oom_kills::MAP)?, oom_kills::decode)])
    }

    /// Sets the guards of kills that the kernel performs: none before `paused_until` (in ns of CLOCK_MONOTONIC), and
    /// at most so many a minute for the policies of one cgroup.
    pub fn set_kill_guards(&self, paused_until: u64, per_minute: u32) -> Result<(), BpfError> {
        self.core.command(Op::Kills, "set the guards of kills of", paused_until, per_minute, 0)
    }

    /// Number of events dropped because the ring buffer was full.
    pub fn events_dropped(&self) -> u64 {
        self.core.events_dropped()
    }

    /// Number of actions dropped because the ring buffer was full.
    pub fn actions_dropped(&self) -> u64 {
        self.core.actions_dropped()
    }
}

fn flags(count: bool) -> u32 {
    if count { abi::BINDING_COUNT } else { 0 }
}
