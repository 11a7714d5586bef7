//! The installed policies and their default parameters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::bpf::objects::{CORE_OBJECT, POLICY_DIRS, PolicyObjects, load};
use crate::cli::term::escape_line;
use crate::policy::schema::PolicySchema;
use crate::report::AttachedPolicy;

/// The directory of the policy objects.
#[derive(Debug, Args)]
pub(in crate::cli) struct ObjectDir {
    /// Read core.bpf.o and policies/ from this directory
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    objects: Option<PathBuf>,
}

impl ObjectDir {
    /// The installed objects.
    pub fn installed() -> Self {
        ObjectDir { objects: None }
    }

    /// The objects below this directory.
    #[cfg(test)]
    pub fn in_dir(dir: PathBuf) -> Self {
        ObjectDir { objects: Some(dir) }
    }

    pub fn core(&self) -> PathBuf {
        self.objects.as_ref().map_or_else(|| PathBuf::from(CORE_OBJECT), |dir| dir.join("core.bpf.o"))
    }

    /// Reads all objects. Errors of single objects are in the result.
    pub fn read(&self) -> PolicyObjects {
        match &self.objects {
            Some(dir) => load(&self.core(), &[dir.join("policies")]),
            None => load(&self.core(), &POLICY_DIRS.map(PathBuf::from)),
        }
    }
}

/// Default parameters of the installed policies, which are left out of tables.
#[derive(Debug, Default)]
pub(in crate::cli) struct DefaultParams(BTreeMap<String, Vec<(String, Option<String>)>>);

impl DefaultParams {
    /// Reads the installed objects. Without them, all parameters are shown.
    pub fn installed() -> Self {
        let of = |schema: PolicySchema| {
            schema.params.into_iter().map(|param| (param.name, param.default)).collect()
        };
        let objects = ObjectDir::installed().read();
        DefaultParams(objects.schemas.into_iter().map(|(name, schema)| (name, of(schema))).collect())
    }

    /// `deny limit=64M`: the policy with its non-default parameters, in the order of the schema.
    pub fn non_default(&self, policy: &AttachedPolicy) -> String {
        let known = self.0.get(&policy.name).map(Vec::as_slice).unwrap_or_default();
        let rank = |key: &str| known.iter().position(|(name, _)| name == key).unwrap_or(usize::MAX);
        // A zero duration is 0s in the schema and 0 in a binding.
        let plain = |value: &str| if value == "0s" { "0".to_owned() } else { value.to_owned() };
        let is_default = |key: &str, value: &str| {
            known
                .iter()
                .any(|(name, default)| name == key && default.as_deref().map(plain) == Some(plain(value)))
        };
        let mut settings: Vec<(&String, &String)> =
            policy.parameters.iter().filter(|(key, value)| !is_default(key, value)).collect();
        settings.sort_by_key(|(key, _)| rank(key));
        let mut text = escape_line(&policy.name);
        for (key, value) in settings {
            text.push_str(&format!(" {}={}", escape_line(key), escape_line(value)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_parameters_are_left_out() {
        let known = [("limit", None), ("min", Some("0")), ("mode", Some("act"))];
        let known = known.map(|(name, default)| (name.to_owned(), default.map(str::to_owned))).to_vec();
        let defaults = DefaultParams([("deny".to_owned(), known)].into());
        let settings = [("mode", "dry-run"), ("min", "0"), ("limit", "64M")];
        let policy = AttachedPolicy {
            name: "deny".to_owned(),
            parameters: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..AttachedPolicy::default()
        };
        assert_eq!(defaults.non_default(&policy), "deny limit=64M mode=dry-run");
        assert_eq!(DefaultParams::default().non_default(&policy), "deny limit=64M min=0 mode=dry-run");
    }
}
