//! The grammar of policy lines. Policies and parameters are not looked up.
//!
//! ```text
//! line   = "" | "none" | policy { ";" policy }
//! policy = name { key "=" value }
//! ```
//!
//! Words are quoted as in systemd: '…' and "…" anywhere in a word, and backslash escapes as in C. A backslash before
//! a space or a `;` makes it a part of the word.

use std::iter::Peekable;

use super::diagnostic::{Diagnostic, truncate};
use super::lexer::{self, Token, Word};
use crate::text::printable::{QUOTE_MAX, quote};

/// Longest policy line in bytes.
pub const LINE_BYTES_MAX: usize = 4096;

/// Largest number of policies in one line.
pub const POLICIES_PER_LINE_MAX: usize = 16;

/// A parsed policy line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Empty or `none`: no policy. Discards the requests of lower origins.
    None,
    /// Policies or profiles; at least one.
    Clauses(Vec<Clause>),
}

/// A policy or profile with its parameters, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The name of a policy or profile; not looked up.
    pub name: String,
    /// The parameters in the order of the text; keys may repeat.
    pub args: Vec<Arg>,
    /// Byte position of the name in the line.
    pub at: usize,
    /// The profile from which this clause was expanded.
    pub profile: Option<String>,
}

/// One `key=value`, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The key; not empty.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
    /// Byte position of the key in the line.
    pub at: usize,
    /// Byte position of the value in the line.
    pub value_at: usize,
}

/// Parses a policy line. Returns all errors at once.
pub fn parse(text: &str) -> Result<Line, Vec<Diagnostic>> {
    let (calls, errors) = read(text);
    if !errors.is_empty() {
        return Err(truncate(errors));
    }
    match calls.as_slice() {
        [] => Ok(Line::None),
        [only] if only.name == "none" => Ok(Line::None),
        _ => Ok(Line::Clauses(calls)),
    }
}

/// The text of each clause of a line, without the `;` between them.
pub fn clause_texts(line: &str, clauses: &[Clause]) -> Vec<String> {
    let ends = clauses.iter().skip(1).map(|next| next.at).chain([line.len()]);
    let count = clauses.len();
    clauses
        .iter()
        .zip(ends)
        .enumerate()
        .map(|(index, (clause, end))| {
            let text = line.get(clause.at..end).unwrap_or(line);
            if index.saturating_add(1) < count { without_separator(text) } else { text }.to_owned()
        })
        .collect()
}

/// A policy's text without the `;` that follows it and the space around that.
fn without_separator(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t']);
    let text = text.strip_suffix(';').unwrap_or(text);
    let trimmed = text.trim_end_matches([' ', '\t']);
    // A space after a backslash belongs to the value.
    if trimmed.ends_with('\\') { text } else { trimmed }
}

/// The calls in a line as far as they can be made out, and what is wrong with the grammar. The rest of a line with
/// errors can then be checked too.
pub(super) fn read(text: &str) -> (Vec<Clause>, Vec<Diagnostic>) {
    if text.len() > LINE_BYTES_MAX {
        let message = format!("the line is {} bytes long, and the maximum is {LINE_BYTES_MAX}", text.len());
        return (Vec::new(), vec![Diagnostic::new(text, message)]);
    }
    let (mut tokens, mut errors) = lexer::tokenize(text);
    if let Some((comment, error)) = trailing_comment(text, &tokens) {
        tokens.truncate(comment);
        // An apostrophe in a comment is no open quote.
        errors.retain(|other| other.at < error.at);
        errors.push(error);
    }
    let mut calls: Vec<Clause> = Vec::new();
    // The side of a `;` on which a policy is expected next, and the position of the last `;`.
    let mut open: Option<&str> = Some("before");
    let mut semicolon = 0;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Semicolon { at } => {
                if let Some(side) = open {
                    errors.push(missing_name(at, side));
                }
                open = Some("before");
                semicolon = at;
            }
            Token::Word(word) if open.is_some() => {
                open = None;
                let is_open_quote = errors.iter().any(|error| error.at == Some(word.at));
                if let Some(error) = quoted_clause(text, &word).filter(|_| !is_open_quote) {
                    errors.push(error);
                } else if let Some((key, _)) = word.text.split_once(is_not_in_name) {
                    let message =
                        format!("expected the name of a policy, found '{}'", quote(&word.text, QUOTE_MAX));
                    errors.push(Diagnostic::new(key, message).at(word.at));
                }
                calls.push(Clause { name: word.text, args: Vec::new(), at: word.at, profile: None });
            }
            Token::Word(word) => match (argument(word, &mut tokens), calls.last_mut()) {
                (Ok(arg), Some(call)) => call.args.push(arg),
                (Ok(_), None) => {}
                (Err(error), _) => errors.push(*error),
            },
        }
    }
    if open.is_some() && !calls.is_empty() {
        errors.push(missing_name(semicolon, "after"));
    }
    errors.extend(none_with_others(&calls));
    if let Some(call) = calls.get(POLICIES_PER_LINE_MAX) {
        let message =
            format!("the line has {} policies, and the maximum is {POLICIES_PER_LINE_MAX}", calls.len());
        errors.push(Diagnostic::new(&call.name, message).at(call.at));
        // The line is rejected in any case, so further policies are not looked up.
        calls.truncate(POLICIES_PER_LINE_MAX);
    }
    errors.sort_by_key(|error| error.at);
    (calls, errors)
}

