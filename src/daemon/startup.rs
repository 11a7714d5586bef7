//! The state that is loaded before the first request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::config::Config;
use super::host;
use crate::bpf::objects::PolicyObjects;
use crate::bpf::settings::problems;
use crate::bpf::{BpfRuntime, GROWTH_HOOK, objects, probe, profiles};
use crate::cgroup::{memory, mount};
use crate::engine::EngineConfig;
use crate::log::subscriber::LevelHandle;
use crate::policy::catalog::Catalog;
use crate::policy::precedence::AllowList;
use crate::report::KernelReport;

/// The state that is loaded before the first request.
pub struct Startup {
    pub objects: PolicyObjects,
    pub report: KernelReport,
    pub kernel: BpfRuntime,
    pub engine_config: EngineConfig,
    pub machine: u64,
    pub config: Config,
    /// Errors in files that are already logged.
    pub known_warnings: Vec<String>,
}

/// Loads everything in the order of dependencies. Fails if the machine or its configuration is unsupported.
pub fn prepare(level: &LevelHandle) -> Result<Startup> {
    mount::require_unified()?;
    for problem in problems(Path::new("/")) {
        tracing::warn!("{problem}");
    }
    let (config, warnings) = Config::load(Path::new("/"));
    level.set(config.log_level);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let objects = installed_objects();
    let report = probe::probe_hooks(&objects)?;
    let machine = memory::total_ram().context("reading the machine's memory")?;
    let mut kernel = BpfRuntime::open(
        Path::new(objects::CORE_OBJECT),
        objects.files.clone(),
        machine,
        memory::page_size(),
    )?;
    if let Some(own) = host::daemon_cgroup()
        && let Ok(id) = mount::cgroup_id(&own)
    {
        kernel.exempt_daemon(id, &own)?;
    }
    // Loaded, not attached: the verifier takes some time, and an OCI hook waits at most 2 s. Policies that do not
    // deny are loaded later (preload.rs).
    for (policy, _) in objects.hooks.iter().filter(|(_, hooks)| hooks.contains_key(GROWTH_HOOK)) {
        if let Err(error) = kernel.load_policy(policy) {
            // A request for the policy reports the error.
            tracing::debug!("{error}");
        }
    }
    if let Err(error) = kernel.record_oom_kills() {
        tracing::warn!("{error}; kills by the kernel's OOM killer are not explained");
    }
    // After core is loaded, so that a failure of core is reported alone.
    objects.errors.iter().for_each(|error| tracing::error!("{error}"));
    let (engine_config, errors) = engine_config(&objects, &report, &config);
    errors.iter().for_each(|error| tracing::warn!("{error}"));
    let known_warnings = [warnings, objects.errors.clone(), errors].concat();
    Ok(Startup { objects, report, kernel, engine_config, machine, config, known_warnings })
}

/// The installed policy objects.
pub fn installed_objects() -> PolicyObjects {
    let dirs: Vec<PathBuf> = objects::POLICY_DIRS.iter().map(PathBuf::from).collect();
    objects::load(Path::new(objects::CORE_OBJECT), &dirs)
}

/// The configuration of the engine, and the errors of profiles.
pub fn engine_config(
    objects: &PolicyObjects,
    report: &KernelReport,
    config: &Config,
) -> (EngineConfig, Vec<String>) {
    let mut offered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for policy in objects.hooks.keys() {
        let mut hooks = objects.hooks_of(policy);
        hooks.retain(|hook| objects.is_available(policy, hook, report));
        offered.insert(policy.clone(), hooks);
        missing.insert(policy.clone(), objects.missing_hooks(policy, report));
    }
    let (profiles, errors) = profiles::load(Path::new("/"));
    let engine_config = EngineConfig {
        catalog: Catalog { policies: objects.schemas.clone(), profiles },
        allow: AllowList {
            names: config.allow_policies.clone().map(|names| names.into_iter().collect()),
            override_drop_ins: config.override_drop_ins,
        },
        counting: objects.counting(),
        offered,
        missing,
    };
    (engine_config, errors.iter().map(ToString::to_string).collect())
}
