//! The targets under libFuzzer. FUZZ_TARGET names one; without it, all are listed with their longest input. Seeds are
//! written into the directory FUZZ_SEEDS. `fuzz/run` knows how to build and start this.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "how long a short run is")]
mod targets;

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = targets::ALL.iter().find(|target| target.name == name) else {
        targets::ALL.iter().for_each(|target| println!("{} {}", target.name, target.longest));
        std::process::exit(i32::from(!name.is_empty()));
    };
    if let Some(dir) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) {
        for (seed, bytes) in targets::seeds::of(target.name) {
            std::fs::write(dir.join(seed), bytes).expect("writing a seed");
        }
    }
    CHOSEN.get_or_init(|| target.run);
}

fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(run) = CHOSEN.get() {
        run(bytes)
    }
});
