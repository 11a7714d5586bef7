//! Parses the arguments of D-Bus methods, which come from untrusted callers.

use std::collections::BTreeMap;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zbus::{OwnedVariant, Signature, Type, Variant};

use super::error::Error;
pub(super) use crate::bus::{
    OPTION_CGROUPS_PATH as CGROUPS_PATH, OPTION_POD as POD, OPTION_REQUIRED as REQUIRED,
    OPTION_SANDBOX as SANDBOX,
};
use crate::names::{CGROUP_PATH_MAX, CgroupPath, ContainerId, PodName};
use crate::policy::line::LINE_BYTES_MAX;
use crate::text::printable::quote;

/// Limit of the number of options that are read. Four exist.
const OPTIONS_MAX: usize = 16;

/// Characters of an unknown option or type that an error quotes.
const WORD_MAX: usize = 64;

fn invalid(sentence: String) -> Error {
    Error::InvalidArgument(sentence)
}

/// Parses the path of a cgroup.
pub fn cgroup_path(text: &str) -> Result<CgroupPath, Error> {
    CgroupPath::parse(text).map_err(|error| invalid(error.to_string()))
}

/// Parses the path of a cgroup that can have a policy.
pub fn non_root_cgroup(text: &str) -> Result<CgroupPath, Error> {
    let path = cgroup_path(text)?;
    if path.is_root() {
        return Err(invalid(
            "a policy cannot be attached to the root cgroup; name a cgroup below it".to_owned(),
        ));
    }
    Ok(path)
}

/// Parses the id of a container.
pub fn container_id(text: &str) -> Result<ContainerId, Error> {
    ContainerId::parse(text).map_err(|error| invalid(error.to_string()))
}

/// Parses the id of a process.
pub fn pid(pid: u32) -> Result<u32, Error> {
    // In system calls, 0 is the calling process, and negative numbers are process groups.
    if pid == 0 || i32::try_from(pid).is_err() {
        return Err(invalid(format!("{pid} is not the id of a process")));
    }
    Ok(pid)
}

/// Checks the length of a policy line.
pub fn policy_line(line: &str) -> Result<String, Error> {
    if line.len() > LINE_BYTES_MAX {
        let length = line.len();
        return Err(Error::InvalidPolicy(format!(
            "the policy line has {length} bytes; at most {LINE_BYTES_MAX} are allowed"
        )));
    }
    Ok(line.to_owned())
}

/// The options of `AttachContainer` as received. At most [`OPTIONS_MAX`] are read.
#[derive(Debug, Default, PartialEq)]
pub struct OptionDict {
    entries: BTreeMap<String, OwnedVariant>,
    /// True if there are more.
    too_many: bool,
}

impl Type for OptionDict {
    const SIGNATURE: &'static Signature = <BTreeMap<String, OwnedVariant> as Type>::SIGNATURE;
}

impl<'de> Deserialize<'de> for OptionDict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionVisitor)
    }
}

impl From<BTreeMap<String, OwnedVariant>> for OptionDict {
    fn from(entries: BTreeMap<String, OwnedVariant>) -> Self {
        let too_many = entries.len() > OPTIONS_MAX;
        OptionDict { entries, too_many }
    }
}

struct OptionVisitor;

impl<'de> Visitor<'de> for OptionVisitor {
    type Value = OptionDict;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a dictionary of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OptionDict, A::Error> {
        let mut dict = OptionDict::default();
        for _ in 0..OPTIONS_MAX {
            let Some((key, value)) = map.next_entry()? else { return Ok(dict) };
            dict.entries.insert(key, value);
        }
        // The rest of the message is not read.
        dict.too_many = map.next_key::<&str>()?.is_some();
        Ok(dict)
    }
}

/// The options of `AttachContainer`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// [`CGROUPS_PATH`], if given.
    pub cgroups_path: Option<String>,
    /// [`POD`], if given.
    pub pod: Option<PodName>,
    /// [`SANDBOX`], if given.
    pub sandbox: Option<ContainerId>,
    /// [`REQUIRED`].
    pub required: bool,
}

impl Options {
    /// Unknown options and wrong types are errors: a mistyped `required` would have no effect.
    pub fn parse(given: &OptionDict) -> Result<Self, Error> {
        if given.too_many {
            return Err(invalid(format!("more than {OPTIONS_MAX} options; only four exist")));
        }
        let mut options = Options::default();
        for (key, value) in &given.entries {
            match (key.as_str(), &**value) {
                (CGROUPS_PATH, Variant::Str(path)) if path.len() <= CGROUP_PATH_MAX => {
                    options.cgroups_path = Some(path.as_str().to_owned());
                }
                (CGROUPS_PATH, Variant::Str(path)) => {
                    let length = path.len();
                    return Err(invalid(format!(
                        "option '{CGROUPS_PATH}' has {length} bytes; at most {CGROUP_PATH_MAX} are possible"
                    )));
                }
                (REQUIRED, Variant::Bool(required)) => options.required = *required,
                (POD, Variant::Str(name)) => {
                    options.pod = Some(PodName::parse(name).map_err(|error| invalid(error.to_string()))?);
                }
                (SANDBOX, Variant::Str(id)) => options.sandbox = Some(container_id(id)?),
                (POD | SANDBOX, other) => return Err(wrong_type(key, "a string (s)", other)),
                (CGROUPS_PATH, other) => return Err(wrong_type(CGROUPS_PATH, "a string (s)", other)),
                (REQUIRED, other) => return Err(wrong_type(REQUIRED, "a boolean (b)", other)),
                (unknown, _) => {
                    let word = quote(unknown, WORD_MAX);
                    return Err(invalid(format!(
                        "unknown option '{word}'; valid are '{CGROUPS_PATH}' (s), '{POD}' (s), '{REQUIRED}' (b) and '{SANDBOX}' (s)"
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn wrong_type(option: &str, expected: &str, value: &Variant<'_>) -> Error {
    let signature = quote(&value.value_signature().to_string(), WORD_MAX);
    invalid(format!("option '{option}' must be {expected}, not of type '{signature}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, Variant<'static>)]) -> Result<Options, String> {
        let entries: BTreeMap<String, OwnedVariant> =
            given.iter().map(|(key, value)| ((*key).to_owned(), value.try_to_owned().unwrap())).collect();
        Options::parse(&OptionDict::from(entries)).map_err(|error| error.to_string())
    }

    #[test]
    fn names_of_pods_are_checked() {
        let options = parse(&[(POD, "default/web app".into()), (SANDBOX, "5a".into())]).unwrap();
        assert_eq!(options.pod.unwrap().to_string(), "default/web app");
        assert_eq!(options.sandbox.unwrap().as_str(), "5a");
        for (key, value, why) in [
            (
                POD,
                "a\u{7}".into(),
                "'a\\u{7}' is not the name of a pod: NAMESPACE/POD or NAMESPACE/POD CONTAINER",
            ),
            (POD, true.into(), "option 'pod' must be a string (s), not of type 'b'"),
            (SANDBOX, 1u32.into(), "option 'sandbox' must be a string (s), not of type 'u'"),
            (SANDBOX, "../x".into(), "'../x' is not a container id: it starts with '-' or '.'"),
        ] {
            assert_eq!(parse(&[(key, value)]).unwrap_err(), why);
        }
    }
}
