//! One policy's object in the kernel: its parameters by slot, its programs attached while somebody is bound.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{Btf, MapCore, MapFlags, MapHandle, Object, ObjectBuilder};

use super::attach::{self, Candidates};
use super::core::{BpfError, chosen_programs};
use super::pins::{Links, Pins};
use super::{log, shared};

/// Map that every policy object has (`MEMCG_BPF_POLICY`).
const PARAMS: &str = "params";

pub struct PolicyObject {
    object: Object,
    params: MapHandle,
    slot_size: usize,
    hooks: BTreeMap<String, Candidates>,
    links: Links,
}

impl PolicyObject {
    /// Opens and loads the object with core's maps in place of its own of the same name.
    pub fn load(path: &Path, btf: &Btf<'_>, shared: &BTreeMap<String, MapHandle>) -> Result<Self, BpfError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".bpf.o").to_owned();
        let open_error = |why: String| BpfError::Open { path: path.to_owned(), why };
        let (opened, said) = log::quietly(|| ObjectBuilder::default().open_file(path));
        let mut opened = opened.map_err(|e| open_error(format!("{e:#} {said}")))?;
        let hooks = attach::candidates(&opened, Some(btf));
        attach::choose(&mut opened, &hooks);
        for mut map in opened.maps_mut() {
            if let Some(core) = shared.get(map.name().to_string_lossy().as_ref()) {
                map.reuse_fd(core.as_fd()).map_err(|e| open_error(format!("{e:#}")))?;
            }
        }
        let (object, said) = log::quietly(|| opened.load());
        let object =
            object.map_err(|e| BpfError::Load { path: path.to_owned(), why: format!("{e:#}"), log: said })?;
        let params = object
            .maps()
            .find(|m| m.name() == PARAMS)
            .ok_or_else(|| open_error("it has no map 'params': use MEMCG_BPF_POLICY()".to_owned()))?;
        let slot_size = usize::try_from(params.value_size()).map_err(|e| open_error(e.to_string()))?;
        let params = MapHandle::try_from(&params).map_err(|e| open_error(format!("{e:#}")))?;
        Ok(PolicyObject { object, params, slot_size, hooks, links: Links::new(&name) })
    }

    /// Writes parameters into a slot and puts the policy in force there.
    pub fn put(&self, slot: u32, params: &[u8]) -> Result<(), BpfError> {
        let mut value = Vec::with_capacity(self.slot_size);
        value.extend_from_slice(&1u64.to_ne_bytes());
        value.extend_from_slice(params);
        value.resize(self.slot_size, 0);
        debug_assert!(value.len() >= shared::SLOT_HEADER);
        self.write(slot, &value)
    }

    /// Takes the policy out of force in a slot.
    pub fn clear(&self, slot: u32) -> Result<(), BpfError> {
        self.write(slot, &vec![0; self.slot_size])
    }

    fn write(&self, slot: u32, value: &[u8]) -> Result<(), BpfError> {
        self.params
            .update(&slot.to_ne_bytes(), value, MapFlags::ANY)
            .map_err(|why| BpfError::Map { map: PARAMS, why })
    }

    /// Attaches the chosen programs, once.
    pub fn attach(&mut self, pins: &Pins) -> Result<(), BpfError> {
        if !self.links.is_empty() {
            return Ok(());
        }
        let mut links = Vec::new();
        for name in chosen_programs(&self.hooks) {
            let program = self.object.progs_mut().find(|p| p.name() == name.as_str());
            let Some(program) = program else { continue };
            let link = program.attach().map_err(|why| BpfError::Attach { program: name.clone(), why })?;
            links.push((name, link));
        }
        self.links.hold(links, pins);
        Ok(())
    }

    /// Pins what is attached.
    pub fn pin(&mut self, pins: &Pins) -> Result<(), BpfError> {
        self.links.pin(pins).map_err(BpfError::Pin)
    }

    /// Detaches all programs.
    pub fn detach(&mut self) {
        self.links.release();
    }
}
