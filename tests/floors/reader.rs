//! Reads Rust as far as it takes to see what a file names.

use std::collections::BTreeSet;

/// The text as words and signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out: Vec<String> = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                while i < chars.len() {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            'r' | 'b' | 'c' if string_start(&chars, i).is_some() => i = string_end(&chars, i),
            '"' => i = string_end(&chars, i),
            // 'a' and '\n' are characters, 'a is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i - 1) != '\'' {
                    i += 1
                }
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c if c.is_alphanumeric() || c == '_' => {
                let start = i;
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1
                }
                out.push(chars[start..i].iter().collect());
            }
            ':' if at(i + 1) == ':' => {
                out.push("::".to_owned());
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    out.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    out
}

/// For `r#"`, `b"`, `br"`, `c"`: number of `#`, whether raw, and where the quote is.
fn string_start(chars: &[char], start: usize) -> Option<(usize, bool, usize)> {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    if start > 0 && (at(start - 1).is_alphanumeric() || at(start - 1) == '_') {
        return None;
    }
    let mut i = start;
    while matches!(at(i), 'b' | 'c') && i - start < 1 {
        i += 1
    }
    let raw = at(i) == 'r';
    if raw {
        i += 1;
    }
    let hashes = if raw { chars[i..].iter().take_while(|c| **c == '#').count() } else { 0 };
    (at(i + hashes) == '"').then_some((hashes, raw, i + hashes))
}

fn string_end(chars: &[char], start: usize) -> usize {
    let (hashes, raw, quote) = string_start(chars, start).unwrap_or((0, false, start));
    let mut i = quote + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' if !raw => i += 2,
            '"' if chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
                return i + 1 + hashes;
            }
            _ => i += 1,
        }
    }
    i
}

/// What a file names at the crate's root, wherever it stands: imports, groups, paths in code and inside of macros, and
/// `super` as far as it leads there.
pub fn names(text: &str, depth: usize) -> BTreeSet<String> {
    let tokens = tokens(text);
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut found = BTreeSet::new();
    // For each open brace: does it open a module?
    let mut braces: Vec<bool> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        match at(i) {
            "{" => braces.push(i >= 2 && at(i - 2) == "mod"),
            "}" => {
                braces.pop();
            }
            "crate" if at(i + 1) == "as" => {
                found.insert("crate as another name".to_owned());
            }
            "crate" | "memcg_bpf" if at(i + 1) == "::" && (at(i) == "crate" || depth == 0) => {
                first_names(&tokens, i + 2, &mut found);
            }
            "super" if i == 0 || at(i - 1) != "::" || at(i.wrapping_sub(2)) == "self" => {
                let mut supers = 1;
                while at(i + 1) == "::" && at(i + 2) == "super" {
                    (supers, i) = (supers + 1, i + 2);
                }
                let modules = depth + braces.iter().filter(|module| **module).count();
                if supers == modules && at(i + 1) == "::" {
                    first_names(&tokens, i + 2, &mut found);
                }
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// After `crate::`: one name, or those of a group `{a::b, c}`.
fn first_names(tokens: &[String], start: usize, found: &mut BTreeSet<String>) {
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    if at(start) != "{" {
        found.insert(at(start).to_owned());
        return;
    }
    let mut depth = 0;
    for i in start..tokens.len() {
        match at(i) {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && (at(i - 1) == "," || i == start + 1) => {
                found.insert(name.to_owned());
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
}
