use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use super::*;
use crate::source::oci_config::HOOK;
use crate::source::oci_state::CONFIG_MAX;

const POLICY: &str = r#"{"annotations":{"memcg.bpf/policy":"deny limit=64M"}}"#;
const REQUIRED: &str = r#"{"annotations":{"memcg.bpf/policy":"deny limit=64M","memcg.bpf/required":"true"}}"#;
const PLAIN: &str = r#"{ "annotations": {}, "hooks": {"prestart": [{"path": "/proc/1/exe"}]} }"#;

/// A bundle, a hook and a runtime, in a directory.
struct Bundle(tempfile::TempDir);

impl Bundle {
    fn new(config: &[u8]) -> Bundle {
        let bundle = Bundle(tempfile::tempdir().unwrap());
        fs::write(bundle.path("config.json"), config).unwrap();
        for program in ["memcg-bpf-hook", "runc"] {
            fs::write(bundle.path(program), "").unwrap();
            fs::set_permissions(bundle.path(program), Permissions::from_mode(0o755)).unwrap();
        }
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("config.json")).unwrap()
    }

    fn line(&self, args: &[&str]) -> CommandLine {
        let hook = format!("--memcg-bpf-hook={}", self.path("memcg-bpf-hook").display());
        command_line(&[&[hook.as_str()], args].concat())
    }

    /// What happens at the creation of the container.
    fn create(&self) -> (Step, Option<String>) {
        let bundle = self.0.path().to_str().unwrap();
        let line = self.line(&["--root", "/run", "create", "--bundle", bundle, "--pid-file", "/p", "c1"]);
        prepare(&line, line.creation().as_ref(), &[self.0.path().to_owned()])
    }

    fn executed(&self) -> (Step, Option<String>) {
        (Step::Execute(self.path("runc")), None)
    }

    /// The names in the directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn invocation(args: &[&str]) -> Invocation {
    args::parse(args.iter().map(OsString::from))
}

