//! Generated parts of the pages: policies from their objects, configuration keys from the shipped file, the version.

use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::bpf::objects::PolicyObjects;
use crate::report::{KernelReport, PolicyReport};

/// The installed configuration file, in which every key is commented out at its default.
const CONFIGURATION: &str = include_str!("../../../systemd/memcg-bpf.conf");

/// Replaces the placeholders of a page.
pub(super) fn filled_in(prose: &str, date: &str, objects: &PolicyObjects) -> String {
    prose
        .replace("@DATE@", date)
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@POLICIES@\n", &policies(&objects.reports(&KernelReport::default())))
        .replace("@KEYS@\n", &keys(CONFIGURATION))
}

fn policies(reports: &[PolicyReport]) -> String {
    let mut roff = Roff::new();
    for policy in reports {
        roff.control("SS", [policy.name.as_str()]).text([roman(&policy.doc)]);
        if !policy.self_binding {
            roff.text([roman("Annotations cannot request this policy unless the configuration allows it.")]);
        }
        for param in &policy.params {
            let mut text = param.doc.clone();
            text.push_str(match text.chars().last() {
                Some('.') => " ",
                _ => ". ",
            });
            text.push_str(&match (&param.range, &param.default) {
                (None, None) => "Required.".to_owned(),
                (None, Some(value)) => format!("Defaults to {value}."),
                (Some(range), None) => format!("Range {range}. Required."),
                (Some(range), Some(value)) => format!("Range {range}. Defaults to {value}."),
            });
            roff.control("TP", [])
                .text([bold(format!("{}=", param.name)), italic(&param.kind)])
                .text([roman(text)]);
        }
    }
    roff.to_roff()
}

/// Sections, with their keys and the comment of each.
fn keys(configuration: &str) -> String {
    let mut roff = Roff::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in configuration.lines() {
        match line.strip_prefix('#') {
            Some(text) if inside && !text.starts_with(' ') && text.contains('=') => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                roff.control("TP", [])
                    .text([bold(format!("{key}=")), italic(value)])
                    .text([roman(comment.join(" "))]);
                comment.clear();
            }
            Some(text) => comment.push(text.trim_start()),
            None if line.starts_with('[') => {
                roff.control("SS", [line]);
                inside = true;
                comment.clear();
            }
            None => comment.clear(),
        }
    }
    roff.to_roff()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ParamReport;

    #[test]
    fn every_key_of_the_shipped_configuration_is_explained() {
        let text = keys(CONFIGURATION);
        for key in CONFIGURATION.lines().filter_map(|line| line.strip_prefix('#')?.split_once('=')) {
            if !key.0.starts_with(' ') {
                assert!(text.contains(&format!("\\fB{}=\\fR", key.0)), "{}: {text}", key.0);
            }
        }
        assert_eq!(
            keys("# file\n\n[A]\n# What.\n# Why.\n#B=1\n"),
            ".SS [A]\n.TP\n\\fBB=\\fR\\fI1\\fR\nWhat. Why.\n"
        );
    }

    #[test]
    fn a_policy_is_described_by_its_object() {
        let limit = ParamReport {
            name: "limit".to_owned(),
            kind: "size".to_owned(),
            doc: "the most".to_owned(),
            default: None,
            range: Some("64K..".to_owned()),
        };
        let deny = PolicyReport {
            name: "deny".to_owned(),
            doc: "Deny growth.".to_owned(),
            params: vec![limit],
            self_binding: true,
            ..PolicyReport::default()
        };
        assert_eq!(
            policies(&[deny]),
            ".SS deny\nDeny growth.\n.TP\n\\fBlimit=\\fR\\fIsize\\fR\nthe most. Range 64K... Required.\n"
        );
    }
}
