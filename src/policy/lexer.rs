//! Splits a policy line into words, with quotes and escapes as in systemd's unit files.

use std::iter::Peekable;
use std::str::CharIndices;

use super::diagnostic::Diagnostic;
use crate::text::printable::{self, QUOTE_MAX};

/// A word, unquoted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    /// Byte position of its first character or quote.
    pub at: usize,
    /// Byte position after its first `=`.
    pub value_at: Option<usize>,
}

/// A word, or a `;` between policies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Semicolon { at: usize },
}

type Chars<'a> = Peekable<CharIndices<'a>>;

/// All tokens, and the errors of quoting. An invalid escape is kept in the word.
pub(super) fn tokenize(text: &str) -> (Vec<Token>, Vec<Diagnostic>) {
    let mut tokens = Vec::new();
    let mut errors = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.peek().copied() {
        match c {
            _ if is_space(c) => {
                chars.next();
            }
            ';' => {
                chars.next();
                tokens.push(Token::Semicolon { at });
            }
            _ => tokens.push(Token::Word(word(at, &mut chars, &mut errors))),
        }
    }
    (tokens, errors)
}

/// The white space that separates words, as in systemd.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn word(at: usize, chars: &mut Chars<'_>, errors: &mut Vec<Diagnostic>) -> Word {
    let mut word = Word { text: String::new(), at, value_at: None };
    let mut quote: Option<(char, usize)> = None;
    while let Some((at, c)) = chars.peek().copied() {
        if quote.is_none() && (is_space(c) || c == ';') {
            break;
        }
        chars.next();
        match (c, quote) {
            ('\\', _) => match escape(chars) {
                Ok(c) => word.text.push(c),
                Err(written) => {
                    let message = match written.as_str() {
                        "" => "the line ends in a backslash".to_owned(),
                        _ => format!("invalid escape '\\{}'", printable::quote(&written, QUOTE_MAX)),
                    };
                    let error = Diagnostic::new(&format!("\\{written}"), message).at(at);
                    errors.push(
                        error.valid("\\\\ \\' \\\" \\; \\s \\n \\t \\x2d and the other escapes of systemd"),
                    );
                    word.text.push('\\');
                    word.text.push_str(&written);
                }
            },
            (_, Some((open, _))) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some((c, at)),
            _ => {
                if c == '=' && word.value_at.is_none() {
                    word.value_at = Some(at.saturating_add(1));
                }
                word.text.push(c);
            }
        }
    }
    if let Some((open, at)) = quote {
        let message = format!("missing closing quote {open}");
        errors.push(Diagnostic::new(&open.to_string(), message).at(at));
    }
    word
}

/// The character of an escape sequence after the backslash; its text if it is invalid.
fn escape(chars: &mut Chars<'_>) -> Result<char, String> {
    let Some((_, c)) = chars.next() else {
        return Err(String::new());
    };
    let plain = match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        's' => ' ',
        '\\' | '"' | '\'' | ' ' | '\t' | ';' => c,
        'x' => return number(c.to_string(), 16, 2, chars),
        'u' => return number(c.to_string(), 16, 4, chars),
        'U' => return number(c.to_string(), 16, 8, chars),
        '0'..='7' => {
            let first = c.to_digit(8).unwrap_or(0);
            return match number(c.to_string(), 8, 2, chars) {
                // The first digit is already read, and has the value 64.
                Ok(low) => char::from_u32(first.saturating_mul(64).saturating_add(low.into()))
                    .filter(|c| c.is_ascii() && *c != '\0')
                    .ok_or_else(|| format!("{first}{:02o}", u32::from(low))),
                Err(written) => Err(written),
            };
        }
        other => return Err(other.to_string()),
    };
    Ok(plain)
}

/// The character with the code of `digits` digits of base `radix`; its text if it is invalid. Escapes of single bytes
/// of UTF-8 are not supported, because such characters can be written directly.
fn number(mut written: String, radix: u32, digits: usize, chars: &mut Chars<'_>) -> Result<char, String> {
    let octal = radix == 8;
    let mut value: u32 = 0;
    for _ in 0..digits {
        let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(radix)) else {
            return Err(written);
        };
        if let Some((_, c)) = chars.next() {
            written.push(c);
        }
        value = value.saturating_mul(radix).saturating_add(digit);
    }
    let bytes = octal || digits == 2;
    match char::from_u32(value) {
        // The caller for octal escapes adds a digit, so zero is still valid here.
        Some(c) if octal || (value != 0 && (!bytes || c.is_ascii())) => Ok(c),
        _ => Err(written),
    }
}
