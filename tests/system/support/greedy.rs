//! A program that asks for too much all the time, and knows whether it ever got it.

use std::fs;

use super::{PROGRAMS, Scene, active, sh, unit_in_state};

/// Gives a slice a processor of its own, and everybody else the other.
pub fn alone(scene: &mut Scene, slice: &str) {
    for (unit, processors) in [("init.scope", "0"), ("system.slice", "0"), (slice, "1")] {
        sh(&format!(
            "systemctl start {unit}; systemctl set-property --runtime {unit} AllowedCPUs={processors}"
        ));
        scene.at_end(format!("systemctl set-property --runtime {unit} AllowedCPUs="));
    }
}

/// A service that asks for 128 MiB again and again, and may not have it. Alone on a processor: the kernel skips a tracing
/// program on a processor on which another task was interrupted within it (docs/policies/deny.md), and what is tested
/// here are our gaps, not that one.
pub fn greedy_starts(scene: &mut Scene, name: &str) {
    let out = scene.out(name);
    let text = format!(
        "[Service]\nSlice=mpalone.slice\nExecStart={PROGRAMS}/greedy\nStandardOutput=append:{}\n",
        out.display()
    );
    scene.unit(name, &text).policy(name, "deny limit=64M").reload();
    unit_in_state(name, "registered");
    alone(scene, "mpalone.slice");
    scene.stops("mpalone.slice");
    sh(&format!("systemctl start {name}"));
    active(&format!("/mpalone.slice/{name}"));
}

/// How often it was refused, and how often not.
pub fn greedy_asked(scene: &Scene, name: &str) -> (u64, u64) {
    sh(&format!("systemctl stop {name}"));
    let out = fs::read_to_string(scene.out(name)).unwrap();
    let words: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    let ["refused", refused, "got", got] = words[..] else { panic!("{out}") };
    (refused.parse().unwrap(), got.parse().unwrap())
}
