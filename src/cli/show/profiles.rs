//! `memcg-bpf profiles`: the installed profiles and their policies. Needs neither root nor the daemon.

use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::bpf::profiles;
use crate::cli::find::candidates;
use crate::cli::find::installed::ObjectDir;
use crate::cli::output::Output;
use crate::cli::term::{Terminal, eprint, escape_line, json, wrap};
use crate::policy::catalog::Catalog;
use crate::policy::precedence::check_line;
use crate::policy::profile::{PROFILE_DIRS, PROFILE_SUFFIX, Profile};
use crate::report::ProfileReport;

/// List installed profiles (named sets of policies)
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf profiles
  memcg-bpf profiles batch")]
pub(in crate::cli) struct Profiles {
    /// Show only this profile
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(candidates::profile_names))]
    name: Option<String>,
    #[command(flatten)]
    objects: ObjectDir,
}

impl Profiles {
    pub fn run(&self, terminal: &Terminal, as_json: bool) -> anyhow::Result<Output> {
        let (profiles, broken) = profiles::load(Path::new("/"));
        broken.iter().for_each(|error| eprint(&format!("memcg-bpf: {error}\n")));
        let catalog = Catalog { policies: self.objects.read().schemas, profiles };
        let mut reports: Vec<ProfileReport> =
            catalog.profiles.values().map(|profile| report(profile, &catalog)).collect();
        if let Some(name) = &self.name {
            reports.retain(|report| report.name == *name);
            if reports.is_empty() {
                let known: Vec<&str> = catalog.profiles.keys().map(String::as_str).collect();
                anyhow::bail!(
                    "unknown profile '{}'; installed profiles: {}",
                    escape_line(name),
                    known.join(", ")
                );
            }
        }
        let success = broken.is_empty() && reports.iter().all(|report| report.errors.is_empty());
        let text = match (as_json, reports.is_empty()) {
            (true, _) => json(&reports)?,
            (false, true) => {
                format!("No profile is installed: no *{PROFILE_SUFFIX} in {}.\n", PROFILE_DIRS.join(", "))
            }
            (false, false) => {
                reports.iter().map(|report| render(report, terminal)).collect::<Vec<_>>().join("\n")
            }
        };
        Ok(Output { success, ..Output::success(text) })
    }
}

/// A profile and its errors.
fn report(profile: &Profile, catalog: &Catalog) -> ProfileReport {
    ProfileReport {
        name: profile.name.clone(),
        doc: profile.doc.clone(),
        file: profile.file.clone(),
        line: profile.line.clone(),
        errors: check_line(&profile.name, catalog, None, None).iter().map(ToString::to_string).collect(),
    }
}

fn render(report: &ProfileReport, terminal: &Terminal) -> String {
    let width = terminal.text_width();
    let mut out = format!("{}\n", escape_line(&report.name));
    if !report.doc.is_empty() {
        out.push_str(&wrap(&report.doc, 2, width));
    }
    out.push_str(&wrap(&report.line, 4, width));
    report.errors.iter().for_each(|error| out.push_str(&wrap(error, 2, width)));
    out.push_str(&wrap(&format!("({})", report.file), 2, width));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::profile::parse_profile;

    /// The profiles of the package, read from the source tree.
    fn shipped() -> Catalog {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        let objects = crate::bpf::objects::load(
            &tree.join("target/bpf/core.bpf.o"),
            &[tree.join("target/bpf/policies")],
        );
        let mut profiles = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir(tree.join("profiles")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let parsed = parse_profile(&name, path.to_str().unwrap(), &text).unwrap();
            assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
            profiles.insert(name, parsed.profile);
        }
        Catalog { policies: objects.schemas, profiles }
    }

    #[test]
    fn every_shipped_profile_is_valid_and_documented() {
        let catalog = shipped();
        let page = include_str!("../../../docs/profiles.md");
        assert_eq!(
            catalog.profiles.keys().collect::<Vec<_>>(),
            ["batch", "careful", "latency-critical", "sandbox"]
        );
        for profile in catalog.profiles.values() {
            let report = report(profile, &catalog);
            assert!(report.errors.is_empty() && !report.doc.is_empty(), "{report:?}");
            for call in profile.line.split(';') {
                assert!(page.contains(call.trim()), "docs/profiles.md does not say '{}'", call.trim());
            }
        }
    }

    #[test]
    fn invalid_profile_shows_its_error() {
        let mut catalog = shipped();
        let broken = parse_profile("gold", "gold.profile", "[Profile]\nPolicy=deny limt=1M\n").unwrap();
        catalog.profiles.insert("gold".to_owned(), broken.profile);
        let report = report(&catalog.profiles["gold"], &catalog);
        let text = render(&report, &Terminal::default());
        assert!(text.starts_with("gold\n    deny limt=1M\n"), "{text}");
        assert!(text.contains("unknown parameter 'limt'"), "{text}");
    }
}
