//! `memcg-bpf policies`: what can be asked for, as the policies' object files say. Needs neither root nor the daemon.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Answer;
use super::screen::{Screen, complain, json, one_line, wrapped};
use crate::bpf::catalog::{CORE_OBJECT, Objects, POLICY_DIRS, load};
use crate::bpf::kernel;
use crate::report::{KernelReport, PolicyReport};

/// List the policies that can be used, with their parameters
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf policies
  memcg-bpf policies deny")]
pub(super) struct Policies {
    /// Only this policy
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    objects: ObjectDir,
}

/// Where the policies' object files are.
#[derive(Debug, Args)]
pub(super) struct ObjectDir {
    /// Read core.bpf.o and policies/ from this directory instead of the installed ones
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    objects: Option<PathBuf>,
}

impl ObjectDir {
    /// Reads all objects; bad ones are errors inside.
    pub fn read(&self) -> Objects {
        match &self.objects {
            Some(dir) => load(&dir.join("core.bpf.o"), &[dir.join("policies")]),
            None => load(Path::new(CORE_OBJECT), &POLICY_DIRS.map(PathBuf::from)),
        }
    }
}

impl Policies {
    pub fn run(&self, screen: &Screen, as_json: bool) -> anyhow::Result<Answer> {
        let objects = self.objects.read();
        for error in &objects.errors {
            complain(&format!("memcg-bpf: {}\n", one_line(error)));
        }
        let mut reports = reports(&objects);
        if let Some(name) = &self.name {
            reports.retain(|report| report.name == *name);
            if reports.is_empty() {
                let known: Vec<&str> = objects.schemas.keys().map(String::as_str).collect();
                anyhow::bail!("there is no policy '{}'; there are: {}", one_line(name), known.join(", "));
            }
        }
        let text = match (as_json, reports.is_empty()) {
            (true, _) => json(&reports)?,
            (false, true) => format!(
                "There is no policy: no *.bpf.o in {}.\nInstall the package memcg-bpf.\n",
                POLICY_DIRS.join(", ")
            ),
            (false, false) => {
                reports.iter().map(|report| in_words(report, screen)).collect::<Vec<_>>().join("\n")
            }
        };
        Ok(Answer { text, good: objects.errors.is_empty() })
    }
}

/// The objects as the daemon would report them.
fn reports(objects: &Objects) -> Vec<PolicyReport> {
    match kernel::probe(objects) {
        Ok(kernel) => objects.reports(&kernel),
        // Without the kernel's BTF nothing is known to be missing; `doctor` tells about that.
        Err(_) => {
            let mut reports = objects.reports(&KernelReport::default());
            reports.iter_mut().for_each(|report| report.missing_hooks.clear());
            reports
        }
    }
}

fn in_words(report: &PolicyReport, screen: &Screen) -> String {
    let width = screen.text_width();
    let mut out = format!("{}\n{}", one_line(&report.name), wrapped(&report.doc, 2, width));
    for param in &report.params {
        let default = match &param.default {
            Some(value) => format!("default {value}"),
            None => "must be given".to_owned(),
        };
        let range = param.range.as_ref().map_or(String::new(), |range| format!(", {range}"));
        out.push_str(&wrapped(&format!("{}=  {}{range}; {default}", param.name, param.kind), 4, width));
        out.push_str(&wrapped(&param.doc, 8, width));
    }
    if !report.self_binding {
        out.push_str(&wrapped(
            "Annotations may not ask for it unless the configuration allows it.",
            2,
            width,
        ));
    }
    if !report.missing_hooks.is_empty() {
        let hooks = report.missing_hooks.join(", ");
        out.push_str(&wrapped(&format!("This kernel lacks its hooks: {hooks}."), 2, width));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ParamReport;

    #[test]
    fn a_policy_is_described_by_its_schema() {
        let report = PolicyReport {
            name: "deny".to_owned(),
            doc: "Refuse growth.".to_owned(),
            params: vec![ParamReport {
                name: "limit".to_owned(),
                kind: "size or percentage".to_owned(),
                doc: "the most".to_owned(),
                default: None,
                range: Some("64K..".to_owned()),
            }],
            self_binding: true,
            ..PolicyReport::default()
        };
        assert_eq!(
            in_words(&report, &Screen::default()),
            "deny\n  Refuse growth.\n    limit= size or percentage, 64K..; must be given\n        the most\n"
        );
    }
}
