//! A foreign policy object: ELF and BTF through libbpf's C code, then the schema. Nothing is loaded into a kernel.

use std::sync::LazyLock;

use memcg_bpf::bpf::objects::{PolicyObjects, load};
use memcg_bpf::policy::line::Clause;
use memcg_bpf::policy::params::{PARAMS_SIZE_MAX, from_call, to_text, validate_schema};
use memcg_bpf::report::KernelReport;

use super::policy_line::SENTENCE_MAX;
use super::{elf, place, seeds, sentence};

/// The objects that changes are made to.
static WHOLE: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(seeds::objects);

/// Whoever does not begin like an ELF file is a list of changes to one that is whole: almost any change of length is the
/// end of an ELF file, and all of these would fail for the same reason.
pub fn run(bytes: &[u8]) {
    let changed;
    let bytes = match bytes.split_first() {
        Some((which, changes)) if !bytes.starts_with(b"\x7fELF") => {
            changed = elf::changed(&WHOLE[usize::from(*which) % WHOLE.len()].1, changes);
            &changed
        }
        _ => bytes,
    };
    let dir = place();
    let name = policy(bytes);
    let file = dir.join(format!("{name}.bpf.o"));
    std::fs::write(&file, bytes).unwrap();
    let read = || load(&dir.join("no-core"), &[dir.to_owned()]);
    let (objects, again) = (read(), read());
    assert_eq!((&objects.schemas, &objects.hooks), (&again.schemas, &again.hooks), "the same object twice");
    assert_eq!(objects.errors, again.errors);
    std::fs::remove_file(&file).unwrap();
    for error in &objects.errors {
        sentence(error, SENTENCE_MAX);
    }
    described(&objects);
}

/// What was accepted can be shown and used.
fn described(objects: &PolicyObjects) {
    for schema in objects.schemas.values() {
        assert_eq!(validate_schema(schema), []);
        assert!(schema.size <= PARAMS_SIZE_MAX);
        let call = Clause { name: schema.name.clone(), args: Vec::new(), at: 0, profile: None };
        match from_call(schema, &call) {
            Ok(params) => {
                assert_eq!(params.bytes.len(), schema.size);
                assert_eq!(to_text(schema, &params.bytes), Ok(params.parameters));
            }
            Err(faults) => super::policy_line::faults(&schema.name, &faults),
        }
    }
    for report in objects.reports(&KernelReport::default()) {
        for param in &report.params {
            sentence(&param.kind, usize::MAX);
            sentence(&param.name, 64);
        }
        report.hooks.iter().for_each(|hook| sentence(hook, 256));
    }
}

/// The policy that the object is most likely about: mutations must not fail for the name of their file alone.
fn policy(bytes: &[u8]) -> String {
    let end = bytes.windows(8).position(|window| window == b"_params\0").unwrap_or(0);
    let head = &bytes[end.saturating_sub(32)..end];
    let legal = |byte: &&u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'_';
    let name: Vec<u8> = head.iter().rev().take_while(legal).copied().collect();
    let name: String = name.iter().rev().map(|byte| char::from(*byte)).collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { "deny".to_owned() }
}
