//! One target for each parser of untrusted input. A target is a plain function that panics if an invariant is violated:
//! `make fuzz` drives it by coverage, `tests/fuzz/` by seeds and mutations in every check.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod config;
mod dbus_args;
mod elf;
mod history;
mod names;
mod nri;
mod object;
mod oci;
mod policy_line;
mod profiles;
mod record;
mod ringbuf;
pub mod seeds;
mod unit;
mod units;

// The fixture names them by `super`.
use memcg_bpf::policy::{catalog, profile, schema};

#[path = "../../src/policy/fixture.rs"]
mod fixture;

use std::path::PathBuf;
use std::sync::LazyLock;

/// Policies and profiles to look up in.
static CATALOG: LazyLock<catalog::Catalog> = LazyLock::new(fixture::catalog);

/// One target.
pub struct Target {
    /// Its name, and that of its directory of seeds.
    pub name: &'static str,
    /// Feeds it one input.
    pub run: fn(&[u8]),
    /// Mutations in a short run: as many as take a few seconds without optimisation.
    pub short: u32,
    /// Longest input in bytes: a little more than the parser's limit, unless that is too slow.
    pub longest: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), short: u32, longest: usize) -> Target {
    Target { name, run, short, longest }
}

/// All of them.
pub const ALL: [Target; 13] = [
    target("policy_line", policy_line::run, 30_000, 4200),
    target("unit", unit::run, 30_000, 16_384),
    target("oci", oci::run, 100_000, 8192),
    target("record", record::run, 200_000, 8400),
    target("object", object::run, 8_000, 262_144),
    target("ringbuf", ringbuf::run, 300_000, 600),
    target("profiles", profiles::run, 60_000, 8192),
    target("config", config::run, 10_000, 8192),
    target("history", history::run, 10_000, 16_384),
    target("dbus_args", dbus_args::run, 60_000, 4500),
    target("names", names::run, 60_000, 4500),
    target("nri", nri::run, 40_000, 8192),
    target("units", units::run, 300_000, 256),
];

/// Between the parts of an input that has several.
pub const PART: char = '\u{1e}';

/// A sentence is shown to people: it is not empty, not longer than `most` bytes, on one line, and has nothing in it that a
/// terminal would obey or that turns the writing round.
fn sentence(text: &str, most: usize) {
    assert!(!text.is_empty(), "an empty sentence");
    assert!(text.len() <= most, "{} bytes, more than {most}: {text:?}", text.len());
    for c in text.chars() {
        let invisible = matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..);
        assert!(!c.is_control() && !invisible, "{c:?} stands in {text:?}");
    }
}

/// The parts of an input as text; what is no UTF-8 arrives as the product reads it, with replacement characters.
fn parts(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).split(PART).map(str::to_owned).collect()
}

/// The part at `index`, empty where there is none.
fn part(parts: &[String], index: usize) -> &str {
    parts.get(index).map_or("", String::as_str)
}

/// A directory for what is only read from files, in memory where that can be; gone with its thread. What is found there
/// after C code brought the process down is the input to look at.
fn place() -> PathBuf {
    thread_local! {
        static PLACE: tempfile::TempDir = {
            let memory = PathBuf::from("/dev/shm");
            let chosen = std::env::var_os("TMPDIR").is_some() || !memory.is_dir();
            let parent = if chosen { std::env::temp_dir() } else { memory };
            tempfile::Builder::new().prefix("memcg-bpf-fuzz-").tempdir_in(parent).unwrap()
        };
    }
    PLACE.with(|place| place.path().to_owned())
}
