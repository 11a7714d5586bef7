//! Pages of documentation and the blocks in them.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block.
pub struct Block {
    /// The text after the opening fence.
    pub tag: String,
    /// The line of its first line, from 1.
    pub line: usize,
    pub text: String,
}

pub struct Page {
    /// The path in the tree.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
    /// Lines on which an indented block begins.
    pub set_in: Vec<usize>,
}

/// Pages with commands that run until they are stopped, or with partial output. Other tests run these commands.
const APART: [&str; 4] = ["docs/json.md", "docs/monitoring.md", "docs/reliability.md", "docs/security.md"];

impl Page {
    /// README.md and all pages in docs/ except those in [`APART`].
    pub fn all(tree: &Path) -> Vec<Page> {
        let mut files = vec![tree.join("README.md")];
        let mut dirs = vec![tree.join("docs")];
        while let Some(dir) = dirs.pop() {
            let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
            entries.sort();
            dirs.extend(entries.iter().filter(|path| path.is_dir()).cloned());
            files.extend(entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")));
        }
        let name = |path: &Path| path.strip_prefix(tree).unwrap().display().to_string();
        files
            .iter()
            .filter(|path| !APART.contains(&name(path).as_str()))
            .map(|path| Page::parse(&name(path), &fs::read_to_string(path).unwrap()))
            .collect()
    }

    pub fn parse(name: &str, text: &str) -> Page {
        let mut page =
            Page { name: name.to_owned(), text: text.to_owned(), blocks: Vec::new(), set_in: Vec::new() };
        let mut open: Option<Block> = None;
        let (mut list, mut before_empty) = (false, true);
        for (number, line) in (1..).zip(text.lines()) {
            match (&mut open, line.strip_prefix("```")) {
                (Some(_), Some(_)) => page.blocks.extend(open.take()),
                (Some(block), None) => block.text.push_str(&format!("{line}\n")),
                (None, Some(tag)) => {
                    open = Some(Block { tag: tag.to_owned(), line: number + 1, text: String::new() });
                }
                (None, None) => {
                    if line.starts_with("    ") && before_empty && !list {
                        page.set_in.push(number);
                    }
                    // Indented text belongs to the item above.
                    list = line.starts_with("- ") || (list && (line.is_empty() || line.starts_with(' ')));
                    before_empty = line.is_empty();
                }
            }
        }
        page
    }
}
