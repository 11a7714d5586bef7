//! All policies and profiles by name.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Diagnostic, closest_match, join_with_and, truncate};
use super::line::{self, Clause, Line};
use super::profile::Profile;
use super::schema::PolicySchema;
use crate::text::printable::{QUOTE_MAX, quote};

/// The names that can be used in a policy line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// The policies, by name.
    pub policies: BTreeMap<String, PolicySchema>,
    /// The profiles, by name. If a profile and a policy have the same name, policy lines refer to the profile, and
    /// profiles to the policy.
    pub profiles: BTreeMap<String, Profile>,
}

impl Catalog {
    /// The policies that a line requests, with profiles expanded. Errors: unknown names, parameters for a profile,
    /// duplicate policies, a profile with errors.
    pub fn expand(&self, line: &Line) -> Result<Vec<Clause>, Vec<Diagnostic>> {
        let Line::Clauses(calls) = line else {
            return Ok(Vec::new());
        };
        let (expanded, mut errors) = self.expand_clauses(calls);
        if errors.is_empty() {
            Ok(expanded)
        } else {
            errors.sort_by_key(|error| error.at);
            Err(truncate(errors))
        }
    }

    /// The policies that could be expanded, and the errors of the others.
    pub(super) fn expand_clauses(&self, calls: &[Clause]) -> (Vec<Clause>, Vec<Diagnostic>) {
        let mut expanded = Vec::new();
        let mut errors = Vec::new();
        for call in calls {
            match self.profiles.get(&call.name) {
                Some(profile) => match self.expand_profile(profile, call) {
                    Ok(members) => expanded.extend(members),
                    Err(wrong) => errors.extend(wrong),
                },
                None if self.policies.contains_key(&call.name) => expanded.push(call.clone()),
                None => errors.push(self.unknown(&call.name).at(call.at)),
            }
        }
        errors.extend(duplicates(&expanded));
        (expanded, errors)
    }

    /// Expands a profile, at the position of its name.
    fn expand_profile(&self, profile: &Profile, at: &Clause) -> Result<Vec<Clause>, Vec<Diagnostic>> {
        let name = &profile.name;
        let mut errors = Vec::new();
        if let Some(arg) = at.args.first() {
            let message = format!(
                "'{name}' is a profile ({}) and takes no parameters, but '{}=' was given",
                profile.file,
                quote(&arg.key, QUOTE_MAX)
            );
            errors.push(Diagnostic::new(&arg.key, message).at(arg.at));
        }
        let mut members = match line::parse(&profile.line) {
            Ok(Line::Clauses(calls)) => calls,
            Ok(Line::None) => Vec::new(),
            Err(wrong) => {
                errors.extend(wrong.into_iter().map(|error| in_profile(profile, error).at(at.at)));
                Vec::new()
            }
        };
        for member in &mut members {
            if !self.policies.contains_key(&member.name) {
                let error = if self.profiles.contains_key(&member.name) {
                    let message =
                        format!("'{}' is a profile, and a profile can contain only policies", member.name);
                    Diagnostic::new(&member.name, message)
                } else {
                    self.unknown(&member.name)
                };
                errors.push(in_profile(profile, error).at(at.at));
            }
            // Columns of the profile's text do not apply to the policy line.
            member.at = at.at;
            member.profile = Some(name.clone());
            for arg in &mut member.args {
                (arg.at, arg.value_at) = (at.at, at.at);
            }
        }
        if errors.is_empty() { Ok(members) } else { Err(errors) }
    }

    fn unknown(&self, name: &str) -> Diagnostic {
        let names = || {
            let all: BTreeSet<&str> =
                self.policies.keys().chain(self.profiles.keys()).map(String::as_str).collect();
            all
        };
        let error = Diagnostic::new(name, format!("unknown policy '{}'", quote(name, QUOTE_MAX)));
        if names().is_empty() {
            return Diagnostic { message: format!("{}: no policy is installed", error.message), ..error };
        }
        error.valid(join_with_and(names())).suggest(closest_match(name, names()))
    }
}

/// An error in the text of a profile.
fn in_profile(profile: &Profile, error: Diagnostic) -> Diagnostic {
    Diagnostic {
        message: format!("profile '{}' ({}): {}", profile.name, profile.file, error.message),
        ..error
    }
}

/// All policies that occur more than once.
fn duplicates(calls: &[Clause]) -> Vec<Diagnostic> {
    let mut first: BTreeMap<&str, &Clause> = BTreeMap::new();
    let mut errors = Vec::new();
    for call in calls {
        let Some(other) = first.get(call.name.as_str()) else {
            first.insert(&call.name, call);
            continue;
        };
        let by = match (&call.profile, &other.profile) {
            (Some(profile), _) | (None, Some(profile)) => format!(", once in profile '{profile}'"),
            (None, None) => String::new(),
        };
        errors.push(Diagnostic::new(&call.name, format!("duplicate policy '{}'{by}", call.name)).at(call.at));
    }
    errors
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
