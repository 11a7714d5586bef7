#![allow(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use zbus::object_server::Interface;
use zbus::{DBusError, Guid, OwnedVariant, Variant, connection};

use super::*;
use crate::names::{CgroupId, ContainerId, PodName};
use crate::service::args::{CGROUPS_PATH, REQUIRED};
use crate::service::authorize::Caller;
use crate::service::call::{CallQueue, queue};

const SHIPPED: &str = include_str!("../../systemd/org.memcg.Bpf1.xml");
const MANAGER: &str = "org.memcg.Bpf1.Manager";

/// The elements of the interface in order, with arguments indented below their method or signal, without comments.
fn outline(xml: &str) -> Vec<String> {
    let mut rest = &xml[xml.find("<interface name=\"org.memcg").unwrap()..];
    rest = &rest[..rest.find("</interface>").unwrap()];
    let mut members: Vec<String> = Vec::new();
    for tag in rest.split('<').map(str::trim) {
        let attribute = |name: &str| {
            let value = tag.split_once(&format!("{name}=\""))?.1;
            Some(value.split_once('"')?.0.to_owned())
        };
        let kind = tag.split([' ', '>']).next().unwrap_or("");
        let described = ["name", "type", "access", "direction", "value"].iter().filter_map(|a| attribute(a));
        let described = format!("{kind} {}", described.collect::<Vec<_>>().join(" "));
        match kind {
            "method" | "signal" | "property" => members.push(described),
            "arg" | "annotation" => {
                let member = members.last_mut().unwrap();
                member.push_str("; ");
                member.push_str(&described);
            }
            _ => {}
        }
    }
    members.sort();
    members
}

fn object() -> (Object, CallQueue) {
    let (calls, receiver) = queue(8);
    let rescan_requested = Arc::new(Notify::new());
    (Object { calls, rescan_requested, kernel: "{}".to_owned(), authorizer: Authorizer::default() }, receiver)
}

/// The object at one end of a socket, a caller at the other.
async fn pair() -> (connection::Connection, PublishedObject, Connection, CallQueue) {
    pair_with(Arc::new(Notify::new())).await
}

async fn pair_with(
    rescan_requested: Arc<Notify>,
) -> (connection::Connection, PublishedObject, Connection, CallQueue) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    there.set_nonblocking(true).unwrap();
    let server = connection::Builder::unix_stream(here).server(Guid::generate()).p2p().build();
    let client = connection::Builder::unix_stream(there).p2p().build();
    let (server, client) = tokio::try_join!(server, client).unwrap();
    let (calls, receiver) = queue(8);
    let published =
        serve(&server, calls, rescan_requested, "{\"release\":\"7.3\"}".to_owned(), Authorizer::default())
            .await
            .unwrap();
    (server, published, client, receiver)
}

/// Calls a method and returns its reply, or `Error.Name: sentence`.
async fn call<B>(client: &Connection, method: &str, body: &B) -> Result<String, String>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    match client.call_method(None::<&str>, OBJECT_PATH, Some(MANAGER), method, body).await {
        Ok(reply) => Ok(reply.body().deserialize::<String>().unwrap_or_default()),
        Err(zbus::Error::MethodError(name, sentence, _)) => Err(format!(
            "{}: {}",
            name.trim_start_matches("org.memcg.Bpf1.Error."),
            sentence.unwrap_or_default()
        )),
        Err(other) => panic!("{other}"),
    }
}

