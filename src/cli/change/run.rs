//! `memcg-bpf run`: runs a command in a scope of its own, with a policy that is attached before the command starts.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::cgroup::process;
use crate::cli::client::Client;
use crate::cli::find::candidates;
use crate::cli::output::Output;
use crate::cli::term::time::Timestamp;
use crate::cli::term::{eprint, escape_line};
use crate::names::{CgroupPath, UnitKind, UnitName};
use crate::report::BindingReport;
use crate::source::container_cgroup::process_cgroup;
use crate::systemd::Scope;

/// Longest time until systemd has moved this process into the scope.
const MOVE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The exit statuses of a shell for a command that was not found, and for one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Run a command in a scope of its own, with a policy from its first instruction
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf run deny limit=64M -- stress-ng --vm 1
  memcg-bpf run --slice=batch.slice --unit=import batch -- ./import.sh

The command runs in the terminal, directory and environment of the caller, as with systemd-run --scope.
The exit status is that of the command; it is 1 if the policy could not be attached, and the command is
not started then. The policy is detached when the last process of the scope has exited.

The policy of a service is set with X-MemoryBPFPolicy= in its unit file. systemd-run cannot set it,
because systemd accepts no X- settings for transient units.")]
pub(in crate::cli) struct Run {
    /// Name of the scope (.scope may be left out). Defaults to a name with the process ID
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// Slice of the scope (.slice may be left out). Defaults to system.slice
    #[arg(long, value_name = "SLICE")]
    slice: Option<String>,
    /// Do not print the name of the scope
    #[arg(long, short)]
    quiet: bool,
    #[arg(long, hide = true)]
    user: bool,
    /// The policy line: policies with parameters, separated by ';'. See: memcg-bpf policies
    #[arg(value_name = "POLICY", required = true, add = ArgValueCandidates::new(candidates::complete_line))]
    policy: Vec<String>,
    /// The command with its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

impl Run {
    pub fn run(&self) -> anyhow::Result<Output> {
        if self.user {
            bail!(
                "run has no option --user: the scope belongs to the system manager. To limit a unit of a user manager, \
                 use: systemd-run --user --scope, then: memcg-bpf attach with the path of its cgroup"
            );
        }
        let pid = std::process::id();
        let unit = scope_name(self.unit.as_deref(), pid, Timestamp::now_us())?;
        let slice = self.slice.as_deref().map(slice_name).transpose()?;
        let client = Client::connect()?;
        let description = self.command.join(" ");
        let scope = Scope { name: &unit, slice: slice.as_ref(), description: &description, pid };
        client.start_scope(scope).with_context(|| format!("starting {unit}"))?;
        let cgroup = wait_for_move(pid, &unit)?;
        let _: BindingReport = client.attach(cgroup.as_str(), &self.policy.join(" "))?;
        drop(client);
        if !self.quiet {
            eprint(&format!("Running as unit: {unit}\n"));
        }
        let (program, args) = self.command.split_first().context("no command")?;
        // Returns only if the command cannot be executed.
        let error = Command::new(program).args(args).exec();
        eprint(&format!("memcg-bpf: {}: {error}\n", escape_line(program)));
        std::process::exit(exec_status(&error))
    }
}

fn exec_status(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The name of the scope, by default one that is not used again.
fn scope_name(asked: Option<&str>, pid: u32, now_us: u64) -> anyhow::Result<UnitName> {
    let name = match asked {
        None => format!("memcg-bpf-run-{pid}-{now_us}.scope"),
        Some(name) if name.ends_with(".scope") => name.to_owned(),
        Some(name) if name.ends_with(".service") || name.ends_with(".slice") => {
            bail!("'{}' is not the name of a scope: the command runs in a scope", escape_line(name))
        }
        Some(name) => format!("{name}.scope"),
    };
    Ok(UnitName::parse(&name)?)
}

fn slice_name(asked: &str) -> anyhow::Result<UnitName> {
    let name = if asked.ends_with(".slice") { asked.to_owned() } else { format!("{asked}.slice") };
    let unit = UnitName::parse(&name)?;
    if unit.kind() != UnitKind::Slice {
        bail!("'{}' is not the name of a slice", escape_line(asked));
    }
    Ok(unit)
}

/// Waits until systemd has moved this process into the scope.
fn wait_for_move(pid: u32, unit: &UnitName) -> anyhow::Result<CgroupPath> {
    let began = Instant::now();
    loop {
        let text = process::cgroup_text(pid).context("reading the cgroup of this process")?;
        if let Ok(path) = process_cgroup(&text)
            && path.file_name() == unit.as_str()
        {
            return Ok(path);
        }
        if began.elapsed() > MOVE_TIMEOUT {
            bail!(
                "systemd did not start {unit} within {} seconds; see: journalctl -u {unit}",
                MOVE_TIMEOUT.as_secs()
            );
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn command_follows_two_dashes() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.run);
        let run = parse("run --slice=batch deny limit=64M; observe -- sleep --help 1").unwrap();
        assert_eq!(run.policy.join(" "), "deny limit=64M; observe");
        assert_eq!(run.command, ["sleep", "--help", "1"]);
        assert!(parse("run deny limit=64M").is_err(), "a command is required");
        assert!(parse("run -- true").is_err(), "a policy is required");
        let error = parse("run --user observe -- true").unwrap().run().unwrap_err().to_string();
        assert!(error.contains("system manager") && error.contains("systemd-run --user --scope"), "{error}");
    }

    #[test]
    fn scope_and_slice_names_may_lack_their_suffix() {
        let scope =
            |name| scope_name(name, 7, 9).map(|unit| unit.as_str().to_owned()).map_err(|e| e.to_string());
        assert_eq!(scope(None).unwrap(), "memcg-bpf-run-7-9.scope");
        assert_eq!(scope(Some("import")).unwrap(), "import.scope");
        assert_eq!(scope(Some("a.scope")).unwrap(), "a.scope");
        assert!(scope(Some("a.service")).unwrap_err().contains("runs in a scope"));
        assert!(scope(Some("a/b")).is_err());
        assert_eq!(slice_name("batch").unwrap().as_str(), "batch.slice");
        assert_eq!(slice_name("batch.slice").unwrap().as_str(), "batch.slice");
    }

    #[test]
    fn exec_errors_have_the_statuses_of_a_shell() {
        assert_eq!(exec_status(&io::Error::from(io::ErrorKind::NotFound)), 127);
        assert_eq!(exec_status(&io::Error::from(io::ErrorKind::PermissionDenied)), 126);
    }
}
