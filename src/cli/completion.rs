//! `memcg-bpf completion`: the few lines by which a shell asks this command what may come next, and what it answers.
//! Policies, parameters, units and containers are looked up as they are at that moment; the daemon is not asked.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};

use super::policies::ObjectDir;
use super::{Answer, Cli};
use crate::bpf::objects::PolicyObjects;
use crate::bpf::profiles;
use crate::cgroup::tree;
use crate::names::CgroupPath;

/// The variable by which the shell's function asks, with the shell's name as value.
const VARIABLE: &str = "COMPLETE";
const NAME: &str = "memcg-bpf";
/// Digits of a container's id that tell it apart from others, as engines print it.
const ID_SHOWN: usize = 12;

/// Print the completion script of a shell; packages install it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf completion bash > /etc/bash_completion.d/memcg-bpf
  memcg-bpf completion zsh > /usr/local/share/zsh/site-functions/_memcg-bpf
  memcg-bpf completion fish > /etc/fish/completions/memcg-bpf.fish")]
pub(super) struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub fn run(&self) -> anyhow::Result<Answer> {
        let mut script = Vec::new();
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
        if matches!(self.shell, Shell::Zsh) {
            // The file is the function's body when zsh loads it by name: the first answer is due at once.
            writeln!(script, "\n[[ $funcstack[1] = _{NAME} ]] && _clap_dynamic_completer_memcg_bpf \"$@\"")?;
        }
        let text = String::from_utf8(script)?.trim_start().to_owned();
        Ok(Answer::good(text))
    }
}

/// Answers a shell that asks what may come next; false when nobody asked.
pub(super) fn answered(args: &[OsString]) -> io::Result<bool> {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .shells(Shells(&[&Bash, &Fish, &Zsh]))
        .try_complete(args.iter().cloned(), None)
        .map_err(io::Error::other)
}

/// What may stand in a policy line: policies and profiles, and the parameters of all policies.
pub(super) fn line_words() -> Vec<CompletionCandidate> {
    let mut words = policy_names();
    words.extend(profile_names());
    words.extend(parameters(&ObjectDir::installed().read()));
    words
}

/// The profiles there are.
pub(super) fn profile_names() -> Vec<CompletionCandidate> {
    let (profiles, _) = profiles::load(Path::new("/"));
    profiles.values().map(|profile| candidate(&profile.name, &profile.doc)).collect()
}

/// The policies there are.
pub(super) fn policy_names() -> Vec<CompletionCandidate> {
    let objects = ObjectDir::installed().read();
    objects.schemas.values().map(|schema| candidate(&schema.name, &schema.doc)).collect()
}

fn parameters(objects: &PolicyObjects) -> Vec<CompletionCandidate> {
    let mut all: Vec<_> = objects
        .schemas
        .values()
        .flat_map(|schema| {
            schema
                .params
                .iter()
                .map(|param| (format!("{}=", param.name), format!("{}: {}", schema.name, param.doc)))
        })
        .collect();
    all.sort();
    all.dedup_by(|(a, _), (b, _)| a == b);
    all.iter().map(|(word, doc)| candidate(word, doc)).collect()
}

/// The units and containers that have a cgroup now.
pub(super) fn cgroups() -> Vec<CompletionCandidate> {
    tree::descendants(&CgroupPath::root()).iter().filter_map(called).map(CompletionCandidate::new).collect()
}

/// What people call a cgroup: a unit's name, the beginning of a container's id. What lies inside of either has none.
fn called(path: &CgroupPath) -> Option<String> {
    let name = path.file_name();
    if !path.components().rev().skip(1).all(|above| above.ends_with(".slice")) {
        return None;
    }
    let (stem, kind) = name.rsplit_once('.')?;
    match (kind, stem.rsplit_once('-')) {
        ("scope", Some((prefix, id))) if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            // libpod-conmon-ID.scope is podman's monitor of the container.
            (!prefix.ends_with("conmon")).then(|| id.chars().take(ID_SHOWN).collect())
        }
        ("service" | "scope" | "slice", _) => Some(name.to_owned()),
        _ => None,
    }
}

fn candidate(word: &str, doc: &str) -> CompletionCandidate {
    CompletionCandidate::new(word).help(Some(doc.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(shell: Shell) -> String {
        Completion { shell }.run().unwrap().text
    }

    #[test]
    fn each_shell_gets_a_script_that_asks_this_command() {
        assert!(
            said(Shell::Bash).contains(
                "complete -o nospace -o bashdefault -o nosort -F _clap_complete_memcg_bpf memcg-bpf"
            )
        );
        assert!(said(Shell::Zsh).starts_with("#compdef memcg-bpf\n"));
        assert!(said(Shell::Fish).starts_with("complete --keep-order --exclusive --command memcg-bpf"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(said(shell).contains("COMPLETE="), "{}", said(shell));
        }
    }

    #[test]
    fn units_and_containers_are_called_what_people_call_them() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let path = |text: String| called(&CgroupPath::parse(&text).unwrap());
        assert_eq!(path("/system.slice/demo.service".to_owned()).as_deref(), Some("demo.service"));
        assert_eq!(path("/machine.slice".to_owned()).as_deref(), Some("machine.slice"));
        assert_eq!(path(format!("/machine.slice/libpod-{id}.scope")).as_deref(), Some("0123456789ab"));
        assert_eq!(path(format!("/machine.slice/libpod-conmon-{id}.scope")), None);
        assert_eq!(path(format!("/machine.slice/libpod-{id}.scope/fake.service")), None);
        assert_eq!(path("/mydir".to_owned()), None);
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
