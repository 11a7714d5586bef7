//! Checks README.md and docs/: the contents of every block match its tag, and every link has a target.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "documentation/pages.rs"]
mod pages;

use std::fs;
use std::path::Path;

use pages::{Block, Page};

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The kinds of tags. `sh`: commands for a machine with the package. `sh elsewhere`: commands that need a build tree,
/// a network or another engine. `KIND FILE`: the content of a file in this tree or on the machine. `text`: output,
/// grammar, drawings.
fn fault(block: &Block) -> Option<String> {
    let (kind, rest) = block.tag.split_once(' ').unwrap_or((&block.tag, ""));
    match (kind, rest) {
        ("sh", "") | ("text", "") => None,
        ("sh", "elsewhere") => block.text.lines().find_map(|line| {
            let target = line.trim().strip_prefix("make ")?.split_whitespace().next()?.to_owned();
            // The path is in a directory of the reader.
            if target == "-C" {
                return None;
            }
            let makefile = fs::read_to_string(tree().join("Makefile")).unwrap();
            let known = target.contains('=') || makefile.contains(&format!("\n{target}: "));
            (!known).then(|| format!("the Makefile has no target '{target}'"))
        }),
        ("json", _) => {
            serde_json::from_str::<serde_json::Value>(&block.text).err().map(|error| error.to_string())
        }
        ("ini" | "toml" | "yaml", file) if file.starts_with('/') => None,
        ("c" | "make" | "ini" | "xml", file) if !file.is_empty() => {
            let shipped = fs::read_to_string(tree().join(file)).unwrap_or_default();
            (!shipped.contains(&block.text)).then(|| format!("{file} says otherwise"))
        }
        _ => Some(format!("no test knows what to do with the tag '{}'", block.tag)),
    }
}

#[test]
fn every_block_is_what_its_tag_says() {
    let mut faults = Vec::new();
    let mut blocks = 0;
    for page in Page::all(tree()) {
        for block in &page.blocks {
            blocks += 1;
            faults.extend(fault(block).map(|fault| format!("{}:{}: {fault}", page.name, block.line)));
        }
        // Indented blocks have no tag. Pages of policies use them for policy lines; decisions are not checked.
        if !page.name.contains('/') || page.name.matches('/').count() == 1 {
            faults.extend(
                page.set_in.iter().map(|line| format!("{}:{line}: a block without a tag", page.name)),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(blocks > 20, "only {blocks} blocks");
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in Page::all(tree()) {
        let dir = tree().join(&page.name).parent().unwrap().to_owned();
        for link in
            page.text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { tree().join(&page.name) } else { dir.join(file) };
            if !is_installed(&target) {
                faults.push(format!("{}: {link} is not in /usr/share/doc", page.name));
            }
            // Pictures are not text.
            let text = fs::read(&target).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let Ok(text) = text.or_else(|_| fs::read_dir(&target).map(|_| String::new())) else {
                faults.push(format!("{}: no {link}", page.name));
                continue;
            };
            if !anchor.is_empty() && !text.lines().any(|line| line.starts_with('#') && slug(line) == anchor) {
                faults.push(format!("{}: no heading for {link}", page.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Is the file installed beside the pages? `make install` copies README.md, CHANGELOG.md and docs/.
fn is_installed(target: &Path) -> bool {
    let (Ok(target), Ok(tree)) = (target.canonicalize(), tree().canonicalize()) else { return true };
    let Ok(name) = target.strip_prefix(&tree) else { return false };
    name.starts_with("docs") || ["README.md", "CHANGELOG.md"].iter().any(|page| name == Path::new(page))
}

#[test]
fn package_descriptions_name_every_policy() {
    let policies: Vec<String> = fs::read_dir(tree().join("bpf/policies"))
        .unwrap()
        .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".bpf.c")?.to_owned()))
        .collect();
    assert_eq!(policies.len(), 6, "{policies:?}");
    for file in ["packaging/deb/control.in", "packaging/rpm/memcg-bpf.spec"] {
        let text = fs::read_to_string(tree().join(file)).unwrap();
        let missing: Vec<&String> =
            policies.iter().filter(|name| !text.contains(&format!("\"{name}\""))).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

/// A heading's anchor.
fn slug(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    title
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn blocks_are_found_with_their_tags_and_lines() {
    let text = "# T\n\n```sh\na\nb\n```\n\n    c\n\n- x\n\n      no block\n\n```ini /etc/x\n[A]\n```\n";
    let page = Page::parse("x.md", text);
    assert_eq!(page.blocks.len(), 2);
    assert_eq!(
        (page.blocks[0].tag.as_str(), page.blocks[0].line, page.blocks[0].text.as_str()),
        ("sh", 4, "a\nb\n")
    );
    assert_eq!(page.blocks[1].tag, "ini /etc/x");
    assert_eq!(page.set_in, [8]);
}
