//! Values of a TOML file by their path: as much of TOML as the configurations of container runtimes use. Tables, dotted
//! and quoted keys, strings, booleans, numbers and lists of strings. Anything else is skipped.

use std::collections::BTreeMap;

/// Most values that are kept.
const VALUES_MAX: usize = 10_000;

/// The values of a file, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<Vec<String>, Vec<String>>);

impl Settings {
    pub fn parse(text: &str) -> Settings {
        let mut settings = Settings::default();
        let mut table = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let line = without_comment(line).trim().to_owned();
            if let Some(header) = line.strip_prefix('[') {
                // An array of tables has two brackets.
                table = path(header.trim_start_matches('[').trim_end_matches(']'));
                continue;
            }
            let Some((key, value)) = split(&line, '=') else { continue };
            let mut value = value.trim().to_owned();
            // A list may extend over several lines.
            while value.starts_with('[') && !value.ends_with(']') {
                let Some(more) = lines.next() else { break };
                value.push_str(without_comment(more).trim());
            }
            if settings.0.len() < VALUES_MAX {
                let path = table.iter().cloned().chain(path(key)).collect();
                settings.0.insert(path, values(&value));
            }
        }
        settings
    }

    /// The values of `other` replace those with the same path.
    pub fn extend(&mut self, other: Settings) {
        self.0.extend(other.0);
    }

    /// The value at this path; strings without their quotes.
    pub fn get(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.first().map(String::as_str)
    }

    /// The list at this path.
    pub fn list(&self, path: &[&str]) -> Vec<String> {
        self.at(path).cloned().unwrap_or_default()
    }

    fn at(&self, path: &[&str]) -> Option<&Vec<String>> {
        self.0.get(&path.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>())
    }
}

/// The parts of a text at a character that is not in quotes.
fn parts(text: &str, at: char) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((part, after)) = split(rest, at) {
        found.push(part);
        rest = after;
    }
    found.push(rest);
    found
}

/// Splits at the first such character that is not in quotes.
fn split(text: &str, at: char) -> Option<(&str, &str)> {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == at => {
                let after = index.saturating_add(c.len_utf8());
                return Some((text.get(..index)?, text.get(after..)?));
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {}
        }
    }
    None
}

fn without_comment(line: &str) -> &str {
    split(line, '#').map_or(line, |(before, _)| before)
}

fn path(text: &str) -> Vec<String> {
    parts(text, '.').into_iter().map(unquoted).collect()
}

fn values(text: &str) -> Vec<String> {
    match text.strip_prefix('[') {
        Some(list) => {
            let items = parts(list.trim_end_matches(']'), ',').into_iter().map(unquoted);
            items.filter(|item| !item.is_empty()).collect()
        }
        None => vec![unquoted(text)],
    }
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_path_in_each_notation() {
        for text in [
            "[plugins.\"io.containerd.nri.v1.nri\"]\n  disable = false # comment\n",
            "[plugins]\n[plugins.'io.containerd.nri.v1.nri']\ndisable=false",
            "plugins.\"io.containerd.nri.v1.nri\".disable = false",
        ] {
            let settings = Settings::parse(text);
            assert_eq!(
                settings.get(&["plugins", "io.containerd.nri.v1.nri", "disable"]),
                Some("false"),
                "{text}"
            );
        }
        let text = "version = 3\nimports = [\n  '/etc/a.toml', # one\n  \"conf.d/*.toml\",\n]\nname = 'a#b = c'\nempty = []";
        let settings = Settings::parse(text);
        assert_eq!(settings.get(&["version"]), Some("3"));
        assert_eq!(settings.list(&["imports"]), ["/etc/a.toml", "conf.d/*.toml"]);
        assert_eq!(settings.get(&["name"]), Some("a#b = c"));
        assert_eq!((settings.get(&["empty"]), settings.get(&["none"])), (None, None));
    }

    #[test]
    fn invalid_text_is_skipped() {
        let settings = Settings::parse("[\n]\n=\nx\n\"\n[[a]]\nb = [1,\nä = '");
        assert_eq!(settings.get(&["x"]), None);
        assert_eq!(settings.list(&["a", "b"]).first().map(String::as_str), Some("1"));
    }
}
