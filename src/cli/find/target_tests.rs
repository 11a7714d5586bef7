use super::*;

const ID: &str = "1f2e3d4c5b6a79880123456789abcdef1f2e3d4c5b6a79880123456789abcdef";
const OTHER: &str = "1f2e0000000000000000000000000000000000000000000000000000000000aa";

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).unwrap()
}

fn tree() -> Vec<CgroupPath> {
    [
        "/",
        "/system.slice",
        "/system.slice/nginx.service",
        "/system.slice/_cpu.service",
        "/a.slice/a-b.slice",
        &format!("/machine.slice/libpod-{ID}.scope"),
        &format!("/machine.slice/libpod-conmon-{ID}.scope"),
        &format!("/machine.slice/libpod-{ID}.scope/container/system.slice/ssh.service"),
        &format!("/machine.slice/libpod-{ID}.scope/x/libpod-{ID}.scope"),
        "/system.slice/runc-web.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service",
        &format!("/kubepods.slice/pod1/{OTHER}"),
    ]
    .map(path)
    .to_vec()
}

fn found(text: &str) -> Result<String, String> {
    let target = parse(text, Path::new("/")).map_err(|e| e.to_string())?;
    search(&target, &[], tree).map(|p| p.to_string()).map_err(|e| e.to_string())
}

#[test]
fn paths_are_accepted_in_every_notation() {
    for text in
        ["/a.slice/x.service", "/sys/fs/cgroup/a.slice/x.service", "a.slice/x.service", "/a.slice/x.service/"]
    {
        assert_eq!(parse(text, Path::new("/")).unwrap(), Target::Path(path("/a.slice/x.service")), "{text}");
    }
    assert_eq!(parse("/sys/fs/cgroup", Path::new("/")).unwrap(), Target::Path(CgroupPath::root()));
    let inside = Path::new("/sys/fs/cgroup/a.slice");
    assert_eq!(parse(".", inside).unwrap(), Target::Path(path("/a.slice")));
    assert_eq!(parse("./x.service", inside).unwrap(), Target::Path(path("/a.slice/x.service")));
}

#[test]
fn paths_with_parent_components_are_invalid() {
    for text in ["/a/../b", "../x", "./../x", "/sys/fs/cgroup/../..", "a//b"] {
        assert!(parse(text, Path::new("/sys/fs/cgroup/a")).is_err(), "{text}");
    }
    assert!(parse(".", Path::new("/root")).unwrap_err().to_string().contains("not below /sys/fs/cgroup"));
}

#[test]
fn kind_of_target_follows_from_text() {
    assert_eq!(parse("4711", Path::new("/")).unwrap(), Target::Pid(4711));
    assert_eq!(parse("123456789012", Path::new("/")).unwrap(), Target::Container("123456789012".to_owned()));
    assert!(matches!(parse("x.service", Path::new("/")).unwrap(), Target::Unit(_)));
    assert!(matches!(parse("x@.service", Path::new("/")), Err(TargetError::Template(_))));
}

#[test]
fn unit_is_found_below_slices_only() {
    assert_eq!(found("nginx.service").unwrap(), "/system.slice/nginx.service");
    assert_eq!(found("cpu.service").unwrap(), "/system.slice/_cpu.service");
    assert_eq!(found("a-b.slice").unwrap(), "/a.slice/a-b.slice");
    for not_the_system_managers in ["ssh.service", "mine.service", "b.slice"] {
        let sentence = found(not_the_system_managers).unwrap_err();
        assert!(
            sentence.starts_with(&format!("unit '{not_the_system_managers}' has no cgroup")),
            "{sentence}"
        );
    }
}

#[test]
fn a_container_is_found_by_the_beginning_of_its_id() {
    assert_eq!(found("1f2e3d").unwrap(), format!("/machine.slice/libpod-{ID}.scope"));
    assert_eq!(found(ID).unwrap(), format!("/machine.slice/libpod-{ID}.scope"));
    assert_eq!(found("web").unwrap(), "/system.slice/runc-web.scope");
    assert_eq!(
        found("1f2e").unwrap_err(),
        format!(
            "ambiguous cgroup '1f2e': /kubepods.slice/pod1/{OTHER}, /machine.slice/libpod-{ID}.scope; give more characters, or the path"
        )
    );
    assert!(found("1f2").unwrap_err().starts_with("unknown cgroup '1f2': no container has this name or ID"));
    assert!(found("we\u{1b}b").unwrap_err().contains("'we\\u{1b}b'"));
}

#[test]
fn cgroups_with_a_policy_are_found_first() {
    let report = |cgroup: &str, container: &str| BindingReport {
        cgroup: cgroup.to_owned(),
        container: Some(container.to_owned()),
        ..BindingReport::default()
    };
    let reports = [report("/p/web", "web"), report("/p/database", "database")];
    let target = Target::Container("web".to_owned());
    assert_eq!(search(&target, &reports, Vec::new).unwrap(), path("/p/web"));
    let target = Target::Container("data".to_owned());
    assert_eq!(search(&target, &reports, Vec::new).unwrap(), path("/p/database"));
}

