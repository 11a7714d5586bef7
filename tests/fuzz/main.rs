//! The targets of fuzz/ without a fuzzer: their seeds in every `cargo test`, and as many mutations of them as a check
//! has time for (`make fuzz-short`). Mutations are the same on every machine, so a failure here fails everywhere.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod mutate;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

use mutate::{Dice, mutated, words};
use targets::{ALL, Target, seeds};

fn target(name: &str) -> &'static Target {
    ALL.iter().find(|target| target.name == name).expect("there is no such target")
}

/// Keeps an input that fails, and says what to do with it.
fn feed(target: &Target, bytes: &[u8], what: &str) {
    if catch_unwind(|| (target.run)(bytes)).is_ok() {
        return;
    }
    let name = target.name;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz/found");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join(format!("{name}-{what}"));
    std::fs::write(&file, bytes).unwrap();
    panic!(
        "target {name} fails on {what}: {:?}\nThe input is in {file}. To see it again:\n  \
         cp {file} fuzz/seeds/{name}/ && cargo test --test fuzz seeds_of::{name}\n\
         It can stay there when it is fixed.",
        String::from_utf8_lossy(&bytes[..bytes.len().min(300)]),
        file = file.display()
    );
}

fn replay(name: &str) {
    let target = target(name);
    feed(target, b"", "nothing");
    for (seed, bytes) in seeds::of(name) {
        feed(target, &bytes, &seed);
    }
}

/// FUZZ_RUNS is the number of mutations in place of the short run's, FUZZ_SEED gives others.
fn mutate(name: &str) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let target = target(name);
    let seeds = seeds::of(name);
    let words = words(&seeds);
    let mut dice = Dice::new(number("FUZZ_SEED", 1));
    let (runs, began) = (number("FUZZ_RUNS", target.short.into()), Instant::now());
    for round in 0..runs {
        feed(target, &mutated(&mut dice, &seeds, &words, target.longest), &format!("mutation-{round}"));
    }
    println!("| `{name}` | {runs} | {} |", began.elapsed().as_secs());
}

macro_rules! tests {
    ($($name:ident)*) => {
        mod seeds_of {
            $(#[test] fn $name() { super::replay(stringify!($name)) })*
        }
        mod mutations_of {
            $(#[test] #[ignore = "make fuzz-short"] fn $name() { super::mutate(stringify!($name)) })*
        }
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

tests! { policy_line unit oci record object ringbuf profiles config history dbus_args names nri units }

#[test]
fn every_target_is_tested_and_has_seeds() {
    assert_eq!(ALL.map(|target| target.name).as_slice(), TESTED);
    for target in &ALL {
        for (seed, bytes) in seeds::of(target.name) {
            assert!(bytes.len() <= target.longest, "{}/{seed} is {} bytes long", target.name, bytes.len());
        }
    }
}

/// `make fuzz` builds with a lock of its own, which is easily forgotten.
#[test]
fn fuzz_lock_file_matches() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let between = |text: String, from: &str, to: &str| {
        text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).expect(from).0.to_owned()
    };
    let locked = between(text("fuzz/Cargo.lock"), "name = \"memcg-bpf\"\n", "[[package]]");
    let needed = between(text("Cargo.toml"), "\n[dependencies]\n", "\n[");
    for name in needed.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name) {
        let known = locked.contains(&format!("\n \"{name}\"")) || locked.contains(&format!("\n \"{name} "));
        assert!(known, "fuzz/Cargo.lock has no {name}: run 'cargo metadata' in fuzz/");
    }
}
