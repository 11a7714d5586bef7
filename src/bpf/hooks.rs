//! The hooks and their attachment candidates, read from the objects. A program is named `HOOK__CANDIDATE`, and its
//! section names the kernel function; the first candidate that the kernel has is used.

use std::collections::BTreeMap;

use libbpf_rs::btf::types::{Func, Typedef};
use libbpf_rs::{Btf, OpenObject};

/// The name of the hook whose verdict decides on growth requests.
pub const GROWTH: &str = "growth";
/// Other hooks that Rust code refers to by name. The names of all others are read from the objects.
pub const RECLAIM: &str = "reclaim";
pub const STALL: &str = "stall";
pub const TICK: &str = "tick";
/// Core's hooks that count growth requests and charges.
pub const COUNT_GROWTH: &str = "count_growth";
pub const COUNT_CHARGE: &str = "count_charge";

/// The name under which reports show a program of core, such as `stall-counters` for `count_stall_begin`. The programs
/// of a group of counters share one name.
pub fn counters_name(hook: &str) -> String {
    let counted = hook.strip_prefix("count_").unwrap_or(hook);
    let group = ["_begin", "_end", "_ended"].iter().find_map(|part| counted.strip_suffix(part));
    format!("{}-counters", group.unwrap_or(counted).replace('_', "-"))
}

/// The candidates of a hook, and which of them the kernel has.
#[derive(Debug, Clone, Default)]
pub struct AttachCandidates {
    /// `(program, section)`, the preferred one first.
    pub all: Vec<(String, String)>,
    /// Index into `all`.
    pub chosen: Option<usize>,
}

impl AttachCandidates {
    /// The chosen candidate's program.
    pub fn program(&self) -> Option<&str> {
        self.all.get(self.chosen?).map(|(program, _)| program.as_str())
    }
}

/// Splits `growth__0` into the hook's name and the candidate's number.
fn parse_program_name(program: &str) -> Option<(&str, u32)> {
    let (hook, number) = program.rsplit_once("__")?;
    Some((hook, number.parse().ok()?))
}

/// True if the kernel has the function or tracepoint that the section names.
pub fn kernel_has(btf: &Btf<'_>, section: &str) -> bool {
    match section.trim_start_matches('?').split_once('/') {
        Some(("tp_btf", name)) => btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some(),
        Some(("iter", name)) => btf.type_by_name::<Func<'_>>(&format!("bpf_iter_{name}")).is_some(),
        Some((_, name)) => btf.type_by_name::<Func<'_>>(name).is_some(),
        None => true,
    }
}

/// Reads the programs of an object as hooks with candidates, and selects the candidates by the kernel's BTF.
pub fn candidates(object: &OpenObject, kernel: Option<&Btf<'_>>) -> BTreeMap<String, AttachCandidates> {
    let mut hooks: BTreeMap<String, Vec<(u32, String, String)>> = BTreeMap::new();
    for program in object.progs() {
        let name = program.name().to_string_lossy().into_owned();
        let section = program.section().to_string_lossy().trim_start_matches('?').to_owned();
        if let Some((hook, number)) = parse_program_name(&name) {
            hooks.entry(hook.to_owned()).or_default().push((number, name.clone(), section));
        }
    }
    hooks
        .into_iter()
        .map(|(hook, mut list)| {
            list.sort();
            let all: Vec<_> = list.into_iter().map(|(_, name, section)| (name, section)).collect();
            let chosen = kernel.and_then(|btf| all.iter().position(|(_, section)| kernel_has(btf, section)));
            (hook, AttachCandidates { all, chosen })
        })
        .collect()
}

/// Enables loading of the selected candidates and of programs that are not hooks.
pub fn select(object: &mut OpenObject, hooks: &BTreeMap<String, AttachCandidates>) {
    for mut program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let Some((hook, _)) = parse_program_name(&name) else { continue };
        program.set_autoload(hooks.get(hook).and_then(AttachCandidates::program) == Some(&name));
    }
}