fn command_line(args: &[&str]) -> CommandLine {
    match invocation(args) {
        Invocation::Run(line) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn own_options_come_first_and_the_rest_is_passed() {
    let line = command_line(&["--memcg-bpf-runtime=/opt/crun", "--version", "--memcg-bpf-help"]);
    assert_eq!(line.runtime.as_deref(), Some(Path::new("/opt/crun")));
    assert_eq!((line.hook.to_str(), line.passed.len()), (Some(HOOK), 2));
    assert_eq!(invocation(&["--memcg-bpf-help"]), Invocation::Help);
    for wrong in ["--memcg-bpf-runtime", "--memcg-bpf-runtime=runc", "--memcg-bpf-hook=", "--memcg-bpf-x=1"] {
        assert!(matches!(invocation(&[wrong]), Invocation::Invalid(_)), "{wrong}");
    }
}

#[test]
fn creation_is_recognized_as_containerd_calls_it() {
    let call = "--root /run/runc/moby --log /run/b/log.json --log-format json --systemd-cgroup create \
        --bundle /run/b --pid-file /run/b/init.pid --console-socket /tmp/pty.sock 0123abc";
    let creation = |text: &str| command_line(&text.split_whitespace().collect::<Vec<_>>()).creation();
    assert_eq!(
        creation(call),
        Some(Creation {
            config: "/run/b/config.json".into(),
            id: "0123abc".into(),
            log: Some(args::Log { path: "/run/b/log.json".into(), json: true }),
        })
    );
    for (call, config) in [
        ("run c1", "./config.json"),
        ("--root=create run -b=/x --detach c1", "/x/config.json"),
        ("-root run create -bundle /x c1", "/x/config.json"),
        ("create -f other.json -b /x c1", "/x/other.json"),
    ] {
        assert_eq!(creation(call).map(|creation| creation.config), Some(config.into()), "{call}");
    }
    for call in ["", "--version", "features", "start create", "--root create delete c1", "kill run 9", "- --"]
    {
        assert_eq!(creation(call), None, "{call}");
    }
}

#[test]
fn hook_is_added_once_and_the_mode_stays() {
    let bundle = Bundle::new(POLICY.as_bytes());
    fs::set_permissions(bundle.path("config.json"), Permissions::from_mode(0o640)).unwrap();
    assert_eq!(bundle.create(), bundle.executed());
    let once = bundle.config();
    let config: Value = serde_json::from_str(&once).unwrap();
    for stage in ["createRuntime", "poststop"] {
        assert_eq!(config["hooks"][stage][0]["path"], bundle.path("memcg-bpf-hook").to_str().unwrap());
    }
    assert_eq!(bundle.create(), bundle.executed());
    assert_eq!(bundle.config(), once);
    assert_eq!(fs::metadata(bundle.path("config.json")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(bundle.names(), ["config.json", "memcg-bpf-hook", "runc"]);
}

#[test]
fn container_without_annotation_is_unchanged() {
    let bundle = Bundle::new(PLAIN.as_bytes());
    fs::remove_file(bundle.path("memcg-bpf-hook")).unwrap();
    assert_eq!(bundle.create(), bundle.executed());
    assert_eq!(bundle.config(), PLAIN);
    let other = Bundle::new(POLICY.as_bytes());
    let line = other.line(&["delete", "--force", "c1"]);
    assert_eq!(prepare(&line, line.creation().as_ref(), &[other.0.path().to_owned()]), other.executed());
    assert_eq!(other.config(), POLICY);
}

#[test]
fn hostile_configuration_is_left_to_the_runtime() {
    let deep = "[".repeat(100_000);
    for config in [b"" as &[u8], b"\xff\x00", b"not JSON", deep.as_bytes(), &vec![b' '; CONFIG_MAX + 1]] {
        let bundle = Bundle::new(config);
        let (step, warning) = bundle.create();
        assert_eq!(step, Step::Execute(bundle.path("runc")));
        let warning = warning.unwrap();
        assert!(warning.starts_with("container c1: Failed to read"), "{warning}");
        assert!(warning.ends_with("it is created without a policy"), "{warning}");
        assert_eq!(fs::read(bundle.path("config.json")).unwrap(), config);
    }
    let fifo = Bundle::new(b"");
    fs::remove_file(fifo.path("config.json")).unwrap();
    nix::unistd::mkfifo(&fifo.path("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(fifo.create().1.unwrap().contains("not a regular file"));
    fs::remove_file(fifo.path("config.json")).unwrap();
    assert!(fifo.create().1.unwrap().contains("No such file"));
}

#[test]
fn target_of_symbolic_link_is_unchanged() {
    let bundle = Bundle::new(POLICY.as_bytes());
    fs::rename(bundle.path("config.json"), bundle.path("target")).unwrap();
    symlink("target", bundle.path("config.json")).unwrap();
    assert_eq!(bundle.create(), bundle.executed());
    assert_eq!(fs::read_to_string(bundle.path("target")).unwrap(), POLICY);
    assert!(bundle.config().contains("createRuntime"));
}

#[test]
fn missing_hook_fails_only_required_containers() {
    for (config, fails) in [(POLICY, false), (REQUIRED, true)] {
        let bundle = Bundle::new(config.as_bytes());
        fs::remove_file(bundle.path("memcg-bpf-hook")).unwrap();
        let (step, warning) = bundle.create();
        assert_eq!(bundle.config(), config);
        match step {
            Step::Fail(message) if fails => {
                assert!(message.contains("there is no program"), "{message}");
                assert!(message.ends_with("it does not start, because memcg.bpf/required is true"));
            }
            Step::Execute(_) if !fails => assert!(warning.unwrap().contains("there is no program")),
            other => panic!("{other:?}"),
        }
    }
    let odd = Bundle::new(REQUIRED.replacen('{', r#"{"hooks":7,"#, 1).as_bytes());
    assert!(matches!(odd.create().0, Step::Fail(message) if message.contains("hooks is not an object")));
}

#[test]
fn runtime_is_found_and_never_this_program() {
    let bundle = Bundle::new(b"");
    let own = std::env::current_exe().unwrap();
    let other = tempfile::tempdir().unwrap();
    symlink(&own, other.path().join("runc")).unwrap();
    let directories = [other.path().to_owned(), bundle.0.path().to_owned()];
    assert_eq!(find_runtime(None, &directories), Ok(bundle.path("runc")));
    assert_eq!(find_runtime(Some(Path::new("/opt/x")), &directories), Ok("/opt/x".into()));
    assert!(find_runtime(Some(&own), &directories).is_err());
    assert!(find_runtime(None, &directories[..1]).unwrap_err().contains("neither runc nor crun"));
}

#[test]
fn error_is_appended_to_the_log_as_runc_does() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.json");
    append_error(&log, true, "a \"b\"").unwrap();
    append_error(&log, true, "c").unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["level"], &lines[0]["msg"]), (&Value::from("error"), &Value::from("a \"b\"")));
    assert_eq!(lines[1]["msg"], "c");
    append_error(&log, false, "plain").unwrap();
    assert!(fs::read_to_string(&log).unwrap().ends_with("}\nplain\n"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(append_error(&fifo, true, "x").is_err());
}
