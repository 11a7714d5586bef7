//! What is loaded: `core.bpf.o`, the policy objects, and the doors through which the daemon changes their maps. What of
//! it is attached: attachments.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use libbpf_rs::{
    Btf, ErrorKind, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, ProgramMut,
};

use super::abi::{self, Op};
use super::error::BpfError;
use super::hooks::{self, AttachCandidates};
use super::links::Links;
use super::objects::ObjectFile;
use super::pins::{self, Pins};
use super::policy_object::PolicyObject;
use super::preload::{LoadTask, PolicyLoader, PreparedPolicy};
use super::{actions, cgroup_iter, events, libbpf_log};
use crate::names::{CgroupId, CgroupPath};

/// The counters of subtrees with a policy, which outlive the daemon.
pub(super) const COUNTERS: &str = "memcg_counters";
/// The programs that follow cgroups; attached while anything is bound or registered.
pub(super) const LIFECYCLE_PROGRAMS: [&str; 2] = ["cgroup_mkdir", "cgroup_rmdir"];
/// The program that is shown a cgroup to note where it is.
const STORE_PTR_PROGRAM: &str = "store_cgroup_ptr";

/// The loaded BPF objects.
pub struct BpfRuntime {
    core: Object,
    pub(super) shared: BTreeMap<String, MapHandle>,
    counter_names: Vec<String>,
    events_dropped_at: Option<usize>,
    actions_dropped_at: Option<usize>,
    pub(super) counting_hooks: BTreeMap<String, AttachCandidates>,
    pub(super) pins: Pins,
    pub(super) lifecycle_links: Links,
    pub(super) counter_links: Links,
    /// The programs of core's that count, attached or not (see growth_counter.rs).
    pub(super) counter_names_attached: Vec<String>,
    /// The number of the object that counts growth in core's place, and the commit limit that was passed to it.
    pub(super) growth_counter: Option<(u32, u64)>,
    /// Which policies each slot holds.
    slot_policies: BTreeMap<u32, BTreeSet<String>>,
    pub(super) policies: BTreeMap<String, PolicyObject>,
    /// Objects that others have taken over from, which stay attached until those are.
    replaced: Vec<PolicyObject>,
    generation: u32,
    files: BTreeMap<String, ObjectFile>,
    btf: Btf<'static>,
}

impl BpfRuntime {
    /// Loads `core.bpf.o`; attaches nothing. `files`: policy name → object file. `machine`, `page`: their bytes.
    pub fn open(
        core: &Path,
        files: BTreeMap<String, ObjectFile>,
        machine: u64,
        page: u64,
    ) -> Result<Self, BpfError> {
        let (btf, said) = libbpf_log::capture(Btf::from_vmlinux);
        let btf = btf.map_err(BpfError::btf)?;
        tracing::trace!(%said, "kernel BTF");
        let (opened, said) = libbpf_log::capture(|| ObjectBuilder::default().open_file(core));
        let mut opened = opened.map_err(|e| {
            BpfError::transient(core, &e).unwrap_or_else(|| BpfError::open(core, &format!("{e:#}\n{said}")))
        })?;
        let hooks = hooks::candidates(&opened, Some(&btf));
        hooks::select(&mut opened, &hooks);
        for mut program in opened.progs_mut() {
            let section = program.section().to_string_lossy().into_owned();
            let ours =
                LIFECYCLE_PROGRAMS.iter().chain([&STORE_PTR_PROGRAM]).any(|name| program.name() == *name);
            if ours && hooks::kernel_has(&btf, &section) {
                program.set_autoload(true);
            }
        }
        let (object, said) = libbpf_log::capture(|| opened.load());
        let hint = "; is CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN at hand?";
        let object = object.map_err(|e| BpfError::load(core, &e, hint, said))?;
        let mut shared = BTreeMap::new();
        for map in object.maps() {
            let name = map.name().to_string_lossy().into_owned();
            if abi::is_shared(&name) {
                let handle = MapHandle::try_from(&map).map_err(|why| BpfError::Map { map: "core", why })?;
                shared.insert(name, handle);
            }
        }
        let counter_names = events::counter_names(core)?;
        let kernel = BpfRuntime {
            core: object,
            shared,
            counter_names,
            events_dropped_at: abi::global_offset(core, "dropped"),
            actions_dropped_at: abi::global_offset(core, "actions_dropped"),
            counting_hooks: hooks,
            pins: Pins::new(Path::new(pins::PIN_ROOT)),
            lifecycle_links: Links::new("core"),
            counter_links: Links::new("core"),
            counter_names_attached: Vec::new(),
            growth_counter: None,
            slot_policies: BTreeMap::new(),
            policies: BTreeMap::new(),
            replaced: Vec::new(),
            generation: 0,
            files,
            btf,
        };
        let shift = page.trailing_zeros();
        let pages = machine.checked_shr(shift).unwrap_or(machine);
        kernel.command(Op::Machine, "describe the machine of", pages, shift, 0)?;
        Ok(kernel)
    }

