//! Configuration, profiles and policy objects read again while everything stays in force. Read and loaded beside the
//! loop; what has a new mistake in it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::command::Refusal;
use super::config::Config;
use super::logging::Level;
use super::prepare::{installed, means};
use super::requests::json;
use super::state::Daemon;
use crate::bpf::objects::{ObjectFile, PolicyObjects};
use crate::bpf::{PolicyLoader, PreparedPolicy, probe};
use crate::engine::{EngineConfig, Input};
use crate::policy::profile::Profile;
use crate::report::{KernelReport, ReloadReport};

type Reply = oneshot::Sender<Result<String, Refusal>>;

/// Why nothing was changed, one sentence each.
type Mistakes = Vec<String>;

/// Reading again, and who waits for it.
pub struct Reload {
    level: Level,
    config: Config,
    /// What was wrong with files when they were last taken: it need not be right now.
    told: Vec<String>,
    work: Option<JoinHandle<Result<Fresh, Mistakes>>>,
    waiting: Vec<Reply>,
    /// Who asked after the reading had begun: it may have missed what they want read.
    late: Vec<Reply>,
    again: bool,
}

/// All that was read, and the policies that are new or different, loaded.
struct Fresh {
    config: Config,
    told: Vec<String>,
    objects: PolicyObjects,
    report: KernelReport,
    means: EngineConfig,
    loaded: Vec<PreparedPolicy>,
}

/// What can have come of reading.
pub struct Read(Result<Result<Fresh, Mistakes>, JoinError>);

impl Reload {
    /// Nothing to be read yet. `config`, `told`: what is in force, and what was wrong with files.
    pub fn new(level: Level, config: Config, told: Vec<String>) -> Self {
        Reload { level, config, told, work: None, waiting: Vec::new(), late: Vec::new(), again: false }
    }

    /// Begins to read, or will when the reading under way is done.
    pub fn ask(&mut self, reply: Option<Reply>, daemon: &Daemon) {
        if self.work.is_some() {
            self.again = true;
            self.late.extend(reply);
            return;
        }
        self.waiting.extend(reply);
        let loader = match daemon.hands.loader() {
            Ok(loader) => loader,
            Err(error) => return self.answer(&Err(Refusal::Failed(error.to_string()))),
        };
        let (known, told) = (daemon.objects.files.clone(), self.told.clone());
        self.work = Some(tokio::task::spawn_blocking(move || Fresh::read(&loader, &known, &told)));
    }

    /// What was read; waits for ever while nothing is. Cancel safe.
    pub async fn read(&mut self) -> Read {
        match &mut self.work {
            Some(work) => {
                let read = work.await;
                self.work = None;
                Read(read)
            }
            None => std::future::pending().await,
        }
    }

    /// Puts what was read into force, or says why not.
    pub async fn take(&mut self, read: Read, daemon: &mut Daemon) {
        let mistakes = |all: Mistakes| Refusal::Failed(format!("nothing was changed: {}", all.join("\n")));
        let answer = match read.0.map_err(|error| vec![error.to_string()]) {
            Ok(Ok(fresh)) => self.renew(fresh, daemon).await.map_err(|mistake| mistakes(vec![mistake])),
            Ok(Err(all)) | Err(all) => Err(mistakes(all)),
        };
        match &answer {
            Ok(report) => tracing::info!("read again: {}", report.summary()),
            Err(refusal) => tracing::error!("{refusal}"),
        }
        self.answer(&answer.and_then(|report| json(&report)));
        if std::mem::take(&mut self.again) {
            self.waiting = std::mem::take(&mut self.late);
            self.ask(None, daemon);
        }
    }

    fn answer(&mut self, answer: &Result<String, Refusal>) {
        // Who has gone away need not hear it.
        self.waiting.drain(..).for_each(|reply| drop(reply.send(answer.clone())));
    }

