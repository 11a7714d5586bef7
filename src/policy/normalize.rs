//! The canonical spelling of a policy line: single spaces, and quotes only where a word needs them. Records contain
//! lines in this spelling, so that padding takes no room in them.

use super::line::{self, Clause};

/// The line in its canonical spelling, which has the same meaning. A line with broken grammar, and one that its
/// canonical spelling would lengthen, stay as they are.
pub fn normalize(text: &str) -> String {
    let (clauses, errors) = line::read(text);
    if !errors.is_empty() {
        return text.to_owned();
    }
    let line = clauses.iter().map(format_clause).collect::<Vec<_>>().join("; ");
    if line.len() <= text.len() { line } else { text.to_owned() }
}

/// The canonical spelling of one policy with its parameters.
pub fn format_clause(clause: &Clause) -> String {
    let mut words = vec![word(&clause.name)];
    words.extend(clause.args.iter().map(|arg| word(&format!("{}={}", arg.key, arg.value))));
    words.join(" ")
}

/// A word as the lexer reads it again.
fn word(text: &str) -> String {
    let special = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | ';' | '\'' | '"' | '\\');
    if !text.is_empty() && !text.contains(special) {
        return text.to_owned();
    }
    let mut quoted = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::line::{Line, parse};
    use super::*;

    #[test]
    fn padding_and_needless_quotes_are_removed() {
        for (line, normalized) in [
            ("", ""),
            (" \t ", ""),
            ("\t\tdeny \n limit=64M  ;observe ", "deny limit=64M; observe"),
            ("'deny' limit=\"64M\"", "deny limit=64M"),
            ("x  a='b c' e=''", "x 'a=b c' e="),
            ("x a=\"\\\\\"", "x 'a=\\\\'"),
            ("deny limit=64M;", "deny limit=64M;"),
            ("deny   'limit", "deny   'limit"),
        ] {
            assert_eq!(normalize(line), normalized, "{line:?}");
        }
    }

    /// What a line says, without the positions.
    fn meaning(text: &str) -> Option<Vec<String>> {
        let words = |c: Clause| {
            let args = c.args.into_iter().map(|arg| format!("{:?}={:?}", arg.key, arg.value));
            std::iter::once(format!("{:?}", c.name)).chain(args).collect::<Vec<_>>().join(" ")
        };
        match parse(text).ok()? {
            Line::None => Some(Vec::new()),
            Line::Clauses(all) => Some(all.into_iter().map(words).collect()),
        }
    }

    proptest! {
        #[test]
        fn normalized_line_has_same_meaning(line in "[a-c=;'\"\\\\ \t\n]{0,40}|( {0,9}[a-z]{1,3}( +[a-z]=[0-9 ;'\"\\\\]{0,5})?;?){0,3}") {
            let normalized = normalize(&line);
            prop_assert_eq!(meaning(&normalized), meaning(&line));
            prop_assert!(normalized.len() <= line.len());
            prop_assert_eq!(normalize(&normalized), normalized.clone());
        }
    }
}
