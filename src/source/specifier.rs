//! Expands systemd's `%` specifiers in policy lines. systemd expands them only in its own keys. Specifiers that are
//! not known for units of the system manager are kept, with a warning.

use crate::names::{UnitName, unescape};
use crate::text::printable::{QUOTE_MAX, quote};

/// Longest line after expansion in bytes. A line of `%n` would grow two hundredfold.
const EXPANDED_MAX: usize = 64 * 1024;

/// The values of specifiers, except those of the unit's name. Empty if unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Specifiers {
    /// `%H`, and up to its first dot `%l`: the machine's host name.
    pub hostname: String,
    /// `%m`: the content of `/etc/machine-id`.
    pub machine_id: String,
    /// `%b`: the boot id without dashes.
    pub boot_id: String,
    /// `%v`: what `uname -r` prints.
    pub kernel_release: String,
}

impl Specifiers {
    /// Expands all specifiers for `unit`. Returns one warning for each that is kept.
    pub fn expand(&self, unit: &UnitName, text: &str) -> (String, Vec<String>) {
        let mut out = String::with_capacity(text.len());
        let mut warnings: Vec<String> = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let Some(letter) = chars.next() else {
                out.push('%');
                break;
            };
            if letter == '%' {
                out.push('%');
                continue;
            }
            let why = match self.value(unit, letter) {
                None if !letter.is_ascii_alphabetic() => {
                    // "90%;" and "90% min=1M" are percentages, not specifiers.
                    out.push('%');
                    out.push(letter);
                    continue;
                }
                None => format!(
                    "specifier '%{letter}' is not known here; the known ones are %n %N %p %P %i %I %j %J %H %l %m %b %v and %%"
                ),
                Some(value) if !value.chars().all(is_harmless) => {
                    format!(
                        "specifier '%{letter}' is '{}', which cannot stand in a policy line",
                        quote(&value, QUOTE_MAX)
                    )
                }
                Some(value) if out.len().saturating_add(value.len()) > EXPANDED_MAX => {
                    format!("specifier '%{letter}' makes the line longer than {EXPANDED_MAX} bytes")
                }
                Some(value) => {
                    out.push_str(&value);
                    continue;
                }
            };
            out.push('%');
            out.push(letter);
            if !warnings.contains(&why) {
                warnings.push(why);
            }
        }
        (out, warnings)
    }

    fn value(&self, unit: &UnitName, letter: char) -> Option<String> {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let prefix = unit.prefix();
        let last_of_prefix = prefix.rsplit('-').next().unwrap_or(prefix);
        match letter {
            'n' => Some(unit.as_str().to_owned()),
            'N' => unit.as_str().rsplit_once('.').map(|(stem, _)| stem.to_owned()),
            'p' => Some(prefix.to_owned()),
            'P' => Some(unescape(prefix)),
            'i' => Some(unit.instance().unwrap_or("").to_owned()),
            'I' => Some(unescape(unit.instance().unwrap_or(""))),
            'j' => Some(last_of_prefix.to_owned()),
            'J' => Some(unescape(last_of_prefix)),
            'H' => known(&self.hostname),
            'l' => known(self.hostname.split('.').next().unwrap_or("")),
            'm' => known(&self.machine_id),
            'b' => known(&self.boot_id),
            'v' => known(&self.kernel_release),
            _ => None,
        }
    }
}

/// An instance name may be chosen by another user than the author of the line, and `%I` may contain any character:
/// separators of words and policies are rejected.
fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:@/+,~".contains(c)
}

#[cfg(test)]
#[path = "specifier_tests.rs"]
mod tests;
