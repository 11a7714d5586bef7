//! Reads the schema of a policy from the BTF of its object: names, types, defaults, ranges and documentation are
//! those of the C struct.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use libbpf_rs::btf::types::{DeclTag, Enum, MemberAttr, Struct, Typedef};
use libbpf_rs::btf::{BtfType, HasSize, ReferencesType, TypeId};
use libbpf_rs::{Btf, btf};
use thiserror::Error;

use super::hooks::{COUNT_CHARGE, COUNT_GROWTH, RECLAIM, STALL};
use crate::policy::schema::{ParamKind, ParamSchema, PolicySchema};

/// `MEMCG_BPF_ABI`: the supported version of the headers.
const ABI: &str = "5";

/// Why the BTF of an object has no schema.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// No `struct NAME_params`.
    #[error("it has no 'struct {0}_params': a policy's parameters are declared with MEMCG_BPF_POLICY({0})")]
    NoParams(String),
    /// A member of a type that has no text form.
    #[error("parameter '{0}' has type '{1}', which is none of the memcg_bpf_* types nor an enum")]
    Type(String, String),
    /// The object was built with another version of the headers.
    #[error(
        "it was built for version {0} of memcg_bpf.h and this is version {ABI}; build it with the installed headers"
    )]
    Abi(String),
    /// A bit field, or something else that is not a plain member.
    #[error("parameter '{0}' is not a plain member of its struct")]
    Member(String),
}

/// The tags of one declaration.
#[derive(Default)]
struct Tags {
    doc: String,
    default: Option<String>,
    range: Option<String>,
    self_binding: bool,
    counts: CounterSet,
    abi: Option<String>,
}

/// The counters of the subtree that a policy reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterSet {
    /// None.
    #[default]
    None,
    /// Those of stalls, reclaim, refaults and OOM, which cost nothing without memory pressure.
    Pressure,
    /// All.
    All,
}

impl CounterSet {
    /// True if this hook of core is needed.
    pub fn needs(self, hook: &str) -> bool {
        match self {
            CounterSet::None => false,
            CounterSet::Pressure => hook != COUNT_GROWTH && hook != COUNT_CHARGE,
            CounterSet::All => true,
        }
    }
}

fn text(name: Option<&OsStr>) -> String {
    name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Tags of the struct itself (`None`) and of its members by index.
fn tags_of(btf: &Btf<'_>, target: TypeId) -> BTreeMap<Option<u32>, Tags> {
    let mut all: BTreeMap<Option<u32>, Tags> = BTreeMap::new();
    for tag in btf.type_by_kind::<DeclTag<'_>>() {
        if tag.referenced_type().type_id() != target {
            continue;
        }
        let words = text(tag.name());
        let entry = all.entry(tag.component_index()).or_default();
        match words.split_once(':') {
            Some(("doc", rest)) => entry.doc = rest.to_owned(),
            Some(("default", rest)) => entry.default = Some(rest.to_owned()),
            Some(("range", rest)) => entry.range = Some(rest.to_owned()),
            Some(("abi", rest)) => entry.abi = Some(rest.to_owned()),
            _ if words == "self-binding" => entry.self_binding = true,
            _ if words == "counters" => entry.counts = CounterSet::All,
            _ if words == "pressure" => entry.counts = entry.counts.max(CounterSet::Pressure),
            // Unknown tags are of a later version, and ignored.
            _ => {}
        }
    }
    all
}

/// `MEMCG_BPF_MODE_DRY_RUN` among `MEMCG_BPF_MODE_*` → `dry-run`.
fn words_of(choice: &Enum<'_>) -> Vec<(String, i64)> {
    let raw: Vec<(String, i64)> = choice.iter().map(|e| (text(e.name), e.value)).collect();
    let prefix = raw.iter().map(|(name, _)| name.as_str()).reduce(common_prefix).unwrap_or("").to_owned();
    // The prefix ends at an underscore: MODE_ACT and MODE_ALL share MODE_, not MODE_A.
    let cut = prefix.rfind('_').map_or(0, |at| at.saturating_add(1));
    raw.into_iter()
        .map(|(name, value)| (name.get(cut..).unwrap_or(&name).to_ascii_lowercase().replace('_', "-"), value))
        .collect()
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    a.get(..same).unwrap_or("")
}

fn kind_of(member: &str, ty: BtfType<'_>) -> Result<(ParamKind, usize), SchemaError> {
    let type_name = text(ty.name());
    if let Ok(choice) = Enum::try_from(ty) {
        return Ok((ParamKind::Choice(words_of(&choice)), choice.size()));
    }
    let kind = match type_name.as_str() {
        "memcg_bpf_bytes" => ParamKind::Bytes,
        "memcg_bpf_size" => ParamKind::Size,
        "memcg_bpf_ppm" => ParamKind::Ppm,
        "memcg_bpf_ns" => ParamKind::Duration,
        "memcg_bpf_count" => ParamKind::Count,
        "memcg_bpf_bool" => ParamKind::Bool,
        _ => return Err(SchemaError::Type(member.to_owned(), type_name)),
    };
    if Typedef::try_from(ty).is_err() {
        return Err(SchemaError::Type(member.to_owned(), type_name));
    }
    Ok((kind, 8))
}

/// Reads the schema of the policy `name`, and the counters of the subtree that it reads. `hooks` are those of the
/// object's programs.
pub fn read(
    btf: &btf::Btf<'_>,
    name: &str,
    hooks: Vec<String>,
) -> Result<(PolicySchema, CounterSet), SchemaError> {
    let params = btf
        .type_by_name::<Struct<'_>>(&format!("{name}_params"))
        .ok_or_else(|| SchemaError::NoParams(name.to_owned()))?;
    if let Some(slot) = btf.type_by_name::<Struct<'_>>(&format!("{name}_slot"))
        && let Some(abi) = tags_of(btf, slot.type_id()).into_values().find_map(|tags| tags.abi)
        && abi != ABI
    {
        return Err(SchemaError::Abi(abi));
    }
    let mut tags = tags_of(btf, params.type_id());
    let own = tags.remove(&None).unwrap_or_default();
    let mut members = Vec::new();
    for (index, member) in params.iter().enumerate() {
        // `for` is a keyword of C: the parameter is the member `for_`.
        let member_name = text(member.name).trim_end_matches('_').to_owned();
        let MemberAttr::Normal { offset } = member.attr else {
            return Err(SchemaError::Member(member_name));
        };
        let ty = btf
            .type_by_id::<BtfType<'_>>(member.ty)
            .ok_or_else(|| SchemaError::Member(member_name.clone()))?;
        let (kind, width) = kind_of(&member_name, ty)?;
        let tag = u32::try_from(index).ok().and_then(|i| tags.remove(&Some(i))).unwrap_or_default();
        let offset = usize::try_from(offset / 8).map_err(|_| SchemaError::Member(member_name.clone()))?;
        members.push(ParamSchema {
            name: member_name,
            kind,
            offset,
            width,
            doc: tag.doc,
            default: tag.default,
            range: tag.range,
        });
    }
    // Core keeps the times that are passed to these hooks.
    let timed = hooks.iter().any(|hook| hook == STALL || hook == RECLAIM);
    let counts = if timed { own.counts.max(CounterSet::Pressure) } else { own.counts };
    let schema = PolicySchema {
        name: name.to_owned(),
        doc: own.doc,
        self_binding: own.self_binding,
        hooks,
        params: members,
        size: params.size(),
    };
    Ok((schema, counts))
}
