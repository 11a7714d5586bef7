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
mod logging;
mod lost;
pub mod object;
mod outcome;
mod prepare;
mod privilege;
mod reload;
mod requests;
mod state;
mod stop;
mod told;
mod undo;
mod units;
mod walks;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinHandle};

use crate::bpf::BpfError;
use crate::cgroup::mount;
use crate::engine::Engine;
use crate::systemd::{Events, Reply, SystemdError, UnitQueries};
use acting::Acting;
use ahead::Ahead;
use alive::Alive;
use command::Command;
use logging::Level;
use prepare::{Prepared, prepare};
use reload::Reload;
use state::Daemon;
pub use stop::{ended, forget};
use walks::Walks;

/// Exit code for "this machine cannot": systemd does not restart us then (sysexits.h: EX_CONFIG).
const EXIT_CANNOT: u8 = 78;
/// D-Bus calls that wait for their turn; more are refused, so that a flood of callers cannot fill our memory.
const CALLS_MAX: usize = 256;

/// Runs until SIGTERM or SIGINT.
pub fn run() -> ExitCode {
    let level = logging::start();
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
        Ok(prepared) => runtime.block_on(serve(prepared, level)),
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

/// Will the next try end the same way? Not so when memory was short or files were being replaced.
fn hopeless(error: &anyhow::Error) -> bool {
    let cannot_load =
        |e: &BpfError| matches!(e, BpfError::NoBtf(_) | BpfError::Open { .. } | BpfError::Load { .. });
    error.downcast_ref::<mount::MountError>().is_some() || error.downcast_ref().is_some_and(cannot_load)
}

async fn serve(prepared: Prepared, level: Level) -> Result<()> {
    let connection =
        zbus::Connection::system().await.context("connecting to the system bus (is dbus.socket running?)")?;
    let events = prepared.kernel.events()?;
    let ring = events.async_fd().context("watching the kernel's events")?;
    let actions = prepared.kernel.actions()?;
    let asked = actions.async_fd().context("watching what policies ask for")?;
    let (sender, mut calls) = mpsc::channel(CALLS_MAX);
    let kernel_json = serde_json::to_string(&prepared.report)?;
    let world = Engine::new(prepared.means);
    let mut daemon = Daemon::new(
        world,
        hands::Hands::new(prepared.kernel, prepared.machine),
        Acting::new(prepared.config.limits, prepared.machine, requests::own()),
        prepared.objects,
        prepared.report,
    );
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    // On the bus before anything else: whoever calls while we look around waits in the queue, and is not lost.
    let missed = Arc::new(Notify::new());
    let published = object::serve(&connection, sender, Arc::clone(&missed), kernel_json).await;
    daemon.published =
        Some(published.context("taking the name org.memcg.Bpf1 (does another memcg-bpfd run?)")?);
    let mut walks = Walks::new(missed);
    while let Some(found) = walks.rest().await {
        daemon.adopt(found).await;
    }
    // All that systemd is asked is asked beside the loop: it may take its time, and calls are answered meanwhile.
    let mut meeting = Some(tokio::spawn(units::meet(connection)));
    let mut units: Option<Events> = None;
    let mut ready = false;
    let mut ahead = Ahead::new(daemon.objects.files.keys().cloned());
    let mut alive = Alive::new();
    let mut reload = Reload::new(level, prepared.config, prepared.told);

    loop {
        let due = daemon.acting.due();
        tokio::select! {
            Some(call) = calls.recv() => {
                if matches!(call.command, Command::Reload { .. }) {
                    reload.ask(Some(call.reply), &daemon);
                    continue;
                }
                let answer = daemon.command(call.command).await;
                // The caller may have given up meanwhile.
                drop(call.reply.send(answer));
            }
            ready = ring.readable() => {
                ready?.clear_ready();
                let news = events.drain();
                daemon.kernel_events(news).await;
                daemon.events_lost().await;
            }
            ready = asked.readable() => {
                ready?.clear_ready();
                // A cgroup that appeared with its policy may ask at once: who is bound comes first.
                let news = events.drain();
                daemon.kernel_events(news).await;
                daemon.asked(actions.drain()).await;
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
                        daemon.inquiry = Some(UnitQueries::new(systemd));
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
            found = walks.next() => daemon.adopt(found).await,
            loaded = ahead.turn(), if ready => {
                loaded.into_iter().for_each(|policy| daemon.hands.loaded(policy));
                ahead.go_on(|policy| daemon.hands.loading(policy));
            }
            read = reload.read() => reload.take(read, &mut daemon).await,
            _ = hangup.recv() => reload.ask(None, &daemon),
            () = alive.due() => alive.say(),
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
        if !ready && meeting.is_none() && daemon.inquiry.as_ref().is_none_or(UnitQueries::first_scan_done) {
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

async fn answered(inquiry: &mut Option<UnitQueries>) -> Reply {
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
