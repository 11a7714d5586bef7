//! Container ids, as accepted by container runtimes.

use std::fmt;

use super::NameError;
use crate::text::printable::{QUOTE_MAX, quote};

/// Longest container id in bytes: runtimes create a directory with this name.
pub const CONTAINER_ID_MAX: usize = 255;

/// The id of a container: 64 hexadecimal digits from an engine, or the name given to `crun run` or `runc run`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// Parses an id of letters, digits and `_ + . -` that does not start with `-` or `.`: the union of what
    /// containerd, CRI-O, podman, crun and runc accept, without names that could be mistaken for options or
    /// directories. Errors: other characters, empty, longer than [`CONTAINER_ID_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fail = |why| Err(NameError::ContainerId(quote(text, QUOTE_MAX), why));
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > CONTAINER_ID_MAX {
            return fail("it is longer than 255 bytes");
        }
        if text.starts_with(['-', '.']) {
            return fail("it starts with '-' or '.'");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b)) {
            return fail("only letters, digits and _ + . - may stand in it");
        }
        Ok(ContainerId(text.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, as engines display it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_all_engines_are_accepted_and_paths_are_not() {
        for id in ["1f2e", "my_box", "a+b", "a.b-c", "_x", &"f".repeat(64)] {
            assert_eq!(ContainerId::parse(id).unwrap().as_str(), id);
        }
        for (id, why) in [
            ("", "'' is not a container id: it is empty"),
            ("..", "'..' is not a container id: it starts with '-' or '.'"),
            ("-rf", "'-rf' is not a container id: it starts with '-' or '.'"),
            ("a/b", "'a/b' is not a container id: only letters, digits and _ + . - may stand in it"),
            ("a\n", "'a\\n' is not a container id: only letters, digits and _ + . - may stand in it"),
        ] {
            assert_eq!(ContainerId::parse(id).unwrap_err().to_string(), why);
        }
        assert!(ContainerId::parse(&"x".repeat(1 << 20)).unwrap_err().to_string().len() < 200);
        assert_eq!(ContainerId::parse(&"f".repeat(64)).unwrap().short(), "ffffffffffff");
    }
}
