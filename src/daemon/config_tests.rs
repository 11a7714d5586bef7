use std::os::unix::fs::symlink;

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn without_files_the_defaults_hold() {
    assert_eq!(Config::load(tree(&[]).path()), (Config::default(), Vec::new()));
}

#[test]
fn continued_line_is_joined() {
    let text = "[Annotations]\nAllowPolicies=deny \\\n# between\n  oom\n";
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", text)]);
    let (config, warnings) = Config::load(root.path());
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.allow_policies, Some(vec!["deny".to_owned(), "oom".to_owned()]));
}

#[test]
fn file_over_the_limit_is_reported() {
    let long = format!("{}\n[Actions]\nPerSecond=3\n", "#".repeat(1 << 18));
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", &long)]);
    let (config, warnings) = Config::load(root.path());
    assert_eq!(config, Config::default());
    assert_eq!(warnings, ["reading /etc/memcg-bpf/memcg-bpf.conf: longer than 262144 bytes, ignoring"]);
}

#[test]
fn shipped_configuration_has_defaults_of_all_keys() {
    let sample = include_str!("../../systemd/memcg-bpf.conf");
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", sample)]);
    assert_eq!(Config::load(root.path()), (Config::default(), Vec::new()));
    let uncommented: String = sample
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.contains('=') && !rest.starts_with(' ')).unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(
        [
            "AllowPolicies=",
            "Level=info",
            "PerSecond=10",
            "KillsPerMinute=6",
            "AnnotationsOverrideDropIns=no",
            "Preload=yes"
        ]
        .iter()
        .all(|key| uncommented.contains(&format!("\n{key}")))
    );
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", &uncommented)]);
    assert_eq!(Config::load(root.path()), (Config::default(), Vec::new()));
}

