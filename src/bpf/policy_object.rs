//! The loaded object of a policy: its parameters by slot, and its programs, which are attached while a cgroup is
//! bound.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use libbpf_rs::{Btf, ErrorKind, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};

use super::error::BpfError;
use super::hooks::{self, AttachCandidates, TICK};
use super::links::Links;
use super::objects::ObjectFile;
use super::pins::Pins;
use super::schema::CounterSet;
use super::{abi, libbpf_log, schema};
use crate::names::CgroupId;

/// Map that every policy object has (`MEMCG_BPF_POLICY`).
const PARAMS: &str = "params";
/// The per-cgroup state of a policy (`MEMCG_BPF_STATE`).
const STATE_MAP: &str = "state";
/// The timers of the hook `tick` (`MEMCG_BPF_TICK`), and the program that starts one.
const TIMERS_MAP: &str = "timers";

/// The object's id (`memcg_bpf_object_id`).
const OBJECT_ID: &str = ".rodata.id";
/// The ids used so far in this process. Only objects of one process share maps.
static NEXT_OBJECT_ID: AtomicU32 = AtomicU32::new(0);

pub struct PolicyObject {
    object: Object,
    object_id: u32,
    params: MapHandle,
    slot_size: usize,
    /// Both keyed by cgroup.
    state: Option<MapHandle>,
    timers: Option<MapHandle>,
    counts: CounterSet,
    hooks: BTreeMap<String, AttachCandidates>,
    links: Links,
}

impl PolicyObject {
    /// Opens and loads the object. The maps of core replace the object's own maps of the same names.
    pub fn load(
        name: &str,
        file: &ObjectFile,
        btf: &Btf<'_>,
        shared: &BTreeMap<String, MapHandle>,
    ) -> Result<Self, BpfError> {
        let path = file.path.as_path();
        let open_error = |why: String| BpfError::open(path, &why);
        let (opened, said) = libbpf_log::capture(|| ObjectBuilder::default().open_file(path));
        let mut opened = opened.map_err(|e| open_error(format!("{e:#}\n{said}")))?;
        let hooks = hooks::candidates(&opened, Some(btf));
        let own = Btf::from_path(path).map_err(|e| open_error(format!("{e:#}")))?;
        let (_, counts) = schema::read(&own, name, hooks.keys().cloned().collect())
            .map_err(|e| open_error(e.to_string()))?;
        file.verify_unchanged()?;
        hooks::select(&mut opened, &hooks);
        let object_id = NEXT_OBJECT_ID.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        for mut map in opened.maps_mut() {
            if map.name() == OBJECT_ID {
                map.set_initial_value(&object_id.to_ne_bytes()).map_err(|e| open_error(format!("{e:#}")))?;
            }
            if let Some(core) = shared.get(map.name().to_string_lossy().as_ref()) {
                map.reuse_fd(core.as_fd()).map_err(|e| open_error(format!("{e:#}")))?;
            }
        }
        let (object, said) = libbpf_log::capture(|| opened.load());
        let object = object.map_err(|e| BpfError::load(path, &e, "", said))?;
        let map = |name: &str| {
            let found = object.maps().find(|m| m.name() == name);
            found.map(|m| MapHandle::try_from(&m)).transpose().map_err(|e| open_error(format!("{e:#}")))
        };
        let params = map(PARAMS)?
            .ok_or_else(|| open_error("it has no map 'params': use MEMCG_BPF_POLICY()".to_owned()))?;
        let slot_size = usize::try_from(params.value_size()).map_err(|e| open_error(e.to_string()))?;
        let (state, timers) = (map(STATE_MAP)?, map(TIMERS_MAP)?);
        let links = Links::new(name);
        Ok(PolicyObject { object, object_id, params, slot_size, state, timers, counts, hooks, links })
    }

    /// Writes parameters into a slot, which attaches the policy there.
    pub fn write_params(&self, slot: u32, params: &[u8]) -> Result<(), BpfError> {
        let mut value = Vec::with_capacity(self.slot_size);
        value.extend_from_slice(&1u64.to_ne_bytes());
        value.extend_from_slice(params);
        value.resize(self.slot_size, 0);
        debug_assert!(value.len() >= abi::SLOT_HEADER);
        self.write(slot, &value)
    }

