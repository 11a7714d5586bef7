//! The value of a parameter: parses text to the number in the struct, formats it as canonical text, and checks its
//! range.

use super::diagnostic::{closest_match, join_with_and};
use super::schema::{ParamKind, SIZE_IS_PPM};
use crate::text::{
    self, PPM_ONE, UnitError, VALID_DURATIONS, VALID_PERCENTAGES, VALID_SIZES, format_bytes, format_duration,
    format_percent,
};

/// Why a text is not a value of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueError {
    pub reason: String,
    pub valid: String,
    pub suggestion: Option<String>,
}

impl From<UnitError> for ValueError {
    fn from(error: UnitError) -> Self {
        ValueError { reason: error.reason, valid: error.valid.to_owned(), suggestion: error.suggestion }
    }
}

/// Parses `text` regardless of the range. Negative enumerators are in two's complement.
pub(super) fn parse(kind: &ParamKind, text: &str) -> Result<u64, ValueError> {
    Ok(match kind {
        ParamKind::Bytes => text::parse_bytes(text)?,
        ParamKind::Size => return parse_size(text),
        ParamKind::Ppm => text::parse_percent_up_to(text, u32::MAX)?.into(),
        ParamKind::Duration => text::parse_duration(text)?,
        ParamKind::Count => text::parse_count(text)?,
        ParamKind::Bool => text::parse_bool(text)?.into(),
        ParamKind::Choice(words) => {
            let names = || words.iter().map(|(word, _)| word.as_str());
            match words.iter().find(|(word, _)| word == text) {
                Some((_, value)) => value.cast_unsigned(),
                None => {
                    return Err(ValueError {
                        reason: if text.is_empty() { "it is empty" } else { "no such choice" }.to_owned(),
                        valid: join_with_and(names()),
                        suggestion: closest_match(text, names()),
                    });
                }
            }
        }
    })
}

fn parse_size(text: &str) -> Result<u64, ValueError> {
    let valid = format!("{VALID_SIZES}, and {VALID_PERCENTAGES}");
    let with_valid = |error: UnitError| ValueError { valid: valid.clone(), ..error.into() };
    if text.ends_with('%') {
        return text::parse_percent(text).map(|ppm| SIZE_IS_PPM | u64::from(ppm)).map_err(with_valid);
    }
    let bytes = text::parse_bytes(text).map_err(with_valid)?;
    if bytes & SIZE_IS_PPM != 0 {
        let reason = "it is too large (8E and more do not fit)".to_owned();
        return Err(ValueError { reason, valid, suggestion: None });
    }
    Ok(bytes)
}

/// The canonical text of a number; `None` if the number is not a value of this type.
pub(super) fn format(kind: &ParamKind, raw: u64) -> Option<String> {
    Some(match kind {
        ParamKind::Bytes => format_bytes(raw),
        ParamKind::Size => match percent_of(raw) {
            None => format_bytes(raw),
            Some(ppm) => format_percent(u32::try_from(ppm).ok().filter(|ppm| *ppm <= PPM_ONE)?),
        },
        ParamKind::Ppm => format_percent(u32::try_from(raw).ok()?),
        ParamKind::Duration => format_duration(raw),
        ParamKind::Count => raw.to_string(),
        ParamKind::Bool => match raw {
            0 => "no".to_owned(),
            1 => "yes".to_owned(),
            _ => return None,
        },
        ParamKind::Choice(words) => {
            words.iter().find(|(_, value)| value.cast_unsigned() == raw).map(|(word, _)| word.clone())?
        }
    })
}

/// The parts per million in a [`ParamKind::Size`] that is a percentage.
fn percent_of(raw: u64) -> Option<u64> {
    (raw & SIZE_IS_PPM != 0).then_some(raw & !SIZE_IS_PPM)
}

/// The valid values of a parameter, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Range {
    low: Option<u64>,
    high: Option<u64>,
}

impl Range {
    /// Parses `LOW..HIGH` in the notation of the type. The error is a part of a sentence about the range.
    pub fn parse(kind: &ParamKind, text: Option<&str>) -> Result<Self, String> {
        let mut range = Range::default();
        if let Some(text) = text {
            if matches!(kind, ParamKind::Bool | ParamKind::Choice(_)) {
                return Err("only numbers have a range".to_owned());
            }
            let (low, high) = text.split_once("..").ok_or("it is not written LOW..HIGH")?;
            let side = |side: &str| match side.trim() {
                "" => Ok(None),
                side => parse(kind, side).map(Some).map_err(|error| error.reason),
            };
            range = Range { low: side(low)?, high: side(high)? };
            if let (Some(low), Some(high)) = (range.low, range.high)
                && low > high
            {
                return Err("its low end is above its high end".to_owned());
            }
        }
        // A percentage is at most 100%, unless the range says otherwise.
        if *kind == ParamKind::Ppm && range.high.is_none() {
            range.high = Some(PPM_ONE.into());
        }
        Ok(range)
    }

    /// True if the value is in the range. For sizes, bytes are compared with bytes and percentages with percentages,
    /// because the effective maximum is not known here. Percentages must be at least 0.
    pub fn contains(&self, kind: &ParamKind, raw: u64) -> bool {
        let raw = if *kind == ParamKind::Size && percent_of(raw) == Some(0) && !self.in_percent() {
            0
        } else {
            raw
        };
        let comparable =
            |end: &&u64| *kind != ParamKind::Size || percent_of(**end).is_some() == percent_of(raw).is_some();
        self.low.as_ref().filter(comparable).is_none_or(|low| raw >= *low)
            && self.high.as_ref().filter(comparable).is_none_or(|high| raw <= *high)
    }

    fn in_percent(&self) -> bool {
        [self.low, self.high].into_iter().flatten().any(|end| percent_of(end).is_some())
    }

    /// `values from 1K to 1G`.
    pub fn in_words(&self, kind: &ParamKind) -> String {
        let text = |end: u64| format(kind, end).unwrap_or_default();
        match (self.low, self.high) {
            (Some(low), Some(high)) => format!("values from {} to {}", text(low), text(high)),
            (Some(low), None) => format!("values of at least {}", text(low)),
            (None, Some(high)) => format!("values of at most {}", text(high)),
            (None, None) => match kind {
                ParamKind::Duration => VALID_DURATIONS.to_owned(),
                _ => "all values".to_owned(),
            },
        }
    }
}
