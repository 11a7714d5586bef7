#![allow(clippy::arithmetic_side_effects)]

use super::*;

fn unit(name: &str) -> UnitName {
    UnitName::parse(name).unwrap()
}

/// A coalescer and its clock.
struct Bench {
    coalescer: Coalescer,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Bench { coalescer: Coalescer::default(), now: Instant::now() }
    }

    fn hear(&mut self, signals: &[Signal]) -> &mut Self {
        for signal in signals {
            self.coalescer.take(signal.clone(), self.now);
        }
        self
    }

    fn after(&mut self, time: Duration) -> Vec<Event> {
        self.now += time;
        self.coalescer.drain_due(self.now)
    }
}

#[test]
fn the_signals_of_one_start_become_one_event() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    let signals = [
        Signal::UnitNew(a.clone()),
        Signal::JobNew(a.clone()),
        Signal::JobRemoved(a.clone()),
        Signal::UnitNew(a.clone()),
    ];
    assert_eq!(bench.hear(&signals).after(Duration::ZERO), []);
    assert_eq!(bench.after(COALESCE_WINDOW), [Event::JobDone(a)]);
    assert_eq!(bench.after(RELOAD_QUIET), []);
    assert_eq!(bench.coalescer.deadline(), None);
}

#[test]
fn steady_changes_do_not_delay_event() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    let mut events = 0;
    for _ in 0..100 {
        events += bench.hear(&[Signal::JobNew(a.clone())]).after(Duration::from_millis(1)).len();
    }
    assert!((4..=5).contains(&events), "{events}");
}

#[test]
fn last_signal_decides_loaded_or_unloaded() {
    let (a, b) = (unit("a.service"), unit("b.service"));
    let mut bench = Bench::new();
    let signals = [
        Signal::UnitRemoved(a.clone()),
        Signal::UnitNew(a.clone()),
        Signal::UnitNew(b.clone()),
        Signal::JobRemoved(b.clone()),
        Signal::UnitRemoved(b.clone()),
    ];
    assert_eq!(bench.hear(&signals).after(COALESCE_WINDOW), [Event::UnitChanged(a), Event::UnitRemoved(b)]);
}

#[test]
fn reload_is_one_event_at_its_end() {
    let units: Vec<UnitName> = (0..3000).map(|n| unit(&format!("u{n}.service"))).collect();
    let mut bench = Bench::new();
    bench.hear(&[Signal::Reloading(true)]);
    for unit in &units {
        bench.hear(&[Signal::UnitRemoved(unit.clone()), Signal::UnitNew(unit.clone())]);
    }
    assert_eq!(bench.after(Duration::from_secs(2)), []);
    assert_eq!(bench.hear(&[Signal::Reloading(false)]).after(Duration::ZERO), [Event::RescanRequired]);
    for unit in &units {
        bench.hear(&[Signal::UnitNew(unit.clone())]);
    }
    assert_eq!(bench.after(RELOAD_QUIET), []);
    bench.hear(&[Signal::UnitNew(units[0].clone())]);
    assert_eq!(bench.after(COALESCE_WINDOW), [Event::UnitChanged(units[0].clone())]);
}

#[test]
fn a_unit_started_right_after_a_reload_is_seen() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    bench.hear(&[Signal::Reloading(true), Signal::Reloading(false)]);
    assert_eq!(bench.after(Duration::ZERO), [Event::RescanRequired]);
    assert_eq!(bench.hear(&[Signal::JobNew(a.clone())]).after(COALESCE_WINDOW), [Event::UnitChanged(a)]);
}

#[test]
fn rescan_covers_changes_before_reload() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    bench.hear(&[Signal::JobRemoved(a), Signal::Reloading(true)]);
    assert_eq!(bench.after(Duration::from_secs(1)), []);
    assert_eq!(bench.hear(&[Signal::Reloading(false)]).after(COALESCE_WINDOW), [Event::RescanRequired]);
}

#[test]
fn reload_without_end_times_out() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    bench.hear(&[Signal::Reloading(true)]);
    assert_eq!(bench.coalescer.deadline(), Some(bench.now + RELOAD_MAX));
    assert_eq!(bench.after(RELOAD_MAX), [Event::RescanRequired]);
    bench.after(RELOAD_QUIET);
    assert_eq!(bench.hear(&[Signal::UnitNew(a.clone())]).after(COALESCE_WINDOW), [Event::UnitChanged(a)]);
}

#[test]
fn too_many_units_at_once_become_a_rescan() {
    let mut bench = Bench::new();
    for n in 0..=PENDING_MAX {
        bench.hear(&[Signal::JobRemoved(unit(&format!("u{n}.scope")))]);
    }
    assert_eq!(bench.after(Duration::ZERO), [Event::RescanRequired]);
    assert_eq!(bench.after(COALESCE_WINDOW), []);
}

#[test]
fn lost_manager_is_reported_and_its_return_is_a_rescan() {
    let a = unit("a.service");
    let mut bench = Bench::new();
    bench.hear(&[Signal::JobNew(a), Signal::Reloading(true), Signal::ManagerLost]);
    assert_eq!(bench.after(Duration::ZERO), [Event::ManagerLost]);
    assert_eq!(bench.hear(&[Signal::ManagerBack]).after(Duration::ZERO), [Event::RescanRequired]);
}

#[test]
fn changed_unit_files_are_a_rescan() {
    assert_eq!(
        Bench::new().hear(&[Signal::UnitFilesChanged]).after(COALESCE_WINDOW),
        [Event::RescanRequired]
    );
}
