//! Help texts: paragraphs of the source become one line each, which clap wraps at the width of the terminal.

use clap::Command;

/// The command with one line for each paragraph of its help texts and those of its subcommands.
pub(super) fn unwrapped(command: Command) -> Command {
    let text = command.get_after_help().map(|help| paragraphs(&help.to_string()));
    let command = match text {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(unwrapped)
}

/// Joins the lines of a paragraph. Indented lines are examples and stay as they are.
fn paragraphs(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut out = String::new();
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            out.push(if is_prose(before) && is_prose(line) { ' ' } else { '\n' });
        }
        out.push_str(line);
        before = line;
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn paragraphs_are_one_line_and_examples_stay() {
        assert_eq!(
            paragraphs("Examples:\n  a b\n  c\n\nOne two\nthree.\nFour:\n  d"),
            "Examples:\n  a b\n  c\n\nOne two three. Four:\n  d"
        );
    }

    #[test]
    fn help_is_wrapped_once_at_the_width_of_the_terminal() {
        for command in unwrapped(Cli::command()).get_subcommands() {
            let help = command.clone().term_width(60).render_long_help().to_string();
            let text: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("Example")).collect();
            // A line is followed by another of its paragraph only if the next word would not have fitted.
            for pair in text
                .windows(2)
                .filter(|pair| pair.iter().all(|line| !line.is_empty() && !line.starts_with(' ')))
            {
                let next = pair[1].split(' ').next().unwrap();
                assert!(
                    pair[0].chars().count() + 1 + next.chars().count() > 60,
                    "{}: {pair:?}",
                    command.get_name()
                );
            }
        }
    }
}
