//! Checks that `tests/README.md` lists every file of the system tests once, by feature, and no other file, and that
//! the list of tests for the newest kernel contains only names of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// All Rust files below a directory, relative to `tests/`.
fn rust_files(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path.strip_prefix(tests()).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn readme_table_lists_each_system_test_file_once() {
    let readme = fs::read_to_string(tests().join("README.md")).unwrap();
    let mut listed = BTreeSet::new();
    for line in readme.lines().filter(|line| line.starts_with('|')) {
        let Some((_, link)) = line.split_once("](system/") else { continue };
        let file = format!("system/{}", link.split(')').next().unwrap());
        assert!(line.contains(&format!("[{file}]")), "text and target of the link differ: {line}");
        assert!(listed.insert(file), "listed twice: {line}");
    }
    let mut files = BTreeSet::new();
    rust_files(&tests().join("system"), &mut files);
    assert_eq!(listed, files);
}

/// The full names of all system tests, as libtest prints them.
fn test_names() -> BTreeSet<String> {
    let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
    rust_files(&tests().join("system"), &mut files);
    for file in files {
        let text = fs::read_to_string(tests().join(&file)).unwrap();
        let module = file.trim_start_matches("system/").trim_end_matches(".rs").replace('/', "::");
        let mut inner = "";
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
                inner = name;
            }
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
                is_test = false;
                let name = rest.split('(').next().unwrap();
                let inner = if inner.is_empty() { String::new() } else { format!("{inner}::") };
                names.insert(format!("{module}::{inner}{name}"));
            }
        }
    }
    names
}

#[test]
fn newest_kernel_list_names_existing_tests() {
    let names = test_names();
    assert!(names.len() > 100, "{} tests found", names.len());
    let list = fs::read_to_string(tests().join("system/newest-kernel-only")).unwrap();
    let filters = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for filter in filters {
        assert!(names.iter().any(|name| name.contains(filter)), "no test matches '{filter}'");
    }
}

#[test]
fn test_names_have_at_most_60_characters() {
    let long: Vec<String> = test_names()
        .into_iter()
        .filter(|name| name.rsplit("::").next().unwrap().chars().count() > 60)
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn package_purge_is_the_last_test_of_its_module() {
    let names = test_names();
    let last = names.iter().rfind(|name| name.starts_with("package::")).unwrap();
    assert_eq!(last, "package::purge_leaves_nothing", "libtest runs tests in the order of their names");
}