fn options(given: &[(&str, Variant<'static>)]) -> BTreeMap<String, OwnedVariant> {
    given.iter().map(|(key, value)| ((*key).to_owned(), value.try_to_owned().unwrap())).collect()
}

#[test]
fn shipped_xml_matches_introspection() {
    let mut live = String::new();
    object().0.introspect_to_writer(&mut live, 0);
    assert_eq!(outline(&live), outline(SHIPPED));
    assert_eq!(outline(SHIPPED).len(), 12 + 2 + 5);
}

#[tokio::test]
async fn method_becomes_command_and_answer_the_reply() {
    let (_server, _published, client, mut calls) = pair().await;
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(call) = calls.recv().await {
            let last = call.command == Command::Policies;
            seen.push(call.command);
            call.reply.send(Ok(format!("answer {}", seen.len()))).unwrap();
            if last {
                break;
            }
        }
        seen
    });
    let mut given = options(&[(REQUIRED, true.into()), (CGROUPS_PATH, "machine.slice:libpod:1f2e".into())]);
    given.extend(options(&[("pod", "default/web app".into()), ("sandbox", "5a".into())]));
    assert_eq!(call(&client, "Attach", &("/a.slice", "deny limit=64M")).await.unwrap(), "answer 1");
    assert_eq!(call(&client, "AttachContainer", &("1f2e", 42u32, "none", given)).await.unwrap(), "answer 2");
    assert_eq!(call(&client, "Detach", &("/a.slice",)).await.unwrap(), "answer 3");
    assert_eq!(call(&client, "DetachContainer", &("1f2e",)).await.unwrap(), "");
    assert_eq!(call(&client, "List", &()).await.unwrap(), "answer 5");
    assert_eq!(call(&client, "Explain", &("/a.slice",)).await.unwrap(), "answer 6");
    assert_eq!(call(&client, "Pause", &(5_000_000_000u64,)).await.unwrap(), "answer 7");
    assert_eq!(call(&client, "Resume", &()).await.unwrap(), "answer 8");
    assert_eq!(call(&client, "Stats", &()).await.unwrap(), "answer 9");
    assert_eq!(call(&client, "Reload", &()).await.unwrap(), "answer 10");
    assert_eq!(call(&client, "Kills", &("/a.slice",)).await.unwrap(), "answer 11");
    assert_eq!(call(&client, "Policies", &()).await.unwrap(), "answer 12");
    let caller = Caller::Administrator(nix::unistd::geteuid().as_raw());
    let cgroup = CgroupPath::parse("/a.slice").unwrap();
    let id = ContainerId::parse("1f2e").unwrap();
    assert_eq!(
        seen.await.unwrap(),
        [
            Command::Attach { cgroup: cgroup.clone(), line: "deny limit=64M".to_owned(), caller },
            Command::AttachContainer {
                id: id.clone(),
                pid: 42,
                line: "none".to_owned(),
                cgroups_path: Some("machine.slice:libpod:1f2e".to_owned()),
                pod: PodName::parse("default/web app").ok(),
                sandbox: ContainerId::parse("5a").ok(),
                required: true,
                caller
            },
            Command::Detach { cgroup: cgroup.clone(), caller },
            Command::DetachContainer { id, caller },
            Command::List,
            Command::Explain { cgroup: cgroup.clone() },
            Command::Pause { for_ns: 5_000_000_000, caller },
            Command::Resume { caller },
            Command::Stats,
            Command::Reload { caller },
            Command::Kills { cgroup },
            Command::Policies,
        ]
    );
}

