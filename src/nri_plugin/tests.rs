use std::os::unix::net::UnixListener;

use super::*;
use crate::nri::tests::configure;

fn parsed(args: &[&str]) -> Invocation {
    invocation(args.iter().map(|arg| (*arg).to_owned()))
}

#[test]
fn options_are_parsed() {
    let run = |socket: &str, hook: &str| Invocation::Run { socket: socket.into(), hook: hook.to_owned() };
    let invalid = |message: &str| Invocation::Invalid(message.to_owned());
    assert_eq!(parsed(&[]), run("/run/nri/nri.sock", "/usr/libexec/oci/hooks.d/memcg-bpf-hook"));
    assert_eq!(parsed(&["--socket", "/a", "--hook=/b"]), run("/a", "/b"));
    assert_eq!(parsed(&["--socket"]), invalid("missing absolute path after --socket"));
    assert_eq!(parsed(&["--hook", "b"]), invalid("missing absolute path after --hook"));
    assert_eq!(parsed(&["-x\n"]), invalid("unknown option '-x\\n'"));
    assert_eq!((parsed(&["--help"]), parsed(&["-V"])), (Invocation::Help, Invocation::Version));
}

/// The unit has the path in it, which `make install PREFIX=` changes.
#[test]
fn unit_names_the_hook() {
    let unit = include_str!("../../systemd/memcg-bpf-nri.service");
    assert!(unit.contains(&format!("ExecStart=/usr/libexec/memcg-bpf/memcg-bpf-nri --hook {HOOK}\n")));
}

/// The plugin connects to a socket that is created after its start, registers, and connects again.
#[test]
fn plugin_connects_again_after_each_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nri.sock");
    let socket = path.clone();
    std::thread::spawn(move || {
        serve(&socket, HOOK, &late::start("unix:path=/nonexistent/bus").unwrap(), &|_| {})
    });
    std::thread::sleep(Duration::from_millis(50));
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..3 {
        let (mut runtime, _) = listener.accept().unwrap();
        let mut header = [0; 8];
        runtime.read_exact(&mut header).unwrap();
        assert_eq!(header[..4], [0, 0, 0, 2], "RegisterPlugin is sent on the connection of the runtime");
        let mut call = vec![0; usize::from(header[7])];
        runtime.read_exact(&mut call).unwrap();
        assert!(call.windows(9).any(|bytes| bytes == b"memcg-bpf"));
    }
}

/// Connections that end with the same error are logged once, but the status is set after each.
#[test]
fn status_is_set_after_each_end_of_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nri.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, statuses) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let queue = late::start("unix:path=/nonexistent/bus").unwrap();
        serve(&path, HOOK, &queue, &|status| sender.send(status.to_owned()).unwrap())
    });
    let next = || statuses.recv_timeout(Duration::from_secs(10)).unwrap();
    for _ in 0..2 {
        let (mut runtime, _) = listener.accept().unwrap();
        runtime.write_all(&configure("v2.1.9")).unwrap();
        assert_eq!(next(), "Connected to containerd v2.1.9");
        drop(runtime);
        let ended = next();
        assert!(ended.starts_with("Not connected: "), "{ended}");
    }
}

/// Each unit that can be enabled is in the preset, and each service restarts when the package is upgraded.
#[test]
fn packages_know_each_unit() {
    let preset = include_str!("../../systemd/80-memcg-bpf.preset");
    let (deb, rpm) =
        (include_str!("../../packaging/deb/postinst"), include_str!("../../packaging/rpm/memcg-bpf.spec"));
    let (_, restarted) = deb.split_once("try-restart").unwrap();
    let restarted_rpm = rpm.lines().find(|line| line.contains("mark-restart-system-units")).unwrap();
    let entries = std::fs::read_dir("systemd").unwrap().map(|entry| entry.unwrap().file_name());
    let units = entries
        .map(|name| name.into_string().unwrap())
        .filter(|name| !name.starts_with("org.") && (name.ends_with(".service") || name.ends_with(".path")));
    let mut count = 0;
    for unit in units {
        let text = std::fs::read_to_string(format!("systemd/{unit}")).unwrap();
        let is_listed = preset.lines().any(|line| line.split(' ').nth(1) == Some(unit.as_str()));
        assert_eq!(text.contains("[Install]"), is_listed, "{unit}");
        if unit.ends_with(".service") {
            assert!(restarted_rpm.contains(&unit), "{unit} is not restarted by the rpm");
            assert!(
                unit == "memcg-bpfd.service" || restarted.contains(&unit),
                "{unit} is not restarted by the deb"
            );
        }
        count += 1;
    }
    assert_eq!(count, 5);
}
