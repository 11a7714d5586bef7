//! Finds policy objects and reads their schemas. Needs neither root nor the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use libbpf_rs::{Btf, ObjectBuilder};

use super::error::BpfError;
use super::schema::CounterSet;
use super::{hooks, libbpf_log, schema};
use crate::files::{ReadError, read};
use crate::policy::params::validate_schema;
use crate::policy::schema::{ParamKind, ParamSchema, PolicySchema};
use crate::report::{KernelReport, ParamReport, PolicyReport};

/// The directories of policy objects. If a policy is in more than one of them, the first is used.
pub const POLICY_DIRS: [&str; 3] =
    ["/etc/memcg-bpf/policies", "/usr/local/lib/memcg-bpf/policies", "/usr/lib/memcg-bpf/policies"];
/// The object that all policies share.
pub const CORE_OBJECT: &str = "/usr/lib/memcg-bpf/core.bpf.o";
const SUFFIX: &str = ".bpf.o";
/// Largest policy object in bytes. The objects of the package are some tens of kilobytes.
const OBJECT_MAX: usize = 4 * 1024 * 1024;

/// Longest name of a hook in bytes.
const HOOK_MAX: usize = 64;

/// The file of an object, with a digest of its content when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFile {
    /// The path of the file.
    pub path: PathBuf,
    /// A digest of the content.
    pub digest: u64,
}

impl ObjectFile {
    /// Reads and hashes the file.
    pub fn hash(path: &Path) -> Result<Self, ReadError> {
        let mut hasher = DefaultHasher::new();
        read(path, OBJECT_MAX)?.hash(&mut hasher);
        Ok(ObjectFile { path: path.to_owned(), digest: hasher.finish() })
    }

    /// Fails if the content of the file has changed, because parameters encoded for one object would be misread by
    /// another.
    pub fn verify_unchanged(&self) -> Result<(), BpfError> {
        match Self::hash(&self.path) {
            Ok(now) if now == *self => Ok(()),
            _ => Err(BpfError::Changed { path: self.path.clone() }),
        }
    }
}

/// All policy objects found.
#[derive(Debug, Default)]
pub struct PolicyObjects {
    /// Schemas by policy name.
    pub schemas: BTreeMap<String, PolicySchema>,
    /// Files by policy name.
    pub files: BTreeMap<String, ObjectFile>,
    /// Policies that read counters of the subtree, and which.
    pub counts: BTreeMap<String, CounterSet>,
    /// Policy name → hook → candidate sections in the order of preference.
    pub hooks: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Core's own file.
    pub core: Option<ObjectFile>,
    /// The hooks of core's counters, likewise.
    pub core_hooks: BTreeMap<String, Vec<String>>,
    /// Errors of objects that cannot be used, one sentence each.
    pub errors: Vec<String>,
}

/// Reads core and all objects in the directories. An error of one object does not affect the others.
pub fn load(core: &Path, dirs: &[PathBuf]) -> PolicyObjects {
    let mut objects = PolicyObjects::default();
    match open(core) {
        Ok((_, hooks)) => (objects.core_hooks, objects.core) = (hooks, ObjectFile::hash(core).ok()),
        Err(error) => objects.errors.push(error.to_string()),
    }
    for dir in dirs {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            let Some(name) = policy_name(&path) else { continue };
            if objects.files.contains_key(&name) {
                continue;
            }
            if let Err(error) = add(&mut objects, &name, &path) {
                objects.errors.push(error.to_string());
            }
        }
    }
    objects
}

/// `deny` for `…/deny.bpf.o`; `None` if the file is not a policy object.
fn policy_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (plain && name.bytes().next()?.is_ascii_lowercase()).then(|| name.to_owned())
}

/// Hooks with the sections of their candidates.
type Hooks = BTreeMap<String, Vec<String>>;

