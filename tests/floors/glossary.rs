//! Retired words. The table `| retired | use | scope |` of docs/glossary.md lists words and phrases that must not occur.
//!
//! - A term of lower-case words, `in force`, matches these words in a row, in any case, also inside of identifiers such as
//!   `PolicyInForce`. Inflected forms are terms of their own.
//! - Any other term, such as `LET_GO`, `read_wish` or `--forget`, matches as it is written, unless a letter, a digit or `_`
//!   adjoins it.

use crate::rust::{Kind, tokens};
use crate::tree::{File, files};

const PAGE: &str = "docs/glossary.md";

/// Where a term must not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// README, changelog, docs/, manual pages.
    Docs,
    /// Output of the programs: all string literals of src/, the comments that become the help of commands, and the
    /// texts in systemd/.
    Help,
    /// Everything in src/.
    Src,
    /// Everything in bpf/ and examples/.
    Bpf,
    /// Everything in tests/ and fuzz/.
    Tests,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Retired {
    /// Without backticks.
    term: String,
    instead: String,
    scopes: Vec<Scope>,
}

/// The rows of all tables with the header `| retired | use | scope |`, or the error of a row.
pub fn table(page: &str) -> Result<Vec<Retired>, String> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (number, line) in page.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.trim_start().starts_with('|') {
            inside = false;
        } else if cells == ["retired", "use", "scope"] {
            inside = true;
        } else if inside && !line.contains("---") {
            let wrong = |what: &str| format!("{PAGE}:{}: {what}", number + 1);
            let [terms, instead, scopes] = cells[..] else {
                return Err(wrong("the row has not three cells"));
            };
            let scopes: Option<Vec<Scope>> = scopes.split_whitespace().map(scope).collect();
            let scopes = scopes.filter(|scopes| !scopes.is_empty());
            let scopes = scopes.ok_or_else(|| wrong("scopes are docs, help, src, bpf, tests"))?;
            let terms: Vec<&str> = terms.split('`').skip(1).step_by(2).collect();
            if terms.is_empty() || instead.is_empty() {
                return Err(wrong("a retired term in backticks, or what to use, is missing"));
            }
            rows.extend(terms.into_iter().map(|term| Retired {
                term: term.to_owned(),
                instead: instead.to_owned(),
                scopes: scopes.clone(),
            }));
        }
    }
    if rows.is_empty() { Err(format!("{PAGE}: no table of retired words")) } else { Ok(rows) }
}

fn scope(word: &str) -> Option<Scope> {
    Some(match word {
        "docs" => Scope::Docs,
        "help" => Scope::Help,
        "src" => Scope::Src,
        "bpf" => Scope::Bpf,
        "tests" => Scope::Tests,
        _ => return None,
    })
}

/// The checkout's texts by scope.
pub fn texts() -> Vec<(Scope, File)> {
    let mut texts: Vec<(Scope, File)> = Vec::new();
    for (scope, tops) in [
        (Scope::Docs, &["README.md", "CHANGELOG.md", "docs", "packaging/man"][..]),
        (Scope::Help, &["src", "systemd"]),
        (Scope::Src, &["src"]),
        (Scope::Bpf, &["bpf", "examples"]),
        (Scope::Tests, &["tests", "fuzz"]),
    ] {
        for (path, text) in files(tops) {
            let data = path == PAGE || path.ends_with("package-lock.json") || path.ends_with("Cargo.lock");
            if !data {
                let text = if scope == Scope::Help { printed(&path, &text) } else { text };
                texts.push((scope, (path, text)));
            }
        }
    }
    texts
}

