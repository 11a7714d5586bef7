//! A history file: one JSON object per line, which is a sample of all cgroups with policies, or an event. FILE.1 and
//! FILE are the two halves of a history of bounded size. An incomplete last line is skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cli::monitor::events::Event;

/// Longest line in bytes. Longer lines are skipped; a sample of a thousand cgroups has some hundred KiB.
const LINE_MAX: usize = 4 << 20;
/// Limit of samples, and of events. Beyond it, every other one is dropped.
const ENTRIES_MAX: usize = 200_000;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(in crate::cli) enum Entry {
    Sample {
        /// Microseconds since 1970.
        time_us: u64,
        cgroups: Vec<CgroupSample>,
    },
    Event(Box<Event>),
}

impl Entry {
    fn is_event(&self) -> bool {
        matches!(self, Entry::Event(_))
    }
}

/// A sample of one cgroup. Counters start when the policy was attached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::cli) struct CgroupSample {
    pub cgroup: String,
    pub name: String,
    /// memory.current in bytes.
    pub usage: u64,
    /// The lowest limit of an enforced policy, or the effective maximum, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// memory.high in bytes, unless it is max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<u64>,
    /// memory.low in bytes, unless it is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<u64>,
    pub stall_ns: u64,
    pub refaults: u64,
    /// Number of requests denied by policies of the cgroup.
    pub denied: u64,
}

/// A history that is being written.
pub(in crate::cli) struct Writer {
    path: PathBuf,
    file: File,
    /// Maximum size of one half in bytes.
    half: u64,
    length: u64,
}

impl Writer {
    /// Opens the file. Appends to an existing one.
    pub fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Writer { path: path.to_owned(), file, half: max.checked_div(2).unwrap_or(0).max(1), length })
    }

    pub fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let line = serde_json::to_string(entry)? + "\n";
        let more = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.length > 0 && self.length.saturating_add(more) > self.half {
            std::fs::rename(&self.path, older(&self.path)).context("renaming the older half")?;
            self.file = File::options().append(true).create_new(true).open(&self.path)?;
            self.length = 0;
        }
        self.file.write_all(line.as_bytes())?;
        self.length = self.length.saturating_add(more);
        Ok(())
    }
}

/// The path of the older half.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Both halves, the older first.
pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut all = Vec::new();
    if let Ok(file) = File::open(older(path)) {
        entries(file, &mut all)?;
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    entries(file, &mut all).with_context(|| format!("reading {}", path.display()))?;
    anyhow::ensure!(
        !all.is_empty(),
        "{} contains no history; to record one, run: memcg-bpf record FILE",
        path.display()
    );
    Ok(all)
}

/// Skips invalid, truncated and too long lines.
fn entries(file: impl Read, all: &mut Vec<Entry>) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let of_kind = |all: &[Entry], event: bool| all.iter().filter(|entry| entry.is_event() == event).count();
    let (mut samples, mut events) = (of_kind(all, false), of_kind(all, true));
    while next_line(&mut reader, &mut line)? {
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
        let event = entry.is_event();
        all.push(entry);
        let count = if event { &mut events } else { &mut samples };
        *count = count.saturating_add(1);
        if *count > ENTRIES_MAX {
            downsample(all, event);
            *count = of_kind(all, event);
        }
    }
    Ok(())
}

/// Reads the next line, which is empty if it is too long. Returns false at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let max = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    let length = reader.take(max).read_until(b'\n', line)?;
    if length == LINE_MAX && !line.ends_with(b"\n") {
        line.clear();
        reader.skip_until(b'\n')?;
    }
    Ok(length > 0)
}

/// Drops every other event or sample.
fn downsample(all: &mut Vec<Entry>, events: bool) {
    let mut odd = false;
    all.retain(|entry| {
        odd ^= entry.is_event() == events;
        odd || entry.is_event() != events
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_stays_bounded_and_is_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h");
        let mut writer = Writer::open(&path, 2000).unwrap();
        for time_us in 0..100 {
            writer.write(&Entry::Sample { time_us, cgroups: Vec::new() }).unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) <= 1000 && size(&older(&path)) <= 1000);
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"kind\":\"sam").unwrap();
        let times: Vec<u64> = read(&path)
            .unwrap()
            .iter()
            .map(|entry| match entry {
                Entry::Sample { time_us, .. } => *time_us,
                Entry::Event(_) => panic!("no event was written"),
            })
            .collect();
        assert_eq!(times.last(), Some(&99));
        assert!(times.len() > 20 && times.windows(2).all(|two| two[0] + 1 == two[1]), "{times:?}");
    }

    #[test]
    fn event_round_trips() {
        let event = Event { cgroup: "/a".into(), event: "acted".into(), to: Some(7), ..Event::default() };
        let text = serde_json::to_string(&Entry::Event(Box::new(event.clone()))).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), Entry::Event(Box::new(event)));
    }

    #[test]
    fn file_without_history_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains("contains no history; to record one, run: memcg-bpf record FILE"), "{error}");
    }

    #[test]
    fn invalid_lines_are_skipped() {
        let sample = "{\"kind\":\"sample\",\"time_us\":1,\"cgroups\":[]}\n";
        // A line that is truncated within a character, as after a power failure, and a line without an end.
        let mut bytes = b"{\"kind\":\"event\",\"cgroup\":\"/caf\xc3\n".to_vec();
        bytes.extend(vec![b'x'; LINE_MAX + 5]);
        bytes.extend(format!("\n{sample}").into_bytes());
        bytes.extend(vec![b'y'; LINE_MAX]);
        bytes.extend(format!("\n{sample}{}", sample.trim_end()).into_bytes());
        let mut all = Vec::new();
        entries(bytes.as_slice(), &mut all).unwrap();
        assert_eq!(all, vec![Entry::Sample { time_us: 1, cgroups: Vec::new() }; 3]);
    }

    #[test]
    fn samples_between_events_are_thinned_as_well() {
        let mut all = Vec::new();
        for time_us in 0..10 {
            all.push(Entry::Sample { time_us, cgroups: Vec::new() });
            all.push(Entry::Event(Box::default()));
        }
        downsample(&mut all, false);
        assert_eq!((all.len(), all.iter().filter(|entry| entry.is_event()).count()), (15, 10));
        downsample(&mut all, true);
        assert_eq!(all.len(), 10);
    }
}
