//! Modules: which file uses which, by `crate::`, `super::`, `self::`, child modules, imports and re-exports. Files
//! must not use each other in a circle, even inside a room. A re-export is not a use: an import of it uses the file
//! that defines the item.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, circular_groups};
use crate::rust::{Cursor, Token, code, without_tests};
use crate::tree::{File, is_test_file};

/// Names of nested modules, from the crate's root.
type Path = Vec<String>;

/// A file that is compiled into the library outside of tests.
pub struct Module {
    /// Below `src`.
    pub file: String,
    /// Without test items.
    pub tokens: Vec<Token>,
    defined: BTreeSet<String>,
    /// Name → the path it refers to, for private imports.
    imports: BTreeMap<String, Path>,
    /// The same for `pub use`; `*` is in `globs`.
    reexports: BTreeMap<String, Path>,
    globs: Vec<Path>,
    /// Paths in code and private imports.
    used: Vec<Path>,
}

/// All modules of the library by path.
pub struct Modules(BTreeMap<Path, Module>);

/// (user, used) → names of the used items.
type Uses = BTreeMap<(String, String), BTreeSet<String>>;

impl Modules {
    pub fn read(files: &[File]) -> Self {
        let mut read = BTreeMap::new();
        let mut test_modules: Vec<Path> = Vec::new();
        for (file, text) in files {
            let path = module_path(file);
            if is_test_file(file) || path[0] == "bin" {
                continue;
            }
            let (tokens, tests) = without_tests(&code(text));
            test_modules.extend(tests.into_iter().map(|name| joined(&path, &[name])));
            read.insert(path, (file.clone(), tokens));
        }
        read.retain(|path, _| !test_modules.iter().any(|tests| path.starts_with(tests)));
        let known: BTreeSet<Path> = read.keys().cloned().collect();
        let module = |(path, (file, tokens)): (Path, (String, Vec<Token>))| {
            let scan = Scan::new(&path, &known, &tokens);
            let Scan { defined, imports, reexports, globs, used, .. } = scan.run();
            (path, Module { file, tokens, defined, imports, reexports, globs, used })
        };
        Modules(read.into_iter().map(module).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Module)> {
        self.0.iter()
    }

    /// The file that defines the item at `path`, through re-exports, and the item's name.
    fn definition(&self, path: &[String], hops: usize) -> Option<(&Module, String)> {
        let (module, rest) = (1..=path.len()).rev().find_map(|length| {
            let (head, rest) = path.split_at(length);
            self.0.get(head).map(|module| (module, rest))
        })?;
        let Some(item) = rest.first() else { return Some((module, String::new())) };
        if hops > 0 && !module.defined.contains(item) {
            let aliases = module.reexports.get(item).or_else(|| module.imports.get(item));
            if let Some(target) = aliases {
                return self.definition(target, hops - 1);
            }
            let through_glob = module.globs.iter().find_map(|glob| {
                let (target, name) = self.definition(&joined(glob, std::slice::from_ref(item)), hops - 1)?;
                target.defined.contains(item).then_some((target, name))
            });
            if through_glob.is_some() {
                return through_glob;
            }
        }
        Some((module, item.clone()))
    }

    /// The file that defines the item to which `name` refers in the module at `path`.
    pub fn defining_file(&self, path: &Path, name: &str) -> Option<&str> {
        let (module, _) = self.definition(&joined(path, &[name.to_owned()]), 8)?;
        module.defined.contains(name).then_some(module.file.as_str())
    }

    pub fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for module in self.0.values() {
            for path in &module.used {
                let Some((target, item)) = self.definition(path, 8) else { continue };
                if target.file != module.file && !item.is_empty() {
                    uses.entry((module.file.clone(), target.file.clone())).or_default().insert(item);
                }
            }
        }
        uses
    }

    /// Each group of files that use each other in a circle, with the imports that cause it.
    pub fn circles(&self) -> Vec<String> {
        let uses = self.uses();
        let mut graph = Graph::new();
        for (from, to) in uses.keys() {
            graph.entry(from.clone()).or_default().insert(to.clone());
        }
        let describe = |group: BTreeSet<String>| {
            let ties: Vec<String> = uses
                .iter()
                .filter(|((from, to), _)| group.contains(from) && group.contains(to))
                .map(|((from, to), items)| {
                    let items: Vec<&str> = items.iter().map(String::as_str).collect();
                    format!("    src/{from} uses src/{to}: {}", items.join(", "))
                })
                .collect();
            format!("{} files use each other in a circle:\n{}", group.len(), ties.join("\n"))
        };
        circular_groups(&graph).into_iter().map(describe).collect()
    }
}

/// `engine::step` for `engine/step.rs`, `engine` for `engine/mod.rs`.
fn module_path(file: &str) -> Path {
    file.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

fn joined(path: &[String], names: &[String]) -> Path {
    path.iter().chain(names).cloned().collect()
}

/// One pass over a file.
struct Scan<'a> {
    cursor: Cursor<'a>,
    /// The module at the current token, inline modules included.
    here: Path,
    known: &'a BTreeSet<Path>,
    defined: BTreeSet<String>,
    imports: BTreeMap<String, Path>,
    reexports: BTreeMap<String, Path>,
    globs: Vec<Path>,
    used: Vec<Path>,
}

