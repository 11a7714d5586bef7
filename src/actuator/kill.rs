//! One kill: selects the victim, signals it, and describes the result when it has ended. Each stage is short and runs on
//! a worker thread; between two stages, the kill occupies none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::now;
use super::oomd::{report_to_systemd, units_emptied_by};
use crate::cgroup::victim::{self, Candidate};
use crate::cgroup::{kill, memory, mount, tree};
use crate::ledger::admission;
use crate::names::CgroupPath;
use crate::policy::action::{Action, Culprit, KillScope, Killed, VictimOrder, human_duration};
use crate::policy::request::Authority;
use crate::text::human_bytes;
use crate::text::printable::quote;

/// Number of other candidates that a report lists.
const MAX_LISTED: usize = 3;
/// Number of victims tried, if they exit before they are killed.
const MAX_ATTEMPTS: usize = 5;
/// A kill of the kernel is reported with its age from here on, in nanoseconds.
const LATE_NS: u64 = 2_000_000_000;

/// A requested kill.
#[derive(Debug, Clone)]
pub struct KillJob {
    /// The action, with its reason.
    pub action: Action,
    /// The cgroup with the policy.
    pub path: CgroupPath,
    /// The scope.
    pub scope: KillScope,
    /// The order of candidates.
    pub select: VictimOrder,
    /// The grace period between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The cgroup of the daemon.
    pub daemon_cgroup: Option<CgroupPath>,
    /// The effective maximum of the cgroup in bytes.
    pub memory_max: u64,
    /// True while actions are paused. May change during the kill.
    pub paused: Arc<AtomicBool>,
    /// The authority behind the policy.
    pub authority: Authority,
}

/// The result of a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillReport {
    /// memory.current before, in bytes.
    pub before: u64,
    /// memory.current after, in bytes.
    pub after: u64,
    /// The victim, the signal and the other candidates.
    pub sentence: String,
}

/// The result of one stage.
pub enum Stage {
    /// The kill is over: the report, `None` if the cgroup is removed, or why it failed.
    Over(Result<Option<KillReport>, String>),
    /// The victim has a signal, and is waited for.
    Waits(Box<WaitingKill>),
}

/// A kill whose victim has a signal.
pub struct WaitingKill {
    before: u64,
    victim: Victim,
    waiting: kill::Waiting,
    /// Units whose end is reported to systemd as a kill.
    announced: Vec<(CgroupPath, usize)>,
}

impl WaitingKill {
    /// Waits until [`KillJob::resume`] is due.
    pub async fn wait(&self) {
        self.waiting.wait().await;
    }
}

/// The chosen victim: a process, or a cgroup with all in it.
struct Victim {
    candidate: Candidate,
    /// The cgroup to kill; `None` for the process alone.
    cgroup: Option<CgroupPath>,
    why_cgroup: &'static str,
    others: Vec<Candidate>,
}

impl KillJob {
    /// Begins the kill; in a dry run, only describes it.
    pub fn run(&self) -> Stage {
        if !self.is_there() {
            return Stage::Over(Ok(None));
        }
        if admission::is_expired(now(), self.action.time) {
            return Stage::Over(Err(admission::EXPIRED_MSG.to_owned()));
        }
        if self.is_paused() {
            return Stage::Over(Err("actions are paused".to_owned()));
        }
        match self.try_kill() {
            Ok(stage) => stage,
            Err(_) if !self.is_there() => Stage::Over(Ok(None)),
            Err(why) => Stage::Over(Err(why)),
        }
    }

    /// Goes on when the victim has ended, or its grace is over.
    pub fn resume(&self, waiting: WaitingKill) -> Stage {
        let WaitingKill { before, victim, waiting, announced } = waiting;
        match waiting.resume(!self.is_paused()) {
            Ok(progress) => self.stage(before, victim, progress, announced),
            Err(error) => {
                report_to_systemd(&announced, false);
                Stage::Over(Err(format!("{}: {error}", self.describe_victim(&victim))))
            }
        }
    }

    fn stage(
        &self,
        before: u64,
        victim: Victim,
        progress: kill::Progress,
        announced: Vec<(CgroupPath, usize)>,
    ) -> Stage {
        let killed = match progress {
            kill::Progress::Waits(waiting) => {
                return Stage::Waits(Box::new(WaitingKill { before, victim, waiting, announced }));
            }
            kill::Progress::Over(killed) => killed,
        };
        // A pause began during the grace: the processes that ignored SIGTERM go on.
        if !killed.ended && !killed.forced {
            report_to_systemd(&announced, false);
        }
        let sentence = format!(
            "killed {} {}{}",
            self.describe_victim(&victim),
            self.describe_signal(&killed),
            describe_rest(&victim.others)
        );
        let after = memory::usage(&self.path).unwrap_or(0);
        Stage::Over(Ok(Some(KillReport { before, after, sentence })))
    }

