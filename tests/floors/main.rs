//! The layout of the source: rooms on floors, files without circles, sizes, and words that are retired.
//!
//! `src/lib.rs` has the table of floors, `docs/glossary.md` the table of retired words.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod glossary;
mod graph;
mod modules;
mod rooms;
mod rust;
mod sizes;
mod tree;
mod types;

use std::fs;

use modules::Modules;

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn file_uses_only_lower_floors() {
    let lib = fs::read_to_string(tree::root().join("src/lib.rs")).unwrap();
    let files = tree::sources();
    assert!(files.len() > 20, "only {} files were read", files.len());
    let used: usize =
        files.iter().map(|(path, text)| rooms::used_rooms(text, rooms::room_and_depth(path).1).len()).sum();
    assert!(used > 50, "only {used} imports were found");
    assert_none(&rooms::violations(&lib, &files));
}

fn measured_files() -> Vec<tree::File> {
    let files = tree::files(&["src", "bpf", "tests", "fuzz", "examples", "packaging", "systemd", ".ci"]);
    assert!(files.len() > 200, "only {} files were read", files.len());
    files
}

#[test]
fn files_are_short() {
    assert_none(&sizes::long_files(&measured_files()));
}

#[test]
fn functions_are_short() {
    assert_none(&sizes::long_functions(&measured_files()));
}

#[test]
fn files_use_each_other_in_no_circle() {
    let modules = Modules::read(&tree::sources());
    let uses = modules.uses().len();
    assert!(uses > 200, "only {uses} uses were found");
    assert_none(&modules.circles());
}

#[test]

fn methods_of_a_type_are_in_one_file() {
    assert_none(&types::spread(&Modules::read(&tree::sources())));
}

#[test]
fn trait_has_two_implementations() {
    assert_none(&types::lone_traits(&Modules::read(&tree::sources())));
}

#[test]
fn retired_words_do_not_occur() {
    let page = fs::read_to_string(tree::root().join("docs/glossary.md")).unwrap();
    let table = glossary::table(&page).unwrap_or_else(|error| panic!("{error}"));
    assert_none(&glossary::violations(&table, &glossary::texts()));
}
