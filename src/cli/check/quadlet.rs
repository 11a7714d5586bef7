//! Podman's Quadlet files: their services, and the annotations of containers.

use super::finding::{Finding, findings_in_line};
use crate::cli::find::diagnose::is_likely_typo;
use crate::cli::term::escape_line;
use crate::policy::catalog::Catalog;
use crate::source::oci_state::{POLICY, POLICY_OF, REQUIRED};
use crate::text::ini::{Item, items};

/// Podman makes services from such files and copies their `[Service]` section.
pub(super) const QUADLET: [&str; 7] = ["container", "pod", "kube", "volume", "network", "image", "build"];

/// The findings in the annotations of a `.container` file, and how many of these are policies.
pub(super) fn findings_in_annotations(shown: &str, text: &str, catalog: &Catalog) -> (Vec<Finding>, usize) {
    let mut findings = Vec::new();
    let mut policies = 0usize;
    let mut section = String::new();
    for (line, item) in items(text) {
        match item {
            Item::Section(name) => section = name,
            Item::Assignment(key, value) if section == "Container" && key == "Annotation" => {
                let location = format!("{shown}:{line}");
                policies = policies.saturating_add(findings_in_words(
                    &words(&value),
                    &location,
                    catalog,
                    &mut findings,
                ));
            }
            _ => {}
        }
    }
    (findings, policies)
}

fn findings_in_words(
    words: &[String],
    location: &str,
    catalog: &Catalog,
    findings: &mut Vec<Finding>,
) -> usize {
    let mut policies = 0usize;
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let is_policy = key == POLICY || key.starts_with(POLICY_OF);
        let is_unknown = key.starts_with("memcg.bpf/") && !is_policy && key != REQUIRED;
        if is_unknown || is_likely_typo(key) {
            let key = escape_line(key);
            let sentence = format!("{location}: annotation '{key}' is unknown; did you mean {POLICY}?");
            findings.push(Finding::error(sentence));
        }
        if !is_policy {
            continue;
        }
        policies = policies.saturating_add(1);
        let mut whole = value.to_owned();
        while let Some(part) = words.next_if(|word| is_part_of_line(word)) {
            whole.push(' ');
            whole.push_str(part);
        }
        if whole != value {
            findings.push(Finding::error(format!(
                "{location}: podman splits the annotation at its spaces, so the policy line is '{}'; quote the annotation: \
                 Annotation=\"{}={}\"",
                escape_line(value),
                escape_line(key),
                escape_line(&whole)
            )));
        }
        findings.extend(findings_in_line(&whole, catalog, Some(location)));
    }
    policies
}

/// True for a word that is no annotation of its own: their keys have a domain.
fn is_part_of_line(word: &str) -> bool {
    let (key, _) = word.split_once('=').unwrap_or((word, ""));
    !key.contains(['.', '/'])
}

/// The words of a value, split and unquoted as podman does: quotes anywhere in a word, and escapes with a backslash.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Why a policy for the service of such a file does not reach a container.
pub(super) fn service_without_container(ending: &str) -> Option<String> {
    let (what, instead) = match ending {
        "pod" => (
            "the service of a pod holds only helpers of podman, not the containers",
            format!(
                "; use Annotation=\"{POLICY}=…\" in the [Container] section of the .container file of each container"
            ),
        ),
        "kube" => (
            "the service of a .kube file holds only helpers of podman, not the containers",
            format!("; use the annotation {POLICY} in metadata.annotations of the YAML file"),
        ),
        "volume" | "network" | "image" | "build" => ("the service holds no container", String::new()),
        _ => return None,
    };
    Some(format!("{what}, so the policy does not apply to them{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    /// The sentences about a `.container` file with this line.
    fn sentences(line: &str) -> Vec<String> {
        let text =
            format!("[Container]\nImage=x\n{line}\n[Service]\nAnnotation=memcg.bpf/policy=ignored here\n");
        let (findings, _) = findings_in_annotations("x.container", &text, &fixture::catalog());
        assert!(findings.iter().all(|finding| finding.wrong), "{findings:?}");
        findings.into_iter().map(|finding| finding.sentence).collect()
    }

    #[test]
    fn unquoted_annotation_is_reported_with_its_quoted_form() {
        assert_eq!(
            sentences("Annotation=memcg.bpf/policy=deny limit=64M"),
            [
                "x.container:3: podman splits the annotation at its spaces, so the policy line is 'deny'; quote the annotation: \
              Annotation=\"memcg.bpf/policy=deny limit=64M\""
            ]
        );
        let found = sentences("Annotation=org.a/b=c memcg.bpf/policy=deny limit=64M; observe org.d/e=f");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("Annotation=\"memcg.bpf/policy=deny limit=64M; observe\""), "{found:?}");
    }

    #[test]
    fn quoted_annotation_is_checked_as_a_line() {
        for quoted in [
            "Annotation=\"memcg.bpf/policy=deny limit=64M\"",
            "Annotation=memcg.bpf/policy='deny limit=64M' org.a/b=c",
            "Annotation=memcg.bpf/policy=observe",
            "Annotation=org.a/b=c d",
        ] {
            assert_eq!(sentences(quoted), [""; 0], "{quoted}");
        }
        let found = sentences("Annotation=\"memcg.bpf/policy=deny limt=64M\"");
        assert!(found[0].starts_with("x.container:3, column 6: unknown parameter 'limt'"), "{found:?}");
        for key in ["memcg-bpf/policy", "memcg.bpf/polcy"] {
            let unknown =
                format!("x.container:3: annotation '{key}' is unknown; did you mean memcg.bpf/policy?");
            assert_eq!(sentences(&format!("Annotation={key}=observe")), [unknown]);
        }
        assert_eq!(sentences("Annotation=memcg.bpf/required=yes"), [""; 0]);
    }

    #[test]
    fn words_are_split_and_unquoted() {
        assert_eq!(words(" a=b  \"c d\"e 'f\"g' h\\ i "), ["a=b", "c de", "f\"g", "h i"]);
        assert_eq!(words("''"), [""]);
        assert_eq!(words("  "), [""; 0]);
    }
}