impl<'a> Scan<'a> {
    fn new(path: &Path, known: &'a BTreeSet<Path>, tokens: &'a [Token]) -> Self {
        Scan {
            cursor: Cursor(tokens),
            here: path.clone(),
            known,
            defined: BTreeSet::new(),
            imports: BTreeMap::new(),
            reexports: BTreeMap::new(),
            globs: Vec::new(),
            used: Vec::new(),
        }
    }

    fn run(mut self) -> Self {
        // Imports may follow the code that uses them, and be inside of functions.
        self.pass(true);
        self.pass(false);
        self
    }

    /// Reads the imports, or the paths in code.
    fn pass(&mut self, imports: bool) {
        let mut inline: Vec<bool> = Vec::new();
        let mut i = 0;
        while i < self.cursor.0.len() {
            match self.cursor.at(i) {
                "{" => {
                    let module = i >= 2 && self.cursor.at(i - 2) == "mod";
                    if module {
                        self.here.push(self.cursor.at(i - 1).to_owned());
                    }
                    inline.push(module);
                }
                "}" if inline.pop() == Some(true) => {
                    self.here.pop();
                }
                "use" => {
                    let end = (i..self.cursor.0.len()).find(|at| self.cursor.at(*at) == ";");
                    let end = end.unwrap_or(self.cursor.0.len());
                    // `impl Trait + use<'a>` is not an import.
                    if self.cursor.at(i + 1) != "<" {
                        if imports {
                            let public =
                                i > 0 && (self.cursor.at(i - 1) == "pub" || self.cursor.at(i - 1) == ")");
                            self.tree(i + 1, &Vec::new(), public);
                        }
                        i = end;
                    }
                }
                "struct" | "enum" | "union" | "fn" | "trait" | "type" | "const" | "static" | "mod"
                    if imports =>
                {
                    self.defined.insert(self.cursor.at(i + 1).to_owned());
                }
                _ if !imports && self.starts_path(i) => i = self.path_in_code(i),
                _ => {}
            }
            i += 1;
        }
    }

    fn starts_path(&self, i: usize) -> bool {
        let before = if i == 0 { "" } else { self.cursor.at(i - 1) };
        let word = self.cursor.at(i).starts_with(|c: char| c.is_alphabetic() || c == '_');
        // `mem::crate::x` is a path of another crate, `$crate::x` is not.
        word && self.cursor.at(i + 1) == "::" && before != "::" && before != "."
    }

    /// Records the path that starts at `i`. Returns the index of its last token.
    fn path_in_code(&mut self, start: usize) -> usize {
        let mut names = vec![self.cursor.at(start).to_owned()];
        let mut i = start;
        while self.cursor.at(i + 1) == "::"
            && self.cursor.at(i + 2).starts_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            names.push(self.cursor.at(i + 2).to_owned());
            i += 2;
        }
        let alias = self.imports.get(&names[0]).or_else(|| self.reexports.get(&names[0])).cloned();
        let path = match alias {
            Some(alias) => Some(joined(&alias, &names[1..])),
            None => self.absolute(&names),
        };
        self.used.extend(path);
        i
    }

    /// Parses one tree of a `use`. Returns the index after it.
    fn tree(&mut self, start: usize, prefix: &[String], public: bool) -> usize {
        let mut names = prefix.to_vec();
        let mut i = start;
        loop {
            match self.cursor.at(i) {
                "{" => {
                    i += 1;
                    while !matches!(self.cursor.at(i), "}" | "") {
                        i = self.tree(i, &names, public);
                        i += usize::from(self.cursor.at(i) == ",");
                    }
                    return i + 1;
                }
                "::" => i += 1,
                "," | ";" | "}" | "" | "as" => break,
                name => {
                    // `{self, X}`: the module itself.
                    if name != "self" || names.is_empty() {
                        names.push(name.to_owned());
                    }
                    i += 1;
                }
            }
        }
        let mut alias = names.last().cloned().unwrap_or_default();
        if self.cursor.at(i) == "as" {
            alias = self.cursor.at(i + 1).to_owned();
            i += 2;
        }
        if let Some(path) = self.absolute(&names) {
            self.import(alias, path, public);
        }
        i
    }

    fn import(&mut self, alias: String, mut path: Path, public: bool) {
        if path.last().is_some_and(|last| last == "*") && public {
            path.pop();
            self.globs.push(path);
        } else if public {
            self.reexports.insert(alias, path);
        } else {
            self.used.push(path.clone());
            self.imports.insert(alias, path);
        }
    }

    /// The path from the crate's root; `None` for what other crates define.
    fn absolute(&self, names: &[String]) -> Option<Path> {
        let mut base = self.here.clone();
        let mut rest = names;
        match names.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &names[1..]),
            "self" | "super" => {
                rest = &names[usize::from(names[0] == "self")..];
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            name if self.known.contains(&joined(&base, &[name.to_owned()])) => {}
            _ => return None,
        }
        Some(joined(&base, rest))
    }
}

#[cfg(test)]
mod tests;
