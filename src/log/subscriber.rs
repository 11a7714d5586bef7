//! Sends log messages to the journal, with their fields, or to a terminal.

use std::fmt::{Debug, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::log::journal::{Entry, Journal, Priority, SOCKET};

/// The log level, which the configuration sets after the first messages.
pub struct LevelHandle(Option<tracing_subscriber::reload::Handle<LevelFilter, tracing_subscriber::Registry>>);

impl LevelHandle {
    /// Sets the level.
    pub fn set(&self, level: LevelFilter) {
        if let Some(handle) = &self.0
            && let Err(error) = handle.reload(level)
        {
            tracing::warn!(%error, "setting the log level");
        }
    }
}

/// True if stderr is connected to the journal: compares device and inode, because programs inherit the variable
/// alone.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr()).is_ok_and(|s| stream == format!("{}:{}", s.st_dev, s.st_ino))
}

/// Logs to the journal if systemd started the process, with fields; else to stderr. MEMCG_BPF_LOG=debug overrides the
/// configuration. `identifier` is the name of the program.
pub fn start(identifier: &'static str) -> LevelHandle {
    use tracing_subscriber::prelude::*;
    let fixed = std::env::var("MEMCG_BPF_LOG").ok().and_then(|text| text.parse::<LevelFilter>().ok());
    let (filter, handle) = tracing_subscriber::reload::Layer::new(fixed.unwrap_or(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    match Journal::new(Path::new(SOCKET)) {
        Ok(journal) if stderr_is_the_journal() => {
            registry.with(JournalLayer { journal, identifier, lost: AtomicU64::new(0) }).init()
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
    LevelHandle(fixed.is_none().then_some(handle))
}

/// Sends every event as an entry. Entries that the journal does not accept at once are lost, counted, and reported
/// with the next accepted entry: the daemon's loop does not wait for the journal.
struct JournalLayer {
    journal: Journal,
    identifier: &'static str,
    lost: AtomicU64,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(priority(*event.metadata().level()), self.identifier);
        event.record(&mut FieldVisitor(&mut entry));
        if let (Some(file), Some(line)) = (event.metadata().file(), event.metadata().line()) {
            entry.field("CODE_FILE", file);
            entry.field("CODE_LINE", &line.to_string());
        }
        self.send(&entry);
    }
}

impl JournalLayer {
    fn send(&self, entry: &Entry) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut entry_of_lost = Entry::new(Priority::Warning, self.identifier);
            entry_of_lost.field(
                "MESSAGE",
                &format!("{lost} messages before this one were not written to the journal"),
            );
            if !self.journal.try_send(&entry_of_lost) {
                self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
                return;
            }
        }
        if !self.journal.try_send(entry) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn priority(level: tracing::Level) -> Priority {
    match level {
        tracing::Level::ERROR => Priority::Error,
        tracing::Level::WARN => Priority::Warning,
        tracing::Level::INFO => Priority::Notice,
        tracing::Level::DEBUG => Priority::Info,
        tracing::Level::TRACE => Priority::Debug,
    }
}

/// Collects the fields of an event under names that journald accepts.
struct FieldVisitor<'a>(&'a mut Entry);

impl Visit for FieldVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let name: String = field.name().chars().filter(allowed).collect();
        self.0.field(name.trim_start_matches('_').to_ascii_uppercase().as_str(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.record_str(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tracing_subscriber::prelude::*;

    use super::*;

    fn received(journal: &UnixDatagram) -> Vec<String> {
        journal.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut one = || {
            let size = journal.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..size].to_vec()).unwrap())
        };
        std::iter::from_fn(&mut one).collect()
    }

    #[test]
    fn event_becomes_entry_and_losses_are_logged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = Journal::new(&path).unwrap();
        let layer = JournalLayer { journal, identifier: "memcg-bpfd", lost: AtomicU64::new(0) };
        let _guard = tracing_subscriber::registry().with(layer).set_default();
        tracing::warn!("no reader");
        tracing::warn!("yet");
        let reader = UnixDatagram::bind(&path).unwrap();
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        tracing::info!(MEMCG_BPF_CGROUP = "/a", MEMCG_BPF_TO = 7u64, %error, "said");
        let all = received(&reader);
        assert!(
            all[0].contains("MESSAGE=2 messages before this one were not written to the journal\n"),
            "{all:?}"
        );
        for line in [
            "PRIORITY=5",
            "SYSLOG_IDENTIFIER=memcg-bpfd",
            "MESSAGE=said",
            "MEMCG_BPF_CGROUP=/a",
            "MEMCG_BPF_TO=7",
            "ERROR=entity not found",
        ] {
            assert!(all[1].lines().any(|found| found == line), "{line}: {all:?}");
        }
        assert_eq!(all.len(), 2);
    }
}