    fn map(&self, name: &'static str) -> Result<&MapHandle, BpfError> {
        self.shared
            .get(name)
            .ok_or_else(|| BpfError::Missing { object: "core.bpf.o".into(), what: format!("map {name}") })
    }

    pub(super) fn command(
        &self,
        op: Op,
        verb: &'static str,
        value: u64,
        slot: u32,
        flags: u32,
    ) -> Result<(), BpfError> {
        let program = self.program("command")?;
        let mut context = abi::encode_command(op, value, slot, flags);
        let input = ProgramInput { context_in: Some(&mut context), ..Default::default() };
        let output = program.test_run(input).map_err(|why| BpfError::Map { map: "memcg_bindings", why })?;
        match output.return_value as i32 {
            0 => Ok(()),
            code => Err(BpfError::CommandFailed { op: verb, id: value, code }),
        }
    }

    /// Loads the policy's object if it is not yet.
    pub fn load_policy(&mut self, name: &str) -> Result<(), BpfError> {
        if self.policies.contains_key(name) {
            return Ok(());
        }
        let file = self.files.get(name).ok_or_else(|| BpfError::NoPolicy(name.to_owned()))?;
        let object = PolicyObject::load(name, file, &self.btf, &self.shared)?;
        self.policies.insert(name.to_owned(), object);
        Ok(())
    }

    /// What loads the policy on another thread, for [`BpfRuntime::loaded`]; `None` when it is loaded.
    pub fn loading(&self, name: &str) -> Option<LoadTask> {
        let file = self.files.get(name).filter(|_| !self.policies.contains_key(name))?.clone();
        Some(LoadTask { name: name.to_owned(), file, loader: self.loader().ok()? })
    }

    /// What loads policies on another thread for [`BpfRuntime::replace`].
    pub fn loader(&self) -> Result<PolicyLoader, BpfError> {
        PolicyLoader::new(&self.shared)
    }

    /// Takes what another thread has loaded, unless it was loaded here meanwhile.
    pub fn loaded(&mut self, policy: PreparedPolicy) {
        // Its file may have been read anew meanwhile.
        if self.files.get(&policy.name) == Some(&policy.file) {
            self.policies.entry(policy.name).or_insert(policy.object);
        }
    }

