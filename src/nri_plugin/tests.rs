use std::os::unix::net::UnixListener;

use super::*;

fn parsed(args: &[&str]) -> Invocation {
    invocation(args.iter().map(|arg| (*arg).to_owned()))
}

#[test]
fn options_are_parsed() {
    assert_eq!(parsed(&[]), Invocation::Run(PathBuf::from(SOCKET)));
    assert_eq!(parsed(&["--socket", "/a"]), Invocation::Run(PathBuf::from("/a")));
    assert_eq!(parsed(&["--socket=/a"]), Invocation::Run(PathBuf::from("/a")));
    assert_eq!(parsed(&["--socket"]), Invocation::Invalid("missing path after --socket".to_owned()));
    assert_eq!(parsed(&["-x\n"]), Invocation::Invalid("unknown option '-x\\n'".to_owned()));
    assert_eq!((parsed(&["--help"]), parsed(&["-V"])), (Invocation::Help, Invocation::Version));
}

/// The plugin connects to a socket that is created after its start, registers, and connects again.
#[test]
fn plugin_connects_again_after_each_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nri.sock");
    let socket = path.clone();
    std::thread::spawn(move || serve(&socket, &late::start("unix:path=/nonexistent/bus").unwrap()));
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
