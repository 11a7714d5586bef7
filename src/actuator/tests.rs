use std::collections::BTreeMap;

use super::*;
use crate::ledger::Cause;
use crate::ledger::admission::Limits;
use crate::names::CgroupId;
use crate::policy::action::{KillScope, Knob, VictimOrder};
use crate::report::BindingReport;

#[test]
fn kill_by_kernel_is_reported_once_with_name_and_age() {
    let mut actuator = Actuator::new(Limits::default(), 1 << 30, None);
    let (pid, name, unit) = (4711, "eat".to_owned(), "gone.service".to_owned());
    let mut killed = Killed { usage: 64 << 20, name, inner: unit.clone(), unit };
    let mut kill = |killed: &Killed, time: u64| {
        let kind = ActionKind::Kill { grace_ns: 0, scope: KillScope::Process, select: VictimOrder::Culprit };
        let action = Action {
            cgroup: CgroupId(7),
            time,
            kind,
            numbers: [64 << 20, 0, 0, 0],
            dry_run: false,
            policy: "oom".to_owned(),
            reason_template: "{bytes} in use".to_owned(),
            culprit: Some(Culprit { pid, started: 0, killed: Some(killed.clone()) }),
        };
        actuator.handle(action, Authority::Owner);
        let [one] = <[_; 1]>::try_from(actuator.log.take()).unwrap();
        assert_eq!(
            (one.outcome, one.from, one.reason.as_str()),
            (ActionOutcome::Done, 64 << 20, "64M in use")
        );
        (one.path.to_string(), one.detail)
    };
    let sentence = "killed process 4711 (eat) with SIGKILL, in the kernel";
    assert_eq!(kill(&killed, now()), ("/gone.service".to_owned(), sentence.to_owned()));
    killed.inner = "worker".to_owned();
    let (_, detail) = kill(&killed, now().saturating_sub(60_000_000_000));
    assert_eq!(detail, "killed process 4711 (eat, in worker) with SIGKILL, in the kernel, 1min ago");
}

#[test]
fn kernel_performs_no_kill_that_the_limits_forbid() {
    let limits = |per_second, kills_per_minute| Limits { per_second, kills_per_minute };
    let mut actuator = Actuator::new(limits(10, 6), 1 << 30, None);
    assert_eq!(actuator.kill_guards(), (0, 6));
    for none in [limits(0, 6), limits(10, 0)] {
        actuator.set_limits(none);
        assert_eq!(actuator.kill_guards(), (0, 0));
    }
}

#[test]
fn result_of_removed_cgroup_is_counted_and_not_kept() {
    let mut actuator = Actuator::new(Limits::default(), 1 << 30, None);
    let write = Write {
        cgroup: CgroupRef { id: CgroupId(7), path: CgroupPath::parse("/gone").unwrap() },
        knob: Knob::High,
        expect: vec![1],
        value: 2,
        cause: Cause::internal("a test"),
    };
    actuator.job_finished(Done::Wrote(write, WriteResult::Removed));
    assert_eq!(actuator.log.stats.counts(0), BTreeMap::from([("removed".to_owned(), 1)]));
    let records = actuator.log.take();
    assert_eq!((records.len(), records[0].detail.as_str()), (1, REMOVED_MSG));
    let mut report = BindingReport { cgroup_id: 7, ..BindingReport::default() };
    actuator.log.stats.fill_report(&mut report);
    assert_eq!((report.actions, report.last_action), (BTreeMap::new(), None));
}