    /// From here on policies are these files' objects, of which `loaded` are loaded. What was attached until now stays
    /// attached until [`BpfRuntime::drop_replaced`]. On an error nothing has changed.
    pub fn replace(
        &mut self,
        files: BTreeMap<String, ObjectFile>,
        mut loaded: Vec<PreparedPolicy>,
    ) -> Result<(), BpfError> {
        let attached = loaded.iter_mut().try_for_each(|PreparedPolicy { name, object, .. }| {
            self.generation = self.generation.saturating_add(1);
            object.set_generation(name, self.generation);
            match self.policies.get(name) {
                Some(old) if old.is_attached() => object.attach(&self.pins),
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

    /// Ends what was replaced. `commit`: see [`BpfRuntime::set_attachments`].
    pub fn drop_replaced(&mut self, commit: Option<u64>) {
        if let Err(error) = self.elect_growth_counter(commit, |_| true) {
            tracing::error!("growth is not counted: {error}");
        }
        self.replaced.drain(..).for_each(|mut object| object.detach());
    }

    /// Writes a policy's parameters into a slot that nobody is bound to yet.
    pub fn put(&mut self, policy: &str, slot: u32, params: &[u8]) -> Result<(), BpfError> {
        self.load_policy(policy)?;
        self.slot_policies.entry(slot).or_default().insert(policy.to_owned());
        self.policies
            .get(policy)
            .ok_or_else(|| BpfError::NoPolicy(policy.to_owned()))?
            .write_params(slot, params)
    }

    /// Empties a slot in every loaded policy.
    pub fn clear(&mut self, slot: u32) -> Result<(), BpfError> {
        self.slot_policies.remove(&slot);
        self.policies.values().try_for_each(|policy| policy.clear(slot))
    }

    /// Binds a cgroup to a slot, or moves it to another. What policies remember of it stays, if they stay.
    pub fn bind(&self, cgroup: CgroupId, slot: u32, count: bool) -> Result<(), BpfError> {
        let none = BTreeSet::new();
        let held = self.slot_policies.get(&slot).unwrap_or(&none);
        let (stay, go): (Vec<_>, Vec<_>) = self.policies.iter().partition(|(name, _)| held.contains(*name));
        // Memory first: a policy that is asked before it has any is asked in vain.
        stay.iter().try_for_each(|(_, policy)| policy.create_state(cgroup))?;
        self.command(Op::Bind, "bind", cgroup.0, slot, flags(count))?;
        go.iter().for_each(|(_, policy)| policy.delete_state(cgroup));
        if stay.iter().any(|(_, policy)| policy.has_timer()) {
            cgroup_iter::run_for_cgroup(&self.program(STORE_PTR_PROGRAM)?, cgroup)?;
        }
        stay.iter().try_for_each(|(_, policy)| policy.start_timer(cgroup))
    }

    /// Ends a cgroup's binding; one that does not exist is no error.
    pub fn unbind(&self, cgroup: CgroupId) {
        // ENOENT: the cgroup was removed and cgroup_rmdir was there first.
        if let Err(error) = self.command(Op::Unbind, "unbind", cgroup.0, 0, 0) {
            tracing::debug!(%error, "unbind");
        }
        self.policies.values().for_each(|policy| policy.delete_state(cgroup));
    }

    /// Exempts a cgroup from all verdicts: the daemon's, and that of the next daemon under the same path, which starts while
    /// the pinned programs are attached.
    pub fn exempt_daemon(&self, cgroup: CgroupId, path: &CgroupPath) -> Result<(), BpfError> {
        self.command(Op::Daemon, "exempt", cgroup.0, 0, 0)?;
        self.register_binding(path, 0, abi::BINDING_DAEMON)
    }

    /// Registers a slot under the path a cgroup will have.
    pub fn register(&self, path: &CgroupPath, slot: u32, count: bool) -> Result<(), BpfError> {
        self.register_binding(path, slot, flags(count))
    }

    fn register_binding(&self, path: &CgroupPath, slot: u32, flags: u32) -> Result<(), BpfError> {
        let key = abi::path_key(path.as_str()).ok_or_else(|| BpfError::PathTooLong(path.clone()))?;
        self.map("memcg_registered")?.update(&key, &abi::binding(slot, flags), MapFlags::ANY).map_err(|why| {
            match why.kind() {
                ErrorKind::TooBig => BpfError::Registrations(path.clone()),
                _ => BpfError::Map { map: "memcg_registered", why },
            }
        })
    }

    /// Forgets a registration; one that does not exist is no error.
    pub fn unregister(&self, path: &CgroupPath) {
        if let (Some(key), Ok(map)) = (abi::path_key(path.as_str()), self.map("memcg_registered"))
            && let Err(error) = map.delete(&key)
        {
            tracing::debug!(%error, %path, "unregister");
        }
    }

    /// Sets whether every new cgroup is reported, not only registered ones.
    pub fn report_all_cgroups(&self, all: bool) -> Result<(), BpfError> {
        self.command(Op::Announce, "announce", u64::from(all), 0, 0)
    }

    pub(super) fn program(&self, name: &str) -> Result<ProgramMut<'_>, BpfError> {
        self.core
            .progs_mut()
            .find(|p| p.name() == name)
            .ok_or_else(|| BpfError::Missing { object: "core.bpf.o".into(), what: format!("program {name}") })
    }

    /// The subtree's counters of a cgroup with a policy, by the names of `struct memcg_bpf_counters`.
    pub fn counters(&self, cgroup: CgroupId) -> BTreeMap<String, u64> {
        let value = self
            .map(COUNTERS)
            .ok()
            .and_then(|map| map.lookup(&cgroup.0.to_ne_bytes(), MapFlags::ANY).ok().flatten())
            .unwrap_or_default();
        let words = value.chunks_exact(8).filter_map(|c| c.try_into().ok()).map(u64::from_ne_bytes);
        self.counter_names.iter().cloned().zip(words).collect()
    }

    /// Events from the kernel: a source to poll and to read from.
    pub fn events(&self) -> Result<events::Events, BpfError> {
        events::Events::open(self.map("memcg_events")?)
    }

    /// What policies ask for: a source to poll and to read from.
    pub fn actions(&self) -> Result<actions::Actions, BpfError> {
        actions::Actions::open(self.map(actions::MAP)?)
    }

    /// How many events found the ring buffer full.
    pub fn events_dropped(&self) -> u64 {
        self.read_global(self.events_dropped_at)
    }

    /// How many actions found theirs full.
    pub fn actions_dropped(&self) -> u64 {
        self.read_global(self.actions_dropped_at)
    }

    /// A 32-bit number of `struct memcg_bpf_globals`.
    fn read_global(&self, at: Option<usize>) -> u64 {
        let key = 0u32.to_ne_bytes();
        let globals = self.map(abi::GLOBALS).ok().and_then(|m| m.lookup(&key, MapFlags::ANY).ok().flatten());
        let range = at.and_then(|at| Some(at..at.checked_add(4)?));
        let word = range.zip(globals).and_then(|(range, globals)| globals.get(range)?.try_into().ok());
        u64::from(word.map_or(0, u32::from_ne_bytes))
    }
}

fn flags(count: bool) -> u32 {
    if count { abi::BINDING_COUNT } else { 0 }
}
