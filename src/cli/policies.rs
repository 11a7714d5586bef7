//! `memcg-bpf policies`: what can be asked for, as the policies' object files say. Needs neither root nor the daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::screen::{Screen, complain, json, one_line, wrapped};
use super::{Answer, completion};
use crate::bpf::objects::{CORE_OBJECT, POLICY_DIRS, PolicyObjects, load};
use crate::bpf::{BpfError, BpfRuntime, probe};
use crate::cgroup::memory;
use crate::names::shown;
use crate::policy::schema::PolicySchema;
use crate::report::{AttachedPolicy, KernelReport, PolicyReport};

/// Characters of a line of the verifier's log, in which the object's own words stand.
const LOG_LINE_MAX: usize = 500;

/// List the policies that can be used, with their parameters
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf policies
  memcg-bpf policies deny
  sudo memcg-bpf policies mine --load      what the kernel's verifier says of it")]
pub(super) struct Policies {
    /// Only this policy
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::policy_names))]
    name: Option<String>,
    /// Also load it into this kernel, attach nothing, and print the verifier's log if it is refused
    #[arg(long, requires = "name")]
    load: bool,
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
    /// Where packages put them.
    pub fn installed() -> Self {
        ObjectDir { objects: None }
    }

    fn core(&self) -> PathBuf {
        self.objects.as_ref().map_or_else(|| PathBuf::from(CORE_OBJECT), |dir| dir.join("core.bpf.o"))
    }

    /// Reads all objects; bad ones are errors inside.
    pub fn read(&self) -> PolicyObjects {
        match &self.objects {
            Some(dir) => load(&self.core(), &[dir.join("policies")]),
            None => load(&self.core(), &POLICY_DIRS.map(PathBuf::from)),
        }
    }
}

/// What the installed policies' parameters are when nobody says, for leaving that out where space is short.
#[derive(Debug, Default)]
pub(super) struct Defaults(BTreeMap<String, Vec<(String, Option<String>)>>);

impl Defaults {
    /// From the installed objects; without them nothing is left out.
    pub fn installed() -> Self {
        let of = |schema: PolicySchema| {
            schema.params.into_iter().map(|param| (param.name, param.default)).collect()
        };
        let objects = ObjectDir::installed().read();
        Defaults(objects.schemas.into_iter().map(|(name, schema)| (name, of(schema))).collect())
    }

    /// `deny limit=64M`: the policy with the settings that differ from the defaults, in the order of its parameters.
    pub fn apart_from(&self, policy: &AttachedPolicy) -> String {
        let known = self.0.get(&policy.name).map(Vec::as_slice).unwrap_or_default();
        let rank = |key: &str| known.iter().position(|(name, _)| name == key).unwrap_or(usize::MAX);
        // A duration of nothing is 0s in the schema and 0 in what is in force.
        let plain = |value: &str| if value == "0s" { "0".to_owned() } else { value.to_owned() };
        let is_default = |key: &str, value: &str| {
            known
                .iter()
                .any(|(name, default)| name == key && default.as_deref().map(plain) == Some(plain(value)))
        };
        let mut settings: Vec<(&String, &String)> =
            policy.parameters.iter().filter(|(key, value)| !is_default(key, value)).collect();
        settings.sort_by_key(|(key, _)| rank(key));
        let mut text = one_line(&policy.name);
        for (key, value) in settings {
            text.push_str(&format!(" {}={}", one_line(key), one_line(value)));
        }
        text
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
            if self.load {
                try_load(&self.objects.core(), &objects, name)?;
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
        Ok(Answer { good: objects.errors.is_empty(), ..Answer::good(text) })
    }
}

/// Fails, with the verifier's log on stderr, when the kernel refuses the policy. Nothing of it stays.
fn try_load(core: &Path, objects: &PolicyObjects, name: &str) -> anyhow::Result<()> {
    let (machine, page) = (memory::total_ram()?, memory::page_size());
    let loaded =
        BpfRuntime::open(core, objects.files.clone(), machine, page).and_then(|mut k| k.load_policy(name));
    if let Err(BpfError::Load { log, .. }) = &loaded {
        log.lines().for_each(|line| complain(&format!("{}\n", shown(line, LOG_LINE_MAX))));
    }
    Ok(loaded?)
}

/// The objects as the daemon would report them.
fn reports(objects: &PolicyObjects) -> Vec<PolicyReport> {
    match probe::probe_hooks(objects) {
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
    fn settings_that_nobody_chose_are_left_out() {
        let known = [("limit", None), ("min", Some("0")), ("mode", Some("act"))];
        let known = known.map(|(name, default)| (name.to_owned(), default.map(str::to_owned))).to_vec();
        let defaults = Defaults([("deny".to_owned(), known)].into());
        let settings = [("mode", "dry-run"), ("min", "0"), ("limit", "64M")];
        let policy = AttachedPolicy {
            name: "deny".to_owned(),
            parameters: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..AttachedPolicy::default()
        };
        assert_eq!(defaults.apart_from(&policy), "deny limit=64M mode=dry-run");
        assert_eq!(Defaults::default().apart_from(&policy), "deny limit=64M min=0 mode=dry-run");
    }

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
