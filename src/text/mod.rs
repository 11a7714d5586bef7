//! Sizes, percentages, durations and printable text. No I/O.
//!
//! Every `parse_` has a `format_` whose text parses back to the same number.

mod duration;
mod error;
mod human;
pub mod ini;
mod number;
pub mod printable;

pub use duration::{format_duration, parse_duration};
pub use error::UnitError;
pub use human::{format_bytes, format_percent, human_bytes};

use number::split_unit;

/// One hundred percent in parts per million.
pub const PPM_ONE: u32 = 1_000_000;

/// Valid sizes, in words.
pub const VALID_SIZES: &str = "sizes such as 4096, 64K or 1.5G";
/// Valid percentages, in words.
pub const VALID_PERCENTAGES: &str = "percentages such as 0.5% or 90%";
/// Valid durations, in words.
pub const VALID_DURATIONS: &str = "durations such as 250ms, 2s or 1min 30s";
/// Valid integers, in words.
pub const VALID_COUNTS: &str = "integers such as 0 or 100";
/// Valid booleans, in words.
pub const VALID_BOOLS: &str = "yes, no, true, false, on, off, 1 and 0";

/// Suffixes of sizes with their factors, the largest first.
const SIZES: [(&str, u64); 7] = [
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

/// A size → bytes: base 1024 as in systemd, `64K 1.5G 4096`; `64Ki` and `64KiB` are the same as `64K`. Fractions are
/// rounded down to whole bytes. Errors: empty, negative, spaces, an unknown suffix, beyond 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, suffix) = split_unit(text, VALID_SIZES)?;
    let binary = suffix.strip_suffix("iB").or(suffix.strip_suffix('i'));
    let plain = binary.filter(|s| !s.is_empty() && *s != "B").unwrap_or(suffix);
    let factor = match plain {
        "" => 1,
        letter => match SIZES.iter().find(|(name, _)| *name == letter) {
            Some((_, factor)) => *factor,
            None => return Err(unknown_size(text, suffix)),
        },
    };
    if factor == 1 && number.has_fraction() {
        return Err(UnitError::new(VALID_SIZES, "a number of bytes has no fraction"));
    }
    number
        .scaled(factor)
        .ok_or_else(|| UnitError::new(VALID_SIZES, "it is too large (16E and more do not fit)"))
}

fn unknown_size(text: &str, suffix: &str) -> UnitError {
    let error = UnitError::new(VALID_SIZES, number::unknown(suffix));
    // 64m, 64mb, 64MB, 64mi: people mean 64M.
    let upper = suffix.to_ascii_uppercase();
    let unit = upper.strip_suffix("IB").or(upper.strip_suffix('B')).or(upper.strip_suffix('I'));
    let letter = unit.filter(|s| !s.is_empty()).unwrap_or(&upper);
    let meant = SIZES.iter().find(|(name, _)| *name == letter);
    error.suggest(meant.and_then(|(name, _)| Some(format!("{}{name}", text.strip_suffix(suffix)?))))
}

/// A percentage → parts per million, 0 to 100 %. Errors: see [`parse_percent_up_to`].
pub fn parse_percent(text: &str) -> Result<u32, UnitError> {
    parse_percent_up_to(text, PPM_ONE)
}

/// A percentage → parts per million, `max` at most. Errors: no `%`, too large, finer than 0.0001 %.
pub fn parse_percent_up_to(text: &str, max: u32) -> Result<u32, UnitError> {
    let (number, suffix) = split_unit(text, VALID_PERCENTAGES)?;
    if suffix.is_empty() {
        let error = UnitError::new(VALID_PERCENTAGES, "the '%' is missing");
        return Err(error.suggest(Some(format!("{text}%"))));
    }
    if suffix != "%" {
        return Err(UnitError::new(VALID_PERCENTAGES, number::unknown(suffix)));
    }
    if !number.is_exact_in(4) {
        return Err(UnitError::new(VALID_PERCENTAGES, "it has more than four digits after the point"));
    }
    number
        .scaled(10_000)
        .and_then(|ppm| u32::try_from(ppm).ok())
        .filter(|ppm| *ppm <= max)
        .ok_or_else(|| UnitError::new(VALID_PERCENTAGES, format!("it is more than {}", format_percent(max))))
}

/// An integer, 0 to 2⁶⁴-1. Errors: anything but digits, too large.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let (number, suffix) = split_unit(text, VALID_COUNTS)?;
    if !suffix.is_empty() {
        return Err(UnitError::new(VALID_COUNTS, "an integer has no suffix"));
    }
    if number.has_point() {
        return Err(UnitError::new(VALID_COUNTS, "an integer has no point"));
    }
    number.scaled(1).ok_or_else(|| UnitError::new(VALID_COUNTS, "it is too large"))
}

/// A boolean, in systemd's words and in any case: `1 yes y true t on`, `0 no n false f off`.
pub fn parse_bool(text: &str) -> Result<bool, UnitError> {
    let is = |words: [&str; 6]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match text {
        "" => Err(UnitError::new(VALID_BOOLS, "it is empty")),
        _ if is(["1", "yes", "y", "true", "t", "on"]) => Ok(true),
        _ if is(["0", "no", "n", "false", "f", "off"]) => Ok(false),
        _ => Err(UnitError::new(VALID_BOOLS, "it is neither yes nor no")),
    }
}

#[cfg(test)]
mod tests;
