//! A program that exceeds its limit all the time, and counts whether it ever succeeded.

use std::fs;

use super::{PROGRAMS, TestEnv, active, sh, systemd, unit_in_state};

/// Assigns one CPU to a slice, and the other one to all others.
pub fn pin_to_cpu(env: &mut TestEnv, slice: &str) {
    for (unit, processors) in [("init.scope", "0"), ("system.slice", "0"), (slice, "1")] {
        sh(&format!(
            "systemctl start {unit}; systemctl set-property --runtime {unit} AllowedCPUs={processors}"
        ));
        env.at_end(format!("systemctl set-property --runtime {unit} AllowedCPUs="));
    }
}

/// A service that maps 128 MiB in a loop under a lower limit. It has a CPU of its own, because the kernel skips a
/// tracing program if another task on the CPU was interrupted in it (docs/policies/deny.md), which is not tested
/// here.
pub fn start_alloc_loop(env: &mut TestEnv, name: &str) {
    let out = env.out(name);
    let text = format!(
        "[Service]\nSlice=mpalone.slice\nExecStart={PROGRAMS}/alloc_loop\nStandardOutput=append:{}\n",
        out.display()
    );
    env.unit(name, &text).policy(name, "deny limit=64M").reload();
    unit_in_state(name, "registered");
    pin_to_cpu(env, "mpalone.slice");
    env.stops("mpalone.slice");
    systemd::start(name);
    active(&format!("/mpalone.slice/{name}"));
}

/// Stops the service. Returns how often it was denied, and how often not.
pub fn stop_alloc_loop(env: &TestEnv, name: &str) -> (u64, u64) {
    systemd::stop(name);
    let out = fs::read_to_string(env.out(name)).unwrap();
    let words: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    let ["denied", refused, "got", got] = words[..] else { panic!("{out}") };
    (refused.parse().unwrap(), got.parse().unwrap())
}
