//! The command `memcg-bpf`: asks the daemon over D-Bus, or looks for itself where no daemon is needed, and says in
//! words what it found. Decides nothing about policies.

mod attach;
mod check;
mod client;
mod completion;
mod container;
mod detach;
mod doctor;
mod events;
mod explain;
mod history;
mod manual;
mod metrics;
mod pause;
mod policies;
mod profiles;
mod record;
mod reload;
mod report;
mod screen;
mod status;
mod target;
mod time;
mod top;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use screen::{Paint, Screen};

/// What a subcommand has to say and how it ended.
#[derive(Debug)]
struct Answer {
    /// For standard output.
    text: String,
    /// False when the exit status is to be 1 although everything could be said.
    good: bool,
    /// The colour of a line, where colours may be used.
    paint: fn(&str) -> Option<Paint>,
}

impl Answer {
    fn good(text: String) -> Self {
        Answer { text, good: true, paint: |_| None }
    }
}

/// Programmable memory policy for containers and systemd units.
#[derive(Debug, Parser)]
#[command(name = "memcg-bpf", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Examples:
  memcg-bpf status                                   what is governed, and how it goes
  memcg-bpf attach demo.service deny limit=64M       refuse memory beyond 64 MiB from now on
  memcg-bpf doctor                                   what this machine offers, and what is missing

Permanently, for a unit: systemctl edit demo.service, then
  [Service]
  X-MemoryBPFPolicy=deny limit=64M
For a container:
  podman run --annotation memcg.bpf/policy=\"deny limit=64M\" IMAGE")]
struct Cli {
    /// Print JSON for programs instead of text for people
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
    Explain(explain::Explain),
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

/// The cgroup that a person means.
#[derive(Debug, Args)]
struct Which {
    /// Cgroup path, unit name, container id (or its beginning) or name, or process id
    #[arg(value_name = "CGROUP", add = ArgValueCandidates::new(completion::cgroups))]
    cgroup: String,
}

/// The whole program: arguments, standard output, exit status (0 good, 1 not, 2 wrong usage).
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match completion::answered(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => run(args),
        Err(error) => {
            screen::complain(&format!("memcg-bpf: {error}\n"));
            ExitCode::from(2)
        }
    }
}

/// The page of `memcg-bpf report`, for who feeds it histories that nobody wrote.
#[doc(hidden)]
pub fn page_of(history: &std::path::Path) -> anyhow::Result<String> {
    report::page_of(history)
}

fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let text = error.render().to_string();
            // Arguments may hold anything, and clap repeats them.
            if error.use_stderr() {
                screen::complain(&text)
            } else {
                screen::print(&text)
            }
            return ExitCode::from(code);
        }
    };
    let screen = Screen::of_stdout();
    let answer = match &cli.command {
        Command::Status(it) => it.run(&screen, cli.json),
        Command::Attach(it) => it.run(&screen, cli.json),
        Command::Detach(it) => it.run(&screen, cli.json),
        Command::Explain(it) => it.run(&screen, cli.json),
        Command::Events(it) => it.run(&screen, cli.json),
        Command::Top(it) => it.run(cli.json),
        Command::Metrics(it) => it.run(cli.json),
        Command::Record(it) => it.run(cli.json),
        Command::Report(it) => it.run(cli.json),
        Command::Pause(it) => it.run(cli.json),
        Command::Resume(it) => it.run(cli.json),
        Command::Reload(it) => it.run(cli.json),
        Command::Policies(it) => it.run(&screen, cli.json),
        Command::Profiles(it) => it.run(&screen, cli.json),
        Command::Check(it) => it.run(cli.json),
        Command::Doctor(it) => it.run(&screen, cli.json),
        Command::Completion(it) => it.run(),
        Command::Manual(it) => it.run(),
    };
    match answer {
        Ok(answer) => {
            screen::print_painted(&answer.text, &screen, answer.paint);
            if answer.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            screen::complain(&format!("memcg-bpf: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
    fn json_may_stand_before_and_after_the_subcommand() {
        for args in [["memcg-bpf", "--json", "status"], ["memcg-bpf", "status", "--json"]] {
            assert!(Cli::try_parse_from(args).unwrap().json);
        }
    }

    #[test]
    fn a_policy_line_needs_no_quotes() {
        let cli = Cli::try_parse_from(["memcg-bpf", "attach", "x.service", "deny", "limit=64M;", "observe"])
            .unwrap();
        let Command::Attach(attach) = cli.command else { panic!("not attach") };
        assert_eq!(attach.line(), "deny limit=64M; observe");
    }
}
