//! Real inputs to begin with: those in fuzz/seeds/, and what the tree has anyway.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root; targets are compiled into two packages.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if here.join("fuzz/targets").is_dir() { here.to_owned() } else { here.join("..") }
}

/// Seeds of a target with a name each, always in the same order.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = files(&root().join("fuzz/seeds").join(target), "");
    match target {
        "policy_line" | "record" => seeds.extend(golden()),
        "object" => seeds.extend(objects_and_changes()),
        "config" => seeds.extend(files(&root().join("systemd"), ".conf")),
        "ringbuf" => seeds.extend(ring_records()),
        _ => {}
    }
    assert!(!seeds.is_empty(), "there is no seed in fuzz/seeds/{target}/");
    seeds
}

fn files(dir: &Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(ending));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// The wrong lines of tests/golden/policy/.
fn golden() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, bytes) in files(&root().join("tests/golden/policy"), ".txt") {
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("> "));
        for (number, line) in (1..).zip(lines) {
            let line = line.replace('␛', "\u{1b}").replace('␀', "\0").replace('␊', "\n");
            seeds.push((format!("{name}-{number:02}"), line.into_bytes()));
        }
    }
    seeds
}

/// The shipped objects; `make bpf` builds them.
pub fn objects() -> Vec<(String, Vec<u8>)> {
    let whole = files(&root().join("target/bpf/policies"), ".bpf.o");
    assert!(!whole.is_empty(), "the BPF objects are not built: run 'make bpf' first");
    whole
}

/// Whole, cut short, and as lists of changes: see the target.
fn objects_and_changes() -> Vec<(String, Vec<u8>)> {
    let whole = objects();
    let mut seeds = Vec::new();
    for (which, (name, bytes)) in (0_u8..).zip(&whole) {
        let mut changes = vec![which];
        for at in 0..8_u8 {
            changes.extend([at, at.wrapping_mul(37), at, 0, at, 0, 0, 0]);
            seeds.push((format!("{name}-changed-{at}"), changes.clone()));
        }
        seeds.push((format!("{name}-cut"), bytes[..bytes.len() / 2].to_vec()));
    }
    seeds.extend(whole);
    seeds
}

/// Records as bpf/core/cgroup_events.h writes them.
fn ring_records() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, kind) in [("created", 1_u32), ("removed", 2)] {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(b"/system.slice/demo.service");
        bytes.resize(16 + 256, 0);
        seeds.push((name.to_owned(), bytes));
    }
    for verb in 1..=5_u32 {
        let mut bytes: Vec<u8> =
            [77, 5_000_000_000, 64 << 20, 1, 2, 3, 4_u64].into_iter().flat_map(u64::to_ne_bytes).collect();
        bytes.extend(
            [verb, if verb == 3 { 60 } else { 0x301 }, 0, 4711].into_iter().flat_map(u32::to_ne_bytes),
        );
        bytes.extend(9_000_000_000_u64.to_ne_bytes());
        bytes.extend(b"throttle");
        bytes.resize(112, 0);
        bytes.extend(b"stalled {ns} of the last {ns}, {bytes} above memory.high");
        bytes.resize(208, 0);
        seeds.push((format!("action-{verb}"), bytes.clone()));
        if verb == 4 {
            bytes.extend((64_u64 << 20).to_ne_bytes());
            for (name, end) in [("eat", 232), ("demo.service", 360), ("worker", 488)] {
                bytes.extend(name.as_bytes());
                bytes.resize(end, 0);
            }
            seeds.push(("killed".to_owned(), bytes));
        }
    }
    seeds
}
