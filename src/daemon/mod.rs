//! memcg-bpfd: passes requests of units, containers and callers to the engine, and the effects of the engine to the
//! kernel. One thread, one loop; every input goes through `Engine::step`, every effect through [`apply`].

mod apply;
mod attach_log;
mod capabilities;
mod change;
pub mod config;
mod eligibility;
mod host;
mod kernel_rings;
mod linger;
mod methods;
mod oom_kills;
mod overflow;
mod preload;
mod record_scan;
mod recover;
mod reload;
mod shutdown;
mod startup;
mod state;
mod unit_sync;
mod watchdog;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep_until;

use crate::actuator::Actuator;
use crate::bpf::BpfError;
use crate::cgroup::mount;
use crate::engine::Engine;
use crate::log::subscriber::{self, LevelHandle};
use crate::service::call::{Call, CallQueue, Command, queue};
use crate::service::server::{self, Server};
use crate::systemd::{Events, Reply, SystemdError, UnitQueries};
use apply::EffectApplier;
use kernel_rings::KernelRings;
use preload::Preloader;
use record_scan::RecordScanner;
use reload::Reload;
use shutdown::EXIT_UNSUPPORTED;
pub use shutdown::{cleanup, stop_post};
use startup::{Startup, prepare};
use state::Daemon;
use unit_sync::UnitSync;
use watchdog::Watchdog;

/// D-Bus calls in the queue; more are rejected, so that a flood of callers cannot fill the memory of the daemon.
const CALLS_MAX: usize = 256;
const BUS_LOST: &str = "the connection to the system bus is lost";

