//! Sizes: a file has at most 400 lines, a function at most 80.

use crate::rust::{Cursor, code};
use crate::tree::File;

pub const FILE_LINES_MAX: usize = 400;
pub const FUNCTION_LINES_MAX: usize = 80;

/// The languages that are measured. Other files are data or prose.
#[derive(Debug, PartialEq, Eq)]
enum Language {
    Rust,
    C,
    Python,
    Shell,
    JavaScript,
}

fn language(path: &str, text: &str) -> Option<Language> {
    let first = text.lines().next().unwrap_or("");
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rs") => Some(Language::Rust),
        Some("c" | "h") => Some(Language::C),
        Some("py") => Some(Language::Python),
        Some("sh") => Some(Language::Shell),
        Some("mjs" | "js" | "jsx") => Some(Language::JavaScript),
        _ if first.starts_with("#!") && first.contains("python") => Some(Language::Python),
        _ if first.starts_with("#!") && first.contains("sh") => Some(Language::Shell),
        _ => None,
    }
}

/// Files that are too long.
pub fn long_files(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let lines = text.lines().count();
        if language(path, text).is_some() && lines > FILE_LINES_MAX {
            found.push(format!("{path}: {lines} lines; a file has at most {FILE_LINES_MAX}"));
        }
    }
    found
}

/// Functions that are too long.
pub fn long_functions(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let functions = language(path, text).map(|language| functions(&language, text)).unwrap_or_default();
        for (name, line, lines) in functions {
            if lines > FUNCTION_LINES_MAX {
                found.push(format!(
                    "{path}:{line}: {name} has {lines} lines; a function has at most {FUNCTION_LINES_MAX}"
                ));
            }
        }
    }
    found
}

/// Name, first line and number of lines of each function.
fn functions(language: &Language, text: &str) -> Vec<(String, usize, usize)> {
    match language {
        Language::Rust => rust_functions(text),
        Language::C => c_functions(text),
        Language::Python => indented_functions(text),
        Language::Shell => closed_functions(text, |line| {
            line.strip_suffix('{').and_then(|head| head.trim_end().strip_suffix("()")).map(str::to_owned)
        }),
        Language::JavaScript => closed_functions(text, |line| {
            let words = line.trim_start_matches("export ").trim_start_matches("async ");
            let name = words.strip_prefix("function ")?.split('(').next()?;
            line.ends_with('{').then(|| name.to_owned())
        }),
    }
}

fn rust_functions(text: &str) -> Vec<(String, usize, usize)> {
    let tokens = code(text);
    let cursor = Cursor(&tokens);
    let mut found = Vec::new();
    for i in (0..tokens.len()).filter(|i| cursor.at(*i) == "fn") {
        let mut open = i;
        while !matches!(cursor.at(open), "{" | ";" | "") {
            open = if matches!(cursor.at(open), "(" | "[") { cursor.closing(open) } else { open };
            open += 1;
        }
        let close = cursor.closing(open);
        if cursor.at(open) == "{" && close < tokens.len() {
            let lines = tokens[close].line - tokens[i].line + 1;
            found.push((cursor.at(i + 1).to_owned(), tokens[i].line, lines));
        }
    }
    found
}

/// In kernel style, the braces of the body are in the first column, or the opening one ends the line of the head. A
/// macro of several lines counts as a function.
fn c_functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut head = None;
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        if line.starts_with("#define") && line.ends_with('\\') {
            let end = (i..lines.len()).find(|at| !lines[*at].ends_with('\\')).unwrap_or(lines.len() - 1);
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            found.push((name.split('(').next().unwrap_or_default().to_owned(), i + 1, end - i + 1));
            i = end;
        } else if line.starts_with(|c: char| c.is_alphabetic() || c == '_') && line.contains('(') {
            let name = line.split('(').next().unwrap_or_default();
            head = Some((name.rsplit([' ', '*']).next().unwrap_or_default().to_owned(), i));
        } else if line.starts_with('}')
            && let Some((name, start)) = head.take()
        {
            found.push((name, start + 1, i - start + 1));
        }
        i += 1;
    }
    found
}

/// A Python function ends before the next line that is indented no deeper than its head.
fn indented_functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("def ") else { continue };
        let inside = |next: &&&str| {
            next.trim().is_empty() || indent(next) > indent(line) || next.trim_start().starts_with(')')
        };
        let body = lines[i + 1..].iter().take_while(inside).count();
        let trailing =
            lines[i + 1..i + 1 + body].iter().rev().take_while(|next| next.trim().is_empty()).count();
        found.push((rest.split('(').next().unwrap_or_default().to_owned(), i + 1, body - trailing + 1));
    }
    found
}

/// Functions whose head `name` recognises and whose body ends with `}` in the first column.
fn closed_functions(text: &str, name: impl Fn(&str) -> Option<String>) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let end = lines[i..].iter().position(|line| line.starts_with('}'));
        if let (Some(name), Some(end)) = (name(line), end) {
            found.push((name, i + 1, end + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{FILE_LINES_MAX, FUNCTION_LINES_MAX, long_files, long_functions};
    use crate::tree::made_up;

    /// The violations of a file with `count` lines between a head and a foot.
    fn violations_of(path: &str, head: &str, line: &str, count: usize, foot: &str) -> Vec<String> {
        let text = format!("{head}\n{}{foot}\n", format!("{line}\n").repeat(count));
        let files = made_up(&[(path, &text)]);
        [long_files(&files), long_functions(&files)].concat()
    }

    #[test]
    fn long_file_is_found_at_its_limit() {
        for (path, head) in
            [("src/a.rs", ""), ("bpf/a.h", ""), ("tests/a.py", ""), ("tests/run", "#!/bin/sh")]
        {
            assert_eq!(violations_of(path, head, "", FILE_LINES_MAX - 2, ""), Vec::<String>::new(), "{path}");
            assert_eq!(
                violations_of(path, head, "", FILE_LINES_MAX - 1, ""),
                [format!("{path}: 401 lines; a file has at most 400")]
            );
        }
        assert_eq!(violations_of("tests/package.json", "", "", 1000, ""), Vec::<String>::new());
    }

    #[test]
    fn long_function_is_found_at_its_limit() {
        for (path, head, line, foot) in [
            ("src/a.rs", "async fn f<T>(x: [u8; 2]) -> u8 {", "x(\"}\");", "}"),
            ("src/b.rs", "mod m { fn f() {", "{ }", "} }"),
            ("bpf/a.h", "static __always_inline int f(int x) {", "\tx;", "}"),
            ("bpf/b.c", "#define f(x) \\", "x \\", "x"),
            ("tests/c.py", "def f(x):", "    x", ""),
            ("tests/run", "#!/bin/sh\nf() {", "  x", "}"),
            ("tests/d.mjs", "export async function f(x) {", "  x", "}"),
        ] {
            // Python has no line that closes a function.
            let between = if path.ends_with(".py") { FUNCTION_LINES_MAX - 1 } else { FUNCTION_LINES_MAX - 2 };
            assert_eq!(violations_of(path, head, line, between, foot), Vec::<String>::new(), "{path}");
            let found = violations_of(path, head, line, between + 1, foot);
            assert_eq!(found.len(), 1, "{path}");
            assert!(found[0].ends_with(": f has 81 lines; a function has at most 80"), "{}", found[0]);
        }
    }
}
