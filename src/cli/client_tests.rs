use super::*;

fn fdo(error: zbus::fdo::Error) -> zbus::Error {
    zbus::Error::FDO(Box::new(error))
}

#[test]
fn every_failure_is_one_sentence_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let say = |error: zbus::Error| client_error(&error, root.path()).to_string();
    use zbus::fdo::Error as Bus;
    assert_eq!(
        say(fdo(Bus::ServiceUnknown("x".into()))),
        "memcg-bpfd is not installed: /usr/share/dbus-1/system-services/org.memcg.Bpf1.service is missing; \
         install the package memcg-bpf, then: systemctl start memcg-bpfd"
    );
    assert_eq!(say(fdo(Bus::AccessDenied("x".into()))), "permission denied: use sudo");
    assert_eq!(
        say(fdo(Bus::NoReply("x".into()))),
        "memcg-bpfd did not reply within 25 seconds; see: journalctl -u memcg-bpfd"
    );
    std::fs::create_dir_all(root.path().join("usr/share/dbus-1/system-services")).unwrap();
    std::fs::write(root.path().join(ACTIVATION), "").unwrap();
    assert_eq!(
        say(fdo(Bus::ServiceUnknown("no such\u{1b}[2J".into()))),
        "memcg-bpfd is not running (no such\\u{1b}[2J); start it with: systemctl start memcg-bpfd"
    );
}

#[test]
fn bus_errors_mean_the_same_to_command_and_hook() {
    use zbus::fdo::Error as Bus;
    let of = |error: zbus::Error| client_error(&error, Path::new("/nonexistent"));
    assert_eq!(of(zbus::Error::Handshake("EXTERNAL rejected by the server.".into())), ClientError::Denied);
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert_eq!(of(denied.into()), ClientError::Denied);
    for error in [Bus::InvalidSignature("x".into()), Bus::UnknownObject("x".into())] {
        assert!(matches!(of(fdo(error)), ClientError::ProtocolMismatch(_)));
    }
}

/// Macros take no constants.
#[test]
fn proxy_uses_the_names_of_the_bus_room() {
    use zbus::proxy::Defaults;
    assert_eq!(DaemonProxy::INTERFACE.as_ref().unwrap().as_str(), crate::bus::INTERFACE);
    assert_eq!(DaemonProxy::DESTINATION.as_ref().unwrap().as_str(), crate::bus::NAME);
    assert_eq!(DaemonProxy::PATH.as_ref().unwrap().as_str(), crate::bus::PATH);
}

#[test]
fn a_missing_bus_is_said_to_be_missing() {
    let error = Client::connect_to("unix:path=/nonexistent/bus").err().unwrap();
    assert!(matches!(error, ClientError::NoBus(_)), "{error}");
    assert!(error.to_string().ends_with("start it with: systemctl start dbus.socket"), "{error}");
}

#[test]
fn an_answer_that_is_no_json_is_not_believed() {
    assert!(matches!(parse::<Vec<String>>(Ok("[".to_owned())), Err(ClientError::ProtocolMismatch(_))));
}

/// A peer that replies as the bus and the daemon do, and notes which calls may start the daemon.
mod fake {
    use std::os::unix::net::UnixListener;
    use std::sync::{Arc, Mutex};

    use zbus::message::{Flags, Header};

    type Calls = Arc<Mutex<Vec<(String, bool)>>>;

    struct Bus;

    #[zbus::interface(name = "org.freedesktop.DBus")]
    impl Bus {
        fn hello(&self) -> String {
            ":1.1".to_owned()
        }
    }

    struct Manager(Calls);

    impl Manager {
        fn note(&self, header: &Header<'_>) {
            let name = header.member().unwrap().to_string();
            let may_start = !header.primary().flags().contains(Flags::NO_AUTO_START);
            self.0.lock().unwrap().push((name, may_start));
        }
    }

    #[zbus::interface(name = "org.memcg.Bpf1.Manager")]
    impl Manager {
        fn list(&self, #[zbus(header)] header: Header<'_>) -> String {
            self.note(&header);
            "[]".to_owned()
        }

        fn explain(&self, _cgroup: String, #[zbus(header)] header: Header<'_>) -> String {
            self.note(&header);
            "null".to_owned()
        }

        fn stats(&self, #[zbus(header)] header: Header<'_>) -> zbus::fdo::Result<String> {
            self.note(&header);
            Err(zbus::fdo::Error::NameHasNoOwner("no such name".to_owned()))
        }

        fn attach(&self, _cgroup: String, _line: String, #[zbus(header)] header: Header<'_>) -> String {
            self.note(&header);
            "null".to_owned()
        }
    }

    /// Serves one connection at this address, for as long as the test runs.
    pub fn serve(path: &std::path::Path) -> Calls {
        let listener = UnixListener::bind(path).unwrap();
        let calls = Calls::default();
        let manager = Manager(Arc::clone(&calls));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let connection = zbus::connection::Builder::unix_stream(listener.accept().unwrap().0)
                    .server(zbus::Guid::generate())
                    .p2p()
                    .serve_at("/org/freedesktop/DBus", Bus)
                    .serve_at(crate::bus::PATH, manager)
                    .build()
                    .await;
                connection.unwrap().closed().await;
            });
        });
        calls
    }
}

/// What each call asked of the bus: `(method, may it start the daemon)`.
fn calls(may_start: bool) -> Vec<(String, bool)> {
    let dir = tempfile::tempdir().unwrap();
    let seen = fake::serve(&dir.path().join("bus"));
    let client = Client::connect_to(&format!("unix:path={}", dir.path().join("bus").display())).unwrap();
    let client = Client { may_start, ..client };
    client.list::<Vec<String>>().unwrap();
    client.list_if_allowed::<Vec<String>>().unwrap();
    client.explain::<Option<String>>("/a").unwrap();
    client.stats::<()>().unwrap_err();
    client.version().unwrap_err();
    client.attach::<Option<String>>("/a", "observe").unwrap();
    seen.lock().unwrap().clone()
}

#[test]
fn looking_never_starts_the_daemon() {
    let looking = calls(false);
    let names: Vec<&str> = looking.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["List", "List", "Explain", "Stats", "Stats", "Attach"]);
    assert!(looking.iter().take(5).all(|(_, may_start)| !may_start), "{looking:?}");
    // Commands that change something look with a client that may start the daemon.
    assert!(calls(true).iter().all(|(_, may_start)| *may_start));
}

#[test]
fn stopped_daemon_is_reported_as_stopped() {
    let pins = tempfile::tempdir().unwrap();
    for missing in [pins.path(), Path::new("/nonexistent")] {
        let error = not_running(missing).to_string();
        assert!(
            error.starts_with("memcg-bpfd is stopped: no policy is active; to start it, run:"),
            "{error}"
        );
    }
    std::fs::write(pins.path().join("link"), "").unwrap();
    assert_eq!(not_running(pins.path()), ClientError::NotRunningWithPolicies);
}
