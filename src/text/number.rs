//! A decimal number with a suffix, parsed exactly, without floating point.

use super::error::UnitError;
use super::printable;

/// Number of significant digits after the point; further digits are less than one of any unit.
const FRACTION_DIGITS: usize = 19;

/// A non-negative decimal number.
pub(super) struct Decimal {
    whole: u64,
    /// The digits after the point, without trailing zeros; `None` when there is no point.
    fraction: Option<Vec<u8>>,
    overflow: bool,
}

impl Decimal {
    /// True if a digit other than zero follows the point.
    pub fn has_fraction(&self) -> bool {
        self.fraction.as_ref().is_some_and(|digits| !digits.is_empty())
    }

    /// True if the number has a point.
    pub fn has_point(&self) -> bool {
        self.fraction.is_some()
    }

    /// True if the number has at most `digits` digits after the point.
    pub fn is_exact_in(&self, digits: usize) -> bool {
        self.fraction.as_ref().is_none_or(|f| f.len() <= digits)
    }

    /// The number times `factor`, rounded down; `None` when that does not fit.
    pub fn scaled(&self, factor: u64) -> Option<u64> {
        if self.overflow {
            return None;
        }
        let mut parts: u128 = 0;
        let mut scale: u128 = 1;
        for digit in self.fraction.iter().flatten().take(FRACTION_DIGITS) {
            parts = parts.checked_mul(10)?.checked_add(u128::from(*digit))?;
            scale = scale.checked_mul(10)?;
        }
        let factor = u128::from(factor);
        let whole = u128::from(self.whole).checked_mul(factor)?;
        let part = parts.checked_mul(factor)?.checked_div(scale)?;
        u64::try_from(whole.checked_add(part)?).ok()
    }
}

/// Splits `1.5G` into the number and `G`. Errors: spaces, a sign, no digit.
pub(super) fn split_unit<'a>(text: &'a str, valid: &'static str) -> Result<(Decimal, &'a str), UnitError> {
    let fail = |why: &str| Err(UnitError::new(valid, why));
    if text.is_empty() {
        return fail("it is empty");
    }
    if text.starts_with('-') {
        return fail("it is negative");
    }
    if text.contains(char::is_whitespace) {
        return fail("it contains a space");
    }
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return fail("it does not start with a digit");
    }
    let (fraction, suffix) = match rest.strip_prefix('.') {
        None => (None, rest),
        Some(behind) => match split_digits(behind) {
            ("", _) => return fail("there is no digit behind the point"),
            (digits, suffix) => {
                let digits = digits.trim_end_matches('0');
                (Some(digits.bytes().map(|b| b.saturating_sub(b'0')).collect()), suffix)
            }
        },
    };
    // A number that is too large is still a number; the caller reports its range.
    let (whole, overflow) = digits.parse().map_or((0, true), |whole| (whole, false));
    Ok((Decimal { whole, fraction, overflow }, suffix))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The error about an unknown suffix, which is escaped and truncated.
pub(super) fn unknown(suffix: &str) -> String {
    let cut: String = suffix.chars().take(16).collect();
    let dots = if cut.len() < suffix.len() { "…" } else { "" };
    format!("its suffix '{}{dots}' is unknown", printable::escape_line(&cut))
}
