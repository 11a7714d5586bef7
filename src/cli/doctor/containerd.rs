//! Checks of containerd and NRI: whether containers of pods get the OCI hook. Reads files only, except for the state of the
//! plugin's unit.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::finding::{Finding, shown};
use super::toml::Settings;
use crate::files;
use crate::text::parse_duration;
use crate::text::printable::{QUOTE_MAX, quote};

/// containerd's configuration.
const CONFIG: &str = "etc/containerd/config.toml";
/// Longest configuration in bytes. The output of `containerd config default` has 20 KiB.
const CONFIG_MAX: usize = 1 << 20;
/// Most files that a configuration imports.
const IMPORTS_MAX: usize = 32;
/// The socket to which the plugin connects.
const SOCKET: &str = "run/nri/nri.sock";
/// Longest part of containerd's program that is searched for its version. It has some 40 MiB.
const PROGRAM_MAX: u64 = 256 << 20;
/// The plugin of NRI in containerd's configuration.
const NRI: &str = "io.containerd.nri.v1.nri";
/// A plugin that answers later is disconnected. Below this, a busy node may be too slow.
const REQUEST_TIMEOUT_MIN_NS: u64 = 500_000_000;

/// Checks containerd, whose program is at this path below the root.
pub(super) fn findings(root: &Path, program: &str) -> Vec<Finding> {
    let settings = match settings(root) {
        Ok(settings) => settings,
        Err(why) => {
            let message = format!("{}: {why}", shown(CONFIG));
            return vec![Finding::warn(
                "containerd",
                message,
                "fix the file; containerd does not start with it",
            )];
        }
    };
    let of_nri = |key: &str| settings.get(&["plugins", NRI, key]);
    let major =
        version(root, program).or_else(|| settings.get(&["version"]).filter(|v| *v == "3").map(|_| 2));
    let named = major.map_or_else(|| "containerd".to_owned(), |major| format!("containerd {major}"));
    // Enabled by default since version 2.
    let enabled = match of_nri("disable") {
        Some(value) => value != "true",
        None => major.is_some_and(|major| major >= 2),
    };
    if !enabled {
        let message = format!("NRI is disabled in {named}, so annotations of pods have no effect");
        return vec![Finding::warn("containerd", message, ENABLE)];
    }
    let mut found = vec![Finding::ok(
        "containerd",
        format!("NRI is enabled in {named}: takes the policy from an annotation of the pod"),
    )];
    found.push(socket(root, of_nri("socket_path"), of_nri("disable_connections") == Some("true")));
    let validator = |key: &str| settings.get(&["plugins", NRI, "default_validator", key]);
    if validator("enable") == Some("true") && validator("reject_oci_hook_adjustment") == Some("true") {
        found.push(Finding::fail(
            "NRI validator",
            "reject_oci_hook_adjustment is set: containerd rejects every container to which the plugin adds the hook",
            "remove it from the default_validator of NRI, or add the hook to base_runtime_spec (docs/engines.md) and run \
             systemctl disable --now memcg-bpf-nri.path memcg-bpf-nri.service",
        ));
    }
    found.push(timeouts(of_nri("plugin_request_timeout"), of_nri("plugin_registration_timeout")));
    found
}

const ENABLE: &str = "set disable = false under [plugins.\"io.containerd.nri.v1.nri\"] in /etc/containerd/config.toml, then: \
    systemctl restart containerd; or write X-MemoryBPFPolicy= into \
    /etc/systemd/system/cri-containerd-.scope.d/50-memory.conf under [Scope]";

/// The configuration with the files that it imports. Empty if there is none: containerd runs without.
fn settings(root: &Path) -> Result<Settings, String> {
    let read = |path: &Path| files::read(path, CONFIG_MAX);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned());
    let mut settings = match read(&root.join(CONFIG)) {
        Ok(bytes) => Settings::parse(&text(bytes)?),
        Err(error) if error.is_not_found() => Settings::default(),
        Err(error) => return Err(error.to_string()),
    };
    for path in imported(root, &settings.list(&["imports"])) {
        if let Ok(bytes) = read(&path) {
            settings.extend(Settings::parse(&text(bytes)?));
        }
    }
    Ok(settings)
}

/// The files of a list of imports: paths, or `DIRECTORY/*.toml`, also relative to the configuration.
fn imported(root: &Path, patterns: &[String]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let path = match pattern.strip_prefix('/') {
            Some(absolute) => root.join(absolute),
            None => root.join("etc/containerd").join(pattern),
        };
        let Some(ending) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('*'))
        else {
            paths.push(path);
            continue;
        };
        let entries =
            path.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)))
            .collect();
        found.sort();
        paths.append(&mut found);
    }
    paths.truncate(IMPORTS_MAX);
    paths
}

