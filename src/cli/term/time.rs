//! Formats times: in UTC for programs, and in the local time zone for readers.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

const DAY: u64 = 86_400;

/// Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Timestamp(pub u64);

impl Timestamp {
    /// Microseconds since 1970.
    pub fn now_us() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.ok().and_then(|since| u64::try_from(since.as_micros()).ok()).unwrap_or(0)
    }

    pub fn of_us(us: u64) -> Self {
        Timestamp(us.checked_div(1_000_000).unwrap_or(0))
    }

    /// `Nov 28 19:56:43` in the local time zone, as journalctl prints it.
    pub fn local(self) -> String {
        self.local_in(TimeZone::system())
    }

    /// `19:56:43` in the local time zone.
    pub fn local_clock(self) -> String {
        self.formatted(TimeZone::system(), "%H:%M:%S")
    }

    /// The abbreviation of the local time zone at that time, such as `CET`.
    pub fn zone(self) -> String {
        self.formatted(TimeZone::system(), "%Z")
    }

    fn local_in(self, zone: TimeZone) -> String {
        self.formatted(zone, "%b %d %H:%M:%S")
    }

    fn formatted(self, zone: TimeZone, format: &str) -> String {
        let time = i64::try_from(self.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        // Times beyond the year 9999 have no local form.
        time.map_or_else(
            || self.to_string(),
            |time| time.to_zoned_datetime(zone).strftime(format).to_string(),
        )
    }

    /// `12:00:00`.
    fn clock(self) -> String {
        let (hours, minutes, seconds) = parts(self.0.checked_rem(DAY).unwrap_or(0));
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

fn parts(seconds: u64) -> (u64, u64, u64) {
    let of = |by: u64, to: u64| seconds.checked_div(by).and_then(|n| n.checked_rem(to)).unwrap_or(0);
    (of(3600, 24), of(60, 60), of(1, 60))
}

/// Year, month and day of the proleptic Gregorian calendar: subtracts whole years, then whole months.
fn date(seconds: u64) -> (u64, u64, u64) {
    let mut days = seconds.checked_div(DAY).unwrap_or(0);
    let (mut year, mut month) = (1970_u64, 1_u64);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Times beyond the year 9999 are displayed incorrectly.
    while year < 9999 {
        let length = if leap(year) { 366 } else { 365 };
        let Some(left) = days.checked_sub(length) else { break };
        (days, year) = (left, year.saturating_add(1));
    }
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        let Some(left) = days.checked_sub(length) else { break };
        (days, month) = (left, month.saturating_add(1));
    }
    (year, month, days.saturating_add(1))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}T{}Z", self.clock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_are_those_of_the_zone() {
        // From TZ=UTC-5:30 date -d @N '+%b %d %T'
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(19_800).unwrap());
        assert_eq!(Timestamp(1_709_251_199).local_in(zone.clone()), "Mar 01 05:29:59");
        assert_eq!(Timestamp(1_709_251_199).formatted(zone.clone(), "%H:%M:%S %Z"), "05:29:59 +05:30");
        assert_eq!(Timestamp(0).local_in(TimeZone::UTC), "Jan 01 00:00:00");
        assert_eq!(Timestamp(u64::MAX).local_in(zone), Timestamp(u64::MAX).to_string());
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(seconds).to_string(), text);
        }
        assert!(Timestamp(u64::MAX).to_string().starts_with("9999"));
    }
}
