//! A file uses only lower floors. The table in `src/lib.rs` says which room is on which floor; this test reads it and
//! all sources, and fails on an import that goes up, on rooms that use each other in a circle, and on a room that the
//! table does not know.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use reader::names;

/// Rooms of this floor do not know each other: each is the only one that touches its part of the system.
const STRANGERS: usize = 4;
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
            assert_eq!(floors.insert(name, floor), None, "'{room}' stands in the table twice");
        }
    }
    floors
}

/// `engine` for `engine.rs` and `engine/step.rs`, and how many modules deep the file is below the crate's root.
fn place(path: &str) -> (String, usize) {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    // `line_tests.rs` is the module `tests` of `line.rs`.
    let tests = usize::from(parts.last().is_some_and(|last| last.ends_with("_tests")));
    let depth = if parts[0] == BIN { 0 } else { parts.len() + tests };
    (parts[0].to_owned(), depth)
}

/// Everything that is wrong with a house, one sentence each.
fn faults(lib: &str, files: &[(String, String)]) -> Vec<String> {
    let floors = table(lib);
    let mut faults = Vec::new();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut rooms: BTreeSet<String> = BTreeSet::new();
    for (path, text) in files {
        let (room, depth) = place(path);
        rooms.insert(room.clone());
        let Some(floor) = floors.get(&room) else {
            faults.push(format!("src/{path}: the table in src/lib.rs has no room '{room}'"));
            continue;
        };
        for name in names(text, depth) {
            match floors.get(&name) {
                None => faults.push(format!("src/{path}: uses '{name}', which is no room of the table")),
                Some(other) if other > floor => faults.push(format!(
                    "src/{path}: floor {floor} uses '{name}' on floor {other}; a file uses only lower floors"
                )),
                Some(other) if other == floor && name != room && *floor == STRANGERS => {
                    faults.push(format!(
                        "src/{path}: uses '{name}'; the rooms of floor {floor} do not know each other"
                    ));
                }
                Some(_) if name != room => {
                    uses.entry(room.clone()).or_default().insert(name);
                }
                Some(_) => {}
            }
        }
    }
    faults.extend(
        floors
            .keys()
            .filter(|room| !rooms.contains(*room))
            .map(|room| format!("src/lib.rs: there is no room '{room}'")),
    );
    faults.extend(
        circle(&uses).map(|circle| format!("rooms use each other in a circle: {}", circle.join(" → "))),
    );
    faults
}

/// Rooms that lead back to where they began.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(uses: &BTreeMap<String, BTreeSet<String>>, way: &mut Vec<String>) -> bool {
        let here = way.last().cloned().unwrap_or_default();
        for next in uses.get(&here).into_iter().flatten() {
            let back = way.iter().position(|room| room == next);
            way.push(next.clone());
            if let Some(start) = back {
                way.drain(..start);
                return true;
            }
            if walk(uses, way) {
                return true;
            }
            way.pop();
        }
        false
    }
    uses.keys().find_map(|room| {
        let mut way = vec![room.clone()];
        walk(uses, &mut way).then_some(way)
    })
}

fn sources(dir: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            sources(&path, &format!("{name}/"), files);
        } else if name.ends_with(".rs") && name != "lib.rs" {
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn a_file_uses_only_lower_floors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let mut files = Vec::new();
    sources(&src, "", &mut files);
    assert!(files.len() > 20, "only {} files were read", files.len());
    let used: usize = files.iter().map(|(path, text)| names(text, place(path).1).len()).sum();
    assert!(used > 50, "only {used} imports were seen: the reader is blind");
    let faults = faults(&lib, &files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A small house: what the checker says about one file in it.
fn said(path: &str, text: &str) -> Vec<String> {
    let lib = "//! | floor | room | knows |\n//! |---|---|---|\n//! | 0 | [`text`] [`names`] | no I/O |\n\
               //! | 4 | [`bpf`] [`cgroup`] | the kernel |\n//! | 5 | [`daemon`] | loops |\n//! | 6 | `bin/` | programs |\n";
    let mut files: Vec<(String, String)> =
        ["text.rs", "names.rs", "bpf/mod.rs", "cgroup.rs", "daemon/mod.rs", "bin/d.rs"]
            .map(|name| (name.to_owned(), String::new()))
            .to_vec();
    files.push((path.to_owned(), text.to_owned()));
    faults(lib, &files)
}

#[test]
fn imports_that_go_up_are_found_in_every_notation() {
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
            said("bpf/x.rs", text),
            ["src/bpf/x.rs: floor 4 uses 'daemon' on floor 5; a file uses only lower floors"],
            "{text}"
        );
    }
}

#[test]
fn imports_that_go_down_and_words_in_comments_and_strings_are_in_order() {
    for text in [
        "use crate::text::X; use super::attach; mod tests { use super::super::log; }",
        "//! As [`crate::daemon`] says.\n/* crate::daemon */",
        "const A: &str = \"crate::daemon\"; const B: &str = r##\"crate::\"# daemon crate::daemon\"##;",
        "use other::crate_::daemon; use self::daemon_like;",
    ] {
        assert_eq!(said("bpf/x.rs", text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(said("bin/x.rs", "fn main() { memcg_bpf::daemon::run() }"), Vec::<String>::new());
}

#[test]
fn strangers_circles_and_unknown_rooms_are_told() {
    assert_eq!(
        said("bpf/x.rs", "use crate::cgroup::tree;"),
        ["src/bpf/x.rs: uses 'cgroup'; the rooms of floor 4 do not know each other"]
    );
    assert_eq!(said("attic.rs", ""), ["src/attic.rs: the table in src/lib.rs has no room 'attic'"]);
    assert_eq!(
        said("text/x.rs", "use crate::attic;"),
        ["src/text/x.rs: uses 'attic', which is no room of the table"]
    );
    assert_eq!(
        said("text/x.rs", "use crate::*;"),
        ["src/text/x.rs: uses '*', which is no room of the table"]
    );
    assert!(said("text/x.rs", "use crate as house;")[0].contains("crate as another name"));
    let lib = "//! | 0 | [`text`] [`names`] | no I/O |\n";
    let files = [("text.rs", "use crate::names::X;"), ("names.rs", "use crate::text::Y;")];
    assert_eq!(
        faults(lib, &files.map(|(path, text)| (path.to_owned(), text.to_owned()))),
        ["rooms use each other in a circle: names → text → names"]
    );
    assert_eq!(faults("//! | 0 | [`text`] | |\n", &[]), ["src/lib.rs: there is no room 'text'"]);
}
