//! Checks schemas, so that errors of a custom policy are reported when it is loaded, not when it is first used.

use super::diagnostic::Diagnostic;
use super::params::{default_value, duplicates, store};
use super::schema::{ParamKind, ParamSchema, PolicySchema};
use super::value::Range;
use crate::text::printable::{QUOTE_MAX, quote};

/// Largest `struct NAME_params` in bytes. It is a part of every slot of the policy's map.
pub const PARAMS_SIZE_MAX: usize = 4096;

/// Longest name of a policy, a parameter or a profile, in bytes.
const NAME_MAX: usize = 64;

/// All errors of a schema: invalid names, sizes and offsets, and defaults and ranges that do not parse.
pub fn validate_schema(schema: &PolicySchema) -> Vec<Diagnostic> {
    let place = format!("policy '{}'", quote(&schema.name, QUOTE_MAX));
    let mut errors = Vec::new();
    let mut error =
        |word: &str, message: String| errors.push(Diagnostic::new(word, message).in_location(&place));
    if !is_name(&schema.name) {
        error(&schema.name, "its name is not made of lower-case letters, digits, '-' and '_'".to_owned());
    }
    if schema.name == "none" {
        error(&schema.name, "'none' means no policy and cannot be the name of one".to_owned());
    }
    if schema.size > PARAMS_SIZE_MAX {
        let message =
            format!("its parameters are {} bytes long, and the maximum is {PARAMS_SIZE_MAX}", schema.size);
        error(&schema.name, message);
    }
    for name in duplicates(schema.params.iter().map(|param| param.name.as_str())) {
        error(name, format!("parameter '{}' is declared twice", quote(name, QUOTE_MAX)));
    }
    for param in &schema.params {
        for (word, what) in check_param(param, schema.size) {
            error(&word, format!("parameter '{}': {what}", quote(&param.name, QUOTE_MAX)));
        }
    }
    let mut places: Vec<(usize, usize, &str)> =
        schema.params.iter().map(|p| (p.offset, p.offset.saturating_add(p.width), p.name.as_str())).collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            error(
                second,
                format!(
                    "parameters '{}' and '{}' overlap",
                    quote(first, QUOTE_MAX),
                    quote(second, QUOTE_MAX)
                ),
            );
        }
    }
    errors
}

/// The error of one parameter: the offending word and the message.
fn check_param(param: &ParamSchema, size: usize) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    if !is_name(&param.name) {
        wrong.push((
            param.name.clone(),
            "its name is not made of lower-case letters, digits, '-' and '_'".to_owned(),
        ));
    }
    if param.offset.checked_add(param.width).is_none_or(|end| end > size) {
        wrong.push((param.name.clone(), format!("it is beyond the {size} bytes of the struct")));
    }
    let mut numbers = Vec::new();
    if let ParamKind::Choice(words) = &param.kind {
        if words.is_empty() {
            wrong.push((param.name.clone(), "its enumeration is empty".to_owned()));
        }
        for (word, _) in words.iter().filter(|(word, _)| !is_word(word)) {
            let what = format!(
                "the choice '{}' is not made of lower-case letters, digits and '-'",
                quote(word, QUOTE_MAX)
            );
            wrong.push((word.clone(), what));
        }
        for word in duplicates(words.iter().map(|(word, _)| word.as_str())) {
            wrong.push((word.to_owned(), format!("the choice '{}' occurs twice", quote(word, QUOTE_MAX))));
        }
        numbers.extend(words.iter().map(|(_, number)| number.cast_unsigned()));
    } else if param.width != 8 {
        wrong.push((param.name.clone(), format!("it is {} bytes wide instead of 8", param.width)));
    }
    match Range::parse(&param.kind, param.range.as_deref()) {
        Ok(_) => {}
        Err(why) => {
            let text = param.range.clone().unwrap_or_default();
            let message = format!("its range '{}' is wrong: {why}", quote(&text, QUOTE_MAX));
            wrong.push((text, message));
        }
    }
    if let Some(default) = &param.default {
        match default_value(param, default) {
            Ok(raw) => numbers.push(raw),
            Err(why) => {
                wrong.push((
                    default.clone(),
                    format!("its default '{}' is wrong: {why}", quote(default, QUOTE_MAX)),
                ));
            }
        }
    }
    // The check of widths does not depend on the offset.
    let alone = ParamSchema { offset: 0, ..param.clone() };
    let mut space = vec![0; param.width.min(8)];
    if param.width > 8 || numbers.iter().any(|raw| store(&mut space, &alone, *raw).is_none()) {
        wrong.push((param.name.clone(), format!("its values do not fit {} bytes", param.width)));
    }
    wrong
}

/// `[a-z][a-z0-9_-]*`, at most 64 bytes.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// A choice may begin with a digit, because enumerators may have a digit after their common prefix.
fn is_word(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