/// Parses `key=value`. `tokens` are those after the word.
fn argument(word: Word, tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Result<Arg, Box<Diagnostic>> {
    let written = quote(&word.text, QUOTE_MAX);
    let fail = |message: String| Diagnostic::new(&word.text, message).at(word.at);
    match word.text.split_once('=') {
        Some(("", _)) => Err(Box::new(fail(format!("'{written}' has no key before the '='")))),
        Some((key, value)) => Ok(Arg {
            key: key.to_owned(),
            value: value.to_owned(),
            at: word.at,
            value_at: word.value_at.unwrap_or(word.at),
        }),
        // `limit = 64M` is reported as one error.
        None if tokens.next_if(|token| matches!(token, Token::Word(w) if w.text == "=")).is_some() => {
            let meant = match tokens.next_if(|token| matches!(token, Token::Word(_))) {
                Some(Token::Word(value)) => Some(format!("{written}={}", quote(&value.text, QUOTE_MAX))),
                _ => None,
            };
            let message = format!("'{written}' has a space between the key and its '='");
            Err(Box::new(fail(message).suggest(meant)))
        }
        None => {
            let message = format!(
                "'{written}' is not of the form key=value; to add another policy, separate it with ';'"
            );
            Err(Box::new(fail(message)))
        }
    }
}

/// A comment behind a policy line, which neither unit files nor annotations have: the index of its first token.
fn trailing_comment(text: &str, tokens: &[Token]) -> Option<(usize, Diagnostic)> {
    tokens.iter().enumerate().find_map(|(index, token)| {
        let Token::Word(word) = token else { return None };
        let rest = text.get(word.at..).filter(|rest| rest.starts_with('#'))?;
        let message = format!(
            "a comment cannot stand in a policy line; remove '{}'",
            quote(rest.trim_end(), QUOTE_MAX)
        );
        Some((index, Diagnostic::new(rest, message).at(word.at)))
    })
}

/// `"deny limit=64M"`: quotes that make one word of a policy and its parameters.
fn quoted_clause(text: &str, word: &Word) -> Option<Diagnostic> {
    let is_quoted = text.get(word.at..)?.starts_with(['"', '\'']) && word.text.contains(char::is_whitespace);
    let written = quote(&word.text, QUOTE_MAX);
    let message = format!("the quotes make '{written}' one word; remove the quotes");
    is_quoted.then(|| Diagnostic::new(&word.text, message).at(word.at))
}

/// No policy's name contains these, however they are quoted.
pub(super) fn is_not_in_name(c: char) -> bool {
    c == '=' || c.is_whitespace()
}

fn missing_name(at: usize, side: &str) -> Diagnostic {
    Diagnostic::new(";", format!("missing policy {side} ';'")).at(at)
}

fn none_with_others(calls: &[Clause]) -> Option<Diagnostic> {
    let none = calls.iter().find(|call| call.name == "none")?;
    if calls.len() > 1 {
        Some(Diagnostic::new("none", "'none' cannot be combined with other policies").at(none.at))
    } else if none.args.is_empty() {
        None
    } else {
        Some(Diagnostic::new("none", "'none' takes no parameters").at(none.at))
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