/// The major version in the path of containerd's Go module, which its program contains.
fn version(root: &Path, program: &str) -> Option<u32> {
    const MODULE: &[u8] = b"github.com/containerd/containerd/";
    const BLOCK: usize = 1 << 20;
    let path = root.join(program);
    std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
    let mut file = std::fs::File::open(path).ok()?.take(PROGRAM_MAX);
    let mut found = None;
    let mut window: Vec<u8> = Vec::new();
    loop {
        let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
        let count = file.by_ref().take(block).read_to_end(&mut window).ok()?;
        let mut rest = window.as_slice();
        while let Some(at) = rest.windows(MODULE.len()).position(|bytes| bytes == MODULE) {
            rest = rest.get(at.saturating_add(MODULE.len())..).unwrap_or_default();
            match rest {
                // Packages of version 1 have no version in their paths.
                [b'v', major @ b'2'..=b'9', b'/', ..] => return Some(u32::from(major.saturating_sub(b'0'))),
                [_, _, _, ..] => found = Some(1),
                _ => {}
            }
        }
        if count == 0 {
            return found;
        }
        // A path may be split between two blocks.
        let keep = window.len().saturating_sub(MODULE.len().saturating_add(3));
        window.drain(..keep);
    }
}

fn socket(root: &Path, configured: Option<&str>, refuses: bool) -> Finding {
    let is_default = |path: &&str| ["/run/nri/nri.sock", "/var/run/nri/nri.sock"].contains(path);
    if let Some(path) = configured.filter(|path| !is_default(path)) {
        return Finding::warn(
            "NRI socket",
            format!(
                "containerd listens at {}, but the plugin connects to {}",
                quote(path, QUOTE_MAX),
                shown(SOCKET)
            ),
            "remove socket_path from the configuration of NRI, or set --socket with: systemctl edit memcg-bpf-nri.service",
        );
    }
    if refuses {
        return Finding::warn(
            "NRI socket",
            "disable_connections is set: the plugin cannot connect",
            "remove it from the configuration of NRI, then: systemctl restart containerd",
        );
    }
    if root.join(SOCKET).exists() {
        Finding::ok("NRI socket", shown(SOCKET))
    } else {
        Finding::warn(
            "NRI socket",
            format!(
                "{} is missing: containerd does not run, or was not restarted since NRI was enabled",
                shown(SOCKET)
            ),
            "systemctl restart containerd",
        )
    }
}

fn timeouts(request: Option<&str>, registration: Option<&str>) -> Finding {
    let text = |value: Option<&str>, default: &str| quote(value.unwrap_or(default), QUOTE_MAX);
    let message = format!(
        "a plugin must answer within {}, and register within {}",
        text(request, "2s"),
        text(registration, "5s")
    );
    let is_short =
        request.and_then(|value| parse_duration(value).ok()).is_some_and(|ns| ns < REQUEST_TIMEOUT_MIN_NS);
    if is_short {
        let advice = "set plugin_request_timeout = \"2s\": containerd disconnects a plugin that is late, and starts \
                      containers without it";
        return Finding::warn("NRI timeouts", message, advice);
    }
    Finding::ok("NRI timeouts", message)
}

/// Checks whether the plugin runs and is registered, by its unit.
pub(super) fn plugin() -> Finding {
    let output = Command::new("systemctl")
        .args(["show", "--property=LoadState,ActiveState,StatusText", "memcg-bpf-nri.service"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    plugin_state(
        &output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default(),
    )
}

/// The finding for the output of `systemctl show`.
pub(super) fn plugin_state(shown: &str) -> Finding {
    let value = |key: &str| {
        shown
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    let status = value("StatusText").map(|text| quote(text, QUOTE_MAX));
    match (value("LoadState"), value("ActiveState"), status) {
        (Some("loaded"), Some("active"), Some(status)) if status.starts_with("Connected to ") => {
            Finding::ok("NRI plugin", format!("memcg-bpf-nri is running. {status}"))
        }
        (Some("loaded"), Some("active"), status) => Finding::warn(
            "NRI plugin",
            format!(
                "memcg-bpf-nri is running, but not registered{}",
                status.map_or(String::new(), |status| format!(". {status}"))
            ),
            "see: journalctl -u memcg-bpf-nri -n 20",
        ),
        (Some("loaded"), ..) => Finding::warn(
            "NRI plugin",
            "memcg-bpf-nri is not running: annotations of pods have no effect",
            "enable NRI in containerd if it is disabled, then run: systemctl enable --now memcg-bpf-nri.path",
        ),
        (Some(_), ..) => Finding::warn(
            "NRI plugin",
            "memcg-bpf-nri.service is not installed: annotations of pods have no effect",
            "install the package memcg-bpf, or run make install",
        ),
        (None, ..) => Finding::warn(
            "NRI plugin",
            "the state of memcg-bpf-nri is unknown: systemctl does not work here",
            "see: journalctl -u memcg-bpf-nri -n 20",
        ),
    }
}
