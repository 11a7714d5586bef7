//! Profiles: named sets of policies in small text files, used as in `X-MemoryBPFPolicy=gold`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diagnostic::Diagnostic;
use super::line::{self, Line};
use crate::text::ini::{Item, items};
use crate::text::printable::{QUOTE_MAX, quote};

/// The directories of profiles, the highest precedence first, as in systemd.
pub const PROFILE_DIRS: [&str; 4] = [
    "/etc/memcg-bpf/profiles.d",
    "/run/memcg-bpf/profiles.d",
    "/usr/local/lib/memcg-bpf/profiles.d",
    "/usr/lib/memcg-bpf/profiles.d",
];

/// The suffix of a profile's file name.
pub const PROFILE_SUFFIX: &str = ".profile";

/// Longest profile in bytes.
pub const PROFILE_BYTES_MAX: usize = 65_536;

/// Longest name of a profile in bytes.
const NAME_MAX: usize = 64;

/// A named set of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The name used in policy lines: the file name without the suffix.
    pub name: String,
    /// `Description=`; may be empty.
    pub doc: String,
    /// The policy line that replaces the name.
    pub line: String,
    /// The file it comes from.
    pub file: String,
}

/// A valid profile, and the warnings of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedProfile {
    /// The profile.
    pub profile: Profile,
    /// Warnings about ignored lines.
    pub warnings: Vec<Diagnostic>,
}

/// Parses a profile. Errors: an invalid name, no `Policy=`, an invalid policy line, more than [`PROFILE_BYTES_MAX`]
/// bytes. Policies are looked up when the profile is used.
pub fn parse_profile(name: &str, file: &str, text: &str) -> Result<ParsedProfile, Vec<Diagnostic>> {
    if let Some(error) = wrong_name(name) {
        return Err(vec![error.in_location(file)]);
    }
    if text.len() > PROFILE_BYTES_MAX {
        let message =
            format!("the profile is {} bytes long, and the maximum is {PROFILE_BYTES_MAX}", text.len());
        return Err(vec![Diagnostic::new(name, message).in_location(file)]);
    }
    let mut parser = Parser { file, ..Parser::default() };
    for (number, item) in items(text) {
        match item {
            Item::Section(title) => parser.section(number, &format!("[{title}]"), Some(&title)),
            Item::OpenSection(line) => parser.section(number, &line, None),
            _ if parser.section == Section::Ignored => {}
            Item::Assignment(key, value) => parser.assignment(number, &key, &value),
            Item::Other(text) => {
                let message =
                    format!("ignoring '{}', which is not of the form KEY=VALUE", quote(&text, QUOTE_MAX));
                parser.warnings.push(parser.at(number, &text, message));
            }
            // The limit of a profile is lower than that of a line.
            _ => break,
        }
    }
    let line = parser.line(name).map_err(super::diagnostic::truncate)?;
    let profile = Profile { name: name.to_owned(), doc: parser.doc, line, file: file.to_owned() };
    Ok(ParsedProfile { profile, warnings: super::diagnostic::truncate(parser.warnings) })
}

