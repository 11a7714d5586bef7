//! Encodes parameters as the policy's `struct NAME_params`, and decodes them, by its schema.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::diagnostic::{Diagnostic, closest_match, join_with_and, truncate};
use super::line::{Arg, Clause};
use super::schema::{ParamSchema, PolicySchema};
use super::value::{self, Range};
use crate::text::printable::{QUOTE_MAX, quote};

pub use super::schema_check::{PARAMS_SIZE_MAX, validate_schema};

/// The parameters of one policy on one cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params {
    /// The policy's `struct NAME_params`, in the machine's byte order; padding is zero.
    pub bytes: Vec<u8>,
    /// All parameters with their values as canonical text, including defaults.
    pub parameters: BTreeMap<String, String>,
}

/// Why bytes are not a policy's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The size is that of another struct, most likely of another version of the policy.
    #[error(
        "the parameters of policy '{policy}' are {got} bytes long, but its schema says {want}: it was replaced by another version"
    )]
    Size {
        /// The policy's name.
        policy: String,
        /// Size of the schema's struct in bytes.
        want: usize,
        /// Size of the data in bytes.
        got: usize,
    },
    /// A number that is not a value of its type.
    #[error("parameter '{param}' of policy '{policy}' holds {raw}, which is not a value of its type")]
    Value {
        /// The policy's name.
        policy: String,
        /// The parameter's name.
        param: String,
        /// The number.
        raw: u64,
    },
}

/// Encodes the parameters of a clause. Errors: unknown and duplicate parameters, missing ones without a default,
/// invalid values and values out of range; all errors are returned, with their columns.
pub fn from_call(schema: &PolicySchema, call: &Clause) -> Result<Params, Vec<Diagnostic>> {
    from_call_partial(schema, call, true)
}

