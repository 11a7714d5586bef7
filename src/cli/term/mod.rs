//! Terminal output: escapes control characters, fits tables.

pub(in crate::cli) mod time;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::text::printable::{self, width};

/// Minimum width. Lines are wrapped by a narrower terminal.
const MIN_WIDTH: usize = 40;
/// Space between two columns.
const GAP: usize = 2;

/// The properties of the output.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cli) struct Terminal {
    /// Width of the terminal in columns; `None` if the output is a file or a pipe.
    pub width: Option<usize>,
    /// True if colours are enabled.
    pub colour: bool,
}

/// The style of a whole line if colours are enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    Bold,
    Green,
    Yellow,
    Red,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Bold => "1",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Red => "31",
        }
    }
}

impl Terminal {
    pub fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: any value, if it is not empty.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        Terminal { width: terminal.then(columns).flatten(), colour: terminal && wanted }
    }

    /// Width of text: at most 100 columns, for readability.
    pub fn text_width(&self) -> usize {
        self.width.unwrap_or(100).clamp(MIN_WIDTH, 100)
    }
}

/// Width of the terminal: `COLUMNS`, else as reported by the terminal.
fn columns() -> Option<usize> {
    let from_env = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    from_env
        .or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .filter(|&width: &usize| width > 0)
}

/// Writes to standard output. A closed pipe is not an error.
pub(in crate::cli) fn print(text: &str) {
    let _ = io::stdout().lock().write_all(escape(text).as_bytes());
}

/// As [`print`], with coloured lines if colours are enabled. Colours are added after escaping.
pub(in crate::cli) fn print_styled(text: &str, terminal: &Terminal, paint: fn(&str) -> Option<Style>) {
    if !terminal.colour {
        return print(text);
    }
    let _ = io::stdout().lock().write_all(colorize(text, paint).as_bytes());
}

fn colorize(text: &str, paint: fn(&str) -> Option<Style>) -> String {
    let one = |line: &str| match paint(line) {
        Some(paint) => format!("\u{1b}[{}m{line}\u{1b}[0m\n", paint.code()),
        None => format!("{line}\n"),
    };
    escape(text).lines().map(one).collect()
}

/// Writes to standard error.
pub(in crate::cli) fn eprint(text: &str) {
    let _ = io::stderr().lock().write_all(escape(text).as_bytes());
}

/// Escapes all characters that are not printable, except line feeds.
fn escape(text: &str) -> String {
    printable::escape(text)
}

/// Escapes foreign text to one line.
pub(in crate::cli) fn escape_line(text: &str) -> String {
    printable::escape_line(text)
}

/// An indented JSON document with a final line feed. Control characters that JSON allows are escaped too.
pub(in crate::cli) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(escape_json(&serde_json::to_string_pretty(value)?))
}

/// A JSON document on one line.
pub(in crate::cli) fn json_line<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(escape_json(&serde_json::to_string(value)?))
}

fn escape_json(text: &str) -> String {
    printable::escape_json(text) + "\n"
}

/// Wraps words at `columns` columns, with `indent` spaces before each line. A longer word is not broken.
pub(in crate::cli) fn wrap(text: &str, indent: usize, columns: usize) -> String {
    let margin = " ".repeat(indent);
    let mut out = String::new();
    let mut used = 0_usize;
    for word in escape_line(text).split(' ').filter(|word| !word.is_empty()) {
        let length = width(word);
        if used > 0 && used.saturating_add(length).saturating_add(1) > columns {
            out.push('\n');
            used = 0;
        }
        if used == 0 {
            out.push_str(&margin);
            used = indent;
        } else {
            out.push(' ');
            used = used.saturating_add(1);
        }
        out.push_str(word);
        used = used.saturating_add(length);
    }
    out.push('\n');
    out
}

