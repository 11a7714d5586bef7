//! The clock of actions: CLOCK_MONOTONIC, which policies read with `bpf_ktime_get_ns()`.

use std::time::Duration;

/// Nanoseconds on CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.ok().and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}