/// As [`from_call`]. If `whole` is false, because the grammar of the line is invalid, missing parameters are not
/// reported.
pub(super) fn from_call_partial(
    schema: &PolicySchema,
    call: &Clause,
    whole: bool,
) -> Result<Params, Vec<Diagnostic>> {
    let policy = policy_of(schema, call);
    let mut errors = Vec::new();
    let mut given: BTreeMap<&str, &Arg> = BTreeMap::new();
    for arg in &call.args {
        if !schema.params.iter().any(|param| param.name == arg.key) {
            errors.push(unknown(schema, &policy, arg));
        } else if given.contains_key(arg.key.as_str()) {
            let message = format!("duplicate parameter '{}' of {policy}", quote(&arg.key, QUOTE_MAX));
            errors.push(Diagnostic::new(&arg.key, message).at(arg.at));
        } else {
            given.insert(&arg.key, arg);
        }
    }
    if schema.size > PARAMS_SIZE_MAX {
        errors.push(
            Diagnostic::new(&schema.name, format!("the parameters of {policy} are too large")).at(call.at),
        );
        return Err(errors);
    }
    let mut params = Params { bytes: vec![0; schema.size], parameters: BTreeMap::new() };
    for param in &schema.params {
        let value = match (given.get(param.name.as_str()), &param.default) {
            (Some(arg), _) => given_value(param, &policy, arg),
            (None, Some(default)) => default_value(param, default).map_err(|why| {
                let message =
                    format!("default '{default}' of parameter '{}' of {policy} is wrong: {why}", param.name);
                Box::new(Diagnostic::new(default, message).at(call.at))
            }),
            // The mistyped name is already reported.
            (None, None) if !whole || errors.iter().any(|f| f.suggestion.as_ref() == Some(&param.name)) => {
                continue;
            }
            (None, None) => {
                let message = format!("missing parameter '{}' of {policy}", param.name);
                Err(Box::new(Diagnostic::new(&call.name, message).at(call.at)))
            }
        };
        match value {
            Err(error) => errors.push(*error),
            Ok(raw) => {
                match store(&mut params.bytes, param, raw).and_then(|()| value::format(&param.kind, raw)) {
                    Some(text) => {
                        params.parameters.insert(param.name.clone(), text);
                    }
                    None => {
                        let message =
                            format!("parameter '{}' of {policy} does not fit its struct", param.name);
                        errors.push(Diagnostic::new(&param.name, message).at(call.at));
                    }
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(params)
    } else {
        errors.sort_by_key(|error| error.at);
        Err(truncate(errors))
    }
}

/// Decodes every parameter to canonical text.
pub fn to_text(schema: &PolicySchema, bytes: &[u8]) -> Result<BTreeMap<String, String>, DecodeError> {
    let size = || DecodeError::Size { policy: schema.name.clone(), want: schema.size, got: bytes.len() };
    if bytes.len() != schema.size {
        return Err(size());
    }
    let mut settings = BTreeMap::new();
    for param in &schema.params {
        let raw = load(bytes, param).ok_or_else(size)?;
        let text = value::format(&param.kind, raw).ok_or_else(|| DecodeError::Value {
            policy: schema.name.clone(),
            param: param.name.clone(),
            raw,
        })?;
        settings.insert(param.name.clone(), text);
    }
    Ok(settings)
}

/// `policy 'deny'`, or with the profile that contains it, because the user did not write the words then.
fn policy_of(schema: &PolicySchema, call: &Clause) -> String {
    match &call.profile {
        None => format!("policy '{}'", schema.name),
        Some(profile) => format!("policy '{}' in profile '{profile}'", schema.name),
    }
}

fn unknown(schema: &PolicySchema, policy: &str, arg: &Arg) -> Diagnostic {
    let names = || schema.params.iter().map(|param| param.name.as_str());
    let error =
        Diagnostic::new(&arg.key, format!("unknown parameter '{}' of {policy}", quote(&arg.key, QUOTE_MAX)))
            .at(arg.at);
    match schema.params.as_slice() {
        [] => Diagnostic { message: format!("{}, which takes none", error.message), ..error },
        _ => error.valid(join_with_and(names())).suggest(closest_match(&arg.key, names())),
    }
}

fn given_value(param: &ParamSchema, policy: &str, arg: &Arg) -> Result<u64, Box<Diagnostic>> {
    let name = &param.name;
    let word = quote(&arg.value, QUOTE_MAX);
    let raw = value::parse(&param.kind, &arg.value).map_err(|error| {
        let message = match arg.value.as_str() {
            "" => format!("parameter '{name}' of {policy} has no value"),
            _ => format!("'{word}' is not valid for parameter '{name}' of {policy}: {}", error.reason),
        };
        Box::new(
            Diagnostic::new(&arg.value, message)
                .at(arg.value_at)
                .valid(error.valid)
                .suggest(error.suggestion),
        )
    })?;
    let range = Range::parse(&param.kind, param.range.as_deref()).map_err(|why| {
        let message = format!("the range of parameter '{name}' of {policy} is wrong: {why}");
        Box::new(Diagnostic::new(&arg.key, message).at(arg.at))
    })?;
    if range.contains(&param.kind, raw) {
        return Ok(raw);
    }
    let message = format!("'{word}' is out of range for parameter '{name}' of {policy}");
    Err(Box::new(Diagnostic::new(&arg.value, message).at(arg.value_at).valid(range.in_words(&param.kind))))
}

/// The number of a default. The error is a part of a sentence. A default may be out of range, such as one that means
/// "off".
pub(super) fn default_value(param: &ParamSchema, default: &str) -> Result<u64, String> {
    value::parse(&param.kind, default).map_err(|error| error.reason)
}

/// Stores a number at the parameter's offset; `None` if it does not fit.
pub(super) fn store(bytes: &mut [u8], param: &ParamSchema, raw: u64) -> Option<()> {
    let end = param.offset.checked_add(param.width)?;
    let place = bytes.get_mut(param.offset..end)?;
    // The enumerator may be negative: the upper bits are then all ones.
    let signed = i128::from(raw.cast_signed());
    let number = if signed < 0 && param.width < 8 { signed } else { i128::from(raw) };
    match param.width {
        8 => place.copy_from_slice(&raw.to_ne_bytes()),
        4 => place.copy_from_slice(
            &try_narrow(number, u32::try_from, |n| i32::try_from(n).map(i32::cast_unsigned))?.to_ne_bytes(),
        ),
        2 => place.copy_from_slice(
            &try_narrow(number, u16::try_from, |n| i16::try_from(n).map(i16::cast_unsigned))?.to_ne_bytes(),
        ),
        1 => place.copy_from_slice(
            &try_narrow(number, u8::try_from, |n| i8::try_from(n).map(i8::cast_unsigned))?.to_ne_bytes(),
        ),
        _ => return None,
    }
    Some(())
}

/// The number as an unsigned or, if it is negative, as a signed one of the same width.
fn try_narrow<T, E>(
    number: i128,
    plain: impl Fn(i128) -> Result<T, E>,
    signed: impl Fn(i128) -> Result<T, E>,
) -> Option<T> {
    plain(number).or_else(|_| signed(number)).ok()
}

/// Loads the number at the parameter's offset. A narrow number is sign-extended if one of the choices is negative.
fn load(bytes: &[u8], param: &ParamSchema) -> Option<u64> {
    let end = param.offset.checked_add(param.width)?;
    let place = bytes.get(param.offset..end)?;
    let (unsigned, signed): (u64, i64) = match param.width {
        8 => return Some(u64::from_ne_bytes(place.try_into().ok()?)),
        4 => (
            u32::from_ne_bytes(place.try_into().ok()?).into(),
            i32::from_ne_bytes(place.try_into().ok()?).into(),
        ),
        2 => (
            u16::from_ne_bytes(place.try_into().ok()?).into(),
            i16::from_ne_bytes(place.try_into().ok()?).into(),
        ),
        1 => (
            u8::from_ne_bytes(place.try_into().ok()?).into(),
            i8::from_ne_bytes(place.try_into().ok()?).into(),
        ),
        _ => return None,
    };
    let negative = value::format(&param.kind, unsigned).is_none();
    Some(if negative { signed.cast_unsigned() } else { unsigned })
}

/// All names that occur twice.
pub(super) fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
