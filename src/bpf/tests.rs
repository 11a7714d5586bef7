#![allow(clippy::arithmetic_side_effects)]
//! What can be said of the built objects without loading them.

use std::path::Path;

use libbpf_rs::Btf;
use libbpf_rs::btf::HasSize;
use libbpf_rs::btf::types::Struct;

use super::abi;
use super::objects::{self, PolicyObjects};
use super::schema::CounterSet;
use crate::policy::schema::ParamKind;
use crate::report::KernelReport;

fn built() -> &'static Path {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bpf"));
    assert!(dir.join("core.bpf.o").exists(), "the BPF objects are not built: run 'make bpf' first");
    dir
}

fn objects() -> PolicyObjects {
    objects::load(&built().join("core.bpf.o"), &[built().join("policies")])
}

#[test]
fn fifo_is_no_object_and_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe.bpf.o");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(objects::load(&path, &[dir.path().to_owned()]).errors));
    let errors = receiver.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("not a regular file")), "{errors:?}");
}

#[test]
fn layout_is_that_of_the_object() {
    let btf = Btf::from_path(built().join("core.bpf.o")).unwrap();
    let size = |name: &str| btf.type_by_name::<Struct<'_>>(name).unwrap().size();
    assert_eq!(size("memcg_bpf_command"), abi::encode_command(abi::Op::Bind, 1, 2, 3).len());
    assert_eq!(size("memcg_bpf_binding"), abi::binding(1, 2).len());
    assert_eq!(size("memcg_bpf_path"), abi::PATH_MAX);
    assert_eq!(size("memcg_bpf_action"), super::actions::SIZE);
    assert_eq!(size("memcg_bpf_oom_task"), super::oom_kills::PROCESS_SIZE);
    assert_eq!(size("memcg_bpf_oom_kill"), super::oom_kills::SIZE);
    assert_eq!(size("memcg_bpf_killed"), super::actions::KILLED_SIZE);
    assert_eq!(size("memcg_bpf_denial"), super::denials::SIZE);
}

#[test]
fn every_shipped_policy_has_a_schema_that_parses() {
    let objects = objects();
    assert_eq!(objects.errors, Vec::<String>::new());
    assert_eq!(
        objects.schemas.keys().collect::<Vec<_>>(),
        ["deny", "observe", "oom", "protect", "reclaim", "throttle"]
    );
    for schema in objects.schemas.values() {
        assert!(!schema.doc.is_empty(), "{} has no documentation", schema.name);
        assert!(schema.params.iter().all(|p| !p.doc.is_empty()), "{}", schema.name);
        assert_eq!(crate::policy::params::validate_schema(schema), vec![], "{}", schema.name);
    }
}

#[test]
fn programs_of_counters_are_reported_by_group() {
    let objects = objects();
    let groups: std::collections::BTreeSet<String> =
        objects.core_hooks.keys().map(|program| super::hooks::counters_name(program)).collect();
    assert_eq!(
        groups.into_iter().collect::<Vec<_>>().join(" "),
        "charge-counters growth-counters host-reclaim-counters oom-counters reclaim-counters refault-counters stall-counters"
    );
    // The table of the documentation has these names, and those of hooks.
    let page = include_str!("../../docs/kernel-support.md");
    let (_, table) = page.split_once("<!-- tests/vm/kernel-support -->\n").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let hooks = objects.hooks.values().flat_map(|hooks| hooks.keys().cloned());
    let counters = objects.core_hooks.keys().map(|program| super::hooks::counters_name(program));
    let known: std::collections::BTreeSet<String> = hooks.chain(counters).collect();
    assert_eq!(documented, known.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn acting_policies_declare_hooks_and_counters() {
    let objects = objects();
    let hooks = |name: &str| objects.schemas[name].hooks.join(" ");
    assert_eq!(hooks("oom"), "charge oom stall tick");
    assert_eq!(hooks("protect"), "refault stall tick");
    assert_eq!(hooks("reclaim"), "tick");
    assert_eq!(hooks("throttle"), "charge tick");
    for name in ["oom", "protect", "reclaim", "throttle"] {
        // What `protect` gets it takes from others.
        assert_eq!(objects.schemas[name].self_binding, name != "protect", "{name}");
        assert_eq!(objects.counts[name], CounterSet::Pressure, "{name}");
        let missing = objects.missing_hooks(name, &KernelReport::default()).join(" ");
        let counters = "host-reclaim-counters oom-counters reclaim-counters refault-counters stall-counters";
        assert_eq!(missing, format!("{} {counters}", hooks(name)));
    }
    // `for` is a word of C's.
    assert_eq!(objects.schemas["oom"].params[3].name, "for");
    assert_eq!(objects.counts["observe"], CounterSet::All);
    assert!(!objects.counts.contains_key("deny"));
}

#[test]
fn the_schema_of_deny_is_its_c_struct() {
    let objects = objects();
    let deny = &objects.schemas["deny"];
    assert!(deny.self_binding);
    assert_eq!(deny.hooks, ["growth", "growth_mmap", "growth_mprotect"]);
    let names: Vec<_> = deny.params.iter().map(|p| (p.name.as_str(), p.offset, p.width)).collect();
    assert_eq!(names, [("limit", 0, 8), ("min", 8, 8), ("cache", 16, 4), ("mode", 20, 4)]);
    assert_eq!(deny.params[0].kind, ParamKind::Size);
    assert_eq!(deny.params[0].default, None);
    assert_eq!(deny.params[3].kind, ParamKind::Choice(vec![("act".into(), 0), ("dry-run".into(), 1)]));
}

#[test]
fn non_policy_object_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("text.bpf.o"), "not BPF").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "ignored").unwrap();
    std::fs::write(dir.path().join("..bpf.o"), "ignored").unwrap();
    std::fs::copy(built().join("policies/deny.bpf.o"), dir.path().join("other.bpf.o")).unwrap();
    std::fs::copy(built().join("policies/deny.bpf.o"), dir.path().join("deny.bpf.o")).unwrap();
    let objects = objects::load(&built().join("core.bpf.o"), &[dir.path().to_owned()]);
    assert_eq!(objects.schemas.keys().collect::<Vec<_>>(), ["deny"]);
    assert_eq!(objects.errors.len(), 2, "{:?}", objects.errors);
    assert!(
        objects.errors[0]
            .contains("other.bpf.o is not a BPF object that can be used: it has no 'struct other_params'")
    );
    assert!(objects.errors[1].contains("text.bpf.o is not a BPF object that can be used"));
}

#[test]
fn program_with_control_character_is_not_a_hook() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(built().join("policies/deny.bpf.o")).unwrap();
    let name = b"growth__0\0";
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] = 0x1b);
    std::fs::write(dir.path().join("deny.bpf.o"), bytes).unwrap();
    let objects = objects::load(&built().join("core.bpf.o"), &[dir.path().to_owned()]);
    assert!(objects.schemas.is_empty());
    let error = &objects.errors[0];
    assert!(error.ends_with("unknown hook in the program name '\\u{1b}rowth__…'"), "{error}");
}

#[test]
fn too_long_path_is_not_registered() {
    assert!(abi::path_key(&"x".repeat(254)).is_some());
    assert!(abi::path_key(&"x".repeat(255)).is_none());
}

#[test]
fn drop_counters_are_members_of_the_globals() {
    let core = built().join("core.bpf.o");
    let [events, actions] = ["dropped", "actions_dropped"].map(|name| super::abi::global_offset(&core, name));
    assert!(events.is_some() && actions.is_some() && events != actions, "{events:?} {actions:?}");
    assert_eq!(super::abi::global_offset(&core, "no_such_member"), None);
}
