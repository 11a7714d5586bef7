//! Reloads configuration, profiles and policy objects while all policies stay attached. Files are read and objects
//! loaded beside the loop. If a file has a new error, nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::config::Config;
use super::startup::{engine_config, installed_objects};
use super::state::Daemon;
use crate::bpf::objects::{ObjectFile, PolicyObjects};
use crate::bpf::{PolicyLoader, PreparedPolicy, probe};
use crate::engine::{EngineConfig, Input};
use crate::log::subscriber::LevelHandle;
use crate::policy::profile::Profile;
use crate::report::{KernelReport, ReloadReport};
use crate::service::call::json;
use crate::service::error::Error;

type Reply = oneshot::Sender<Result<String, Error>>;

/// A reload in progress, and the callers that wait for it.
pub struct Reload {
    level: LevelHandle,
    config: Config,
    /// The errors in files when they were last loaded, which do not fail a reload.
    known_warnings: Vec<String>,
    work: Option<JoinHandle<Result<NewConfig, Vec<String>>>>,
    waiting: Vec<Reply>,
    /// Callers whose request came after the files were opened, which may be older than the request.
    queued: Vec<Reply>,
    queued_again: bool,
}

/// The new state, with the new and replaced policies loaded.
struct NewConfig {
    config: Config,
    known_warnings: Vec<String>,
    objects: PolicyObjects,
    report: KernelReport,
    engine_config: EngineConfig,
    loaded: Vec<PreparedPolicy>,
}

/// The result of reading the files.
pub struct ReadResult(Result<Result<NewConfig, Vec<String>>, JoinError>);

impl Reload {
    /// The current configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// No reload yet. `config` and `known_warnings` are those of the start.
    pub fn new(level: LevelHandle, config: Config, known_warnings: Vec<String>) -> Self {
        Reload {
            level,
            config,
            known_warnings,
            work: None,
            waiting: Vec::new(),
            queued: Vec::new(),
            queued_again: false,
        }
    }

    /// Starts a reload, or queues it after the one in progress.
    pub fn request(&mut self, reply: Option<Reply>, daemon: &Daemon) {
        if self.work.is_some() {
            self.queued_again = true;
            self.queued.extend(reply);
            return;
        }
        self.waiting.extend(reply);
        let loader = match daemon.applier.loader() {
            Ok(loader) => loader,
            Err(error) => return self.answer(&Err(Error::Failed(error.to_string()))),
        };
        let (known, known_warnings) = (daemon.objects.files.clone(), self.known_warnings.clone());
        self.work =
            Some(tokio::task::spawn_blocking(move || NewConfig::read(&loader, &known, &known_warnings)));
    }

    /// The result of reading; waits forever if no reload is in progress. Cancel safe.
    pub async fn read(&mut self) -> ReadResult {
        match &mut self.work {
            Some(work) => {
                let read = work.await;
                self.work = None;
                ReadResult(read)
            }
            None => std::future::pending().await,
        }
    }

    /// Applies a result, or reports its errors.
    pub async fn apply(&mut self, read: ReadResult, daemon: &mut Daemon) {
        let unchanged = |all: Vec<String>| Error::Failed(format!("nothing was changed: {}", all.join("\n")));
        let answer = match read.0.map_err(|error| vec![error.to_string()]) {
            Ok(Ok(new_config)) => {
                self.swap_in(new_config, daemon).await.map_err(|error| unchanged(vec![error]))
            }
            Ok(Err(all)) | Err(all) => Err(unchanged(all)),
        };
        match &answer {
            Ok(report) => tracing::info!("reloaded: {}", report.summary()),
            Err(error) => tracing::error!("{error}"),
        }
        self.answer(&answer.and_then(|report| json(&report)));
        if std::mem::take(&mut self.queued_again) {
            self.waiting = std::mem::take(&mut self.queued);
            self.request(None, daemon);
        }
    }

    fn answer(&mut self, answer: &Result<String, Error>) {
        // A caller may have closed its channel.
        self.waiting.drain(..).for_each(|reply| drop(reply.send(answer.clone())));
    }

