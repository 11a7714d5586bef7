#![allow(clippy::arithmetic_side_effects)]
//! The engine's invariants, with inputs as data.

mod generators;
mod invariants;
mod submissions;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::policy::schema::{ParamKind, ParamSchema, PolicySchema};

fn param(name: &str, kind: ParamKind, offset: usize, default: Option<&str>) -> ParamSchema {
    ParamSchema {
        name: name.into(),
        kind,
        offset,
        width: 8,
        doc: String::new(),
        default: default.map(str::to_owned),
        range: None,
    }
}

fn config() -> EngineConfig {
    let policy = |name: &str, params: Vec<ParamSchema>| PolicySchema {
        name: name.into(),
        doc: String::new(),
        self_binding: true,
        hooks: vec![],
        size: params.len() * 8,
        params,
    };
    let mut catalog = Catalog::default();
    let deny = policy(
        "deny",
        vec![param("limit", ParamKind::Size, 0, None), param("min", ParamKind::Bytes, 8, Some("0"))],
    );
    catalog.policies.insert("deny".into(), deny);
    catalog.policies.insert("observe".into(), policy("observe", vec![]));
    EngineConfig { catalog, counting: BTreeSet::from(["observe".to_owned()]), ..EngineConfig::default() }
}

fn request(origin: Origin, line: &str) -> Request {
    Request {
        origin,
        location: origin.to_string(),
        line: line.into(),
        container: None,
        pod: None,
        unit: None,
    }
}

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).unwrap()
}

fn ask(id: u64, origin: Origin, line: &str) -> Input {
    Input::Request { cgroup: cgroup(id, &format!("/c{id}")), request: request(origin, line) }
}

fn cgroup(id: u64, at: &str) -> CgroupRef {
    CgroupRef { id: CgroupId(id), path: path(at) }
}

fn unit(name: &str, cgroup: Option<u64>, line: Option<&str>) -> Input {
    Input::Unit {
        unit: UnitName::parse(name).unwrap(),
        path: path(&format!("/system.slice/{name}")),
        cgroup: cgroup.map(CgroupId),
        request: line.map(|line| request(Origin::DropIn, line)),
    }
}

/// A fake kernel that performs all effects, and asserts that each is valid.
#[derive(Default, Debug, PartialEq, Clone)]
struct Model {
    slots: BTreeMap<u32, Vec<(String, Vec<u8>)>>,
    bound: BTreeMap<CgroupId, u32>,
    registered: BTreeMap<CgroupPath, u32>,
    records: BTreeMap<CgroupId, Vec<Request>>,
    attachments: AttachSet,
    /// Slots in use whose parameters a replaced object does not have yet.
    unfilled: BTreeSet<u32>,
    /// Requests without a free slot; other errors are not allowed.
    failed: usize,
}

impl Model {
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::WriteParams { slot, policies } => {
                    assert!(self.slots.insert(slot, policies).is_none(), "slot {slot} was in use");
                }
                Effect::RewriteParams { slot, policies } => {
                    let content = &self.slots[&slot];
                    assert!(
                        policies.iter().all(|policy| content.contains(policy)),
                        "{policies:?} {content:?}"
                    );
                    self.unfilled.remove(&slot);
                }
                Effect::ClearSlot { slot } => {
                    self.unfilled.remove(&slot);
                    assert!(!self.bound.values().any(|s| *s == slot), "slot {slot} is still bound");
                    assert!(!self.registered.values().any(|s| *s == slot), "slot {slot} is still registered");
                    assert!(self.slots.remove(&slot).is_some());
                }
                Effect::Bind { cgroup, slot, .. } => {
                    self.attached(slot);
                    self.bound.insert(cgroup.id, slot);
                }
                Effect::Unbind { cgroup, .. } => drop(self.bound.remove(&cgroup)),
                Effect::Register { path, slot, .. } => {
                    self.attached(slot);
                    self.registered.insert(path, slot);
                }
                Effect::Unregister { path } => drop(self.registered.remove(&path)),
                Effect::SetAttachments(attachments) => self.attachments = attachments,
                Effect::WriteRecord { cgroup, before, requests } => {
                    let recorded = self.records.remove(&cgroup.id).unwrap_or_default();
                    assert_eq!(before, recorded, "{cgroup}");
                    if !requests.is_empty() {
                        self.records.insert(cgroup.id, requests);
                    }
                }
                Effect::RemoveRecord { cgroup } => drop(self.records.remove(&cgroup.id)),
                Effect::Fail { sentence, .. } => {
                    assert_eq!(sentence, slots::EXHAUSTED_MSG);
                    self.failed += 1;
                }
                Effect::Attached { .. } | Effect::Detached { .. } | Effect::Warn { .. } => {}
            }
        }
    }

    /// Asserts that the requirements of a binding are met before it is made.
    fn attached(&self, slot: u32) {
        assert!(!self.unfilled.contains(&slot), "slot {slot} is yet to be filled again");
        let content = self.slots.get(&slot).expect("the slot is filled");
        assert!(
            content.iter().all(|(name, _)| self.attachments.policies.contains(name)),
            "{name:?} unattached",
            name = content
        );
        assert!(self.attachments.cgroup_events);
    }
}

fn run(engine: &mut Engine, model: &mut Model, input: Input) {
    if let Input::Reload { replaced, .. } = &input {
        let holds = |content: &[(String, Vec<u8>)]| content.iter().any(|(name, _)| replaced.contains(name));
        model.unfilled = model.slots.iter().filter(|(_, c)| holds(c)).map(|(slot, _)| *slot).collect();
    }
    if let Input::CgroupRemoved(cgroup) = &input {
        model.records.remove(cgroup);
    }
    model.perform(engine.step(input));
    assert_eq!(model.unfilled, BTreeSet::new());
}

fn renew(min: &str, replaced: &[&str]) -> Input {
    let mut config = config();
    config.catalog.policies.get_mut("deny").unwrap().params[1].default = Some(min.to_owned());
    Input::Reload { config, replaced: replaced.iter().map(|name| (*name).to_owned()).collect() }
}
