//! Foreign text made printable. The one rule for whatever comes from outside (names, annotations, unit files, errors of
//! other programs) before it reaches a terminal, a log or a file: each character that is written takes at least one column
//! and shows itself. All others are escaped: controls, formats such as bidirectional overrides and tags, separators of
//! lines and paragraphs, spaces other than U+0020, combining and ignorable characters, private and unassigned ones.

use unicode_width::UnicodeWidthChar;

/// Characters quoted of a word.
pub const QUOTE_MAX: usize = 64;
/// Characters quoted of a path or another location.
pub const QUOTE_PATH_MAX: usize = 1024;
/// Characters quoted of a parser's error, which can quote a whole document.
pub const QUOTE_ERROR_MAX: usize = 160;
/// Characters quoted of a message that quotes foreign text itself.
pub const QUOTE_MESSAGE_MAX: usize = 2000;

/// Text of several lines: line feeds stay.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if c == '\n' { out.push(c) } else { push(&mut out, c) });
    out
}

/// Text on one line: line feeds are escaped too, so that it cannot pretend to be another line.
pub fn escape_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// The first `max` characters of a text on one line, with `…` in place of the rest.
pub fn quote(text: &str, max: usize) -> String {
    let mut rest = text.chars();
    let mut out = String::new();
    rest.by_ref().take(max).for_each(|c| push(&mut out, c));
    if rest.next().is_some() {
        out.push('…');
    }
    out
}

/// A JSON document, with JSON's own escapes, so that it has the same value. Line feeds are kept.
pub fn escape_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if c == '\n' || is_printable(c) {
            out.push(c);
        } else {
            // A character beyond U+FFFF is written as two escapes.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Columns that printable text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).fold(0, usize::saturating_add)
}

fn push(out: &mut String, c: char) {
    if is_printable(c) {
        out.push(c);
        return;
    }
    match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        _ => out.extend(c.escape_unicode()),
    }
}

/// True if a terminal displays the character as itself.
fn is_printable(c: char) -> bool {
    // These two are letters and symbols by their category, but displayed as blanks.
    const BLANK: [char; 2] = ['\u{115f}', '\u{2800}'];
    // Quotes and backslashes are harmless in a sentence, and easier to read as they are. All others that the standard
    // library escapes for debugging are control, format, separator, combining, private or unassigned characters.
    let shown = matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1;
    shown && !BLANK.contains(&c) && c.width().is_some_and(|width| width > 0)
}

#[cfg(test)]
/// Ranges of characters that a terminal interprets, hides or reorders.
pub(crate) const HOSTILE: [(char, char); 29] = [
    ('\0', '\t'),
    ('\u{b}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{1fffe}', '\u{1ffff}'),
    ('\u{e0000}', '\u{10ffff}'),
];

/// The hostile characters that `escape` leaves in a text.
#[cfg(test)]
pub(crate) fn passed(escape: impl Fn(&str) -> String) -> Vec<String> {
    let mut passed = Vec::new();
    for c in HOSTILE.into_iter().flat_map(|(first, last)| first..=last) {
        if escape(&format!("a{c}b")).contains(c) {
            passed.push(format!("U+{:04X}", u32::from(c)));
        }
    }
    let more = passed.len().saturating_sub(40);
    passed.truncate(40);
    if more > 0 {
        passed.push(format!("and {more} more"));
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_escapes_hostile_characters() {
        let none: Vec<String> = Vec::new();
        assert_eq!(passed(escape), none);
        assert_eq!(passed(escape_line), none);
        assert_eq!(passed(|text| quote(text, QUOTE_MAX)), none);
        assert_eq!(passed(|text| escape_json(&serde_json::to_string(text).unwrap())), none);
    }

    #[test]
    fn printable_characters_have_width() {
        for c in ('\0'..=char::MAX).filter(|c| is_printable(*c)) {
            assert!(!c.is_control() && (c == ' ' || !c.is_whitespace()), "{c:?}");
            assert!((1..=3).contains(&width(&c.to_string())), "{c:?}");
        }
        for text in ["a b", "it's \"x\" \\x2d", "äß…→", "ア行", "עברית", "🦀"] {
            assert_eq!(escape_line(text), text);
        }
        assert_eq!(width("aア🦀"), 5);
    }

    #[test]
    fn line_feed_stays_in_text_of_several_lines() {
        let text = "a\nb\r\t\u{1b}[2J\u{e0041}";
        assert_eq!(escape(text), "a\nb\\r\\t\\u{1b}[2J\\u{e0041}");
        assert_eq!(escape_line(text), "a\\nb\\r\\t\\u{1b}[2J\\u{e0041}");
        assert_eq!(quote("a\nbc", 3), "a\\nb…");
        assert_eq!(quote("a\nb", 3), "a\\nb");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let text: String = HOSTILE.iter().flat_map(|(first, last)| [*first, *last]).collect();
        let document = escape_json(&serde_json::to_string_pretty(&[&text]).unwrap());
        assert!(document.contains("\\u061c") && document.contains("\\udb40\\udc00"), "{document}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&document).unwrap(), [text]);
    }
}