    async fn renew(&mut self, fresh: Fresh, daemon: &mut Daemon) -> Result<ReloadReport, String> {
        let report = self.compare(&fresh, daemon);
        if !report.replaced.is_empty() && !daemon.world.has_room_for_reload() {
            return Err("more than half of the 4096 places for policy lines are taken, so objects cannot be replaced \
                        one beside the other; run 'systemctl restart memcg-bpfd'"
                .to_owned());
        }
        let Fresh { config, told, objects, report: kernel, means, loaded } = fresh;
        let replaced: BTreeSet<String> = report.replaced.iter().cloned().collect();
        daemon.hands.replace(objects.files.clone(), loaded).map_err(|error| error.to_string())?;
        self.level.set(config.log_level);
        daemon.acting.limit(config.limits);
        (self.config, self.told) = (config, told);
        (daemon.objects, daemon.report) = (objects, kernel);
        let before = faults(daemon);
        // What fails is told in the journal and shown with its cgroup.
        let failures = daemon.apply(Input::Reload { config: means, replaced }).await;
        daemon.hands.retire();
        let new = faults(daemon).difference(&before).cloned().chain(failures).collect();
        Ok(ReloadReport { errors: new, ..report })
    }

    fn compare(&self, fresh: &Fresh, daemon: &Daemon) -> ReloadReport {
        let (before, after) = (&daemon.objects.files, &fresh.objects.files);
        let (old, new) = (&daemon.world.catalog().profiles, &fresh.means.catalog.profiles);
        let beside = |a: &BTreeMap<String, ObjectFile>, b: &BTreeMap<String, ObjectFile>| {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let other = |name: &&String| before.get(*name).is_some_and(|file| after.get(*name) != Some(file));
        let differ = |name: &&String| old.get(*name).map(essence) != new.get(*name).map(essence);
        let profiles: BTreeSet<&String> = old.keys().chain(new.keys()).filter(differ).collect();
        let core = "core.bpf.o has changed: it is taken up by 'systemctl restart memcg-bpfd'";
        ReloadReport {
            replaced: after.keys().filter(other).cloned().collect(),
            added: beside(after, before),
            removed: beside(before, after),
            profiles: profiles.into_iter().cloned().collect(),
            configuration: self.config != fresh.config,
            errors: Vec::new(),
            notes: if daemon.objects.core == fresh.objects.core { Vec::new() } else { vec![core.to_owned()] },
        }
    }
}

impl Fresh {
    /// Reads everything and loads what is new or different. `known`: the objects in use; `told`: mistakes that are none of
    /// this reading.
    fn read(
        loader: &PolicyLoader,
        known: &BTreeMap<String, ObjectFile>,
        told: &[String],
    ) -> Result<Self, Mistakes> {
        let (config, warnings) = Config::load(Path::new("/"));
        let objects = installed();
        let report = probe::probe_hooks(&objects).map_err(|error| vec![error.to_string()])?;
        let (means, faults) = means(&objects, &report, &config);
        let wrong = [warnings, objects.errors.clone(), faults].concat();
        let new: Mistakes = wrong.iter().filter(|sentence| !told.contains(sentence)).cloned().collect();
        if !new.is_empty() {
            return Err(new);
        }
        let other = objects.files.iter().filter(|(name, file)| known.get(*name) != Some(file));
        let loaded: Result<Vec<PreparedPolicy>, _> =
            other.map(|(name, file)| loader.load(name, file)).collect();
        let loaded = loaded.map_err(|error| vec![error.to_string()])?;
        Ok(Fresh { config, told: wrong, objects, report, means, loaded })
    }
}

fn essence(profile: &Profile) -> String {
    format!("{profile:?}")
}

/// What is wrong with requests, each with its cgroup.
fn faults(daemon: &Daemon) -> BTreeSet<String> {
    let all = daemon.world.report_all().into_iter();
    all.flat_map(|binding| binding.errors.into_iter().map(move |f| format!("{}: {f}", binding.cgroup)))
        .collect()
}
