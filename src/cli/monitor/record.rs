//! `memcg-bpf record`: a bounded history of cgroups with policies, for `memcg-bpf report`.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::cgroup::knob;
use crate::cli::client::Client;
use crate::cli::find::container;
use crate::cli::monitor::events;
use crate::cli::monitor::history::{CgroupSample, Entry, Writer};
use crate::cli::output::Output;
use crate::cli::show::explain::name_of;
use crate::cli::term::time::Timestamp;
use crate::names::CgroupPath;
use crate::policy::action::{Knob, MAX};
use crate::report::BindingReport;
use crate::report::explain::nearest_limit;
use crate::text::{parse_bytes, parse_duration};

/// Minimum interval. Shorter ones would distort the samples.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Record memory use and events of cgroups with policies, for a report
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf record /var/tmp/history --for 10min
  memcg-bpf record /var/tmp/history --interval 10s --size 64M     until interrupted
  memcg-bpf report /var/tmp/history > page.html

Appends to an existing file. The older half of the history is in FILE.1.")]
pub(in crate::cli) struct Record {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Interval between two samples
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Duration of the recording. Defaults to until interrupted
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// Maximum size of the history
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = size)]
    size: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map(Duration::from_nanos) {
        Ok(duration) if duration < INTERVAL_MIN => Err("the minimum is 100ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    match parse_bytes(text) {
        Ok(bytes) if bytes < 64 << 10 => Err("the minimum is 64K".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

impl Record {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let mut writer = Writer::open(&self.file, self.size)
            .with_context(|| format!("opening {}", self.file.display()))?;
        let client = Client::connect_to_look()?;
        let events_received = stream_events();
        let until = self.length.and_then(|length| Instant::now().checked_add(length));
        let mut samples = 0_u64;
        loop {
            let mut reports: Vec<BindingReport> = client.list()?;
            container::add_names(&mut reports);
            let cgroups = reports.iter().filter_map(sample).collect();
            writer
                .write(&Entry::Sample { time_us: Timestamp::now_us(), cgroups })
                .with_context(|| format!("writing {}", self.file.display()))?;
            samples = samples.saturating_add(1);
            let next = Instant::now().checked_add(self.interval);
            let next = [next, until].into_iter().flatten().min().unwrap_or_else(Instant::now);
            // Waits for events until the next sample.
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                match events_received.recv_timeout(left) {
                    Ok(event) => writer.write(&Entry::Event(Box::new(event)))?,
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(left),
                }
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
        }
        events_received.try_iter().try_for_each(|event| writer.write(&Entry::Event(Box::new(event))))?;
        Ok(Output::success(if as_json {
            crate::cli::term::json(&serde_json::json!({ "file": self.file, "samples": samples }))?
        } else {
            format!(
                "Recorded {samples} samples to {0}. To see them, run: memcg-bpf report {0} > page.html\n",
                self.file.display()
            )
        }))
    }
}

/// New events from the journal, read by a thread.
fn stream_events() -> mpsc::Receiver<events::Event> {
    let (events_received, receiver) = mpsc::channel();
    // `now` of journalctl is the time at which it starts.
    let now = Timestamp::now_us();
    let since = format!("@{}.{:06}", now / 1_000_000, now % 1_000_000);
    std::thread::spawn(move || {
        let result = events::read(Some(&since), true, |event| Ok(events_received.send(event)?));
        if let Err(error) = result {
            crate::cli::term::eprint(&format!("memcg-bpf: Failed to record events: {error:#}\n"));
        }
    });
    receiver
}

fn sample(report: &BindingReport) -> Option<CgroupSample> {
    let path = CgroupPath::parse(&report.cgroup).ok()?;
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    Some(CgroupSample {
        cgroup: report.cgroup.clone(),
        name: name_of(report),
        usage: report.usage?,
        limit: nearest_limit(report),
        high: knob::read(&path, Knob::High).ok().filter(|high| *high != MAX),
        low: knob::read(&path, Knob::Low).ok().filter(|low| *low != 0),
        stall_ns: counter("stall_ns"),
        refaults: counter("refaults"),
        denied: counter("growth_denied"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_sizes_have_a_least_value() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1ms"), Err("the minimum is 100ms".to_owned()));
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("1K"), Err("the minimum is 64K".to_owned()));
    }

    #[test]
    fn unavailable_cgroups_are_not_sampled() {
        assert_eq!(sample(&BindingReport { cgroup: "/no/such".into(), ..BindingReport::default() }), None);
        let report = BindingReport { cgroup: "/no/such".into(), usage: Some(5), ..BindingReport::default() };
        let sample = sample(&report).unwrap();
        assert_eq!((sample.usage, sample.high, sample.low), (5, None, None));
    }
}