fn open(path: &Path) -> Result<(Btf<'static>, Hooks), BpfError> {
    let fail = |why: String| BpfError::open(path, &why);
    // libbpf would open any file type, including a FIFO, and read a file of any size.
    read(path, OBJECT_MAX).map_err(|error| fail(error.to_string()))?;
    let ((btf, opened), said) =
        libbpf_log::capture(|| (Btf::from_path(path), ObjectBuilder::default().open_file(path)));
    let btf = btf.map_err(|e| fail(format!("{e:#}\n{said}")))?;
    let opened = opened.map_err(|e| fail(format!("{e:#}\n{said}")))?;
    let hooks: Hooks = hooks::candidates(&opened, None)
        .into_iter()
        .map(|(hook, c)| (hook, c.all.into_iter().map(|(_, section)| section).collect()))
        .collect();
    // Reports contain the names of hooks, but a symbol may contain any characters.
    let plain = |hook: &str| hook.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match hooks.keys().find(|hook| hook.len() > HOOK_MAX || !plain(hook)) {
        Some(hook) => Err(fail(format!("unknown hook in the program name '{hook}__…'"))),
        None => Ok((btf, hooks)),
    }
}

fn add(objects: &mut PolicyObjects, name: &str, path: &Path) -> Result<(), BpfError> {
    let (btf, hooks) = open(path)?;
    // Hashed after it was read: a file that is replaced in between is rejected when it is loaded.
    let file = ObjectFile::hash(path).map_err(|e| BpfError::open(path, &e.to_string()))?;
    let (schema, counts) = schema::read(&btf, name, hooks.keys().cloned().collect())
        .map_err(|e| BpfError::open(path, &e.to_string()))?;
    if let Some(fault) = validate_schema(&schema).first() {
        return Err(BpfError::open(path, &fault.to_string()));
    }
    if counts > CounterSet::None {
        objects.counts.insert(name.to_owned(), counts);
    }
    objects.schemas.insert(name.to_owned(), schema);
    objects.files.insert(name.to_owned(), file);
    objects.hooks.insert(name.to_owned(), hooks);
    Ok(())
}

impl PolicyObjects {
    /// The policies that read counters of the subtree.
    pub fn counting(&self) -> BTreeSet<String> {
        self.counts.keys().cloned().collect()
    }

    /// The hooks of a policy's own programs.
    pub fn hooks_of(&self, policy: &str) -> Vec<String> {
        self.hooks.get(policy).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The hooks of a policy and the groups of counters that it reads, if this kernel lacks them.
    pub fn missing_hooks(&self, policy: &str, kernel: &KernelReport) -> Vec<String> {
        let counts = self.counts.get(policy).copied().unwrap_or_default();
        let needed = self.core_hooks.keys().filter(|hook| counts.needs(hook));
        let counters: BTreeSet<String> = needed.map(|hook| hooks::counters_name(hook)).collect();
        let all = self.hooks_of(policy).into_iter().chain(counters);
        all.filter(|hook| !self.is_available(policy, hook, kernel)).collect()
    }

    /// True if this kernel has a hook by one of the policy's candidates.
    pub fn is_available(&self, policy: &str, hook: &str, kernel: &KernelReport) -> bool {
        let Some(Some(section)) = kernel.hooks.get(hook) else { return false };
        let own = self.hooks.get(policy).and_then(|hooks| hooks.get(hook));
        own.is_none_or(|candidates| candidates.contains(section))
    }

    /// Reports of all policies that can be used.
    pub fn reports(&self, kernel: &KernelReport) -> Vec<PolicyReport> {
        self.schemas
            .values()
            .map(|schema| PolicyReport {
                name: schema.name.clone(),
                doc: schema.doc.clone(),
                file: self.files.get(&schema.name).map(|f| f.path.display().to_string()).unwrap_or_default(),
                self_binding: schema.self_binding,
                missing_hooks: self.missing_hooks(&schema.name, kernel),
                hooks: self.hooks_of(&schema.name),
                params: schema.params.iter().map(param_report).collect(),
            })
            .collect()
    }
}

fn param_report(param: &ParamSchema) -> ParamReport {
    let kind = match &param.kind {
        ParamKind::Bytes => "size".to_owned(),
        ParamKind::Size => "size or percentage".to_owned(),
        ParamKind::Ppm => "percentage".to_owned(),
        ParamKind::Duration => "duration".to_owned(),
        ParamKind::Count => "integer".to_owned(),
        ParamKind::Bool => "boolean".to_owned(),
        ParamKind::Choice(words) => words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join("|"),
    };
    ParamReport {
        name: param.name.clone(),
        kind,
        doc: param.doc.clone(),
        default: param.default.clone(),
        range: param.range.clone(),
    }
}
