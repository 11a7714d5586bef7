//! Where what we say goes: the journal, with its fields, or a terminal.

use tracing::level_filters::LevelFilter;

/// The log level, which is known only after the first messages.
pub struct Level(Option<tracing_subscriber::reload::Handle<LevelFilter, tracing_subscriber::Registry>>);

impl Level {
    /// From now on.
    pub fn set(&self, level: LevelFilter) {
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
pub fn start() -> Level {
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
