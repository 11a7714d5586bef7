//! What may come next in a policy line: policies and profiles, the parameters of the policy that is being written, and
//! the values of a parameter.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::policy::schema::{ParamKind, ParamSchema, PolicySchema};

/// The position of the completed word, as the scripts of bash and zsh pass it. fish passes the words up to it.
const INDEX_VARIABLE: &str = "_CLAP_COMPLETE_INDEX";

/// The words before the completed one, and that one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Typed {
    pub before: Vec<String>,
    pub current: String,
}

/// A word with its description.
pub(super) type Word = (String, String);

impl Typed {
    /// From the arguments of this process, which a shell has started for completion.
    pub fn now() -> Self {
        let index = std::env::var(INDEX_VARIABLE).ok().and_then(|text| text.parse().ok());
        Self::parse(std::env::args_os(), index)
    }

    fn parse(args: impl Iterator<Item = OsString>, index: Option<usize>) -> Self {
        let words = args.map(|arg| arg.to_string_lossy().into_owned());
        let mut words: Vec<String> = words.skip_while(|word| word != "--").skip(1).collect();
        if let Some(index) = index {
            words.truncate(index.saturating_add(1));
        }
        let current = words.pop().unwrap_or_default();
        Typed { before: words, current }
    }

    /// The name of the parameter whose value is being written. bash passes `mode=d` as three words, and `mode=` as `mode`
    /// and an empty word.
    fn parameter<'a>(&'a self, policy: &PolicySchema) -> Option<(&'a str, bool)> {
        if let Some((name, _)) = self.current.split_once('=') {
            return Some((name, true));
        }
        match self.before.as_slice() {
            [.., name, equals] if equals == "=" => Some((name, false)),
            [.., name]
                if self.current.is_empty() && policy.params.iter().any(|param| param.name == *name) =>
            {
                Some((name, false))
            }
            _ => None,
        }
    }
}

/// The candidates, in the order in which they are offered.
pub(super) fn candidates(
    typed: &Typed,
    policies: &BTreeMap<String, PolicySchema>,
    profiles: Vec<Word>,
) -> Vec<Word> {
    let Some((policy, words)) = open_policy(&typed.before, policies) else {
        let mut all: Vec<Word> =
            policies.values().map(|policy| (policy.name.clone(), policy.doc.clone())).collect();
        all.extend(profiles);
        return all;
    };
    if let Some((name, with_key)) = typed.parameter(policy) {
        let Some(param) = policy.params.iter().find(|param| param.name == name) else { return Vec::new() };
        let text = |value: String| if with_key { format!("{name}={value}") } else { value };
        return values(param).into_iter().map(|value| (text(value), param.doc.clone())).collect();
    }
    let is_given = |param: &&ParamSchema| {
        words.iter().any(|word| word.split('=').next().is_some_and(|key| key == param.name))
    };
    let missing = policy.params.iter().filter(|param| !is_given(param));
    missing.map(|param| (format!("{}=", param.name), param.doc.clone())).collect()
}

/// The policy to which the next word belongs, and the words after its name. A word with a `;` at its end closes it.
fn open_policy<'a>(
    before: &'a [String],
    policies: &'a BTreeMap<String, PolicySchema>,
) -> Option<(&'a PolicySchema, &'a [String])> {
    let at = before.iter().rposition(|word| policies.contains_key(word) || word.ends_with(';'))?;
    let policy = policies.get(before.get(at)?)?;
    Some((policy, before.get(at.saturating_add(1)..).unwrap_or_default()))
}

/// The values of a parameter: all words of a choice, or the default as an example.
fn values(param: &ParamSchema) -> Vec<String> {
    match &param.kind {
        ParamKind::Choice(words) => words.iter().map(|(word, _)| word.clone()).collect(),
        ParamKind::Bool => ["yes", "no"].map(str::to_owned).to_vec(),
        _ => param.default.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    fn next(line: &str) -> Vec<String> {
        let mut before: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let current = before.pop().unwrap();
        let profiles = vec![("gold".to_owned(), String::new())];
        let found = candidates(&Typed { before, current }, &fixture::catalog().policies, profiles);
        found.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn policies_are_followed_by_their_own_parameters() {
        let policies = ["deny", "observe", "oom", "protect", "throttle", "gold"];
        assert_eq!(next("attach x "), policies);
        assert_eq!(next("attach x deny "), ["limit=", "min=", "mode="]);
        assert_eq!(next("attach x deny limit=64M m"), ["min=", "mode="]);
        assert_eq!(next("attach x deny limit = 64M "), ["min=", "mode="]);
        assert_eq!(next("attach x deny limit=64M; "), policies);
        assert_eq!(next("attach x deny limit=64M; protect "), ["low=", "mode="]);
    }

    #[test]
    fn values_are_completed_as_each_shell_splits_them() {
        assert_eq!(next("attach x deny mode="), ["mode=act", "mode=dry-run"]);
        assert_eq!(next("attach x deny mode = d"), ["act", "dry-run"]);
        assert_eq!(next("attach x deny mode "), ["act", "dry-run"]);
        assert_eq!(next("attach x oom group="), ["group=yes", "group=no"]);
        assert_eq!(next("attach x oom pressure="), ["pressure=40%"]);
        assert_eq!(next("attach x deny limit="), [""; 0]);
        assert_eq!(next("attach x deny foo="), [""; 0]);
    }

    #[test]
    fn words_after_the_completed_one_are_ignored() {
        let args = || {
            ["memcg-bpf", "--", "memcg-bpf", "attach", "x", "deny", "later"].map(OsString::from).into_iter()
        };
        let typed = Typed::parse(args(), Some(3));
        assert_eq!((typed.before.last().map(String::as_str), typed.current.as_str()), (Some("x"), "deny"));
        assert_eq!(Typed::parse(args(), None).current, "later");
    }
}
