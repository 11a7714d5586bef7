//! Splits Rust source into tokens. Knows comments, strings and test code; nothing about names.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier, a keyword or a number.
    Word,
    /// `::` or one other character.
    Sign,
    /// A string literal, with its quotes.
    Literal,
    /// A comment, with its slashes.
    Comment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// Of its first character, counted from 1.
    pub line: usize,
}

/// Tokens of the code alone, without comments and literals.
pub fn code(text: &str) -> Vec<Token> {
    let mut tokens = tokens(text);
    tokens.retain(|token| matches!(token.kind, Kind::Word | Kind::Sign));
    tokens
}

/// All tokens. Character literals and whitespace are dropped.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out: Vec<Token> = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let kind = match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1
                }
                Some(Kind::Comment)
            }
            '/' if at(i + 1) == '*' => {
                i = block_comment_end(&chars, i);
                Some(Kind::Comment)
            }
            'r' | 'b' | 'c' if string_start(&chars, i).is_some() => {
                i = string_end(&chars, i);
                Some(Kind::Literal)
            }
            '"' => {
                i = string_end(&chars, i);
                Some(Kind::Literal)
            }
            // 'a' and '\n' are characters, 'a is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i - 1) != '\'' {
                    i += 1
                }
                None
            }
            '\'' if at(i + 2) == '\'' => {
                i += 3;
                None
            }
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1
                }
                Some(Kind::Word)
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                Some(Kind::Sign)
            }
            c => {
                i += 1;
                (!c.is_whitespace()).then_some(Kind::Sign)
            }
        };
        let end = i.min(chars.len());
        if let Some(kind) = kind {
            out.push(Token { kind, text: chars[start..end].iter().collect(), line });
        }
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut depth, mut i) = (0, start);
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
    i
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

/// Token texts, with an empty text past the end.
pub struct Cursor<'a>(pub &'a [Token]);

impl Cursor<'_> {
    pub fn at(&self, i: usize) -> &str {
        self.0.get(i).map_or("", |token| token.text.as_str())
    }

    /// Index of the bracket that closes the one at `open`.
    pub fn closing(&self, open: usize) -> usize {
        let (opens, closes) = match self.at(open) {
            "{" => ("{", "}"),
            "(" => ("(", ")"),
            "[" => ("[", "]"),
            _ => ("<", ">"),
        };
        let mut depth = 0;
        for i in open..self.0.len() {
            match self.at(i) {
                text if text == opens => depth += 1,
                // The arrow of a return type closes no bracket.
                text if text == closes && !(closes == ">" && matches!(self.at(i - 1), "-" | "=")) => {
                    depth -= 1
                }
                _ => {}
            }
            if depth == 0 {
                return i;
            }
        }
        self.0.len()
    }

    /// Index of the token after the item at `start`: after its `;`, or after the `}` of its body.
    fn item_end(&self, start: usize) -> usize {
        let mut i = start;
        while i < self.0.len() {
            match self.at(i) {
                ";" | "," => return i + 1,
                "(" | "[" => i = self.closing(i),
                "{" => {
                    let close = self.closing(i);
                    // `use a::{b};` has its semicolon behind the brace.
                    return if self.at(close + 1) == ";" { close + 2 } else { close + 1 };
                }
                _ => {}
            }
            i += 1;
        }
        i
    }
}

/// The tokens without the items under `#[cfg(test)]`, and the names of the test modules kept in files of their own.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let cursor = Cursor(tokens);
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        let attribute = cursor.at(i) == "#" && cursor.at(i + 1) == "[";
        let close = if attribute { cursor.closing(i + 1) } else { i };
        let words: Vec<&str> = (i..close).map(|at| cursor.at(at)).filter(|text| text.len() > 1).collect();
        if !attribute || !(words.starts_with(&["cfg", "test"]) || words.starts_with(&["cfg", "all", "test"]))
        {
            kept.extend_from_slice(&tokens[i..=close.min(tokens.len() - 1)]);
            i = close + 1;
            continue;
        }
        i = close + 1;
        while cursor.at(i) == "#" {
            i = cursor.closing(i + 1) + 1;
        }
        let end = cursor.item_end(i);
        let item = (i..end).find(|at| cursor.at(*at) == "mod");
        if let Some(at) = item.filter(|at| cursor.at(at + 2) == ";") {
            modules.push(cursor.at(at + 1).to_owned());
        }
        i = end;
    }
    (kept, modules)
}

#[test]
fn tokens_have_lines_and_kinds() {
    let tokens = tokens("a // b\n\"c\nd\" 'e' 'f\n::r#\"\"g\"#");
    let seen: Vec<(&str, usize)> = tokens.iter().map(|token| (token.text.as_str(), token.line)).collect();
    assert_eq!(
        seen,
        [("a", 1), ("// b", 1), ("\"c\nd\"", 2), ("'", 3), ("f", 3), ("::", 4), ("r#\"\"g\"#", 4)]
    );
    assert_eq!(tokens[1].kind, Kind::Comment);
    assert_eq!(tokens[2].kind, Kind::Literal);
}

#[test]
fn test_items_are_left_out() {
    let text = "a; #[cfg(test)] mod t; #[cfg(test)] #[path = \"x\"] pub(crate) mod u; b; \
                #[cfg(test)] fn f(x: [u8; 2]) { c } #[cfg(test)] use d::{e}; #[cfg(not(test))] g; #[h] i";
    let (kept, modules) = without_tests(&code(text));
    let kept: Vec<&str> = kept.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(kept.join(" "), "a ; b ; # [ cfg ( not ( test ) ) ] g ; # [ h ] i");
    assert_eq!(modules, ["t", "u"]);
}
