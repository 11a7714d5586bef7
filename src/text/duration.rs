//! Durations in systemd's notation.

use super::number::{split_unit, unknown};
use super::{UnitError, VALID_DURATIONS};

/// Suffixes with their length in nanoseconds, the longest first; the first suffix of a length is the canonical one.
/// As in systemd, `m` means minutes, and a number without a suffix means seconds. Months and years are not supported.
const UNITS: [(&str, u64); 29] = [
    ("w", 604_800_000_000_000),
    ("week", 604_800_000_000_000),
    ("weeks", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("days", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("hr", 3_600_000_000_000),
    ("hour", 3_600_000_000_000),
    ("hours", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("minute", 60_000_000_000),
    ("minutes", 60_000_000_000),
    ("s", 1_000_000_000),
    ("", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("second", 1_000_000_000),
    ("seconds", 1_000_000_000),
    ("ms", 1_000_000),
    ("msec", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("usec", 1_000),
    ("ns", 1),
    ("nsec", 1),
    ("nanosecond", 1),
    ("nanoseconds", 1),
];

/// A time span → nanoseconds: `250ms`, `2s`, `1min 30s`, `1h30min`. Errors: empty, negative, an unknown suffix, more
/// than 64 bits of nanoseconds (584 years).
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    let fail = |why: String| Err(UnitError::new(VALID_DURATIONS, why));
    let mut rest = text;
    let mut total: u64 = 0;
    let mut terms: u32 = 0;
    loop {
        rest = rest.trim_start_matches(' ');
        if rest.is_empty() {
            break;
        }
        let end = end_of_term(rest);
        let (term, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (number, suffix) = split_unit(term, VALID_DURATIONS)?;
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == suffix) else {
            return fail(unknown(suffix));
        };
        if *factor == 1 && number.has_fraction() {
            return fail("a number of nanoseconds has no fraction".to_owned());
        }
        // `1 30` is ambiguous: seconds without a suffix must stand alone.
        if suffix.is_empty() && (terms > 0 || !behind.trim_matches(' ').is_empty()) {
            return fail("a number in it has no suffix".to_owned());
        }
        total = match number.scaled(*factor).and_then(|ns| total.checked_add(ns)) {
            Some(sum) => sum,
            None => return fail("it is too long (584 years and more do not fit)".to_owned()),
        };
        terms = terms.saturating_add(1);
        rest = behind;
    }
    if terms == 0 { fail("it is empty".to_owned()) } else { Ok(total) }
}

/// The end of the first `NUMBER SUFFIX` of a time span: before the space or the digit that follows its suffix.
fn end_of_term(text: &str) -> usize {
    let mut in_suffix = false;
    for (at, c) in text.char_indices() {
        let of_number = c.is_ascii_digit() || c == '.';
        if c == ' ' || (in_suffix && of_number) {
            return at;
        }
        in_suffix |= !of_number;
    }
    text.len()
}

/// Nanoseconds as a time span, exactly: `1min 30s`, `250ms`, `0`.
pub fn format_duration(ns: u64) -> String {
    let mut rest = ns;
    let mut last = 0;
    let mut terms = Vec::new();
    for (name, factor) in UNITS {
        // Weeks are not used, because days are easier to read.
        if factor == last || name.starts_with('w') {
            continue;
        }
        last = factor;
        let count = rest.checked_div(factor).unwrap_or(0);
        rest = rest.checked_rem(factor).unwrap_or(0);
        if count > 0 {
            terms.push(format!("{count}{name}"));
        }
    }
    if terms.is_empty() { "0".to_owned() } else { terms.join(" ") }
}
