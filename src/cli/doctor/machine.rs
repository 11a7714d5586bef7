//! Checks of the kernel, cgroups and policy objects.

use std::path::Path;

use super::finding::Finding;
use crate::bpf::objects::PolicyObjects;
use crate::bpf::probe;
use crate::bpf::settings::{Problem, problems};

/// Only queries to the daemon need root.
pub(super) fn user(root: bool) -> Finding {
    if root {
        Finding::ok("user", "root")
    } else {
        Finding::warn(
            "user",
            "not root; the daemon rejects queries of other users",
            "use sudo memcg-bpf doctor",
        )
    }
}

/// Checks for the unified hierarchy with the memory controller.
pub(super) fn cgroups(root: &Path) -> Vec<Finding> {
    let mount = root.join("sys/fs/cgroup");
    let unified = "boot it with systemd.unified_cgroup_hierarchy=1 on the kernel command line";
    if mount.join("unified").is_dir() {
        let message = "cgroup v1 and v2 are both mounted (hybrid mode), and v1 has the memory controller";
        return vec![Finding::fail("cgroups", message, unified)];
    }
    let Ok(controllers) = std::fs::read_to_string(mount.join("cgroup.controllers")) else {
        return vec![if mount.join("memory").is_dir() {
            Finding::fail("cgroups", "cgroup v1 is mounted at /sys/fs/cgroup", unified)
        } else {
            Finding::fail("cgroups", "cgroup v2 is not mounted at /sys/fs/cgroup", unified)
        }];
    };
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return vec![Finding::fail(
            "cgroups",
            "cgroup v2 is mounted, but without the memory controller",
            "remove cgroup_disable=memory from the kernel command line, or add cgroup_enable=memory",
        )];
    }
    let mut found = vec![Finding::ok("cgroups", "cgroup v2 with the memory controller at /sys/fs/cgroup")];
    let below = std::fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap_or_default();
    if !below.split_whitespace().any(|name| name == "memory") {
        found.push(Finding::warn(
            "memory below",
            "the memory controller is not enabled below the root cgroup: policies have no effect on units",
            "set DefaultMemoryAccounting=yes in /etc/systemd/system.conf, then: systemctl daemon-reexec",
        ));
    }
    found
}

/// Checks for the kernel's BTF.
pub(super) fn btf(root: &Path) -> Finding {
    if root.join("sys/kernel/btf/vmlinux").exists() {
        Finding::ok("kernel BTF", "the kernel describes its types at /sys/kernel/btf/vmlinux")
    } else {
        Finding::fail(
            "kernel BTF",
            "/sys/kernel/btf/vmlinux is missing",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y; those of Debian, Ubuntu, Fedora and SUSE are",
        )
    }
}

/// Checks for settings that keep policies from working.
pub(super) fn settings(root: &Path) -> Vec<Finding> {
    let finding = |problem: Problem| {
        let (message, advice) = (problem.message, problem.advice);
        if problem.fatal {
            Finding::fail("settings", message, advice)
        } else {
            Finding::warn("settings", message, advice)
        }
    };
    problems(root).into_iter().map(finding).collect()
}

/// The directory of the objects that come with the package.
const PACKAGE_DIR: &str = "/usr/lib/memcg-bpf";
/// The advice for an object of an administrator.
const CUSTOM_ADVICE: &str = "build the policy again with the installed headers, or remove the file";

/// Checks the policy objects.
pub(super) fn policies(objects: &PolicyObjects) -> Vec<Finding> {
    let advice = "install the package memcg-bpf again";
    let of_error = |error: &String| {
        let packaged = error.contains(&format!("{PACKAGE_DIR}/"));
        Finding::warn("policies", error.clone(), if packaged { advice } else { CUSTOM_ADVICE })
    };
    let mut found: Vec<Finding> = objects.errors.iter().map(of_error).collect();
    let names: Vec<&str> = objects.schemas.keys().map(String::as_str).collect();
    found.push(if names.is_empty() {
        Finding::fail("policies", "there are no policy objects in /usr/lib/memcg-bpf/policies", advice)
    } else {
        Finding::ok("policies", names.join(", "))
    });
    found
}

/// Checks which hooks this kernel has.
pub(super) fn hooks(objects: &PolicyObjects) -> Vec<Finding> {
    let report = match probe::probe_hooks(objects) {
        Ok(report) => report,
        Err(error) => {
            return vec![Finding::fail("kernel hooks", error.to_string(), "see kernel BTF above")];
        }
    };
    let all = report.hooks.len();
    let missing: Vec<&str> =
        report.hooks.iter().filter(|(_, found)| found.is_none()).map(|(hook, _)| hook.as_str()).collect();
    let mut found = vec![if missing.is_empty() {
        Finding::ok("kernel hooks", format!("kernel {} has all {all} hooks of the policies", report.release))
    } else {
        Finding::warn(
            "kernel hooks",
            format!(
                "kernel {} does not have {} of {all} hooks: {}",
                report.release,
                missing.len(),
                missing.join(", ")
            ),
            "see docs/kernel-support.md for the affected policies",
        )
    }];
    if !report.native.is_empty() {
        found.push(Finding::ok("native hooks", report.native.join(", ")));
    }
    found
}
