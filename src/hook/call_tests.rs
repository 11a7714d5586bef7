use std::io;

use zbus::fdo;

use super::*;

/// The daemon's or the bus's error of this name.
fn from_reply(name: &'static str, message: Option<&str>) -> CallError {
    let name = zbus::names::OwnedErrorName::try_from(name).unwrap();
    let call = zbus::Message::method_call(PATH, "X").build(&()).unwrap();
    CallError::from(zbus::Error::MethodError(name, message.map(str::to_owned), call))
}

fn from_bus(error: fdo::Error) -> CallError {
    CallError::from(zbus::Error::FDO(Box::new(error)))
}

#[test]
fn uid_is_that_outside_of_user_namespace() {
    assert_eq!(host_uid_in(0, "         0          0 4294967295\n"), Some(0));
    assert_eq!(host_uid_in(0, "0 1000 1\n1 100000 65536\n"), Some(1000));
    assert_eq!(host_uid_in(5, "0 1000 1\n1 100000 65536\n"), Some(100_004));
    assert_eq!(host_uid_in(70_000, "0 1000 1\n1 100000 65536\n"), None);
    for garbage in ["", "x", "0 0", "0 -1 1", "0 4294967295 4294967295"] {
        let _ = host_uid_in(3, garbage);
    }
}

#[test]
fn reply_of_many_lines_becomes_one() {
    let error = from_reply("org.memcg.Bpf1.Error.InvalidPolicy", Some("a\nb\u{1b}[0m"));
    assert_eq!(error, CallError::Rejected("a\\nb\\u{1b}[0m".into()));
    let long = from_reply("org.memcg.Bpf1.Error.InvalidPolicy", Some(&"x".repeat(1_000_000)));
    assert!(long.to_string().len() < 2100);
}

#[test]
fn errors_are_classified_for_retry() {
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

#[test]
fn timeouts_of_the_bus_are_reported_as_timeouts() {
    let timed_out = io::Error::from(io::ErrorKind::TimedOut);
    for error in [timed_out.into(), zbus::Error::FDO(Box::new(fdo::Error::NoReply("x".into())))] {
        let error = CallError::from(error);
        assert_eq!(error, CallError::Unreachable("memcg-bpfd did not reply in time".to_owned()));
    }
}
