//! Wrong inputs, end to end: each is answered with its exact sentence, changes nothing, and stops no container unless
//! the container itself requires its policy.

mod calls;
mod containers;
mod files;

use std::fs;

use crate::support::{
    HOOK, PROGRAMS, Said, Scene, active, daemon_runs, first_line, governed_records, hooks_said, refused_at,
    sh, since_now, status, too_late, try_sh, unit_in_state, wait_for, while_it_stands_still,
};

const CALL: &str = "busctl call org.memcg.Bpf1 /org/memcg/Bpf1 org.memcg.Bpf1.Manager";

/// What busctl says of a method's error.
fn refusal(said: &Said) -> &str {
    assert_ne!(said.status, 0, "{}", said.out);
    said.err.strip_prefix("Call failed: ").unwrap_or(&said.err)
}

/// Sentences that are not the ones expected, all told at the end.
#[derive(Default)]
struct Sentences {
    wrong: String,
    compared: usize,
}

impl Sentences {
    fn compare(&mut self, what: &str, said: &str, wanted: &str) {
        self.compared += 1;
        if said != wanted {
            self.wrong += &format!("{what:.120}\n  said: {said}\n  not:  {wanted}\n");
        }
    }

    /// At least so many, so that a table that lost its rows does not pass.
    fn end(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong);
        assert!(self.compared >= at_least, "{} sentences", self.compared);
    }
}