    /// Empties a slot, which detaches the policy there.
    pub fn clear(&self, slot: u32) -> Result<(), BpfError> {
        self.write(slot, &vec![0; self.slot_size])
    }

    fn write(&self, slot: u32, value: &[u8]) -> Result<(), BpfError> {
        self.params
            .update(&slot.to_ne_bytes(), value, MapFlags::ANY)
            .map_err(|why| BpfError::Map { map: PARAMS, why })
    }

    /// The counters of the subtree that the policy reads.
    pub fn counts(&self) -> CounterSet {
        self.counts
    }

    /// True if the policy runs periodically.
    pub fn has_timer(&self) -> bool {
        self.timers.is_some() && self.has(TICK)
    }

    /// Creates the policy's state for a cgroup, zeroed, unless it exists.
    pub fn create_state(&self, cgroup: CgroupId) -> Result<(), BpfError> {
        for map in self.state.iter().chain(&self.timers) {
            let empty = vec![0; usize::try_from(map.value_size()).unwrap_or_default()];
            match map.update(&cgroup.0.to_ne_bytes(), &empty, MapFlags::NO_EXIST) {
                Err(why) if why.kind() != ErrorKind::AlreadyExists => {
                    return Err(BpfError::Map { map: STATE_MAP, why });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes the policy's state for a cgroup, and with it the timer.
    pub fn delete_state(&self, cgroup: CgroupId) {
        for map in self.state.iter().chain(&self.timers) {
            match map.delete(&cgroup.0.to_ne_bytes()) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, "forgetting a cgroup")
                }
                _ => {}
            }
        }
    }

    /// Starts the timer of a cgroup, unless it runs.
    pub fn start_timer(&self, cgroup: CgroupId) -> Result<(), BpfError> {
        let program = self.hooks.get(TICK).and_then(AttachCandidates::program);
        let Some(program) = self.object.progs_mut().find(|p| Some(p.name()) == program.map(OsStr::new))
        else {
            return Ok(());
        };
        let mut context = cgroup.0.to_ne_bytes();
        let input = ProgramInput { context_in: Some(&mut context), ..Default::default() };
        let output = program.test_run(input).map_err(|why| BpfError::Map { map: TIMERS_MAP, why })?;
        match output.return_value as i32 {
            0 => Ok(()),
            code => {
                let why = std::io::Error::from_raw_os_error(code.saturating_neg());
                Err(BpfError::Run { program: TICK, why })
            }
        }
    }

    /// True if the programs are attached.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// The id of the object in this process, from 1.
    pub fn object_id(&self) -> u32 {
        self.object_id
    }

    /// True if the policy has a program for this hook that the kernel can run.
    pub fn has(&self, hook: &str) -> bool {
        self.hooks.get(hook).is_some_and(|candidates| candidates.chosen.is_some())
    }

    /// Attaches the selected programs, unless they are attached.
    pub fn attach(&mut self, pins: &Pins) -> Result<(), BpfError> {
        if !self.links.is_empty() {
            return Ok(());
        }
        let mut links = Vec::new();
        let chosen = self.hooks.iter().filter(|(hook, _)| *hook != TICK);
        for name in chosen.filter_map(|(_, c)| c.program()) {
            let program = self.object.progs_mut().find(|p| p.name() == name);
            let Some(program) = program else { continue };
            links.push((name.to_owned(), self.links.attach(name, &program, pins)?));
        }
        self.links.adopt(links, pins);
        Ok(())
    }

    /// Names the links by generation, because the links of the replaced object stay pinned until this object is
    /// attached.
    pub fn set_generation(&mut self, name: &str, generation: u32) {
        // Names of policies contain no '+'.
        self.links = Links::new(&format!("{name}+{generation}"));
    }

    /// Pins the attached programs.
    pub fn pin(&mut self, pins: &Pins) -> Result<(), BpfError> {
        self.links.pin(pins).map_err(BpfError::Pin)
    }

    /// Detaches all programs.
    pub fn detach(&mut self) {
        self.links.detach_all();
    }
}
