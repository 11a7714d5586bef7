//! The journal, without a shell.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Waits until journald has stored all entries sent so far, as `journalctl --sync` does.
pub fn journal_sync() {
    let mut journald = UnixStream::connect("/run/systemd/journal/io.systemd.journal").unwrap();
    journald.write_all(b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0").unwrap();
    let (mut reply, mut byte) = (Vec::new(), [0]);
    while journald.read(&mut byte).unwrap() == 1 && byte[0] != 0 {
        reply.push(byte[0]);
    }
    let reply = String::from_utf8_lossy(&reply);
    assert!(!reply.is_empty() && !reply.contains("\"error\""), "journald: {reply}");
}

/// The output of `journalctl` with these arguments; empty if nothing matches.
pub fn stored_journal(arguments: &[&str]) -> String {
    let output =
        Command::new("journalctl").args(["-q", "--no-pager"]).args(arguments).output().expect("journalctl");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The same, after waiting for entries sent so far.
pub fn journal(arguments: &[&str]) -> String {
    journal_sync();
    stored_journal(arguments)
}

/// A point in time for `journal`: the entries from now on.
pub fn since_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("--since=@{}.{:06}", now.as_secs(), now.subsec_micros())
}

/// The entries of a daemon.
pub fn journal_of(pid: &str) -> String {
    journal(&["-o", "cat", "_COMM=memcg-bpfd", &format!("_PID={pid}")])
}

/// The entries of hooks; `which` is a condition for journalctl, or empty.
pub fn hook_messages(which: &str) -> String {
    let mut arguments = vec!["-o", "cat", "-t", "memcg-bpf-hook"];
    arguments.extend(which.split_whitespace());
    journal(&arguments)
}

/// How often `text` contains the error of a hook, or of an engine, whose call timed out (src/hook).
pub fn hook_timeouts(text: &str) -> usize {
    text.matches(" within 2s").count()
}

/// The number of hooks that timed out since then.
pub fn hook_timeouts_since(since: &str) -> usize {
    hook_timeouts(&hook_messages(since))
}
