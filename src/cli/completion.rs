//! `memcg-bpf completion`: the completion scripts, by which a shell queries this command for candidates.

use std::io::Write;

use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::output::Output;

/// The environment variable in which the shell's function passes the name of the shell.
pub(super) const VARIABLE: &str = "COMPLETE";
const NAME: &str = "memcg-bpf";

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf completion bash > /etc/bash_completion.d/memcg-bpf
  memcg-bpf completion zsh > /usr/local/share/zsh/site-functions/_memcg-bpf
  memcg-bpf completion fish > /etc/fish/completions/memcg-bpf.fish")]
pub(in crate::cli) struct Completion {
    /// One of bash, zsh, fish
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
    pub fn run(&self) -> anyhow::Result<Output> {
        let mut script = Vec::new();
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
        if matches!(self.shell, Shell::Zsh) {
            // zsh loads the file as the body of the function when the function is first called, so it must complete
            // at once.
            writeln!(script, "\n[[ $funcstack[1] = _{NAME} ]] && _clap_dynamic_completer_memcg_bpf \"$@\"")?;
        }
        let text = String::from_utf8(script)?.trim_start().to_owned();
        Ok(Output::success(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(shell: Shell) -> String {
        Completion { shell }.run().unwrap().text
    }

    #[test]
    fn each_shell_script_calls_this_command() {
        assert!(
            script(Shell::Bash).contains(
                "complete -o nospace -o bashdefault -o nosort -F _clap_complete_memcg_bpf memcg-bpf"
            )
        );
        assert!(script(Shell::Zsh).starts_with("#compdef memcg-bpf\n"));
        assert!(script(Shell::Fish).starts_with("complete --keep-order --exclusive --command memcg-bpf"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(script(shell).contains("COMPLETE="), "{}", script(shell));
        }
    }
}
