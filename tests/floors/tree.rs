//! The files of the checkout.

use std::fs;
use std::path::Path;

/// A file: its path below the directory that was read, and its text.
pub type File = (String, String);

/// The directory of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files below these directories of the checkout, with paths such as `src/lib.rs`; also single files.
pub fn files(tops: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    for top in tops {
        let path = root().join(top);
        if path.is_dir() {
            read_dir(&path, &format!("{top}/"), &mut files)
        } else {
            read(&path, top, &mut files)
        }
    }
    files
}

/// The Rust files below `src` except `lib.rs`, with paths below it such as `engine/step.rs`.
pub fn sources() -> Vec<File> {
    let strip = |(path, text): File| (path.trim_start_matches("src/").to_owned(), text);
    let mut files: Vec<File> = files(&["src"]).into_iter().map(strip).collect();
    files.retain(|(path, _)| path.ends_with(".rs") && path != "lib.rs");
    files
}

fn read_dir(dir: &Path, prefix: &str, files: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "node_modules" || name == "target" || name == "__pycache__" {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            read_dir(&path, &format!("{name}/"), files);
        } else {
            read(&path, &name, files);
        }
    }
}

/// Adds the file unless it is no text, a picture for example.
fn read(path: &Path, name: &str, files: &mut Vec<File>) {
    if let Ok(text) = fs::read_to_string(path) {
        files.push((name.to_owned(), text));
    }
}

/// True for a file below `src` that is compiled for tests alone by its name.
pub fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// Files made up by a test.
#[cfg(test)]
pub fn made_up(files: &[(&str, &str)]) -> Vec<File> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}