#[test]
fn drop_ins_are_merged_by_name_and_priority() {
    let level = |level: &str| format!("[Log]\nLevel={level}\n");
    let root = tree(&[
        ("usr/lib/memcg-bpf/memcg-bpf.conf", "[Annotations]\nAllowPolicies=never-read\n"),
        ("etc/memcg-bpf/memcg-bpf.conf", "[Annotations]\nAllowPolicies=deny\n"),
        ("etc/memcg-bpf/memcg-bpf.conf.d/10-a.conf", &level("error")),
        ("usr/lib/memcg-bpf/memcg-bpf.conf.d/50-b.conf", &level("trace")),
        ("run/memcg-bpf/memcg-bpf.conf.d/50-b.conf", &level("debug")),
        ("usr/lib/memcg-bpf/memcg-bpf.conf.d/99-masked.conf", &level("error")),
        ("etc/memcg-bpf/memcg-bpf.conf.d/99-note.txt", "nonsense"),
    ]);
    symlink("/dev/null", root.path().join("etc/memcg-bpf/memcg-bpf.conf.d/99-masked.conf")).unwrap();
    let (config, warnings) = Config::load(root.path());
    assert_eq!(config.log_level, LevelFilter::DEBUG);
    assert_eq!(config.allow_policies, Some(vec!["deny".to_owned()]));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn lists_add_up_and_an_empty_assignment_resets() {
    let text = "[Annotations]\nAllowPolicies=protect\nAllowPolicies=\nAllowPolicies=deny observe\nAllowPolicies=deny oom\n";
    let (config, warnings) = Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", text)]).path());
    assert_eq!(config.allow_policies, Some(["deny", "observe", "oom"].map(str::to_owned).to_vec()));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn each_invalid_line_is_reported_and_others_apply() {
    let text = "Level=debug\n[Lgo]\nLevel=debug\n[X-Site]\nOwner=me\n[Log]\nLevle=debug\nLevel=loud\nnonsense\u{1b}[2J\n\
                Level = warning \n[Annotations]\nAllowPolicies=deny Prot\u{7}ect\n[Annotations\nAllowPolicies=oom\n";
    let (config, warnings) = Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", text)]).path());
    assert_eq!(config.log_level, LevelFilter::WARN);
    assert_eq!(config.allow_policies, Some(vec!["deny".to_owned()]));
    let at = |number: usize, what: &str| format!("/etc/memcg-bpf/memcg-bpf.conf:{number}: {what}, ignoring");
    assert_eq!(
        warnings,
        [
            at(1, "key 'Level' is not in a known section"),
            at(2, "unknown section '[Lgo]'; valid are [Actions], [Annotations], [Log] and [Policies]"),
            at(7, "unknown key 'Levle' in section [Log]"),
            at(8, "unknown level 'loud'; valid are error, warning, info, debug, trace"),
            at(9, "'nonsense\\u{1b}[2J' is not an assignment"),
            at(12, "'Prot\\u{7}ect' is not the name of a policy"),
            at(
                13,
                "unknown section '[Annotations'; valid are [Actions], [Annotations], [Log] and [Policies]"
            ),
            at(14, "key 'AllowPolicies' is not in a known section"),
        ]
    );
}

#[test]
fn limits_are_numbers_and_an_empty_assignment_resets() {
    let load = |text: &str| Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", text)]).path());
    let (config, warnings) = load("[Actions]\nPerSecond=0\nKillsPerMinute=100\n");
    assert_eq!((config.limits, warnings), (Limits { per_second: 0, kills_per_minute: 100 }, vec![]));
    let (config, warnings) = load("[Actions]\nPerSecond=3\nPerSecond=\nKillsPerMinute=-1\n");
    assert_eq!(config.limits, Limits::default());
    let place = "/etc/memcg-bpf/memcg-bpf.conf:4";
    assert_eq!(warnings, [format!("{place}: '-1' is not an integer from 0 to 1000, ignoring")]);
}

#[test]
fn list_without_valid_names_allows_nothing() {
    let (config, warnings) =
        Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", "[Annotations]\nAllowPolicies=../x\n")]).path());
    assert_eq!(config.allow_policies, Some(Vec::new()));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn hostile_files_neither_block_nor_fill_the_memory() {
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", &"x".repeat(1 << 20))]);
    let (config, warnings) = Config::load(root.path());
    assert_eq!(config, Config::default());
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].len() < 200);
    let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf.d/50-x.conf/file", "")]);
    assert_eq!(Config::load(root.path()), (Config::default(), Vec::new()));
}

#[test]
fn warnings_of_a_file_are_limited() {
    let text = "nonsense\n".repeat(10_000);
    let (config, warnings) = Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", &text)]).path());
    assert_eq!((config, warnings.len()), (Config::default(), WARNINGS_MAX + 1));
    assert_eq!(warnings.last().unwrap(), "/etc/memcg-bpf/memcg-bpf.conf: further warnings are left out");
    let names: String = (0..60_000).map(|n| format!(" p{n}")).collect();
    let text = format!("[Annotations]\nAllowPolicies={}\n", &names[..200_000]);
    let (config, warnings) = Config::load(tree(&[("etc/memcg-bpf/memcg-bpf.conf", &text)]).path());
    assert_eq!((config.allow_policies.unwrap().len(), warnings.len()), (NAMES_MAX, 1), "{warnings:?}");
}

#[test]
fn annotations_override_drop_ins_only_if_set() {
    for (value, set, wrong) in [("no", false, 0), ("yes", true, 0), ("", false, 0), ("maybe", false, 1)] {
        let text = format!("[Policies]\nAnnotationsOverrideDropIns={value}\n");
        let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", &text)]);
        let (config, warnings) = Config::load(root.path());
        assert_eq!((config.override_drop_ins, warnings.len()), (set, wrong), "{value}: {warnings:?}");
    }
}

#[test]
fn preload_is_a_boolean() {
    for (value, preload, wrong) in [("no", false, 0), ("yes", true, 0), ("", true, 0), ("maybe", true, 1)] {
        let root = tree(&[("etc/memcg-bpf/memcg-bpf.conf", &format!("[Policies]\nPreload={value}\n"))]);
        let (config, warnings) = Config::load(root.path());
        assert_eq!((config.preload, warnings.len()), (preload, wrong), "{value}: {warnings:?}");
    }
}
