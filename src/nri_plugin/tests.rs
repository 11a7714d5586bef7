use std::os::unix::net::UnixListener;

use super::*;

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
    std::thread::spawn(move || serve(&socket, HOOK, &late::start("unix:path=/nonexistent/bus").unwrap()));
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
