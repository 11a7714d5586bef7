//! The manual pages of the command and its subcommands, from their definitions.

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// The last section of the pages in section 1.
const MANUAL: &str = "memcg-bpf";

/// File names and contents.
pub(super) fn pages(mut cli: Command, date: &str) -> anyhow::Result<Vec<(String, String)>> {
    // `memcg-bpf help` prints what these pages have.
    cli = cli.disable_help_subcommand(true);
    cli.build();
    let mut pages = vec![page(&cli, date)?];
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages.push(page(command, date)?);
    }
    Ok(pages)
}

fn page(command: &Command, date: &str) -> anyhow::Result<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone()).date(date).manual(MANUAL).source(format!("memcg-bpf {version}"));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    text.extend(synopsis(command).to_roff().bytes());
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let top = command.has_subcommands();
    if top {
        man.render_subcommands_section(&mut text)?;
    }
    let mut foot = Roff::new();
    if let Some(help) = command.get_after_help() {
        after_help(&mut foot, &help.to_string());
    }
    foot.control("SH", ["EXIT STATUS"]);
    foot.text([roman("0 on success, 1 on failure, 2 if the arguments are invalid.")]);
    see_also(&mut foot, top);
    text.extend(foot.to_roff().bytes());
    Ok((man.get_filename(), String::from_utf8(text)?))
}

/// The synopsis, with the names of the options' values, which clap_mangen leaves out.
fn synopsis(command: &Command) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    for option in shown().filter(|arg| !arg.is_positional()) {
        line.push(roman(" ["));
        let short = option.get_short().map(|short| format!("-{short}"));
        let long = option.get_long().map(|long| format!("--{long}"));
        for (at, flag) in short.into_iter().chain(long).enumerate() {
            if at > 0 {
                line.push(roman("|"));
            }
            line.push(bold(flag));
        }
        if option.get_action().takes_values() {
            line.extend(value_names(option).flat_map(|name| [roman(" "), italic(name)]));
        }
        line.push(roman("]"));
    }
    for positional in shown().filter(|arg| arg.is_positional()) {
        let (open, close) = if positional.is_required_set() { (" ", "") } else { (" [", "]") };
        line.push(roman(open));
        line.extend(value_names(positional).map(italic));
        line.push(roman(close));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text(line);
    roff
}

fn value_names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str())
}

/// The text after a command's help: indented lines are examples, the others paragraphs.
fn after_help(roff: &mut Roff, help: &str) {
    let mut verbatim = false;
    for line in help.lines() {
        let example = line.starts_with("  ");
        if example != verbatim {
            roff.control(if example { "EX" } else { "EE" }, []);
            verbatim = example;
        }
        match line {
            "Example:" | "Examples:" => {
                roff.control("SH", ["EXAMPLES"]);
            }
            "" => {
                roff.control("PP", []);
            }
            _ => {
                roff.text([roman(line)]);
            }
        }
    }
    if verbatim {
        roff.control("EE", []);
    }
}

fn see_also(roff: &mut Roff, top: bool) {
    roff.control("SH", ["SEE ALSO"]);
    let mut words = Vec::new();
    let first = if top { ("memcg-bpfd", "(8)") } else { ("memcg-bpf", "(1)") };
    for (name, section) in [first, ("memcg-bpf.policy", "(7)"), ("memcg-bpf.conf", "(5)")] {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.extend([bold(name), roman(section)]);
    }
    roff.text(words);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let pages = pages(Cli::command(), "2026-01-01").unwrap();
        let text = |name: &str| &pages.iter().find(|(file, _)| file == name).unwrap().1;
        assert!(text("memcg-bpf.1").contains(r"memcg\-bpf\-status(1)"), "{}", text("memcg-bpf.1"));
        assert!(text("memcg-bpf-check.1").contains(r"\fB\-\-unit\fR"), "{}", text("memcg-bpf-check.1"));
        let record = text("memcg-bpf-record.1");
        assert!(record.contains(r" [\fB\-\-for\fR \fIDURATION\fR]"), "{record}");
        assert!(record.contains(r" \fIFILE\fR"), "{record}");
        assert!(text("memcg-bpf-events.1").contains(r" [\fB\-f\fR|\fB\-\-follow\fR]"));
        assert!(text("memcg-bpf.1").contains(r" \fICOMMAND\fR"), "{}", text("memcg-bpf.1"));
        let shown = Cli::command().get_subcommands().filter(|c| !c.is_hide_set()).count();
        assert_eq!(pages.len(), shown + 1);
        for (name, text) in &pages {
            assert!(text.contains(".SH EXAMPLES\n.EX\n"), "{name}: {text}");
            assert_eq!(text.matches(".EX\n").count(), text.matches(".EE\n").count(), "{name}");
        }
    }
}
