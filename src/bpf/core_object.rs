//! `core.bpf.o` in the kernel: its programs, the maps that it shares with policies, and the commands that it executes.
//! Attached programs: attachments.rs.

use std::collections::BTreeMap;
use std::path::Path;

use libbpf_rs::{Btf, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, ProgramMut};

use super::abi::{self, Op};
use super::error::BpfError;
use super::hooks::{self, AttachCandidates, COUNT_GROWTH};
use super::schema::CounterSet;
use super::{actions, events, libbpf_log, oom_kills, probe};
use crate::names::CgroupId;

/// The counters of subtrees with a policy, which outlive the daemon.
pub const COUNTERS: &str = "memcg_counters";
/// The programs that follow the creation and removal of cgroups; attached while a cgroup is bound or registered.
pub const LIFECYCLE_PROGRAMS: [&str; 2] = ["cgroup_mkdir", "cgroup_rmdir"];
/// The program that stores the address of a cgroup.
pub const STORE_PTR_PROGRAM: &str = "store_cgroup_ptr";

/// The loaded `core.bpf.o`.
pub struct CoreObject {
    object: Object,
    shared: BTreeMap<String, MapHandle>,
    counter_names: Vec<String>,
    events_dropped_at: Option<usize>,
    actions_dropped_at: Option<usize>,
    counting_hooks: BTreeMap<String, AttachCandidates>,
}

impl CoreObject {
    /// Loads the object without attaching it. `machine` is the size of the memory and `page` that of a page, in
    /// bytes.
    pub fn load(path: &Path, btf: &Btf<'_>, machine: u64, page: u64) -> Result<Self, BpfError> {
        let (opened, said) = libbpf_log::capture(|| ObjectBuilder::default().open_file(path));
        let mut opened = opened.map_err(|e| {
            BpfError::transient(path, &e).unwrap_or_else(|| BpfError::open(path, &format!("{e:#}\n{said}")))
        })?;
        let hooks = hooks::candidates(&opened, Some(btf));
        hooks::select(&mut opened, &hooks);
        for mut program in opened.progs_mut() {
            let section = program.section().to_string_lossy().into_owned();
            let ours = LIFECYCLE_PROGRAMS
                .iter()
                .chain([&STORE_PTR_PROGRAM, &oom_kills::PROGRAM])
                .any(|name| program.name() == *name);
            if ours && hooks::kernel_has(btf, &section) {
                program.set_autoload(true);
            }
        }
        let (object, said) = libbpf_log::capture(|| opened.load());
        let hint = "; memcg-bpfd needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN";
        let object = object.map_err(|e| BpfError::load(path, &e, hint, said))?;
        let mut shared = BTreeMap::new();
        for map in object.maps() {
            let name = map.name().to_string_lossy().into_owned();
            if abi::is_shared(&name) {
                let handle = MapHandle::try_from(&map).map_err(|why| BpfError::Map { map: "core", why })?;
                shared.insert(name, handle);
            }
        }
        let counter_names = events::counter_names(path)?;
        let core = CoreObject {
            object,
            shared,
            counter_names,
            events_dropped_at: abi::global_offset(path, "dropped"),
            actions_dropped_at: abi::global_offset(path, "actions_dropped"),
            counting_hooks: hooks,
        };
        let shift = page.trailing_zeros();
        let pages = machine.checked_shr(shift).unwrap_or(machine);
        core.command(Op::Machine, "describe the machine of", pages, shift, probe::numa_nodes())?;
        Ok(core)
    }

    /// The maps that policies share with core.
    pub fn shared(&self) -> &BTreeMap<String, MapHandle> {
        &self.shared
    }

    /// A map by its name.
    pub fn map(&self, name: &'static str) -> Result<&MapHandle, BpfError> {
        self.shared
            .get(name)
            .ok_or_else(|| BpfError::Missing { object: "core.bpf.o".into(), what: format!("map {name}") })
    }

    /// A program by its name.
    pub fn program(&self, name: &str) -> Result<ProgramMut<'_>, BpfError> {
        self.object
            .progs_mut()
            .find(|p| p.name() == name)
            .ok_or_else(|| BpfError::Missing { object: "core.bpf.o".into(), what: format!("program {name}") })
    }

    /// Executes one operation by the program `command`. `verb` is used in the error message.
    pub fn command(
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

    /// The program that counts growth requests, if the kernel has its hook.
    pub fn growth_counter_program(&self) -> Option<&str> {
        self.counting_hooks.get(COUNT_GROWTH).and_then(AttachCandidates::program)
    }

    /// The programs that keep these counters.
    pub fn counter_programs(&self, counts: CounterSet) -> Vec<String> {
        let hooks = self.counting_hooks.iter().filter(|(hook, _)| counts.needs(hook));
        hooks.filter_map(|(_, c)| c.program().map(str::to_owned)).collect()
    }

    /// The map of performed kills, to pin it.
    pub fn kills_map(&mut self) -> Option<&mut MapHandle> {
        self.shared.get_mut(actions::KILLS)
    }

    /// The map of kills by the kernel's OOM killer, to pin it.
    pub fn oom_kills_map(&mut self) -> Option<&mut MapHandle> {
        self.shared.get_mut(oom_kills::MAP)
    }

    /// The map of counters, to pin it.
    pub fn counters_map(&mut self) -> Option<&mut MapHandle> {
        self.shared.get_mut(COUNTERS)
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

    /// Number of events dropped because the ring buffer was full.
    pub fn events_dropped(&self) -> u64 {
        self.read_global(self.events_dropped_at)
    }

    /// Number of actions dropped because the ring buffer was full.
    pub fn actions_dropped(&self) -> u64 {
        self.read_global(self.actions_dropped_at)
    }

    /// Reads a 32-bit member of `struct memcg_bpf_globals`.
    fn read_global(&self, at: Option<usize>) -> u64 {
        let key = 0u32.to_ne_bytes();
        let globals = self.map(abi::GLOBALS).ok().and_then(|m| m.lookup(&key, MapFlags::ANY).ok().flatten());
        let range = at.and_then(|at| Some(at..at.checked_add(4)?));
        let word = range.zip(globals).and_then(|(range, globals)| globals.get(range)?.try_into().ok());
        u64::from(word.map_or(0, u32::from_ne_bytes))
    }
}
