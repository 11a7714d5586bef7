//! `memcg-bpf policies`: the installed policies with their parameters. Needs neither root nor the daemon.

use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::bpf::objects::{POLICY_DIRS, PolicyObjects};
use crate::bpf::{BpfError, BpfRuntime, probe};
use crate::cgroup::memory;
use crate::cli::find::candidates;
use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;
use crate::cli::term::{Terminal, eprint, escape_line, json, wrap};
use crate::report::{KernelReport, PolicyReport};
use crate::text::printable::quote;

/// Characters displayed of a line of the verifier's log, which contains names from the object.
const LOG_LINE_MAX: usize = 500;

/// List installed policies with their parameters
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf policies
  memcg-bpf policies deny
  sudo memcg-bpf policies mine --load      check it with the kernel's verifier")]
pub(in crate::cli) struct Policies {
    /// Show only this policy
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(candidates::policy_names))]
    name: Option<String>,
    /// Also load the policy into this kernel without attaching it, and print the verifier's log if it is rejected
    #[arg(long, requires = "name")]
    load: bool,
    #[command(flatten)]
    objects: ObjectDir,
}

impl Policies {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let objects = self.objects.read();
        for error in &objects.errors {
            eprint(&format!("memcg-bpf: {}\n", escape_line(error)));
        }
        let mut reports = reports(&objects);
        if let Some(name) = &self.name {
            reports.retain(|report| report.name == *name);
            if reports.is_empty() {
                let known: Vec<&str> = objects.schemas.keys().map(String::as_str).collect();
                anyhow::bail!(
                    "unknown policy '{}'; installed policies: {}",
                    escape_line(name),
                    known.join(", ")
                );
            }
            if self.load {
                verify_load(&self.objects.core(), &objects, name)?;
            }
        }
        let text = match (as_json, reports.is_empty()) {
            (true, _) => json(&reports)?,
            (false, true) => format!(
                "No policy is installed: no *.bpf.o in {}.\nInstall the package memcg-bpf.\n",
                POLICY_DIRS.join(", ")
            ),
            (false, false) => {
                reports.iter().map(|report| render(report, terminal)).collect::<Vec<_>>().join("\n")
            }
        };
        Ok(Output { success: objects.errors.is_empty(), ..Output::success(text) })
    }
}

/// Loads and unloads a policy. If the kernel rejects it, prints the verifier's log on stderr.
fn verify_load(core: &Path, objects: &PolicyObjects, name: &str) -> anyhow::Result<()> {
    let (machine, page) = (memory::total_ram()?, memory::page_size());
    let loaded =
        BpfRuntime::open(core, objects.files.clone(), machine, page).and_then(|mut k| k.load_policy(name));
    if let Err(BpfError::Load { log, .. }) = &loaded {
        log.lines().for_each(|line| eprint(&format!("{}\n", quote(line, LOG_LINE_MAX))));
    }
    Ok(loaded?)
}

/// The reports of objects, as the daemon would return them.
fn reports(objects: &PolicyObjects) -> Vec<PolicyReport> {
    match probe::probe_hooks(objects) {
        Ok(kernel) => objects.reports(&kernel),
        // Without the kernel's BTF, missing hooks are unknown; `doctor` reports that.
        Err(_) => {
            let mut reports = objects.reports(&KernelReport::default());
            reports.iter_mut().for_each(|report| report.missing_hooks.clear());
            reports
        }
    }
}

fn render(report: &PolicyReport, terminal: &Terminal) -> String {
    let width = terminal.text_width();
    let mut out = format!("{}\n{}", escape_line(&report.name), wrap(&report.doc, 2, width));
    for param in &report.params {
        let default = match &param.default {
            Some(value) => format!("default {value}"),
            None => "required".to_owned(),
        };
        let range = param.range.as_ref().map_or(String::new(), |range| format!(", {range}"));
        out.push_str(&wrap(&format!("{}=  {}{range}; {default}", param.name, param.kind), 4, width));
        out.push_str(&wrap(&param.doc, 8, width));
    }
    if !report.self_binding {
        out.push_str(&wrap(
            "Annotations cannot request this policy unless the configuration allows it.",
            2,
            width,
        ));
    }
    if !report.missing_hooks.is_empty() {
        let hooks = report.missing_hooks.join(", ");
        out.push_str(&wrap(&format!("Missing hooks in this kernel: {hooks}."), 2, width));
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
            doc: "Deny growth.".to_owned(),
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
            render(&report, &Terminal::default()),
            "deny\n  Deny growth.\n    limit= size or percentage, 64K..; required\n        the most\n"
        );
    }
}
