//! Invalid input, end to end: each yields its exact message, changes nothing, and stops no container unless the
//! container requires its policy.

mod calls;
mod containers;
mod files;

use std::fs;

use crate::support::{
    CmdOutput, HOOK, PROGRAMS, TestEnv, active, assert_denied_at, ensure_daemon, first_line, hook_messages,
    hook_timeouts, journal, recorded_cgroups, sh, since_now, status, systemd, try_sh, unit_in_state,
    wait_for, with_daemon_stopped,
};

const CALL: &str = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

/// The text of a method's error, as printed by busctl.
fn refusal(output: &CmdOutput) -> &str {
    assert_ne!(output.status, 0, "{}", output.out);
    output.err.strip_prefix("Call failed: ").unwrap_or(&output.err)
}

/// Collects messages that differ from the expected ones, and reports all of them at the end.
#[derive(Default)]
struct Sentences {
    wrong: String,
    compared: usize,
}

impl Sentences {
    fn compare(&mut self, what: &str, output: &str, wanted: &str) {
        self.compared += 1;
        if output != wanted {
            self.wrong += &format!("{what:.120}\n  output: {output}\n  not:  {wanted}\n");
        }
    }

    /// At least so many, so that a table that lost its rows does not pass.
    fn end(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong);
        assert!(self.compared >= at_least, "{} sentences", self.compared);
    }
}
