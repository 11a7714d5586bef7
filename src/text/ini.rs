//! Parses files in systemd's syntax: sections, assignments, comments and continued lines, as systemd does. systemd
//! stops at a header without `]` and at a line that is too long; here the caller decides.

/// Longest line, with its continuations, that systemd reads (its LONG_LINE_MAX), in bytes.
pub const LINE_MAX: usize = 1024 * 1024;

/// systemd's white space.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A section header: the name.
    Section(String),
    /// A section header without `]`: the line.
    OpenSection(String),
    /// `KEY=VALUE`, without the white space around both.
    Assignment(String, String),
    /// Another line.
    Other(String),
    /// A line of more than [`LINE_MAX`] bytes, which ends the text.
    TooLong,
}

/// The items of a text, each with the number of the line on which it begins, from 1. Comments and empty lines are
/// dropped.
pub fn items(text: &str) -> Items<'_> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Items { lines: Lines(text), number: 0, ended: false }
}

/// See [`items`].
#[derive(Debug, Clone)]
pub struct Items<'a> {
    lines: Lines<'a>,
    /// The number of the line read last.
    number: usize,
    ended: bool,
}

impl Iterator for Items<'_> {
    type Item = (usize, Item);

    fn next(&mut self) -> Option<(usize, Item)> {
        let (mut logical, mut begins) = (String::new(), 0);
        while !self.ended {
            let Some(physical) = self.lines.next() else {
                self.ended = true;
                break;
            };
            self.number = self.number.saturating_add(1);
            if physical.len().saturating_add(logical.len()) > LINE_MAX {
                self.ended = true;
                return Some((self.number, Item::TooLong));
            }
            // Comments may occur between the parts of a continued line.
            if physical.trim_start_matches(SPACE).starts_with(['#', ';']) {
                continue;
            }
            if logical.is_empty() {
                begins = self.number;
            }
            logical.push_str(physical);
            if ends_in_backslash(&logical) {
                logical.pop();
                logical.push(' ');
                continue;
            }
            if let Some(item) = item(&logical) {
                return Some((begins, item));
            }
            logical.clear();
        }
        item(&logical).map(|item| (begins, item))
    }
}

/// Parses a logical line; `None` if it is empty.
fn item(line: &str) -> Option<Item> {
    let line = line.trim_matches(SPACE);
    if line.is_empty() {
        return None;
    }
    if let Some(header) = line.strip_prefix('[') {
        return Some(match header.strip_suffix(']') {
            Some(name) => Item::Section(name.to_owned()),
            None => Item::OpenSection(line.to_owned()),
        });
    }
    Some(match line.split_once('=') {
        Some((key, value)) => {
            Item::Assignment(key.trim_matches(SPACE).to_owned(), value.trim_matches(SPACE).to_owned())
        }
        None => Item::Other(line.to_owned()),
    })
}

/// True if the last character is a backslash that is not escaped.
fn ends_in_backslash(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Lines as in systemd: `\n`, `\r` and `\0` end a line, and a sequence of different ones ends only one line.
#[derive(Debug, Clone)]
struct Lines<'a>(&'a str);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (line, mut rest) = match self.0.find(['\n', '\r', '\0']) {
            Some(end) => self.0.split_at(end),
            None => (self.0, ""),
        };
        let mut seen: Vec<char> = Vec::with_capacity(3);
        while let Some(end) =
            rest.chars().next().filter(|c| matches!(c, '\n' | '\r' | '\0') && !seen.contains(c))
        {
            rest = rest.get(1..).unwrap_or("");
            seen.push(end);
            if end == '\0' {
                break;
            }
        }
        self.0 = rest;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_joined_as_systemd_does() {
        let text = "\u{feff}# x\n[A]\r\n k = v w \n\nx=a \\\n; y\n  b\\\\\n[B\nz\r[X-C]\nq=1\\";
        let found: Vec<(usize, Item)> = items(text).collect();
        let assignment = |key: &str, value: &str| Item::Assignment(key.to_owned(), value.to_owned());
        assert_eq!(
            found,
            [
                (2, Item::Section("A".to_owned())),
                (3, assignment("k", "v w")),
                (5, assignment("x", "a    b\\\\")),
                (8, Item::OpenSection("[B".to_owned())),
                (9, Item::Other("z".to_owned())),
                (10, Item::Section("X-C".to_owned())),
                (11, assignment("q", "1")),
            ]
        );
    }

    #[test]
    fn line_that_is_too_long_ends_the_file() {
        let text = format!("a=1\nb={}\nc=2\n", "x".repeat(LINE_MAX));
        let found: Vec<(usize, Item)> = items(&text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], (2, Item::TooLong));
        assert_eq!(items(&"b=\\\n".repeat(LINE_MAX)).last().unwrap().1, Item::TooLong);
        assert_eq!(items("").next(), None);
        assert_eq!(items("\\").next(), None);
    }
}
