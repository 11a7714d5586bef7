//! The pod of a container: its names in the annotations of runtimes, its policy, and its own cgroup.

use std::collections::HashMap;

use super::xattr::check_shares;
use crate::names::{CgroupPath, ContainerId, PodName};
use crate::policy::request::{Origin, Request};

/// Annotation with the policy line of the pod's own cgroup, which contains all containers of the pod.
pub const POD_POLICY: &str = "memcg.bpf/pod-policy";

/// Annotations with the container's name within its pod: containerd, CRI-O.
pub const NAME_KEYS: [&str; 2] = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];

/// Annotations with the namespace of the pod, as in [`NAME_KEYS`].
pub const NAMESPACE_KEYS: [&str; 2] = ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];

/// Annotations with the name of the pod.
pub const POD_KEYS: [&str; 2] = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];

/// Annotations with the id of the pod's sandbox.
pub const SANDBOX_KEYS: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];

/// CRI-O's annotation with `sandbox` or `container`.
pub const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";

/// The value of the first of these annotations: that of containerd, that of CRI-O. CRI-O copies all annotations of a pod to
/// its containers before it sets its own, so with CRI-O, those of containerd are the words of the pod's author.
pub fn first_of<'a>(annotations: &'a HashMap<String, String>, keys: &[&'static str; 2]) -> Option<&'a str> {
    let [containerd, crio] = keys;
    let first = annotations.get(*containerd).filter(|_| !annotations.contains_key(CRIO_TYPE));
    first.or_else(|| annotations.get(*crio)).map(String::as_str)
}

/// The names of the pod and the container. `None` for a container without a pod, and if a name is invalid.
pub fn pod_name(annotations: &HashMap<String, String>) -> Option<PodName> {
    let of = |keys: &[&'static str; 2]| first_of(annotations, keys);
    PodName::new(of(&NAMESPACE_KEYS)?, of(&POD_KEYS)?, of(&NAME_KEYS))
}

/// The id of the pod's sandbox.
pub fn sandbox(annotations: &HashMap<String, String>) -> Option<ContainerId> {
    ContainerId::parse(first_of(annotations, &SANDBOX_KEYS)?).ok()
}

/// The pod's own cgroup, which directly contains the cgroup of each of its containers and of its sandbox: `podUID` or
/// `…-podUID.slice` below a cgroup of the kubelet, whose name contains `kubepods`. `None` if the container is elsewhere:
/// a policy of a pod is never attached to a cgroup that contains anything else.
pub fn pod_cgroup(container: &CgroupPath) -> Option<CgroupPath> {
    let (pod, _) = container.as_str().rsplit_once('/')?;
    let (kubelet, name) = pod.rsplit_once('/')?;
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid),
        None => name.strip_prefix("pod"),
    };
    // In the name of a slice, the kubelet writes _ for the dashes of the UID.
    let is_uid = |uid: &str| !(uid.is_empty() || name.ends_with(".slice") && uid.contains('-'));
    let below_kubelet = kubelet.split('/').any(is_of_kubelet);
    if below_kubelet && uid.is_some_and(is_uid) { CgroupPath::parse(pod).ok() } else { None }
}

/// `kubepods`, `kubepods.slice` and, with another root, `kubelet-kubepods.slice`.
fn is_of_kubelet(component: &str) -> bool {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    name == "kubepods" || name.ends_with("-kubepods")
}

/// The request of a container with this line, for the container's cgroup.
pub fn container_request(id: &ContainerId, line: String, pod: Option<PodName>) -> Request {
    request(id, format!("container {id}"), line, pod)
}

/// The request of a pod with this line, for the pod's own cgroup. It is withdrawn with the pod's sandbox.
pub fn pod_request(sandbox: &ContainerId, line: String, pod: Option<&PodName>) -> Request {
    let pod = pod.map(PodName::without_container);
    request(sandbox, format!("pod with sandbox {sandbox}"), line, pod)
}

