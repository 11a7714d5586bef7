//! Rooms and floors: a file uses only lower floors, and rooms use each other in no circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{Token, code};
use crate::tree::File;

/// Rooms of this floor do not use each other: each alone touches its part of the system.
const SEPARATE: usize = 4;
/// The programs; not a room of the library.
const BIN: &str = "bin";

/// Room → floor, from rows like `//! | 0 | [`text`] [`names`] | sizes … |`.
fn table(lib: &str) -> BTreeMap<String, usize> {
    let mut floors = BTreeMap::new();
    for line in lib.lines() {
        let cells: Vec<&str> = line.trim_start_matches("//!").split('|').map(str::trim).collect();
        let Some(Ok(floor)) = cells.get(1).map(|cell| cell.parse::<usize>()) else { continue };
        for room in cells[2].split_whitespace() {
            let name = room.trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned();
            assert_eq!(floors.insert(name, floor), None, "duplicate room '{room}' in the table");
        }
    }
    floors
}

/// `engine` for `engine.rs` and `engine/step.rs`, and how many modules deep the file is below the crate's root.
pub fn room_and_depth(path: &str) -> (String, usize) {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    // `line_tests.rs` is the module `tests` of `line.rs`.
    let tests = usize::from(parts.last().is_some_and(|last| last.ends_with("_tests")));
    let depth = if parts[0] == BIN { 0 } else { parts.len() + tests };
    (parts[0].to_owned(), depth)
}

/// Every violation of the table in `lib`, one sentence each.
pub fn violations(lib: &str, files: &[File]) -> Vec<String> {
    let floors = table(lib);
    let mut violations = Vec::new();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut rooms: BTreeSet<String> = BTreeSet::new();
    for (path, text) in files {
        let (room, depth) = room_and_depth(path);
        rooms.insert(room.clone());
        let Some(floor) = floors.get(&room) else {
            violations.push(format!("src/{path}: room '{room}' is missing in the table of src/lib.rs"));
            continue;
        };
        for name in used_rooms(text, depth) {
            match floors.get(&name) {
                None => violations.push(format!("src/{path}: uses '{name}', which is no room of the table")),
                Some(other) if other > floor => violations.push(format!(
                    "src/{path}: floor {floor} uses '{name}' on floor {other}; a file uses only lower floors"
                )),
                Some(other) if other == floor && name != room && *floor == SEPARATE => {
                    violations.push(format!(
                        "src/{path}: uses '{name}'; the rooms of floor {floor} do not use each other"
                    ));
                }
                Some(_) if name != room => {
                    uses.entry(room.clone()).or_default().insert(name);
                }
                Some(_) => {}
            }
        }
    }
    violations.extend(
        floors
            .keys()
            .filter(|room| !rooms.contains(*room))
            .map(|room| format!("src/lib.rs: there is no room '{room}'")),
    );
    violations.extend(
        crate::graph::circle(&uses)
            .map(|circle| format!("rooms use each other in a circle: {}", circle.join(" → "))),
    );
    violations
}

/// The rooms that a file names: in imports, groups, paths in code and inside of macros, and by `super`.
pub fn used_rooms(text: &str, depth: usize) -> BTreeSet<String> {
    let tokens = code(text);
    let at = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let mut found = BTreeSet::new();
    // True for each open brace of a module.
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
fn first_names(tokens: &[Token], start: usize, found: &mut BTreeSet<String>) {
    let at = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
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

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::tree::made_up;

    /// The violations of one file in a small example.
    fn violations_of(path: &str, text: &str) -> Vec<String> {
        let lib = "//! | floor | room | knows |\n//! |---|---|---|\n//! | 0 | [`text`] [`names`] | no I/O |\n\
                   //! | 4 | [`bpf`] [`cgroup`] | the kernel |\n//! | 5 | [`daemon`] | loops |\n//! | 6 | `bin/` | programs |\n";
        let rooms = ["text.rs", "names.rs", "bpf/mod.rs", "cgroup.rs", "daemon/mod.rs", "bin/d.rs"];
        let mut files: Vec<(&str, &str)> = rooms.map(|name| (name, "")).to_vec();
        files.push((path, text));
        violations(lib, &made_up(&files))
    }

    #[test]
    fn upward_import_is_found_in_every_notation() {
        for text in [
            "use crate::daemon::Loop;",
            "use crate::{names::X, daemon::{self, Y}};",
            "use crate :: { bpf , daemon };",
            "fn f() { crate::daemon::run() }",
            "macro_rules! m { () => { $crate::daemon::run() } }",
            "fn f() { println!(\"{}\", crate::daemon::run()) }",
            "use super::super::daemon;",
            "mod tests { use super::super::super::daemon; }",
            "fn f<'a>(x: &'a str) -> char { crate::daemon::c('\"') }",
            "const A: &str = r#\"\"//\"#; use crate::daemon;",
            "const A: char = '\\''; use crate::daemon;",
            "/* /* */ */ pub(in crate::daemon) fn f() {}",
        ] {
            assert_eq!(
                violations_of("bpf/x.rs", text),
                ["src/bpf/x.rs: floor 4 uses 'daemon' on floor 5; a file uses only lower floors"],
                "{text}"
            );
        }
    }

    #[test]
    fn downward_import_comment_and_string_are_allowed() {
        for text in [
            "use crate::text::X; use super::attach; mod tests { use super::super::log; }",
            "//! As [`crate::daemon`] says.\n/* crate::daemon */",
            "const A: &str = \"crate::daemon\"; const B: &str = r##\"crate::\"# daemon crate::daemon\"##;",
            "use other::crate_::daemon; use self::daemon_like;",
        ] {
            assert_eq!(violations_of("bpf/x.rs", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(violations_of("bin/x.rs", "fn main() { memcg_bpf::daemon::run() }"), Vec::<String>::new());
    }

    #[test]
    fn separate_circular_and_unknown_rooms_are_found() {
        assert_eq!(
            violations_of("bpf/x.rs", "use crate::cgroup::tree;"),
            ["src/bpf/x.rs: uses 'cgroup'; the rooms of floor 4 do not use each other"]
        );
        assert_eq!(
            violations_of("attic.rs", ""),
            ["src/attic.rs: room 'attic' is missing in the table of src/lib.rs"]
        );
        assert_eq!(
            violations_of("text/x.rs", "use crate::attic;"),
            ["src/text/x.rs: uses 'attic', which is no room of the table"]
        );
        assert_eq!(
            violations_of("text/x.rs", "use crate::*;"),
            ["src/text/x.rs: uses '*', which is no room of the table"]
        );
        assert!(violations_of("text/x.rs", "use crate as house;")[0].contains("crate as another name"));
        let lib = "//! | 0 | [`text`] [`names`] | no I/O |\n";
        let files = made_up(&[("text.rs", "use crate::names::X;"), ("names.rs", "use crate::text::Y;")]);
        assert_eq!(violations(lib, &files), ["rooms use each other in a circle: names → text → names"]);
        assert_eq!(violations("//! | 0 | [`text`] | |\n", &[]), ["src/lib.rs: there is no room 'text'"]);
    }
}