#[tokio::test]
async fn invalid_arguments_are_rejected_before_the_daemon() {
    let (_server, _published, client, mut calls) = pair().await;
    let long = "x".repeat(1 << 20);
    let rejected = [
        (
            call(&client, "Attach", &("/", "observe")).await,
            "InvalidArgument: a policy cannot be attached to the root cgroup; name a cgroup below it",
        ),
        (
            call(&client, "Attach", &("a.slice", "observe")).await,
            "InvalidArgument: 'a.slice' is not a cgroup path: it does not start with '/'",
        ),
        (
            call(&client, "Attach", &("/a/../b", "observe")).await,
            "InvalidArgument: '/a/../b' is not a cgroup path: it has an empty, '.' or '..' component",
        ),
        (
            call(&client, "Attach", &(format!("/{long}"), "observe")).await,
            &format!("InvalidArgument: '/{}…' is not a cgroup path: longer than 4095 bytes", "x".repeat(63)),
        ),
        (
            call(&client, "Attach", &("/a", &long)).await,
            "InvalidPolicy: the policy line has 1048576 bytes; at most 4096 are allowed",
        ),
        (
            call(&client, "Detach", &("",)).await,
            "InvalidArgument: '' is not a cgroup path: it does not start with '/'",
        ),
        (
            call(&client, "Explain", &("/\u{1b}[2J/..",)).await,
            "InvalidArgument: '/\\u{1b}[2J/..' is not a cgroup path: it has an empty, '.' or '..' component",
        ),
        (
            call(&client, "DetachContainer", &(&long,)).await,
            &format!(
                "InvalidArgument: '{}…' is not a container id: it is longer than 255 bytes",
                "x".repeat(64)
            ),
        ),
    ];
    for (got, wanted) in rejected {
        assert_eq!(got.unwrap_err(), wanted);
    }
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn invalid_container_arguments_are_rejected_before_the_daemon() {
    let (_server, _published, client, mut calls) = pair().await;
    let none = options(&[]);
    let long = "x".repeat(1 << 20);
    let rejected = [
        (
            call(&client, "AttachContainer", &("1f2e", 0u32, "observe", &none)).await,
            "InvalidArgument: 0 is not the id of a process",
        ),
        (
            call(&client, "AttachContainer", &("1f2e", u32::MAX, "observe", &none)).await,
            "InvalidArgument: 4294967295 is not the id of a process",
        ),
        (
            call(&client, "AttachContainer", &("1f2e", 1u32, &long, &none)).await,
            "InvalidPolicy: the policy line has 1048576 bytes; at most 4096 are allowed",
        ),
        (
            call(
                &client,
                "AttachContainer",
                &("1f2e", 1u32, "observe", options(&[("requird", true.into())])),
            )
            .await,
            "InvalidArgument: unknown option 'requird'; valid are 'cgroups-path' (s), 'pod' (s), 'required' (b) and 'sandbox' (s)",
        ),
        (
            call(&client, "AttachContainer", &("1f2e", 1u32, "observe", options(&[("a\u{7}", 1u32.into())])))
                .await,
            "InvalidArgument: unknown option 'a\\u{7}'; valid are 'cgroups-path' (s), 'pod' (s), 'required' (b) and 'sandbox' (s)",
        ),
        (
            call(
                &client,
                "AttachContainer",
                &("1f2e", 1u32, "observe", options(&[(REQUIRED, "yes".into())])),
            )
            .await,
            "InvalidArgument: option 'required' must be a boolean (b), not of type 's'",
        ),
        (
            call(
                &client,
                "AttachContainer",
                &("1f2e", 1u32, "observe", options(&[(CGROUPS_PATH, true.into())])),
            )
            .await,
            "InvalidArgument: option 'cgroups-path' must be a string (s), not of type 'b'",
        ),
        (
            call(
                &client,
                "AttachContainer",
                &("1f2e", 1u32, "observe", options(&[(CGROUPS_PATH, long.clone().into())])),
            )
            .await,
            "InvalidArgument: option 'cgroups-path' has 1048576 bytes; at most 4095 are possible",
        ),
    ];
    for (got, wanted) in rejected {
        assert_eq!(got.unwrap_err(), wanted);
    }
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn error_has_its_own_name() {
    let (_server, _published, client, mut calls) = pair().await;
    let errors = [
        Error::InvalidPolicy("p".to_owned()),
        Error::AccessDenied("a".to_owned()),
        Error::NoSuchCgroup("c".to_owned()),
        Error::NoSuchContainer("k".to_owned()),
        Error::NoPolicy("g".to_owned()),
        Error::NotSupported("s".to_owned()),
        Error::Busy("b".to_owned()),
        Error::Failed("f".to_owned()),
    ];
    let names: Vec<String> = errors
        .iter()
        .map(|r| format!("{}: {r}", r.name().trim_start_matches("org.memcg.Bpf1.Error.")))
        .collect();
    tokio::spawn(async move {
        for error in errors {
            calls.recv().await.unwrap().reply.send(Err(error)).unwrap();
        }
    });
    for name in &names {
        assert_eq!(call(&client, "List", &()).await.unwrap_err(), *name);
    }
    assert_eq!(names[0], "InvalidPolicy: p");
    assert_eq!(
        call(&client, "List", &()).await.unwrap_err(),
        "Busy: memcg-bpfd is stopping; ask again when it runs"
    );
}

#[tokio::test]
async fn full_queue_replies_busy() {
    let (_server, _published, client, _calls) = pair().await;
    let waiting = (0..8).map(|_| call(&client, "List", &()));
    let waiting = futures_util::future::join_all(waiting);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        call(&client, "Policies", &()).await
    };
    tokio::select! {
        _ = waiting => panic!("there is no reply"),
        answer = late => assert_eq!(answer.unwrap_err(), "Busy: memcg-bpfd has too many requests waiting; ask again"),
    }
}

/// True if a scan was requested since the last call of this function.
async fn heard(rescan_requested: &Notify) -> bool {
    tokio::time::timeout(Duration::ZERO, rescan_requested.notified()).await.is_ok()
}

#[tokio::test]
async fn busy_reply_to_a_hook_requests_a_scan() {
    let rescan_requested = Arc::new(Notify::new());
    let (_server, _published, client, mut calls) = pair_with(Arc::clone(&rescan_requested)).await;
    let container = || ("1f2e", 42u32, "none", options(&[]));
    let busy = || Error::Busy("b".to_owned());
    for (error, wanted) in
        [(busy(), true), (Error::NotSupported("s".to_owned()), false), (unknown_caller(), true)]
    {
        let asked = container();
        let (answer, ()) = tokio::join!(call(&client, "AttachContainer", &asked), async {
            calls.recv().await.unwrap().reply.send(Err(error)).unwrap();
        });
        assert_eq!(heard(&rescan_requested).await, wanted, "{answer:?}");
    }
    // Callers of other methods write no records.
    let (answer, ()) = tokio::join!(call(&client, "List", &()), async {
        calls.recv().await.unwrap().reply.send(Err(busy())).unwrap();
    });
    assert_eq!((answer.unwrap_err().as_str(), heard(&rescan_requested).await), ("Busy: b", false));
    // The queue is full.
    let waiting = (0..8).map(|_| call(&client, "List", &()));
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (first, second) = (container(), container());
        tokio::join!(call(&client, "AttachContainer", &first), call(&client, "AttachContainer", &second),)
    };
    tokio::select! {
        _ = futures_util::future::join_all(waiting) => panic!("there is no reply"),
        (first, second) = late => assert!(first.is_err() && second.is_err()),
    }
    assert_eq!(
        [heard(&rescan_requested).await, heard(&rescan_requested).await],
        [true, false],
        "said once for both"
    );
}

#[path = "signal_tests.rs"]
mod signals;
