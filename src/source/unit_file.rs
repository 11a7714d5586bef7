//! Reads the assignments of a memory policy in the text of a unit file or drop-in, as systemd reads such files. Lines
//! that systemd would ignore are ignored, with a warning if they concern memory policies.

use crate::names::UnitKind;
pub use crate::text::ini::LINE_MAX;
use crate::text::ini::{Item, items};
use crate::text::printable::{QUOTE_MAX, QUOTE_PATH_MAX, quote};

/// Number of warnings about one file.
const WARNINGS_MAX: usize = 20;

/// The section of memcg-bpf, and its key.
const OWN_SECTION: &str = "X-MemoryBPF";
const OWN_KEY: &str = "Policy";

/// The spelling of an assignment. All spellings are the same setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `MemoryBPFPolicy=` in the unit's own section. systemd logs a warning about the unknown key.
    Bare,
    /// `X-MemoryBPFPolicy=` in the unit's own section, which systemd ignores.
    Extension,
    /// `Policy=` in `[X-MemoryBPF]`, which systemd ignores.
    Section,
}

impl Spelling {
    /// The spelling as written in the file.
    pub fn text(self) -> &'static str {
        match self {
            Spelling::Bare => "MemoryBPFPolicy=",
            Spelling::Extension => "X-MemoryBPFPolicy=",
            Spelling::Section => "[X-MemoryBPF] Policy=",
        }
    }
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The value, without the white space around it; empty for a reset.
    pub value: String,
    /// The line on which the assignment begins, from 1.
    pub line: usize,
    /// How it is spelled.
    pub spelling: Spelling,
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedUnitFile {
    /// The assignments in the order of the file.
    pub directives: Vec<Directive>,
    /// Warnings about ignored lines, with file and line.
    pub warnings: Vec<String>,
    /// The last `Slice=` of the unit's own section, with its specifiers; empty where it is reset.
    pub slice: Option<String>,
}

/// The assignments in `text`, the content of `file`, for a unit of that kind. See [`read`] for the warnings.
pub fn directives(kind: UnitKind, file: &str, text: &str) -> Vec<Directive> {
    read(kind, file, text).directives
}

/// The assignments in `text`, the content of `file`, for a unit of that kind, and warnings about those ignored.
pub fn read(kind: UnitKind, file: &str, text: &str) -> ParsedUnitFile {
    let mut reader = Reader { kind, file, section: String::new(), reading: ParsedUnitFile::default() };
    for (number, item) in items(text) {
        match item {
            Item::Section(name) => reader.section = name,
            Item::OpenSection(line) => {
                reader.warn(number, format_args!("section header '{}' has no ']'; systemd reads no further, so nothing from here on counts", quote(&line, QUOTE_MAX)));
                break;
            }
            Item::Assignment(key, value) => reader.assignment(number, &key, &value),
            Item::Other(line) if is_our_key(&line) => {
                reader.warn(
                    number,
                    format_args!("ignoring '{}': there is no '=' after the name", quote(&line, QUOTE_MAX)),
                );
            }
            Item::Other(_) => {}
            Item::TooLong => {
                reader.warn(number, format_args!("a line is longer than {LINE_MAX} bytes; systemd reads no further, so nothing from here on counts"));
            }
        }
    }
    reader.reading
}

struct Reader<'a> {
    kind: UnitKind,
    file: &'a str,
    section: String,
    reading: ParsedUnitFile,
}

impl Reader<'_> {
    fn warn(&mut self, line: usize, what: std::fmt::Arguments<'_>) {
        let file = quote(self.file, QUOTE_PATH_MAX);
        match self.reading.warnings.len() {
            ..WARNINGS_MAX => self.reading.warnings.push(format!("{file}:{line}: {what}")),
            WARNINGS_MAX => {
                self.reading.warnings.push(format!("{file}:{line}: further warnings are left out"))
            }
            _ => {}
        }
    }

    fn assignment(&mut self, number: usize, key: &str, value: &str) {
        let in_own_section = self.section == OWN_SECTION;
        let spelling = match key {
            "Slice" if self.section == self.kind.section() => {
                self.reading.slice = Some(value.to_owned());
                return;
            }
            OWN_KEY if in_own_section => Spelling::Section,
            "MemoryBPFPolicy" if self.section == self.kind.section() => Spelling::Bare,
            "X-MemoryBPFPolicy" if self.section == self.kind.section() => Spelling::Extension,
            _ => {
                self.warn_ignored(number, key, in_own_section);
                return;
            }
        };
        self.reading.directives.push(Directive { value: value.to_owned(), line: number, spelling });
    }

    fn warn_ignored(&mut self, number: usize, key: &str, in_own_section: bool) {
        let (kind, section) = (self.kind.suffix(), self.kind.section());
        if in_own_section {
            self.warn(
                number,
                format_args!(
                    "ignoring '{}=' in [{OWN_SECTION}]: the only key there is '{OWN_KEY}='",
                    quote(key, QUOTE_MAX)
                ),
            );
        } else if matches!(key, "MemoryBPFPolicy" | "X-MemoryBPFPolicy") {
            if self.section.is_empty() {
                self.warn(
                    number,
                    format_args!(
                        "ignoring '{key}=' before the first section; for a {kind} it belongs in [{section}]"
                    ),
                );
            } else {
                let found = quote(&self.section, QUOTE_MAX);
                self.warn(
                    number,
                    format_args!("ignoring '{key}=' in [{found}]; for a {kind} it belongs in [{section}]"),
                );
            }
        } else if is_our_key(key) {
            self.warn(
                number,
                format_args!("ignoring '{}='; did you mean 'X-MemoryBPFPolicy='?", quote(key, QUOTE_MAX)),
            );
        } else if key == OWN_KEY && self.section.eq_ignore_ascii_case(OWN_SECTION) {
            let found = quote(&self.section, QUOTE_MAX);
            self.warn(
                number,
                format_args!("ignoring '{OWN_KEY}=' in [{found}]; did you mean [{OWN_SECTION}]?"),
            );
        }
    }
}

/// True for keys that look like those of memcg-bpf, in any case and with any ending.
fn is_our_key(key: &str) -> bool {
    let mut key = key.as_bytes();
    if let [b'X' | b'x', b'-', rest @ ..] = key {
        key = rest;
    }
    key.get(.."MemoryBPF".len()).is_some_and(|head| head.eq_ignore_ascii_case(b"MemoryBPF"))
}

#[cfg(test)]
#[path = "unit_file_tests.rs"]
mod tests;