    /// It may have waited for its turn, and another cgroup may have the path by now.
    fn is_there(&self) -> bool {
        mount::cgroup_id(&self.path).is_ok_and(|id| id == self.action.cgroup)
    }

    fn culprit(&self) -> Option<&Culprit> {
        self.action.culprit.as_ref().filter(|_| self.select == VictimOrder::Culprit)
    }

    fn is_paused(&self) -> bool {
        !self.action.dry_run && self.paused.load(Ordering::Relaxed)
    }

    fn try_kill(&self) -> Result<Stage, String> {
        let before = memory::usage(&self.path).map_err(|e| e.to_string())?;
        for _ in 0..MAX_ATTEMPTS {
            // Its memory is free: another process is not to be killed for it.
            if let Some(it) = self.culprit()
                && !victim::is_running(it.pid, it.started)
            {
                return Err(format!("process {} exited before it was killed", it.pid));
            }
            let Some(victim) = self.choose() else {
                return Err("no process of the cgroup may be killed".to_owned());
            };
            if self.action.dry_run {
                let sentence = format!(
                    "would have killed {}{}",
                    self.describe_victim(&victim),
                    describe_rest(&victim.others)
                );
                return Ok(Stage::Over(Ok(Some(KillReport { before, after: before, sentence }))));
            }
            let begun = self.kill_victim(&victim);
            if let Some((progress, announced)) =
                begun.map_err(|error| format!("{}: {error}", self.describe_victim(&victim)))?
            {
                return Ok(self.stage(before, victim, progress, announced));
            }
        }
        Err(format!("{MAX_ATTEMPTS} processes exited before they could be killed"))
    }

    fn choose(&self) -> Option<Victim> {
        let as_candidate = |cgroup: CgroupPath| Candidate {
            name: cgroup.file_name().to_owned(),
            bytes: memory::usage(&cgroup).unwrap_or(0),
            path: Some(cgroup),
            ..Candidate::default()
        };
        match self.scope {
            KillScope::Group => {
                let alive = tree::populated(&self.path)
                    .iter()
                    .flat_map(victim::pids)
                    .any(|pid| victim::standing(pid) == victim::Standing::Killable);
                let (cgroup, candidate) = (Some(self.path.clone()), as_candidate(self.path.clone()));
                alive.then_some(Victim { candidate, cgroup, why_cgroup: "", others: Vec::new() })
            }
            KillScope::Leaf => {
                let all = victim::populated_cgroups(&self.path, self.daemon_cgroup.as_ref());
                let has_culprit = |one: &Candidate| {
                    let pids = one.path.as_ref().map(victim::pids).unwrap_or_default();
                    self.culprit().is_some_and(|it| pids.contains(&it.pid))
                };
                let (candidate, others) = victim::select(all, self.select, has_culprit)?;
                let cgroup = candidate.path.clone();
                Some(Victim { candidate, cgroup, why_cgroup: "", others })
            }
            KillScope::Process => {
                let all = victim::processes(&self.path, self.memory_max);
                let is_culprit = |one: &Candidate| {
                    self.culprit()
                        .is_some_and(|it| one.pid == Some(it.pid) && victim::started(one, it.started))
                };
                // An exempt culprit: the kill of another process would not end what it does.
                if self.culprit().is_some() && !all.iter().any(is_culprit) {
                    return None;
                }
                let (candidate, others) = victim::select(all, self.select, is_culprit)?;
                let group = candidate.path.as_ref().and_then(|path| victim::oom_group(path, &self.path));
                let group = group.filter(|group| {
                    !self.daemon_cgroup.as_ref().is_some_and(|daemon_cgroup| daemon_cgroup.is_within(group))
                });
                let why_cgroup = if group.is_some() { " and all in" } else { "" };
                Some(Victim { candidate, cgroup: group, why_cgroup, others })
            }
        }
    }

