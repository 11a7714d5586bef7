//! memcg-bpfd: connects systemd's and containers' wishes with the engine, and the engine with the kernel.
//! One thread, one loop; every input goes through `World::step`, every effect through [`hands`].

mod acting;
mod adopt;
mod ahead;
mod alive;
pub mod arguments;
pub mod authority;
pub mod command;
pub mod config;
mod explain;
mod hands;
mod jobs;
mod killing;
pub mod object;
mod outcome;
mod privilege;
mod requests;
mod state;
mod stop;
mod told;
mod undo;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tracing::level_filters::LevelFilter;

use crate::bpf::{BpfError, Kernel, catalog, kernel, profiles};
use crate::cgroup::{memory, mount};
use crate::engine::{Means, World};
use crate::ledger::guard::Limits;
use crate::policy::catalog::Catalog;
use crate::policy::layer::Allow;
use crate::report::KernelReport;
use crate::systemd::{Answer, Events, Inquiry, SystemdError};
use acting::Acting;
use ahead::Ahead;
use alive::Alive;
use config::Config;
use state::Daemon;
pub use stop::{ended, forget};

/// Exit code for "this machine cannot": systemd does not restart us then (sysexits.h: EX_CONFIG).
const EXIT_CANNOT: u8 = 78;
/// D-Bus calls that wait for their turn; more are refused, so that a flood of callers cannot fill our memory.
const CALLS_MAX: usize = 256;

/// The hook whose verdict holds from the first instruction.
const GROWTH: &str = "growth";

