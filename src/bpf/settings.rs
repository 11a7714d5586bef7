//! Settings of the machine that keep BPF programs or the daemon from working as documented. Reads files below a root
//! directory, for tests.

use std::fmt;
use std::path::Path;

/// A setting, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// True if no policy works.
    pub fatal: bool,
    /// The consequence, one sentence.
    pub message: &'static str,
    /// The suggested fix.
    pub advice: &'static str,
}

const FTRACE: Problem = Problem {
    fatal: true,
    message: "kernel.ftrace_enabled is 0, so the kernel attaches no tracing program",
    advice: "run: sysctl kernel.ftrace_enabled=1, and remove the setting from /etc/sysctl.d",
};

const LOCKDOWN: Problem = Problem {
    fatal: true,
    message: "kernel lockdown is in confidentiality mode, so BPF programs cannot read kernel memory",
    advice: "use lockdown=integrity on the kernel command line",
};

const PSI: Problem = Problem {
    fatal: false,
    message: "pressure stall information is disabled (psi=0), so 'oom stall=full' measures as 'stall=some' does, and \
              'select=pressure' selects as 'select=largest' does",
    advice: "use psi=1 on the kernel command line",
};

const HIDEPID: Problem = Problem {
    fatal: false,
    message: "/proc hides processes from memcg-bpfd (hidepid= with gid=, or hidepid=ptraceable), so containers are not \
              found and no process is killed",
    advice: "mount /proc with hidepid=invisible and without gid=, or without hidepid=",
};

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.advice)
    }
}

/// The problems of this machine.
pub fn problems(root: &Path) -> Vec<Problem> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut found = Vec::new();
    if read("proc/sys/kernel/ftrace_enabled").trim() == "0" {
        found.push(FTRACE);
    }
    if read("sys/kernel/security/lockdown").contains("[confidentiality]") {
        found.push(LOCKDOWN);
    }
    if root.join("proc/meminfo").exists() && !root.join("proc/pressure/memory").exists() {
        found.push(PSI);
    }
    if read("proc/self/mounts").lines().any(hides_processes) {
        found.push(HIDEPID);
    }
    found
}

/// True if a line of /proc/mounts is that of a /proc in which root without CAP_SYS_PTRACE does not see all processes.
/// By default, the group root sees them.
fn hides_processes(line: &str) -> bool {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, "/proc", "proc", options, ..] = fields[..] else { return false };
    let value = |key: &str| options.split(',').find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    match value("hidepid") {
        None | Some("0" | "off") => false,
        Some("4" | "ptraceable") => true,
        Some(_) => value("gid").is_some_and(|gid| gid != "0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Problem> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        problems(root.path())
    }

    #[test]
    fn each_setting_is_reported_in_one_sentence() {
        let good = [
            ("proc/sys/kernel/ftrace_enabled", "1\n"),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            ("proc/meminfo", ""),
            ("proc/pressure/memory", ""),
            ("proc/self/mounts", "proc /proc proc rw,nosuid,relatime,hidepid=invisible 0 0\n"),
        ];
        assert_eq!(found(&good), []);
        assert_eq!(found(&[]), [], "an unreadable setting is no problem");
        assert_eq!(found(&[("proc/sys/kernel/ftrace_enabled", "0\n")]), [FTRACE]);
        let lockdown = "none integrity [confidentiality]\n";
        assert_eq!(found(&[("sys/kernel/security/lockdown", lockdown)]), [LOCKDOWN]);
        assert_eq!(found(&[("proc/meminfo", "")]), [PSI]);
        let mounts = "sysfs /sys sysfs rw 0 0\nproc /proc proc rw,hidepid=ptraceable 0 0\n";
        assert_eq!(found(&[("proc/self/mounts", mounts)]), [HIDEPID]);
    }

    #[test]
    fn hidepid_hides_only_from_other_groups() {
        let hides = |options: &str| hides_processes(&format!("proc /proc proc rw,{options} 0 0"));
        assert_eq!(
            ["relatime", "hidepid=0", "hidepid=2", "hidepid=invisible,gid=0", "hidepid=noaccess"].map(hides),
            [false; 5]
        );
        assert_eq!(["hidepid=2,gid=27", "gid=27,hidepid=invisible", "hidepid=4"].map(hides), [true; 3]);
        assert!(!hides_processes("proc /srv/proc proc rw,hidepid=4 0 0"));
        assert!(!hides_processes(""));
    }
}
