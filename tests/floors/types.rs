//! Types and traits: the methods of a type are in one file, and a trait has at least two implementations.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::Modules;
use crate::rust::{Cursor, Token};

/// An `impl` block.
struct Impl {
    /// For a block with `for`: the trait.
    trait_name: Option<String>,
    /// The last name of the type's path.
    type_name: String,
}

/// All `impl` blocks of a file.
fn impls(tokens: &[Token]) -> Vec<Impl> {
    let cursor = Cursor(tokens);
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        // `impl` in the position of a type, as in `-> impl Trait`, is not a block.
        let item = i == 0 || matches!(cursor.at(i - 1), "}" | ";" | "]" | "{" | "unsafe");
        if cursor.at(i) != "impl" || !item {
            continue;
        }
        let start = if cursor.at(i + 1) == "<" { cursor.closing(i + 1) + 1 } else { i + 1 };
        let (first, after) = type_name(&cursor, start);
        let of_trait = cursor.at(after) == "for";
        let type_name = if of_trait { type_name(&cursor, after + 1).0 } else { first.clone() };
        found.push(Impl { trait_name: of_trait.then_some(first), type_name });
    }
    found
}

/// The last name of the path at `start` outside of angle brackets, and the index of the `for`, `where` or `{` behind it.
fn type_name(cursor: &Cursor<'_>, start: usize) -> (String, usize) {
    let mut name = String::new();
    let mut i = start;
    while !matches!(cursor.at(i), "for" | "where" | "{" | "") {
        match cursor.at(i) {
            "<" | "(" | "[" => i = cursor.closing(i),
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && word != "dyn"
                && word != "mut" =>
            {
                name = word.to_owned();
            }
            _ => {}
        }
        i += 1;
    }
    (name, i)
}

/// Types whose methods are in several files. Implementations of traits do not count.
pub fn spread(modules: &Modules) -> Vec<String> {
    // (defining file, type) → files with methods
    let mut files: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for (path, module) in modules.iter() {
        for block in impls(&module.tokens).into_iter().filter(|block| block.trait_name.is_none()) {
            let defined = modules.defining_file(path, &block.type_name).unwrap_or(&module.file).to_owned();
            files.entry((defined, block.type_name)).or_default().insert(&module.file);
        }
    }
    files
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|((defined, name), files)| {
            let files: Vec<String> = files.into_iter().map(|file| format!("src/{file}")).collect();
            format!("src/{defined}: methods of {name} are spread over {}", files.join(", "))
        })
        .collect()
}

/// Traits with fewer than two implementations. `zbus` implements traits of D-Bus interfaces.
pub fn lone_traits(modules: &Modules) -> Vec<String> {
    let mut traits: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (_, module) in modules.iter() {
        let cursor = Cursor(&module.tokens);
        for i in (0..module.tokens.len()).filter(|i| cursor.at(*i) == "trait" && !is_proxy(&cursor, *i)) {
            traits.insert(
                cursor.at(i + 1).to_owned(),
                (format!("{}:{}", module.file, module.tokens[i].line), 0),
            );
        }
    }
    for (_, module) in modules.iter() {
        for name in impls(&module.tokens).into_iter().filter_map(|block| block.trait_name) {
            if let Some((_, count)) = traits.get_mut(&name) {
                *count += 1;
            }
        }
    }
    traits
        .into_iter()
        .filter(|(_, (_, count))| *count < 2)
        .map(|(name, (place, count))| format!("src/{place}: trait {name} has {count} implementation(s)"))
        .collect()
}

/// True if an attribute `#[proxy(…)]` precedes the trait.
fn is_proxy(cursor: &Cursor<'_>, at: usize) -> bool {
    let mut i = at;
    while i > 0 && !matches!(cursor.at(i - 1), ";" | "}") {
        i -= 1;
        if cursor.at(i) == "proxy" {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{lone_traits, spread};
    use crate::modules::Modules;
    use crate::tree::{made_up, sources};

    #[test]
    fn methods_in_two_files_are_found() {
        let files = [
            (
                "room/mod.rs",
                "mod a; mod b; pub use a::Loop; struct Loop2; impl Loop2 { fn f() {} } impl Loop2 {}",
            ),
            (
                "room/a.rs",
                "pub struct Loop<T>(T); impl<T: Fn() -> u8> Loop<T> { fn f() -> impl Iterator {} }",
            ),
            ("room/b.rs", "use super::Loop; #[x] impl Loop<u8> { fn g(self) {} } impl Clone for Loop {}"),
            ("other.rs", "struct Loop; impl Loop {}"),
        ];
        assert_eq!(
            spread(&Modules::read(&made_up(&files))),
            ["src/room/a.rs: methods of Loop are spread over src/room/a.rs, src/room/b.rs"]
        );
    }

    #[test]
    fn test_methods_and_trait_impls_may_stand_elsewhere() {
        let files = [
            ("a.rs", "pub struct Loop; impl Loop {}"),
            (
                "b.rs",
                "use crate::a::Loop; impl From<Loop> for u8 {} #[cfg(test)] impl Loop {} #[cfg(test)] mod c;",
            ),
            ("b/c.rs", "impl crate::a::Loop {}"),
            ("b/tests.rs", "impl crate::a::Loop {}"),
        ];
        assert_eq!(spread(&Modules::read(&made_up(&files))), Vec::<String>::new());
    }

    #[test]
    fn trait_with_one_implementation_is_found() {
        let files = [
            (
                "a.rs",
                "pub trait One { fn f(); } trait None {} trait Two<T> {} #[proxy(x = 1)] pub trait Bus {}",
            ),
            ("b.rs", "impl<T> crate::a::One for T {} impl Two<u8> for A {} impl Two<u16> for &mut B {}"),
            ("b_tests.rs", "impl crate::a::One for Fake {} trait Local {}"),
        ];
        assert_eq!(
            lone_traits(&Modules::read(&made_up(&files))),
            [
                "src/a.rs:1: trait None has 0 implementation(s)",
                "src/a.rs:1: trait One has 1 implementation(s)"
            ]
        );
    }

    #[test]
    fn violation_added_to_the_tree_is_found() {
        let mut files = sources();
        let before = Modules::read(&files);
        let counts = (spread(&before).len(), lone_traits(&before).len());
        let added = "use super::CgroupPath; impl CgroupPath { fn x() {} } trait Lone {} impl Lone for u8 {}";
        files.push(("names/added.rs".to_owned(), added.to_owned()));
        let after = Modules::read(&files);
        assert_eq!((spread(&after).len(), lone_traits(&after).len()), (counts.0 + 1, counts.1 + 1));
    }
}