    /// Sends the first signal. `None`: the victim had ended by itself.
    #[allow(clippy::type_complexity, reason = "what `stage` takes")]
    fn kill_victim(
        &self,
        victim: &Victim,
    ) -> std::io::Result<Option<(kill::Progress, Vec<(CgroupPath, usize)>)>> {
        let gone = |e: &std::io::Error| {
            e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ESRCH)
        };
        let (target, path, one) = match (&victim.cgroup, victim.candidate.pid, &victim.candidate.path) {
            (Some(cgroup), ..) => {
                (mount::cgroup_id(cgroup).map(|id| kill::Target::Cgroup(cgroup.clone(), id)), cgroup, None)
            }
            (None, Some(pid), Some(path)) => {
                (kill::PidFd::open(pid, path).map(kill::Target::Process), path, Some(pid))
            }
            _ => return Ok(None),
        };
        let begun = target.and_then(|target| {
            // Once the victim is held, so that it is one of this cgroup's.
            if !self.is_there() {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            let announced = units_emptied_by(path, one);
            report_to_systemd(&announced, true);
            match kill::begin(target, self.grace) {
                Ok(progress) => Ok((progress, announced)),
                Err(error) => {
                    report_to_systemd(&announced, false);
                    Err(error)
                }
            }
        });
        match begun {
            Ok(progress) => Ok(Some(progress)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn describe_victim(&self, victim: &Victim) -> String {
        let who = describe_candidate(&victim.candidate);
        match (&victim.cgroup, victim.candidate.pid) {
            // memory.oom.group is set for the victim's cgroup: its processes are killed together.
            (Some(cgroup), Some(_)) => format!("{who}{} {cgroup} (memory.oom.group)", victim.why_cgroup),
            _ => who,
        }
    }

    fn describe_signal(&self, killed: &kill::Killed) -> String {
        let grace = human_duration(u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX));
        let signal = match (killed.forced, self.grace.is_zero()) {
            (false, _) => "with SIGTERM".to_owned(),
            (true, true) => "with SIGKILL".to_owned(),
            (true, false) => format!("with SIGKILL, {grace} after SIGTERM"),
        };
        if killed.ended { signal } else { format!("{signal}; not exited yet") }
    }
}

/// The report of a kill that the kernel has performed this many nanoseconds ago.
pub fn describe_kernel_kill(culprit: &Culprit, killed: &Killed, age: u64) -> String {
    let (name, inner) = (quote(&killed.name, 64), quote(&killed.inner, 128));
    let place = if killed.inner == killed.unit { String::new() } else { format!(", in {inner}") };
    // The entry has the time when it is written: after a daemon that was killed, that is later.
    let late = if age < LATE_NS { String::new() } else { format!(", {} ago", human_duration(age)) };
    format!("killed process {} ({name}{place}) with SIGKILL, in the kernel{late}", culprit.pid)
}

/// "process 4711 (eat, 210M, in /a/b)" or "all in /a/b (210M)".
fn describe_candidate(candidate: &Candidate) -> String {
    let path = candidate.path.as_ref().map(ToString::to_string).unwrap_or_default();
    let bytes = human_bytes(candidate.bytes);
    match candidate.pid {
        Some(pid) => {
            format!("process {pid} ({}, {bytes}, in {path})", quote(&candidate.name, 64))
        }
        None => format!("all in {path} ({bytes})"),
    }
}

fn describe_rest(all: &[Candidate]) -> String {
    if all.is_empty() {
        return "; no other candidates".to_owned();
    }
    let named: Vec<String> = all.iter().take(MAX_LISTED).map(describe_candidate).collect();
    let more = all.len().saturating_sub(MAX_LISTED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("; other candidates: {}{rest}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::CgroupId;
    use crate::policy::action::ActionKind;

    #[test]
    fn recreated_cgroup_is_not_killed() {
        let (scope, select) = (KillScope::Group, VictimOrder::Largest);
        let action = Action {
            cgroup: CgroupId(0),
            policy: "oom".to_owned(),
            time: 0,
            kind: ActionKind::Kill { grace_ns: 0, scope, select },
            numbers: [0; 4],
            dry_run: false,
            reason_template: String::new(),
            culprit: None,
        };
        let (grace, paused) = (Duration::ZERO, Arc::new(AtomicBool::new(false)));
        for path in ["/no/such", "/init.scope"] {
            let path = CgroupPath::parse(path).unwrap();
            let (action, paused) = (action.clone(), paused.clone());
            let job = KillJob {
                action,
                path,
                scope,
                select,
                grace,
                daemon_cgroup: None,
                memory_max: 0,
                paused,
                authority: Authority::Owner,
            };
            assert!(matches!(job.run(), Stage::Over(Ok(None))));
        }
    }

    #[test]
    fn report_names_victim_and_first_candidates() {
        let process = |pid, name: &str, bytes| Candidate {
            pid: Some(pid),
            name: name.to_owned(),
            path: Some(CgroupPath::parse("/a/b").unwrap()),
            bytes,
            ..Candidate::default()
        };
        assert_eq!(
            describe_candidate(&process(7, "e\u{1b}t", 210 << 20)),
            "process 7 (e\\u{1b}t, 210M, in /a/b)"
        );
        let all: Vec<Candidate> = (1..6).map(|pid| process(pid, "x", 4096)).collect();
        assert_eq!(
            describe_rest(&all),
            "; other candidates: process 1 (x, 4K, in /a/b), process 2 (x, 4K, in /a/b), process 3 (x, 4K, in /a/b) \
             and 2 more"
        );
        assert_eq!(describe_rest(&[]), "; no other candidates");
    }
}