#[derive(Default)]
struct Parser<'a> {
    file: &'a str,
    section: Section,
    doc: String,
    pieces: Vec<String>,
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn at(&self, number: usize, word: &str, message: String) -> Diagnostic {
        Diagnostic::new(word, message).in_location(&format!("{}:{number}", self.file))
    }

    fn section(&mut self, number: usize, header: &str, title: Option<&str>) {
        self.section = match title {
            Some("Profile") => Section::Profile,
            Some(title) if title.starts_with("X-") => Section::Ignored,
            _ => {
                let message = format!("ignoring unknown section '{}'", quote(header, QUOTE_MAX));
                self.warnings.push(self.at(number, header, message).valid("[Profile]"));
                Section::Ignored
            }
        };
    }

    fn assignment(&mut self, number: usize, key: &str, value: &str) {
        match key {
            _ if self.section == Section::Outside => {
                let message = format!("ignoring '{}=' before the first section", quote(key, QUOTE_MAX));
                self.warnings.push(self.at(number, key, message));
            }
            "Description" => self.doc = value.to_owned(),
            // As in all of systemd's files: if the empty string is assigned, prior assignments are reset.
            "Policy" if value.is_empty() => {
                self.pieces.clear();
                self.errors.clear();
            }
            "Policy" => match line::parse(value) {
                Ok(Line::Clauses(_)) => self.pieces.push(value.to_owned()),
                Ok(Line::None) => {
                    let message = "a profile cannot contain 'none'".to_owned();
                    self.errors.push(self.at(number, "none", message).at(0));
                }
                Err(wrong) => {
                    let location = format!("{}:{number}", self.file);
                    self.errors.extend(wrong.into_iter().map(|error| error.in_location(&location)));
                }
            },
            _ if key.starts_with("X-") => {}
            _ => {
                let nearest = super::diagnostic::closest_match(key, ["Description", "Policy"]);
                let message = format!("ignoring unknown key '{}'", quote(key, QUOTE_MAX));
                let warning = self.at(number, key, message).valid("Description and Policy").suggest(nearest);
                self.warnings.push(warning);
            }
        }
    }

    /// The policy line of all assignments together.
    fn line(&mut self, name: &str) -> Result<String, Vec<Diagnostic>> {
        let line = self.pieces.join("; ");
        if self.errors.is_empty() {
            if self.pieces.is_empty() {
                let message = format!("profile '{name}' has no Policy= in its section [Profile]");
                self.errors.push(Diagnostic::new(name, message).in_location(self.file));
            } else if let Err(wrong) = line::parse(&line) {
                // Each assignment is valid, so the combined line is too long, and has no meaningful column.
                let whole = |error: Diagnostic| Diagnostic { at: None, ..error.in_location(self.file) };
                self.errors.extend(wrong.into_iter().map(whole));
            }
        }
        if self.errors.is_empty() { Ok(line) } else { Err(std::mem::take(&mut self.errors)) }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Outside,
    Profile,
    Ignored,
}

/// The error of a name, which must match `[a-z][a-z0-9-]*` and must not be `none`.
fn wrong_name(name: &str) -> Option<Diagnostic> {
    let fits = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        let message = format!("'{}' is not a valid profile name", quote(name, QUOTE_MAX));
        return Some(
            Diagnostic::new(name, message)
                .valid("lower-case letters, digits and '-', starting with a letter"),
        );
    }
    if name == "none" {
        return Some(Diagnostic::new(name, "'none' means no policy and cannot be the name of a profile"));
    }
    None
}

/// A file in one of the directories of profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileFile {
    /// The directory, one of [`PROFILE_DIRS`].
    pub dir: String,
    /// The file name.
    pub file_name: String,
    /// The content; `None` if the file is a mask, which is a link to /dev/null.
    pub text: Option<String>,
}

/// The files that are used: for each name, that of the first directory. An empty file or a link to /dev/null masks
/// the others and is not a profile. Files with another suffix are ignored.
pub fn choose(files: &[ProfileFile]) -> Vec<&ProfileFile> {
    let rank =
        |file: &ProfileFile| PROFILE_DIRS.iter().position(|dir| *dir == file.dir).unwrap_or(usize::MAX);
    let mut chosen: BTreeMap<&str, &ProfileFile> = BTreeMap::new();
    for file in files.iter().filter(|file| file.file_name.ends_with(PROFILE_SUFFIX)) {
        let first = chosen.entry(&file.file_name).or_insert(file);
        if rank(file) < rank(first) {
            *first = file;
        }
    }
    chosen.into_values().filter(|file| file.text.as_ref().is_some_and(|text| !text.is_empty())).collect()
}

/// All profiles in these files by name, and all errors and warnings.
pub fn load(files: &[ProfileFile]) -> (BTreeMap<String, Profile>, Vec<Diagnostic>) {
    let mut profiles = BTreeMap::new();
    let mut errors = Vec::new();
    for file in choose(files) {
        let name = file.file_name.strip_suffix(PROFILE_SUFFIX).unwrap_or(&file.file_name);
        let path = format!("{}/{}", file.dir, file.file_name);
        match parse_profile(name, &path, file.text.as_deref().unwrap_or("")) {
            Ok(parsed) => {
                errors.extend(parsed.warnings);
                profiles.insert(name.to_owned(), parsed.profile);
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    (profiles, errors)
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
