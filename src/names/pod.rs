//! Names of Kubernetes pods and their containers, as runtimes pass them. For display only: the author of a container's
//! annotations can choose them in engines other than Kubernetes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NameError;
use crate::text::printable::{QUOTE_MAX, quote};

/// Longest namespace and longest container name in bytes (a DNS label).
const LABEL_MAX: usize = 63;
/// Longest pod name in bytes (a DNS subdomain).
const SUBDOMAIN_MAX: usize = 253;

/// The name of a pod, or of a container of a pod. Its text is `NAMESPACE/POD` or `NAMESPACE/POD CONTAINER`, in letters,
/// digits and `_ . -`, so that no terminal and no log interprets it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName {
    namespace: String,
    name: String,
    container: Option<String>,
}

impl PodName {
    /// The name of a container of a pod, or of the pod. `None` if a part is no name that Kubernetes permits.
    pub fn new(namespace: &str, name: &str, container: Option<&str>) -> Option<Self> {
        let is_name = |text: &str, max: usize| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            !text.is_empty() && text.len() <= max && text.bytes().all(allowed)
        };
        let valid = is_name(namespace, LABEL_MAX)
            && is_name(name, SUBDOMAIN_MAX)
            && container.is_none_or(|container| is_name(container, LABEL_MAX));
        valid.then(|| PodName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            container: container.map(str::to_owned),
        })
    }

    /// Parses `NAMESPACE/POD` or `NAMESPACE/POD CONTAINER`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (pod, container) = match text.split_once(' ') {
            Some((pod, container)) => (pod, Some(container)),
            None => (text, None),
        };
        pod.split_once('/')
            .and_then(|(namespace, name)| PodName::new(namespace, name, container))
            .ok_or_else(|| NameError::PodName(quote(text, QUOTE_MAX)))
    }

    /// The namespace of the pod.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container's name, if this is the name of a container.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The name of the pod alone.
    pub fn without_container(&self) -> PodName {
        PodName { container: None, ..self.clone() }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.container.iter().try_for_each(|container| write!(f, " {container}"))
    }
}

impl TryFrom<String> for PodName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        PodName::parse(&text)
    }
}

impl From<PodName> for String {
    fn from(name: PodName) -> String {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pods_round_trip() {
        for text in ["default/web app", "kube-system/etcd-node1.example.com", "a/b c"] {
            let name = PodName::parse(text).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<PodName>(&format!("\"{text}\"")).unwrap(), name);
        }
        let name = PodName::parse("default/web app").unwrap();
        assert_eq!((name.namespace(), name.name(), name.container()), ("default", "web", Some("app")));
        assert_eq!(name.without_container().to_string(), "default/web");
    }

    #[test]
    fn names_are_bounded_and_printable() {
        let long = format!("{}/{} {}", "n".repeat(63), "p".repeat(253), "c".repeat(63));
        assert_eq!(PodName::parse(&long).unwrap().to_string(), long);
        for text in
            ["", "web", "/web", "default/", "a/b ", "a/b c d", "a/b/c", "a/b\u{1b}[2J", "a/b\n", "ä/b"]
        {
            let error = PodName::parse(text).unwrap_err().to_string();
            assert!(
                error.ends_with("is not the name of a pod: NAMESPACE/POD or NAMESPACE/POD CONTAINER"),
                "{error}"
            );
            assert!(!error.contains(['\n', '\u{1b}']), "{error}");
        }
        assert_eq!(PodName::new(&"n".repeat(64), "p", None), None);
        assert_eq!(PodName::new("n", &"p".repeat(254), None), None);
        assert_eq!(PodName::new("n", "p", Some(&"c".repeat(64))), None);
    }
}