fn request(id: &ContainerId, location: String, line: String, pod: Option<PodName>) -> Request {
    let container = Some(id.to_string());
    let request = Request { origin: Origin::Annotation, location, line, container, pod, unit: None };
    // A policy is never rejected because of the length of a name that is only displayed.
    match check_shares(std::slice::from_ref(&request)) {
        Ok(()) => request,
        Err(_) => Request { pod: None, ..request },
    }
}

/// True if the engine of the container runs no pods of Kubernetes, so that annotations about them are those of the
/// image or the user: podman copies annotations of an image to its containers.
pub fn is_of_podman(container: &CgroupPath) -> bool {
    container.components().any(|name| name.starts_with("libpod-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> HashMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_read_from_annotations_of_each_runtime() {
        let containerd = annotations(&[
            ("io.kubernetes.cri.sandbox-namespace", "default"),
            ("io.kubernetes.cri.sandbox-name", "web"),
            ("io.kubernetes.cri.container-name", "app"),
            ("io.kubernetes.cri.sandbox-id", "5a"),
        ]);
        let crio = annotations(&[
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.pod.name", "web"),
            ("io.kubernetes.container.name", "app"),
            ("io.kubernetes.cri-o.SandboxID", "5a"),
        ]);
        for of in [&containerd, &crio] {
            assert_eq!(pod_name(of).unwrap().to_string(), "default/web app");
            assert_eq!(sandbox(of).unwrap().as_str(), "5a");
        }
        // What the author of the pod wrote in the words of containerd.
        let mut copied = crio.clone();
        copied.insert(CRIO_TYPE.to_owned(), "container".to_owned());
        for key in [NAMESPACE_KEYS, POD_KEYS, NAME_KEYS, SANDBOX_KEYS].map(|[containerd, _]| containerd) {
            copied.insert(key.to_owned(), "ff".to_owned());
        }
        assert_eq!(pod_name(&copied).unwrap().to_string(), "default/web app");
        assert_eq!(sandbox(&copied).unwrap().as_str(), "5a");
        let hostile = annotations(&[
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.pod.name", "web\u{1b}[2J"),
            ("io.kubernetes.cri.sandbox-id", "../x"),
        ]);
        assert_eq!((pod_name(&hostile), sandbox(&hostile)), (None, None));
    }

    #[test]
    fn pod_cgroup_is_that_of_the_kubelet_only() {
        let of = |path: &str| pod_cgroup(&CgroupPath::parse(path).unwrap()).map(|path| path.to_string());
        let systemd = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a_2b.slice";
        let nested = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1a_2b.slice";
        for pod in [systemd, nested, "/kubepods.slice/kubepods-podone.slice", "/kubepods/burstable/pod1a-2b"]
        {
            assert_eq!(of(&format!("{pod}/cri-containerd-ab.scope")).as_deref(), Some(pod));
        }
        for path in [
            "/system.slice/libpod-ab.scope",
            "/machine.slice/libpod-ab.scope",
            "/kubepods.slice/cri-containerd-ab.scope",
            "/kubepods.slice/kubepods-burstable.slice/cri-containerd-ab.scope",
            "/system.slice/system-pod1.slice/x.scope",
            "/pod1/x",
            "/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope/inner",
            "/kubepods.slice/kubepods-pod1-evil.slice/x.scope",
            "/kubepods/pod/x",
            "/kubepods.slice/kubepods-pod.slice/x",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn names_never_keep_a_line_from_the_record() {
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        let pod = PodName::new(&"n".repeat(63), &"p".repeat(253), Some("c"));
        let short = container_request(&id, "observe".to_owned(), pod.clone());
        assert_eq!(short.pod, pod);
        assert_eq!(pod_request(&id, "observe".to_owned(), pod.as_ref()).pod.unwrap().container(), None);
        let long = container_request(&id, format!("deny limit={}", "x".repeat(5100)), pod);
        assert_eq!(long.pod, None);
        check_shares(&[long]).unwrap();
    }

    #[test]
    fn containers_of_podman_have_no_pod() {
        let is = |path: &str| is_of_podman(&CgroupPath::parse(path).unwrap());
        assert!(is("/machine.slice/libpod-ab.scope") && is("/system.slice/x.service/libpod-payload-ab"));
        assert!(!is("/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope"));
    }
}
