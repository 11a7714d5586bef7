//! The command `memcg-bpf`: queries the daemon over D-Bus, or reads files if no daemon is needed, and prints the result.
//! Decides nothing about policies.

mod args;
mod change;
mod check;
mod client;
mod completion;
mod doctor;
mod find;
mod help;
mod manual;
mod monitor;
mod output;
mod show;
mod term;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::env::{Bash, CompleteEnv, Fish, Shells, Zsh};

use crate::names::ROOT_SLICE;
use change::{attach, detach, pause, reload, run};
use monitor::{events, metrics, record, report, top};
use show::{explain, policies, profiles, status, why};
use term::Terminal;

/// Programmable memory policy for containers and systemd units.
#[derive(Debug, Parser)]
#[command(name = "memcg-bpf", version, max_term_width = 100)]
#[command(after_help = "Examples:
  memcg-bpf status                                   list cgroups with a memory policy
  memcg-bpf attach demo.service deny limit=64M       deny memory requests above 64 MiB
  memcg-bpf why                                      explain why processes were killed
  memcg-bpf doctor                                   check the requirements of memcg-bpf

Permanently, for a unit: systemctl edit demo.service, then
  [Service]
  X-MemoryBPFPolicy=deny limit=64M
For a container:
  podman run --annotation memcg.bpf/policy=\"deny limit=64M\" IMAGE")]
struct Cli {
    /// Print JSON output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Run(run::Run),
    Explain(explain::Explain),
    Why(why::Why),
    Events(events::Events),
    Top(top::Top),
    Metrics(metrics::Metrics),
    Record(record::Record),
    Report(report::Report),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Reload(reload::Reload),
    Policies(policies::Policies),
    Profiles(profiles::Profiles),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    #[command(hide = true)]
    Manual(manual::Manual),
}

/// The whole program: arguments, standard output, exit status (0 success, 1 failure, 2 invalid usage).
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match handle_completion(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => run_command(args),
        Err(error) => {
            term::eprint(&format!("memcg-bpf: {error}\n"));
            ExitCode::from(2)
        }
    }
}

/// The HTML page of `memcg-bpf report`, public for fuzzing.
#[doc(hidden)]
pub fn render_report(history: &std::path::Path) -> anyhow::Result<String> {
    report::render_report(history)
}

/// Prints completion candidates if a shell requests them; false if not.
fn handle_completion(args: &[OsString]) -> io::Result<bool> {
    CompleteEnv::with_factory(Cli::command)
        .var(completion::VARIABLE)
        .shells(Shells(&[&Bash, &Fish, &Zsh]))
        .try_complete(args.iter().cloned(), None)
        .map_err(io::Error::other)
}

fn run_command(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let text = error.render().to_string();
            // Arguments may hold anything, and clap repeats them.
            if error.use_stderr() {
                term::eprint(&text)
            } else {
                term::print(&text)
            }
            return ExitCode::from(code);
        }
    };
    let terminal = Terminal::of_stdout();
    let result = match &cli.command {
        Command::Status(it) => it.run(&terminal, cli.json),
        Command::Attach(it) => it.run(&terminal, cli.json),
        Command::Detach(it) => it.run(&terminal, cli.json),
        Command::Run(it) => it.run(),
        Command::Explain(it) => it.run(&terminal, cli.json),
        Command::Why(it) => it.run(&terminal, cli.json),
        Command::Events(it) => it.run(&terminal, cli.json),
        Command::Top(it) => it.run(cli.json),
        Command::Metrics(it) => it.run(cli.json),
        Command::Record(it) => it.run(cli.json),
        Command::Report(it) => it.run(cli.json),
        Command::Pause(it) => it.run(cli.json),
        Command::Resume(it) => it.run(cli.json),
        Command::Reload(it) => it.run(cli.json),
        Command::Policies(it) => it.run(&terminal, cli.json),
        Command::Profiles(it) => it.run(&terminal, cli.json),
        Command::Check(it) => it.run(cli.json),
        Command::Doctor(it) => it.run(&terminal, cli.json),
        Command::Completion(it) => it.run(),
        Command::Manual(it) => it.run(help::unwrapped(Cli::command())),
    };
    match result {
        Ok(output) => {
            term::print_styled(&output.text, &terminal, output.style);
            if output.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            term::eprint(&format!("memcg-bpf: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&help::unwrapped(Cli::command()).try_get_matches_from(rewritten(args))?)
}

/// `-.slice` is a unit and no option: its cgroup is `/`. `help COMMAND` is `COMMAND --help`, which suggests commands.
fn rewritten(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> =
        args.into_iter().map(|arg| if arg == ROOT_SLICE { "/".into() } else { arg }).collect();
    match args.as_slice() {
        [program, help, command] if help == "help" => vec![program.clone(), command.clone(), "--help".into()],
        _ => args,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_helps_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            let example = format!("memcg-bpf {}", command.get_name());
            assert!(help.contains("Example") && help.contains(&example), "{help}");
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn json_may_stand_anywhere() {
        for line in [
            "--json status",
            "status --json",
            "status demo.service --json",
            "attach demo.service deny limit=64M --json",
            "attach demo.service --json deny limit=64M",
            "check deny limit=64M --json",
            "check --unit a.service b.service --json",
            "pause --for 10min --json",
            "report history --json",
        ] {
            let cli = Cli::try_parse_from(std::iter::once("memcg-bpf").chain(line.split(' ')));
            assert!(cli.as_ref().is_ok_and(|cli| cli.json), "{line}: {:?}", cli.err());
        }
        let cli = Cli::try_parse_from("memcg-bpf attach x.service deny limit=64M --check --json".split(' '));
        let Command::Attach(attach) = cli.unwrap().command else { panic!("not attach") };
        assert_eq!(attach.line(), "deny limit=64M");
    }

    #[test]
    fn help_of_a_command_is_a_command() {
        let help = |line: &str| {
            let args = rewritten(line.split(' ').map(OsString::from));
            Cli::try_parse_from(args).unwrap_err().render().to_string()
        };
        assert_eq!(help("memcg-bpf help"), help("memcg-bpf --help"));
        assert_eq!(help("memcg-bpf help attach"), help("memcg-bpf attach --help"));
        assert!(help("memcg-bpf help atach").contains("'attach'"), "{}", help("memcg-bpf help atach"));
    }

    #[test]
    fn root_slice_is_no_option() {
        let args = ["memcg-bpf", "explain", "-.slice"].map(OsString::from);
        let cli = Cli::try_parse_from(rewritten(args)).unwrap();
        assert!(matches!(cli.command, Command::Explain(_)));
    }

    #[test]
    fn a_policy_line_needs_no_quotes() {
        let cli = Cli::try_parse_from(["memcg-bpf", "attach", "x.service", "deny", "limit=64M;", "observe"])
            .unwrap();
        let Command::Attach(attach) = cli.command else { panic!("not attach") };
        assert_eq!(attach.line(), "deny limit=64M; observe");
    }

    #[test]
    fn what_may_come_next_is_found_by_the_command_definition() {
        let next = |words: &[&str]| -> Vec<String> {
            let args = words.iter().map(Into::into).collect();
            clap_complete::engine::complete(&mut Cli::command(), args, words.len() - 1, None)
                .unwrap()
                .iter()
                .map(|c| c.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(next(&["memcg-bpf", "comp"]), ["completion"]);
        assert_eq!(next(&["memcg-bpf", "completion", ""])[..3], ["bash", "zsh", "fish"]);
        assert!(!next(&["memcg-bpf", ""]).contains(&"manual".to_owned()));
    }
}
