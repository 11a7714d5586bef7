use super::Modules;
use crate::tree::{File, made_up, sources};

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    Modules::read(&made_up(files)).circles()
}

#[test]
fn circle_in_a_room_is_found_in_every_notation() {
    for (a, b) in [
        ("use super::b::B; pub struct A;", "use super::a::A; pub struct B;"),
        ("use crate::room::b; fn f() { b::go() }", "fn go() { super::a::f() }"),
        (
            "use super::{b::{self, B}}; pub fn f() { b::go() }",
            "fn go() { println!(\"{}\", crate::room::a::f()) }",
        ),
        ("use super::C; pub struct A;", "pub struct C; use super::a::A as X;"),
        ("fn f() { use super::b::B; }", "pub struct B; mod inner { use super::super::a::f; }"),
        ("use super::super::room::b::B; pub struct A;", "use self::super::a::A; pub struct B;"),
    ] {
        let found =
            circles(&[("room/mod.rs", "mod a; mod b; pub use b::C;"), ("room/a.rs", a), ("room/b.rs", b)]);
        assert_eq!(found.len(), 1, "{a} {b}");
        assert!(found[0].contains("src/room/a.rs uses src/room/b.rs"), "{}", found[0]);
    }
}

#[test]
fn circle_of_parent_and_child_is_found() {
    let found = circles(&[
        ("room/mod.rs", "mod a; pub struct Loop; fn f() { a::run() }"),
        ("room/a.rs", "use super::Loop; pub fn run() {}"),
    ]);
    assert_eq!(
        found,
        ["2 files use each other in a circle:\n    src/room/a.rs uses src/room/mod.rs: Loop\n    \
          src/room/mod.rs uses src/room/a.rs: run"]
    );
}

#[test]
fn reexport_test_code_and_one_way_use_are_no_circle() {
    for (parent, a, b) in [
        ("mod a; mod b; pub use a::A; pub(crate) use b::B;", "use super::B; pub struct A;", "pub struct B;"),
        ("pub mod a; pub mod b; pub use b::*;", "use super::B; pub struct A;", "pub struct B;"),
        ("mod a; mod b; pub struct P;", "use super::P; use std::io::b;", "use super::a::A; use super::P;"),
        (
            "mod a; mod b;",
            "pub struct A; #[cfg(test)] mod tests { use super::super::b::B; }",
            "use super::a::A; pub struct B;",
        ),
        (
            "mod a; mod b;",
            "pub struct A; // super::b::B\nconst T: &str = \"super::b::B\";",
            "use super::a::A;",
        ),
    ] {
        let files = [
            ("room/mod.rs", parent),
            ("room/a.rs", a),
            ("room/b.rs", b),
            ("room/a_tests.rs", "use super::super::b::B;"),
        ];
        assert_eq!(circles(&files), Vec::<String>::new(), "{parent}");
    }
}

/// A circle of two files, added to the real tree, is found there.
#[test]
fn circle_added_to_the_tree_is_found() {
    let files = sources();
    let before = Modules::read(&files).circles();
    let mut with_circle: Vec<File> = files;
    with_circle.push(("names/first.rs".to_owned(), "use super::second::B; pub struct A;".to_owned()));
    with_circle.push(("names/second.rs".to_owned(), "use crate::names::first::A; pub struct B;".to_owned()));
    let after = Modules::read(&with_circle).circles();
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().any(|circle| circle.contains("src/names/first.rs uses src/names/second.rs: B")));
}
