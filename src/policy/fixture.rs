//! Policies and profiles for tests: two real policies and three fictitious ones. Also compiled into
//! `tests/golden_policy.rs`, so that all imports use `super`.

use super::catalog::Catalog;
use super::profile::Profile;
use super::schema::{ParamKind, ParamSchema, PolicySchema};

/// Name, type, default, range.
type Param = (&'static str, ParamKind, Option<&'static str>, Option<&'static str>);

fn choice(words: &[&str]) -> ParamKind {
    ParamKind::Choice(words.iter().map(|word| (*word).to_owned()).zip(0..).collect())
}

fn mode() -> Param {
    ("mode", choice(&["act", "dry-run"]), Some("act"), None)
}

/// The layout that a C compiler uses.
pub fn policy(name: &str, self_binding: bool, params: Vec<Param>) -> PolicySchema {
    let mut size = 0;
    let params = params.into_iter().map(|(name, kind, default, range)| {
        let width: usize = if matches!(kind, ParamKind::Choice(_)) { 4 } else { 8 };
        let offset = usize::next_multiple_of(size, width);
        size = offset.saturating_add(width);
        ParamSchema {
            name: name.to_owned(),
            kind,
            offset,
            width,
            doc: format!("the {name}"),
            default: default.map(str::to_owned),
            range: range.map(str::to_owned),
        }
    });
    let params = params.collect();
    PolicySchema {
        name: name.to_owned(),
        doc: format!("the policy {name}"),
        self_binding,
        hooks: vec!["growth".to_owned()],
        params,
        size: size.next_multiple_of(8),
    }
}

/// The catalog of all tests.
pub fn catalog() -> Catalog {
    use ParamKind::{Bool, Bytes, Count, Duration, Ppm, Size};
    let policies = [
        policy("observe", true, vec![mode()]),
        policy(
            "deny",
            true,
            vec![("limit", Size, None, Some("1..")), ("min", Bytes, Some("0"), None), mode()],
        ),
        policy(
            "throttle",
            true,
            vec![
                ("when", choice(&["protected", "always"]), Some("protected"), None),
                ("high", Size, Some("90%"), Some("10%..95%")),
                ("step", Bytes, Some("16M"), Some("1M..1G")),
                ("hold", Duration, Some("10s"), Some("1s..1h")),
                mode(),
            ],
        ),
        policy(
            "oom",
            true,
            vec![
                ("pressure", Ppm, Some("40%"), Some("1%..")),
                ("for", Duration, Some("2s"), None),
                ("select", choice(&["largest", "newest", "pressure"]), Some("largest"), None),
                ("most", Count, Some("1"), Some("1..100")),
                ("group", Bool, Some("no"), None),
                mode(),
            ],
        ),
        policy("protect", false, vec![("low", Size, None, None), mode()]),
    ];
    let profiles = [
        ("gold", "deny limit=90%; oom pressure=30%"),
        ("broken", "den limit=1; observe"),
        ("nested", "gold"),
        ("greedy", "protect low=1G"),
        ("vague", "deny limit=lots"),
        // The name of a policy too: lines refer to the profile.
        ("throttle", "throttle when=always"),
    ];
    let profile = |(name, line): (&str, &str)| Profile {
        name: name.to_owned(),
        doc: format!("the profile {name}"),
        line: line.to_owned(),
        file: format!("/etc/memcg-bpf/profiles.d/{name}.profile"),
    };
    Catalog {
        policies: policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect(),
        profiles: profiles.into_iter().map(|p| (p.0.to_owned(), profile(p))).collect(),
    }
}