/// The literals of a source file, and for commands the comments that become help, each on its line.
fn printed(path: &str, text: &str) -> String {
    if !path.ends_with(".rs") {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut lines = 1;
    for token in tokens(text) {
        let help =
            token.kind == Kind::Comment && token.text.starts_with("///") && path.starts_with("src/cli/");
        if token.kind == Kind::Literal || help {
            while lines < token.line {
                out.push('\n');
                lines += 1;
            }
            out.push_str(&token.text);
            out.push(' ');
            lines += token.text.matches('\n').count();
        }
    }
    out
}

/// Every place where a retired term occurs within its scopes.
pub fn violations(table: &[Retired], texts: &[(Scope, File)]) -> Vec<String> {
    let mut found = Vec::new();
    for (scope, (path, text)) in texts {
        let words = words(text);
        for row in table.iter().filter(|row| row.scopes.contains(scope)) {
            for line in occurrences(&row.term, text, &words) {
                found.push(format!("{path}:{line}: '{}' is retired; use {}", row.term, row.instead));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Lines on which the term occurs.
fn occurrences(term: &str, text: &str, words: &[(String, usize)]) -> Vec<usize> {
    let phrase = term.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == ' ');
    if phrase {
        let parts: Vec<&str> = term.split(' ').collect();
        let matches = |window: &&[(String, usize)]| {
            window.iter().map(|(word, _)| word.as_str()).eq(parts.iter().copied())
        };
        return words.windows(parts.len()).filter(matches).map(|window| window[0].1).collect();
    }
    let adjoins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(term)
        .filter(|(at, _)| {
            !adjoins(text[..*at].chars().next_back()) && !adjoins(text[at + term.len()..].chars().next())
        })
        .map(|(at, _)| text[..at].matches('\n').count() + 1)
        .collect()
}

/// The words of a text in lower case with their lines. Identifiers are split at `_` and before capital letters.
fn words(text: &str) -> Vec<(String, usize)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut previous = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let next_is_lower = chars.peek().is_some_and(|next| next.is_lowercase());
            let starts_word =
                c.is_uppercase() && (previous.is_lowercase() || (previous.is_uppercase() && next_is_lower));
            // The escape `\n` in a literal is not a letter.
            let escape = previous == '\\';
            if (!c.is_alphanumeric() || starts_word || escape) && !word.is_empty() {
                words.push((std::mem::take(&mut word), number + 1));
            }
            if c.is_alphanumeric() && !escape {
                word.extend(c.to_lowercase());
            }
            previous = if escape { ' ' } else { c };
        }
        if !word.is_empty() {
            words.push((word, number + 1));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{Retired, Scope, printed, table, texts, violations};

    fn row(term: &str, scopes: &[Scope]) -> Retired {
        Retired { term: term.to_owned(), instead: "x".to_owned(), scopes: scopes.to_vec() }
    }

    /// Lines of `text` on which `term` is found.
    fn lines(term: &str, text: &str) -> Vec<String> {
        let texts = [(Scope::Src, ("src/a.rs".to_owned(), text.to_owned()))];
        let cut = |line: &String| line.split(':').nth(1).unwrap_or_default().to_owned();
        violations(&[row(term, &[Scope::Src])], &texts).iter().map(cut).collect()
    }

    #[test]
    fn term_is_found_in_prose_and_identifiers() {
        let text = "// a florb\nlet florb_x = AFlorb;\nFLORB_MAX\n\"a\\nflorbs\"\n\"a\\nflorb\"\nHTTPFlorb\n";
        assert_eq!(lines("florb", text), ["1", "2", "3", "5", "6"]);
        assert_eq!(
            lines("in florb", "in florb\nPolicyInFlorb\nis_in_florb()\nin a florb\nIn\nFLORB\n"),
            ["1", "2", "3", "5"]
        );
        assert_eq!(lines("florb_it", "florb_it\nflorb_its\n`florb_it`\nFlorbIt\n"), ["1", "3"]);
        assert_eq!(lines("FLORB", "FLORB\nflorb\nFLORB_X\n"), ["1"]);
        assert_eq!(lines("--florb", "--florb x\n--florby\n[--florb]\n"), ["1", "3"]);
    }

    #[test]
    fn term_applies_in_its_scopes_only() {
        let text = |scope, path: &str| (scope, (path.to_owned(), "florb".to_owned()));
        let texts =
            [text(Scope::Docs, "README.md"), text(Scope::Bpf, "bpf/a.h"), text(Scope::Tests, "tests/a")];
        let table = [row("florb", &[Scope::Docs, Scope::Tests])];
        assert_eq!(
            violations(&table, &texts),
            ["README.md:1: 'florb' is retired; use x", "tests/a:1: 'florb' is retired; use x"]
        );
    }

    #[test]
    fn help_is_made_of_literals_and_command_comments() {
        let text = "//! a\n/// b\nlet c = \"d\";\n// e\n";
        assert_eq!(printed("src/cli/x.rs", text), "\n/// b \n\"d\" ");
        assert_eq!(printed("src/engine.rs", text), "\n\n\"d\" ");
        assert_eq!(printed("systemd/x.catalog", text), text);
    }

    #[test]
    fn table_is_read_and_checked() {
        let head = "| retired | use | scope |\n|---|---|---|\n";
        let page = format!(
            "# Glossary\n| term | meaning |\n|---|---|\n| a | b |\n\n{head}| `a b`, `C` | d | docs src |\n\ntext\n"
        );
        let parsed = table(&page).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!((parsed[1].term.as_str(), parsed[1].instead.as_str()), ("C", "d"));
        assert_eq!(parsed[0].scopes, [Scope::Docs, Scope::Src]);
        for row in
            ["| a | b | docs |", "| `a` | | docs |", "| `a` | b | |", "| `a` | b | doc |", "| `a` | b |", ""]
        {
            assert!(table(&format!("{head}{row}\n")).is_err(), "{row}");
        }
    }

    /// A retired word, added to the real texts of each scope, is found there.
    #[test]
    fn word_added_to_the_tree_is_found() {
        let scopes = [Scope::Docs, Scope::Help, Scope::Src, Scope::Bpf, Scope::Tests];
        let table = [row(&format!("zzz{}", "florb"), &scopes)];
        let texts = texts();
        assert_eq!(violations(&table, &texts), Vec::<String>::new());
        for scope in scopes {
            let (_, (path, text)) = texts.iter().find(|(other, _)| *other == scope).unwrap();
            let text = format!("{text}\nread_zzz{}\n", "florb");
            let found = violations(&table, &[(scope, (path.clone(), text))]);
            assert_eq!(found.len(), 1, "{scope:?}");
            assert!(found[0].starts_with(path), "{}", found[0]);
        }
    }
}