/// Formats rows in columns as wide as their widest cell. On a terminal, the cells of the last column are ellipsized
/// in the middle.
/// in the middle.
pub(in crate::cli) fn table(rows: &[Vec<String>], terminal: &Terminal) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let before: usize = widths.iter().take(columns.saturating_sub(1)).map(|w| w.saturating_add(GAP)).sum();
    let room = terminal.width.map(|columns| columns.saturating_sub(before).max(8));
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (i, (cell, columns_of_cell)) in row.iter().zip(&widths).enumerate() {
            if i.saturating_add(1) == columns {
                line.push_str(&room.map_or_else(|| cell.clone(), |room| ellipsize(cell, room)));
            } else {
                let padding = columns_of_cell.saturating_sub(width(cell)).saturating_add(GAP);
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Formats a table. While the terminal is too narrow, the columns in `spare` are omitted, the first one first.
pub(in crate::cli) fn fit(rows: &[Vec<String>], spare: &[&str], terminal: &Terminal) -> String {
    let mut rows = rows.to_vec();
    for name in spare {
        let text = table(&rows, terminal);
        let widest = text.lines().map(width).max().unwrap_or(0);
        let truncated = text.lines().any(|line| line.contains('…'));
        if terminal.width.is_none_or(|columns| widest <= columns && !truncated) {
            return text;
        }
        let at = rows.first().and_then(|head| head.iter().position(|cell| cell == name));
        if let Some(at) = at {
            rows.iter_mut().filter(|row| at < row.len()).for_each(|row| drop(row.remove(at)));
        }
    }
    table(&rows, terminal)
}

/// Truncates a text to `room` columns, with `…` in the middle.
pub(in crate::cli) fn ellipsize(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let tail = kept.div_ceil(2);
    let head = columns_of(text.chars(), kept.saturating_sub(tail));
    let end = columns_of(text.chars().rev(), tail);
    head.into_iter().chain(std::iter::once('…')).chain(end.into_iter().rev()).collect()
}

/// The longest beginning that fits into `room` columns.
fn columns_of(chars: impl Iterator<Item = char>, room: usize) -> Vec<char> {
    let mut used = 0_usize;
    chars
        .take_while(|c| {
            used = used.saturating_add(width(c.encode_utf8(&mut [0; 4])));
            used <= room
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WICKED: &str = "a\u{1b}[2J\r\u{202e}\u{9b}b";

    #[test]
    fn hostile_characters_are_escaped() {
        let none: Vec<String> = Vec::new();
        assert_eq!(crate::text::printable::passed(escape), none);
        assert_eq!(crate::text::printable::passed(escape_line), none);
        assert_eq!(crate::text::printable::passed(|text| json(text).unwrap()), none);
    }

    #[test]
    fn control_characters_do_not_reach_terminal() {
        assert_eq!(escape(&format!("{WICKED}\n")), "a\\u{1b}[2J\\r\\u{202e}\\u{9b}b\n");
        assert_eq!(escape_line("a\nb"), "a\\nb");
    }

    #[test]
    fn json_is_escaped_with_same_value() {
        let text = json(WICKED).unwrap();
        assert!(text.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), WICKED);
    }

    #[test]
    fn table_ellipsizes_last_column_to_fit() {
        let rows = vec![
            vec!["WHAT".to_owned(), "CGROUP".to_owned()],
            vec!["x".to_owned(), "/machine.slice/libpod-0123456789abcdef.scope".to_owned()],
        ];
        let narrow = table(&rows, &Terminal { width: Some(40), colour: false });
        assert_eq!(narrow, "WHAT  CGROUP\nx     /machine.slice/l…56789abcdef.scope\n");
        assert!(table(&rows, &Terminal::default()).contains("libpod-0123456789abcdef.scope"));
    }

    #[test]
    fn wide_names_stay_in_their_columns() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["ア行.service", "x"]), row(["a", "ア行アア行ア行"])];
        assert_eq!(table(&rows, &Terminal::default()), "ア行.service  x\na             ア行アア行ア行\n");
        let narrow = table(&rows, &Terminal { width: Some(23), colour: false });
        assert_eq!(narrow, "ア行.service  x\na             ア行…ア行\n");
        assert_eq!(wrap("ア行 ア行 a", 0, 9), "ア行 ア行\na\n");
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows =
            [row(["NAME", "FROM", "CGROUP"]), row(["a.service", "drop-in", "/system.slice/a.service"])];
        let at = |width| fit(&rows, &["CGROUP", "FROM"], &Terminal { width: Some(width), colour: false });
        assert!(at(80).contains("/system.slice/a.service"));
        assert_eq!(at(24), "NAME       FROM\na.service  drop-in\n");
        assert_eq!(at(12), "NAME\na.service\n");
    }

    #[test]
    fn colours_come_from_us_alone() {
        let paint = |line: &str| line.starts_with('a').then_some(Style::Red);
        let text = colorize("ab\u{1b}[2J\nb\n", paint);
        assert_eq!(text, "\u{1b}[31mab\\u{1b}[2J\u{1b}[0m\nb\n");
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrap("", 2, 9), "\n");
    }
}
