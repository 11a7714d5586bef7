//! Denied requests, as the kernel reports them. No I/O.

use crate::names::CgroupId;
use crate::text::human_bytes;
use crate::text::printable::quote;

/// Longest name of a process, which the kernel limits to 15 bytes.
const PROCESS_MAX: usize = 15;

/// A denied request for memory, or one that a dry run did not deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The cgroup of the policy.
    pub cgroup: CgroupId,
    /// The time in nanoseconds, on the clock of `bpf_ktime_get_ns()`.
    pub time: u64,
    /// The size of the request in bytes.
    pub requested: u64,
    /// The memory in use as the policy counts it, in bytes.
    pub usage: u64,
    /// The limit that the request would have exceeded; `None` if the policy names none.
    pub limit: Option<u64>,
    /// The number of denials since the last report, with this one.
    pub count: u64,
    /// The process, in the initial namespace.
    pub pid: u32,
    /// True if the request was granted because of `mode=dry-run`.
    pub dry_run: bool,
    /// The policy's name.
    pub policy: String,
    /// The name of the process, which the process chooses.
    pub process: String,
}

impl Denial {
    /// `denied`, or `dry-run`: the word used in reports, signals and the journal.
    pub fn outcome(&self) -> &'static str {
        if self.dry_run { "dry-run" } else { "denied" }
    }

    /// One sentence: the request, the process, the memory in use and the limit.
    pub fn sentence(&self) -> String {
        let verb = if self.dry_run { "would have denied" } else { "denied" };
        let of = self.limit.map_or(String::new(), |limit| format!(" of {}", human_bytes(limit)));
        let more = match (self.count, self.dry_run) {
            (0 | 1, _) => String::new(),
            (count, false) => format!(", {count} denials since the last message"),
            (count, true) => format!(", {count} such requests since the last message"),
        };
        format!(
            "{verb} {} to process {} ({}), {}{of} in use{more}",
            human_bytes(self.requested),
            self.pid,
            quote(&self.process, PROCESS_MAX),
            human_bytes(self.usage)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_has_request_process_usage_and_limit() {
        let denial = Denial {
            cgroup: CgroupId(7),
            time: 1,
            requested: 32 << 20,
            usage: 60 << 20,
            limit: Some(64 << 20),
            count: 1,
            pid: 4711,
            dry_run: false,
            policy: "deny".to_owned(),
            process: "java\n".to_owned(),
        };
        let sentence = denial.sentence();
        assert!(!sentence.contains('\n'), "{sentence}");
        let denial = Denial { process: "java".to_owned(), ..denial };
        assert_eq!(denial.sentence(), "denied 32M to process 4711 (java), 60M of 64M in use");
        let many = Denial { count: 128, ..denial.clone() };
        assert!(many.sentence().ends_with(" in use, 128 denials since the last message"));
        let dry = Denial { dry_run: true, limit: None, count: 2, ..denial };
        assert_eq!(
            dry.sentence(),
            "would have denied 32M to process 4711 (java), 60M in use, 2 such requests since the last message"
        );
        assert_eq!((dry.outcome(), many.outcome()), ("dry-run", "denied"));
    }
}
