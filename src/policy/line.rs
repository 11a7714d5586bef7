//! The policy line's grammar. Knows quoting, policies and parameters, but no policy by name.
//!
//! ```text
//! line   = "" | "none" | policy { ";" policy }
//! policy = name { key "=" value }
//! ```
//!
//! Words are quoted as in systemd: '…' and "…" anywhere in a word, backslash escapes as in C, and a backslash before a
//! space or a `;` takes its meaning away.

use super::fault::{Fault, cap, shown};
use super::word::{self, Token};

/// Longest policy line in bytes: as much as a person can still read, and far more than 16 policies need.
pub const LINE_BYTES_MAX: usize = 4096;

/// Policies in one line: each is a program the kernel runs, and there are not that many different ones.
pub const LINE_POLICIES_MAX: usize = 16;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Empty or `none`: no policy, and whatever lower origins asked for is discarded.
    None,
    /// These policies or profiles; at least one.
    Calls(Vec<Call>),
}

/// A name with its parameters, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// A policy's or a profile's name; not yet looked up.
    pub name: String,
    /// In the order written; keys may repeat.
    pub args: Vec<Arg>,
    /// Byte position of the name in the line.
    pub at: usize,
    /// The profile this call comes from, once profiles are expanded.
    pub profile: Option<String>,
}

/// One `key=value`, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Never empty.
    pub key: String,
    /// May be empty.
    pub value: String,
    /// Byte position of the key in the line.
    pub at: usize,
    /// Byte position of the value in the line.
    pub value_at: usize,
}

/// Parses a policy line; all that is wrong with it is told at once.
pub fn parse(text: &str) -> Result<Line, Vec<Fault>> {
    if text.len() > LINE_BYTES_MAX {
        return Err(vec![Fault::new(
            text,
            format!("the line is {} bytes long, and {LINE_BYTES_MAX} are the most", text.len()),
        )]);
    }
    let (tokens, mut faults) = word::tokens(text);
    if tokens.is_empty() && faults.is_empty() {
        return Ok(Line::None);
    }
    let mut calls: Vec<Call> = Vec::new();
    // Where the policy that is expected next would stand, and after what.
    let mut open: Option<&str> = Some("before");
    let mut semicolon = 0;
    for token in tokens {
        match token {
            Token::Semicolon { at } => {
                if let Some(side) = open {
                    faults.push(missing_name(at, side));
                }
                open = Some("before");
                semicolon = at;
            }
            Token::Word(word) if open.is_some() => {
                open = None;
                if let Some((key, _)) = word.text.split_once('=') {
                    let message = format!("'{}' stands where a policy's name is expected", shown(&word.text));
                    faults.push(Fault::new(key, message).at(word.at));
                }
                calls.push(Call { name: word.text, args: Vec::new(), at: word.at, profile: None });
            }
            Token::Word(word) => match word.text.split_once('=') {
                Some(("", _)) => {
                    let message = format!("'{}' has no key before the '='", shown(&word.text));
                    faults.push(Fault::new(&word.text, message).at(word.at));
                }
                Some((key, value)) => {
                    let arg = Arg {
                        key: key.to_owned(),
                        value: value.to_owned(),
                        at: word.at,
                        value_at: word.value_at.unwrap_or(word.at),
                    };
                    if let Some(call) = calls.last_mut() {
                        call.args.push(arg);
                    }
                }
                None => {
                    let message = format!(
                        "'{}' is not written key=value; a further policy needs a ';' before it",
                        shown(&word.text)
                    );
                    faults.push(Fault::new(&word.text, message).at(word.at));
                }
            },
        }
    }
    if open.is_some() && !calls.is_empty() {
        faults.push(missing_name(semicolon, "after"));
    }
    faults.extend(none_with_others(&calls));
    if let Some(call) = calls.get(LINE_POLICIES_MAX) {
        let message = format!("the line has {} policies, and {LINE_POLICIES_MAX} are the most", calls.len());
        faults.push(Fault::new(&call.name, message).at(call.at));
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.at);
        return Err(cap(faults));
    }
    match calls.as_slice() {
        [only] if only.name == "none" => Ok(Line::None),
        _ => Ok(Line::Calls(calls)),
    }
}

fn missing_name(at: usize, side: &str) -> Fault {
    Fault::new(";", format!("there is no policy {side} this ';'")).at(at)
}

fn none_with_others(calls: &[Call]) -> Option<Fault> {
    let none = calls.iter().find(|call| call.name == "none")?;
    if calls.len() > 1 {
        Some(Fault::new("none", "'none' stands alone in a line, without other policies").at(none.at))
    } else if none.args.is_empty() {
        None
    } else {
        Some(Fault::new("none", "'none' takes no parameters").at(none.at))
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