/// A hook waits 2 s for us, then records its request on the cgroup: by this time it has.
const ADOPT_AGAIN: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
pub fn run() -> ExitCode {
    let level = log();
    match privilege::lay_down().and_then(|()| privilege::missing()) {
        Ok(missing) if missing.is_empty() => {}
        // Not the end: some kernels ask for less.
        Ok(missing) => {
            let names: Vec<String> = missing.into_iter().collect();
            tracing::warn!("memcg-bpfd runs without {}", names.join(", "));
        }
        Err(error) => {
            tracing::error!("laying down capabilities: {error}");
            return ExitCode::FAILURE;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let result = match prepare(&level) {
        Ok(prepared) => runtime.block_on(serve(prepared)),
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(if hopeless(&error) { EXIT_CANNOT } else { 1 });
        }
    };
    // Reclaim that is still on its way ends with us.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The log level, which is known only after the first messages.
struct Level(Option<tracing_subscriber::reload::Handle<LevelFilter, tracing_subscriber::Registry>>);

impl Level {
    fn set(&self, level: LevelFilter) {
        if let Some(handle) = &self.0
            && let Err(error) = handle.reload(level)
        {
            tracing::warn!(%error, "setting the log level");
        }
    }
}

/// As systemd says, by device and inode: the variable alone is inherited by programs whose stderr is a terminal.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|s| stream == format!("{}:{}", s.st_dev, s.st_ino))
}

/// To the journal when systemd started us, with fields as they are; else to stderr. MEMCG_BPF_LOG=debug wins over
/// the configuration.
fn log() -> Level {
    use tracing_subscriber::prelude::*;
    let fixed = std::env::var("MEMCG_BPF_LOG").ok().and_then(|text| text.parse::<LevelFilter>().ok());
    let (filter, handle) = tracing_subscriber::reload::Layer::new(fixed.unwrap_or(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    match tracing_journald::layer() {
        Ok(journal) if stderr_is_the_journal() => {
            registry.with(journal.with_field_prefix(None).with_syslog_identifier("memcg-bpfd".into())).init()
        }
        _ => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .without_time()
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .init(),
    }
    Level(fixed.is_none().then_some(handle))
}

/// Will the next try end the same way? Not so when memory was short or files were being replaced.
fn hopeless(error: &anyhow::Error) -> bool {
    let cannot_load =
        |e: &BpfError| matches!(e, BpfError::NoBtf(_) | BpfError::Open { .. } | BpfError::Load { .. });
    error.downcast_ref::<mount::MountError>().is_some() || error.downcast_ref().is_some_and(cannot_load)
}

/// What is found out and loaded before anybody can ask for anything.
struct Prepared {
    objects: catalog::Objects,
    report: KernelReport,
    kernel: Kernel,
    means: Means,
    machine: u64,
    limits: Limits,
}

fn prepare(level: &Level) -> Result<Prepared> {
    mount::check()?;
    let (config, warnings) = Config::load(Path::new("/"));
    level.set(config.log_level);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let core = Path::new(catalog::CORE_OBJECT);
    let dirs: Vec<PathBuf> = catalog::POLICY_DIRS.iter().map(PathBuf::from).collect();
    let objects = catalog::load(core, &dirs);
    let report = kernel::probe(&objects)?;
    let machine = memory::machine().context("reading the machine's memory")?;
    let mut kernel = Kernel::open(core, objects.files.clone(), machine, memory::page())?;
    if let Some(own) = requests::own()
        && let Ok(id) = mount::id(&own)
    {
        kernel.exempt(id, &own)?;
    }
    // Loaded, not attached: loading takes the kernel's verifier some time, and a hook that asks later has two seconds.
    // What only looks and asks may come some moments late (ahead.rs); what refuses may not.
    for (policy, _) in objects.hooks.iter().filter(|(_, hooks)| hooks.contains_key(GROWTH)) {
        if let Err(error) = kernel.load_policy(policy) {
            // Whoever asks for it hears of it.
            tracing::debug!("{error}");
        }
    }
    // Only now: where core itself cannot be had, that is the one thing to say.
    objects.errors.iter().for_each(|error| tracing::error!("{error}"));
    let means = means(&objects, &report, &config);
    Ok(Prepared { objects, report, kernel, means, machine, limits: config.limits })
}

/// Policies, and which of the hooks they want this kernel offers.
fn means(objects: &catalog::Objects, report: &KernelReport, config: &Config) -> Means {
    let mut offered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for policy in objects.hooks.keys() {
        for hook in objects.wanted(policy) {
            let list = if objects.offered(policy, &hook, report) { &mut offered } else { &mut missing };
            list.entry(policy.clone()).or_default().push(hook);
        }
    }
    let (profiles, faults) = profiles::load(Path::new("/"));
    faults.iter().for_each(|fault| tracing::warn!("{fault}"));
    Means {
        catalog: Catalog { policies: objects.schemas.clone(), profiles },
        allow: Allow { names: config.allow_policies.clone().map(|names| names.into_iter().collect()) },
        counting: objects.counting(),
        offered,
        missing,
    }
}

async fn serve(prepared: Prepared) -> Result<()> {
    let connection =
        zbus::Connection::system().await.context("connecting to the system bus (is dbus.socket running?)")?;
    let events = prepared.kernel.events()?;
    let ring = events.readiness().context("watching the kernel's events")?;
    let actions = prepared.kernel.actions()?;
    let asked = actions.readiness().context("watching what policies ask for")?;
    let (sender, mut calls) = mpsc::channel(CALLS_MAX);
    let kernel_json = serde_json::to_string(&prepared.report)?;
    let world = World::new(prepared.means);
    let mut daemon = Daemon::new(
        world,
        hands::Hands::new(prepared.kernel, prepared.machine),
        Acting::new(prepared.limits, prepared.machine, requests::own()),
        prepared.objects,
        prepared.report,
    );
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;

    // On the bus before anything else: whoever calls while we look around waits in the queue, and is not lost.
    let published = object::serve(&connection, sender, kernel_json).await;
    daemon.published =
        Some(published.context("taking the name org.memcg.Bpf1 (does another memcg-bpfd run?)")?);
    daemon.adopt().await;
    // All that systemd is asked is asked beside the loop: it may take its time, and calls are answered meanwhile.
    let mut meeting = Some(tokio::spawn(units::meet(connection)));
    let mut units: Option<Events> = None;
    let mut ready = false;
    let mut ahead = Ahead::new(daemon.objects.files.keys().cloned());
    let mut walk = std::pin::pin!(tokio::time::sleep(ADOPT_AGAIN));
    let mut alive = Alive::new();

    loop {
        let due = daemon.acting.due();
        tokio::select! {
            Some(call) = calls.recv() => {
                let waiting = daemon.walks > 0;
                let answer = daemon.command(call.command).await;
                if daemon.walks > 0 && !waiting {
                    walk.set(tokio::time::sleep(ADOPT_AGAIN));
                }
                // The caller may have given up meanwhile.
                drop(call.reply.send(answer));
            }
            ready = ring.readable() => {
                ready?.clear_ready();
                let news = events.take();
                daemon.kernel_events(news).await;
                daemon.events_lost().await;
            }
            ready = asked.readable() => {
                ready?.clear_ready();
                // A cgroup that appeared with its policy may ask at once: who is bound comes first.
                let news = events.take();
                daemon.kernel_events(news).await;
                daemon.asked(actions.take()).await;
            }
            done = daemon.acting.jobs.next() => {
                daemon.acting.done(done);
                daemon.tell_acted().await;
            }
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {
                daemon.acting.time();
                daemon.tell_acted().await;
            }
            met = settled(&mut meeting) => {
                meeting = None;
                match met? {
                    Ok((systemd, events)) => {
                        units = Some(events);
                        daemon.inquiry = Some(Inquiry::new(systemd));
                        daemon.rescan().await;
                    }
                    Err(error @ SystemdError::Absent) => tracing::warn!("{error}"),
                    Err(error) => return Err(error.into()),
                }
            }
            answer = answered(&mut daemon.inquiry) => daemon.systemd_answer(answer).await,
            event = next(&mut units) => match event {
                Some(event) => daemon.systemd_event(event).await,
                // Without the bus nobody reaches us; the next daemon adopts what is recorded.
                None => bail!("the connection to the system bus is lost"),
            },
            // A hook that gave up on us, while we started or later, has left a record.
            () = &mut walk, if daemon.walks > 0 => {
                daemon.walks = daemon.walks.saturating_sub(1);
                walk.set(tokio::time::sleep(ADOPT_AGAIN));
                daemon.adopt().await;
            }
            loaded = ahead.turn(), if ready => {
                loaded.into_iter().for_each(|policy| daemon.hands.loaded(policy));
                ahead.go_on(|policy| daemon.hands.loading(policy));
            }
            () = alive.due() => alive.say(),
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
        if !ready && meeting.is_none() && daemon.inquiry.as_ref().is_none_or(Inquiry::has_surveyed) {
            ready = true;
            daemon.hands.settle();
            ahead.wait();
            say_ready(&daemon);
        }
    }
    daemon.stop().await;
    if let Some(published) = daemon.published.take() {
        published.withdraw().await.context("leaving the bus")?;
    }
    Ok(())
}

/// All that was there is looked at.
fn say_ready(daemon: &Daemon) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::debug!(%error, "telling systemd that we are ready");
    }
    tracing::info!("memcg-bpfd {} is ready: {}", env!("CARGO_PKG_VERSION"), daemon.summary());
}

/// The end of a task, once; then never again.
async fn settled<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn answered(inquiry: &mut Option<Inquiry>) -> Answer {
    match inquiry {
        Some(inquiry) => inquiry.next().await,
        None => std::future::pending().await,
    }
}

async fn next(units: &mut Option<Events>) -> Option<crate::systemd::Event> {
    match units {
        Some(units) => units.next().await,
        None => std::future::pending().await,
    }
}