/// Runs until SIGTERM or SIGINT.
pub fn run() -> ExitCode {
    let level = subscriber::start("memcg-bpfd");
    match capabilities::drop_unneeded().and_then(|()| capabilities::missing()) {
        Ok(missing) if missing.is_empty() => {}
        // Not fatal: some kernels require less.
        Ok(missing) => {
            let names: Vec<String> = missing.into_iter().collect();
            tracing::warn!("memcg-bpfd runs without {}", names.join(", "));
        }
        Err(error) => {
            tracing::error!("dropping capabilities: {error}");
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
        Ok(startup) => runtime.block_on(serve(startup, level)),
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(if is_permanent(&error) { EXIT_UNSUPPORTED } else { 1 });
        }
    };
    // Reclaim in progress ends with the daemon.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if the next start would fail in the same way; false if memory was short or files were being replaced.
fn is_permanent(error: &anyhow::Error) -> bool {
    let cannot_load =
        |e: &BpfError| matches!(e, BpfError::NoBtf(_) | BpfError::Open { .. } | BpfError::Load { .. });
    error.downcast_ref::<mount::MountError>().is_some() || error.downcast_ref().is_some_and(cannot_load)
}

async fn serve(startup: Startup, level: LevelHandle) -> Result<()> {
    let connection =
        server::connect_client().await.context("connecting to the system bus (is dbus.socket running?)")?;
    let rings = KernelRings::open(&startup.kernel)?;
    let (sender, calls) = queue(CALLS_MAX);
    let kernel_json = serde_json::to_string(&startup.report)?;
    let mut daemon = Daemon::new(
        Engine::new(startup.engine_config),
        EffectApplier::new(startup.kernel, startup.machine),
        Actuator::new(startup.config.limits, startup.machine, host::daemon_cgroup()),
        startup.objects,
        startup.report,
    );
    // Before everything else, so that calls during the start are queued and not lost.
    let rescan_requested = Arc::new(Notify::new());
    let server = server::start(sender, Arc::clone(&rescan_requested), kernel_json).await;
    let Server { published, closed } =
        server.context("taking the name org.memcg.Bpf1 (does another memcg-bpfd run?)")?;
    daemon.published = Some(published);
    let mut scanner = RecordScanner::new(rescan_requested);
    while let Some(found) = scanner.drain().await {
        recover::adopt(&mut daemon, found).await;
    }
    let reload = Reload::new(level, startup.config, startup.known_warnings);
    let mut units = UnitSync::new(host::specifiers());
    let sources = Sources { rings, calls, closed, scanner, reload, connection };
    sources.run(&mut daemon, &mut units).await?;
    shutdown::stop(&mut daemon, units.queries.as_ref()).await;
    if let Some(published) = daemon.published.take() {
        published.unpublish().await.context("leaving the bus")?;
    }
    Ok(())
}

/// The inputs of the loop.
struct Sources {
    rings: KernelRings,
    calls: CallQueue,
    /// Completes when the service has lost the bus.
    closed: oneshot::Receiver<()>,
    scanner: RecordScanner,
    reload: Reload,
    connection: zbus::Connection,
}

impl Sources {
    /// Handles inputs until SIGTERM or SIGINT.
    async fn run(self, daemon: &mut Daemon, units: &mut UnitSync) -> Result<()> {
        let Sources { rings, mut calls, mut closed, mut scanner, mut reload, connection } = self;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        // Queries to systemd run beside the loop, because replies may take long.
        let mut connecting = Some(tokio::spawn(unit_sync::connect(connection)));
        let mut systemd_events: Option<Events> = None;
        let mut ready = false;
        let mut preloader = Preloader::new(reload.config(), daemon.objects.files.keys().cloned());
        let mut watchdog = Watchdog::new();
        loop {
            daemon.applier.set_kill_guards(daemon.actuator.kill_guards());
            let due = daemon.actuator.due();
            tokio::select! {
                Some(call) = calls.recv() => perform(call, daemon, &mut reload).await,
                readable = rings.readable() => rings.handle(readable?, daemon, units).await,
                done = daemon.actuator.jobs.next() => {
                    daemon.actuator.job_finished(done);
                    daemon.publish_actions().await;
                }
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {
                    daemon.actuator.tick();
                    daemon.publish_actions().await;
                }
                () = until(daemon.applier.due()) => daemon.applier.tick(),
                connected = joined(&mut connecting) => {
                    connecting = None;
                    match connected? {
                        Ok((systemd, events)) => {
                            systemd_events = Some(events);
                            units.connected(daemon, systemd).await;
                        }
                        Err(error @ SystemdError::Absent) => tracing::warn!("{error}"),
                        Err(error) => return Err(error.into()),
                    }
                }
                answer = next_answer(&mut units.queries) => units.systemd_answer(daemon, answer).await,
                event = next(&mut systemd_events) => match event {
                    Some(event) => units.systemd_event(daemon, event).await,
                    // Without the bus, no call reaches the daemon. The next daemon adopts the records.
                    None => bail!(BUS_LOST),
                },
                _ = &mut closed => bail!(BUS_LOST),
                // A hook whose call timed out leaves a record.
                found = scanner.next() => recover::adopt(daemon, found).await,
                loaded = preloader.next(), if ready => {
                    loaded.into_iter().for_each(|policy| daemon.applier.loaded(policy));
                    preloader.start_next(|policy| daemon.applier.loading(policy));
                }
                read = reload.read() => reload.apply(read, daemon).await,
                _ = hangup.recv() => reload.request(None, daemon),
                () = watchdog.tick() => watchdog.notify(),
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
            }
            if !ready && connecting.is_none() && units.first_scan_done() {
                ready = true;
                finish_start(daemon, &mut preloader).await;
            }
        }
    }
}

/// Takes over from the previous daemon once all cgroups and units that existed at the start are handled.
async fn finish_start(daemon: &mut Daemon, preloader: &mut Preloader) {
    daemon.take_over().await;
    preloader.schedule();
    notify_ready(daemon);
}

/// Notifies systemd that all cgroups and units that existed at the start are handled.
fn notify_ready(daemon: &Daemon) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::debug!(%error, "notifying systemd of readiness");
    }
    tracing::info!("memcg-bpfd {} is ready: {}", env!("CARGO_PKG_VERSION"), daemon.summary());
}

/// Performs a call and replies.
async fn perform(call: Call, daemon: &mut Daemon, reload: &mut Reload) {
    if matches!(call.command, Command::Reload { .. }) {
        return reload.request(Some(call.reply), daemon);
    }
    let answer = methods::command(daemon, call.command).await;
    // The caller may have closed the channel.
    drop(call.reply.send(answer));
}

/// Waits until then; waits forever if there is no time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of a task; waits forever if there is none.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn next_answer(queries: &mut Option<UnitQueries>) -> Reply {
    match queries {
        Some(queries) => queries.next().await,
        None => std::future::pending().await,
    }
}

async fn next(units: &mut Option<Events>) -> Option<crate::systemd::Event> {
    match units {
        Some(units) => units.next().await,
        None => std::future::pending().await,
    }
}