#[test]
fn process_maps_to_bound_cgroup_else_unit() {
    let at = path("/a.slice/x.service/worker");
    assert_eq!(nearest_bound(&at, &[]), path("/a.slice/x.service"));
    let slice = BindingReport { cgroup: "/a.slice".to_owned(), ..BindingReport::default() };
    assert_eq!(nearest_bound(&at, &[slice]), path("/a.slice"));
    assert_eq!(nearest_bound(&path("/a.slice"), &[]), path("/a.slice"));
}

#[test]
fn container_is_found_by_name_if_no_id_matches() {
    let path = CgroupPath::parse(&format!("/machine.slice/libpod-{}.scope", "ab".repeat(32))).unwrap();
    let tree = || vec![CgroupPath::root(), path.clone()];
    let name = |_: &CgroupPath, id: &str| Some(format!("web-{}", id.get(..2).unwrap_or("")));
    assert_eq!(by_id_or_name("web-ab", &[], tree, name).unwrap(), path);
    assert_eq!(by_id_or_name("abab", &[], tree, name).unwrap(), path);
    let error = by_id_or_name("web", &[], tree, name).unwrap_err().to_string();
    assert!(error.starts_with("unknown cgroup 'web': no container has this name or ID"), "{error}");
}

/// `find` with these unit files, the tree above, and containers named by the beginning of their ID.
fn find_among(files: &[&str], text: &str) -> Result<String, String> {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/systemd/system");
    std::fs::create_dir_all(&directory).unwrap();
    for file in files {
        match file.split_once(" -> ") {
            Some((alias, target)) => std::os::unix::fs::symlink(target, directory.join(alias)).unwrap(),
            None => std::fs::write(directory.join(file), "[Service]\n").unwrap(),
        }
    }
    let files = || index(root.path(), &UNIT_PATH);
    let name = |_: &CgroupPath, id: &str| id.starts_with("1f2e3d").then(|| "nginx-proxy".to_owned());
    let found = match parse(text, Path::new("/")).unwrap() {
        Target::Unit(unit) => by_unit(&unit, &[], tree, files),
        Target::Container(text) => by_word(&text, &[], tree, files, name),
        other => panic!("{other:?}"),
    };
    found.map(|path| path.to_string()).map_err(|error| error.to_string())
}

#[test]
fn suffix_of_a_service_may_be_left_out() {
    assert_eq!(find_among(&[], "nginx").unwrap(), "/system.slice/nginx.service");
    assert_eq!(find_among(&[], "nginx-proxy").unwrap(), format!("/machine.slice/libpod-{ID}.scope"));
    let stopped = find_among(&["postgresql.service"], "postgresql").unwrap_err();
    assert!(stopped.starts_with("unit 'postgresql.service' has no cgroup: it is not running"), "{stopped}");
    // The service and a container elsewhere have the same name.
    let service = path("/system.slice/runc-web.service");
    let both = || tree().into_iter().chain([path("/system.slice/web.service"), service.clone()]).collect();
    let error = by_word("web", &[], both, UnitFileIndex::default, |_, _| None).unwrap_err().to_string();
    assert!(
        error.starts_with("ambiguous cgroup 'web': /system.slice/runc-web.scope, /system.slice/web.service"),
        "{error}"
    );
}

#[test]
fn alias_means_its_unit() {
    let files = ["nginx.service", "web.service -> nginx.service", "db.service", "sql.service -> db.service"];
    assert_eq!(find_among(&files, "web.service").unwrap(), "/system.slice/nginx.service");
    let stopped = find_among(&files, "sql.service").unwrap_err();
    assert!(stopped.starts_with("unit 'db.service' has no cgroup"), "{stopped}");
}

#[test]
fn unit_that_does_not_exist_is_said_not_to_exist() {
    let files = ["postgresql.service", "off.service -> /dev/null"];
    let error = |text: &str| find_among(&files, text).unwrap_err();
    assert!(
        error("postgersql.service")
            .starts_with("unit 'postgersql.service' does not exist; did you mean 'postgresql.service'?"),
        "{}",
        error("postgersql.service")
    );
    assert!(error("ngnix.service").contains("did you mean 'nginx.service'?"), "{}", error("ngnix.service"));
    assert!(error("ngnix").contains("no unit or path matches; did you mean 'nginx'?"), "{}", error("ngnix"));
    assert!(
        error("zzz.service").starts_with("unit 'zzz.service' does not exist; see: systemctl"),
        "{}",
        error("zzz.service")
    );
    assert!(error("off").starts_with("unit 'off.service' is masked"), "{}", error("off"));
}
