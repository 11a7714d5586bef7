use super::*;

#[test]
fn the_user_id_is_that_outside_of_the_user_namespace() {
    assert_eq!(host_uid_in(0, "         0          0 4294967295\n"), Some(0));
    assert_eq!(host_uid_in(0, "0 1000 1\n1 100000 65536\n"), Some(1000));
    assert_eq!(host_uid_in(5, "0 1000 1\n1 100000 65536\n"), Some(100_004));
    assert_eq!(host_uid_in(70_000, "0 1000 1\n1 100000 65536\n"), None);
    for garbage in ["", "x", "0 0", "0 -1 1", "0 4294967295 4294967295"] {
        let _ = host_uid_in(3, garbage);
    }
}

#[test]
fn an_answer_of_many_lines_becomes_one() {
    let error = from_reply("org.memcg.Bpf1.Error.InvalidPolicy", Some("a\nb\u{1b}[0m"));
    assert_eq!(error, CallError::Refused("a\\nb\\u{1b}[0m".into()));
    let long = from_reply("org.memcg.Bpf1.Error.InvalidPolicy", Some(&"x".repeat(1_000_000)));
    assert!(long.to_string().len() < 2100);
}

#[test]
fn errors_are_sorted_by_whether_asking_again_could_help() {
    let again = |error: CallError| matches!(error, CallError::Unreachable(_));
    assert!(again(from_reply("org.memcg.Bpf1.Error.Busy", None)));
    assert!(again(from_reply("org.freedesktop.systemd1.ShuttingDown", None)));
    assert!(!again(from_reply("org.memcg.Bpf1.Error.NotSupported", None)));
    assert!(again(from_bus(fdo::Error::SpawnChildExited("x".into()))));
    assert!(again(from_bus(fdo::Error::UnknownMethod("x".into()))));
    assert!(!again(from_bus(fdo::Error::AccessDenied("x".into()))));
    assert!(!again(CallError::from(zbus::Error::Handshake("EXTERNAL rejected by the server.".into()))));
    assert!(again(CallError::from(zbus::Error::Handshake("Unexpected EOF during handshake".into()))));
}
