use super::super::fixture;
use super::*;

fn render(catalog: &Catalog, text: &str) -> String {
    match catalog.expand(&line::parse(text).unwrap()) {
        Ok(calls) => {
            let one =
                |call: &Clause| format!("{}@{}{}", call.name, call.at, call.profile.as_deref().unwrap_or(""));
            calls.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "),
    }
}

#[test]
fn profile_hides_policy_of_same_name() {
    let catalog = fixture::catalog();
    assert_eq!(render(&catalog, "observe; gold"), "observe@0 deny@9gold oom@9gold");
    assert_eq!(render(&catalog, "throttle"), "throttle@0throttle");
    assert_eq!(render(&catalog, "none"), "");
}

#[test]
fn catalog_without_policies_is_reported() {
    assert_eq!(
        render(&Catalog::default(), "deny"),
        "column 1: unknown policy 'deny': no policy is installed"
    );
}

#[test]
fn recursive_profile_is_invalid() {
    let mut catalog = fixture::catalog();
    catalog.profiles.get_mut("gold").unwrap().line = "gold; gold".to_owned();
    assert_eq!(
        render(&catalog, "gold"),
        ["column 1: profile 'gold' (/etc/memcg-bpf/profiles.d/gold.profile): \
          'gold' is a profile, and a profile can contain only policies"; 2]
            .join(" / ")
    );
}