    async fn swap_in(&mut self, new_config: NewConfig, daemon: &mut Daemon) -> Result<ReloadReport, String> {
        let report = self.diff(&new_config, daemon);
        if !report.replaced.is_empty() && !daemon.engine.has_room_for_reload() {
            return Err("more than half of the 4096 slots for policy lines are in use, so objects cannot be replaced during a reload; run 'systemctl restart memcg-bpfd'"
                .to_owned());
        }
        let NewConfig { config, known_warnings, objects, report: kernel, engine_config, loaded } = new_config;
        let replaced: BTreeSet<String> = report.replaced.iter().cloned().collect();
        daemon.applier.replace(objects.files.clone(), loaded).map_err(|error| error.to_string())?;
        self.level.set(config.log_level);
        daemon.actuator.set_limits(config.limits);
        (self.config, self.known_warnings) = (config, known_warnings);
        (daemon.objects, daemon.report) = (objects, kernel);
        let before = errors_of(daemon);
        // Failures are logged, and reported with their cgroups.
        let failures = daemon.apply(Input::Reload { config: engine_config, replaced }).await.into_iter();
        let failures = failures.map(|failure| failure.sentence);
        daemon.applier.drop_replaced();
        let new = errors_of(daemon).difference(&before).cloned().chain(failures).collect();
        Ok(ReloadReport { errors: new, ..report })
    }

    fn diff(&self, new_config: &NewConfig, daemon: &Daemon) -> ReloadReport {
        let (before, after) = (&daemon.objects.files, &new_config.objects.files);
        let (old, new) = (&daemon.engine.catalog().profiles, &new_config.engine_config.catalog.profiles);
        let beside = |a: &BTreeMap<String, ObjectFile>, b: &BTreeMap<String, ObjectFile>| {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let other = |name: &&String| before.get(*name).is_some_and(|file| after.get(*name) != Some(file));
        let differ = |name: &&String| old.get(*name).map(fingerprint) != new.get(*name).map(fingerprint);
        let profiles: BTreeSet<&String> = old.keys().chain(new.keys()).filter(differ).collect();
        let core = "core.bpf.o has changed; to load it, run 'systemctl restart memcg-bpfd'";
        ReloadReport {
            replaced: after.keys().filter(other).cloned().collect(),
            added: beside(after, before),
            removed: beside(before, after),
            profiles: profiles.into_iter().cloned().collect(),
            configuration: self.config != new_config.config,
            errors: Vec::new(),
            notes: if daemon.objects.core == new_config.objects.core {
                Vec::new()
            } else {
                vec![core.to_owned()]
            },
        }
    }
}

impl NewConfig {
    /// Reads all files and loads new and replaced objects. `known` are the current objects, and `known_warnings` the
    /// errors that do not fail the reload.
    fn read(
        loader: &PolicyLoader,
        known: &BTreeMap<String, ObjectFile>,
        known_warnings: &[String],
    ) -> Result<Self, Vec<String>> {
        let (config, warnings) = Config::load(Path::new("/"));
        let objects = installed_objects();
        let report = probe::probe_hooks(&objects).map_err(|error| vec![error.to_string()])?;
        let (engine_config, errors_of) = engine_config(&objects, &report, &config);
        let wrong = [warnings, objects.errors.clone(), errors_of].concat();
        let new: Vec<String> =
            wrong.iter().filter(|sentence| !known_warnings.contains(sentence)).cloned().collect();
        if !new.is_empty() {
            return Err(new);
        }
        let other = objects.files.iter().filter(|(name, file)| known.get(*name) != Some(file));
        let loaded: Result<Vec<PreparedPolicy>, _> =
            other.map(|(name, file)| loader.load(name, file)).collect();
        let loaded = loaded.map_err(|error| vec![error.to_string()])?;
        Ok(NewConfig { config, known_warnings: wrong, objects, report, engine_config, loaded })
    }
}

fn fingerprint(profile: &Profile) -> String {
    format!("{profile:?}")
}

/// The errors of requests, each with its cgroup.
fn errors_of(daemon: &Daemon) -> BTreeSet<String> {
    let all = daemon.engine.report_all().into_iter();
    all.flat_map(|binding| binding.errors.into_iter().map(move |f| format!("{}: {f}", binding.cgroup)))
        .collect()
}
