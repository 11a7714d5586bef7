//! The rule that a request of an inner cgroup or of a lower authority never stands before one of an outer cgroup or a
//! higher authority, as a property of admission and of the engine: histories with and without such requests lead to the
//! same decisions.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;

use memcg_bpf::engine::{Engine, EngineConfig, Input};
use memcg_bpf::ledger::admission::{Admission, Decision, Facts, Limits};
use memcg_bpf::names::{CgroupId, CgroupPath, CgroupRef};
use memcg_bpf::policy::action::{Action, ActionKind, KillScope, VictimOrder};
use memcg_bpf::policy::catalog::Catalog;
use memcg_bpf::policy::request::{Authority, Origin, Request};
use memcg_bpf::policy::schema::PolicySchema;
use proptest::prelude::*;

const OUTER: &str = "/a.slice";
const INNER: &str = "/a.slice/b.service";

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).unwrap()
}

/// An action at a time, in milliseconds after the action before.
#[derive(Debug, Clone)]
struct Step {
    /// Of the outer cgroup, with the authority of an administrator; else of the inner one, or of the owner.
    outer: bool,
    inner_cgroup: bool,
    authority: usize,
    kill: bool,
    after_ms: u64,
    /// The kills of this step's requester end before the step.
    finished: bool,
}

const AUTHORITIES: [Authority; 4] =
    [Authority::Owner, Authority::Container, Authority::UnitFile, Authority::Administrator];

fn step() -> impl Strategy<Value = Step> {
    (any::<bool>(), any::<bool>(), 0..4usize, any::<bool>(), 0..2000u64, any::<bool>()).prop_map(
        |(outer, inner_cgroup, authority, kill, after_ms, finished)| Step {
            outer,
            inner_cgroup,
            authority,
            kill,
            after_ms,
            finished,
        },
    )
}

/// The decisions on the outer actions. `inner`: with the other actions between them.
fn decisions(steps: &[Step], inner: bool) -> Vec<Decision> {
    let mut admission = Admission::new(Limits { per_second: 3, kills_per_minute: 4 });
    let (mut now, mut decisions) = (1_000_000_000, Vec::new());
    for step in steps {
        now += step.after_ms * 1_000_000;
        if !step.outer && !inner {
            continue;
        }
        // Of a lower authority on the same cgroup, or of any on an inner one.
        let inside = !step.outer && step.inner_cgroup;
        let authority = match (step.outer, inside) {
            (true, _) => Authority::Administrator,
            (false, true) => AUTHORITIES[step.authority],
            (false, false) => AUTHORITIES[step.authority % 3],
        };
        let (cgroup, at) = if inside { (CgroupId(2), INNER) } else { (CgroupId(1), OUTER) };
        if step.finished {
            admission.kill_finished(now, cgroup, false, authority);
        }
        let kind = if step.kill {
            ActionKind::Kill { grace_ns: 0, scope: KillScope::Leaf, select: VictimOrder::Largest }
        } else {
            ActionKind::Reclaim { bytes: 1 << 20, swappiness: None }
        };
        let action = Action {
            cgroup,
            time: now,
            kind,
            numbers: [0; 4],
            dry_run: false,
            culprit: None,
            policy: "p".to_owned(),
            reason_template: String::new(),
        };
        let facts =
            Facts { usage: 64 << 20, effective_max: 1 << 30, page: 4096, authority, ..Facts::default() };
        let decision = admission.admit(now, &path(at), &action, &facts);
        if step.outer {
            decisions.push(decision);
        }
    }
    decisions
}

fn engine() -> Engine {
    let policy = |name: &str| PolicySchema {
        name: name.into(),
        doc: String::new(),
        self_binding: true,
        hooks: vec![],
        size: 0,
        params: vec![],
    };
    let mut catalog = Catalog::default();
    for name in ["observe", "count"] {
        catalog.policies.insert(name.into(), policy(name));
    }
    Engine::new(EngineConfig { catalog, ..EngineConfig::default() })
}

/// A request, with its cgroup, origin and line.
fn requested() -> impl Strategy<Value = (bool, usize, usize, bool)> {
    (any::<bool>(), 0..3usize, 0..6usize, any::<bool>())
}

/// The policies of the outer cgroup after a history, by origin. `lower`: with the requests of inner cgroups and lower
/// origins.
fn policies(history: &[(bool, usize, usize, bool)], lower: bool) -> BTreeMap<String, String> {
    const LINES: [&str; 6] =
        ["observe", "count", "observe; count", "none", "no-such-policy", "observe limit=1"];
    let mut engine = engine();
    for (outer, origin, line, withdraw) in history {
        let origin = match (outer, origin) {
            (true, _) => Origin::Operator,
            (false, n) => [Origin::Xattr, Origin::Annotation, Origin::DropIn][*n],
        };
        if !outer && !lower {
            continue;
        }
        // Lower origins on the outer cgroup, and the same on an inner one.
        let inside = !outer && line % 2 == 1;
        let (cgroup, at) = if inside { (CgroupId(2), INNER) } else { (CgroupId(1), OUTER) };
        let input = if *withdraw {
            Input::Withdraw { cgroup, origin }
        } else {
            let (location, line) = (origin.to_string(), LINES[*line].to_owned());
            let request = Request { origin, location, line, container: None, pod: None, unit: None };
            Input::Request { cgroup: CgroupRef { id: cgroup, path: path(at) }, request }
        };
        engine.step(input);
    }
    let report = engine.report_path(&path(OUTER)).unwrap_or_default();
    report.policies.into_iter().filter(|p| p.origin == "operator").map(|p| (p.name, p.origin)).collect()
}

proptest! {
    #[test]
    fn inner_and_lower_actions_change_no_decision_on_outer_ones(
        steps in proptest::collection::vec(step(), 0..40)
    ) {
        prop_assert_eq!(decisions(&steps, true), decisions(&steps, false));
    }

    #[test]
    fn inner_and_lower_requests_change_no_policy_of_the_administrator(
        history in proptest::collection::vec(requested(), 0..20)
    ) {
        prop_assert_eq!(policies(&history, true), policies(&history, false));
    }
}
