//! Whole conversations with a runtime, in both dialects: until NRI 0.11 most events are reported by StateChange, from 0.12
//! on each by a call of its own.

use super::message::{PLUGIN_SERVICE, POST_START_CONTAINER};
use super::mux::{Demultiplexer, PLUGIN, RUNTIME, write_frames};
use super::protobuf::{Fields, Message, Value};
use super::ttrpc::{Reader, encode_error, encode_request, encode_response};
use super::*;
use crate::names::{ContainerId, PodName};

const POLICY: (&str, &str) = ("memcg.bpf/policy", "deny limit=64M");

fn annotated(mut message: Message, annotations: &[(&str, &str)]) -> Message {
    for (key, value) in annotations {
        message = message.message(6, &Message::new().text(1, key).text(2, value));
    }
    message
}

fn pod(annotations: &[(&str, &str)]) -> Message {
    annotated(Message::new().text(1, "p1").text(2, "web").text(4, "default"), annotations)
}

/// A container `app`; `pid` 0 if it does not run.
fn container(annotations: &[(&str, &str)], pid: u64, hook: Option<&str>) -> Message {
    let name = [
        ("io.kubernetes.cri.container-name", "app"),
        ("io.kubernetes.cri.sandbox-id", "p1"),
        ("io.kubernetes.cri.sandbox-name", "web"),
        ("io.kubernetes.cri.sandbox-namespace", "default"),
        ("other", "x"),
    ];
    let linux = Message::new().text(5, "a.slice:cri-containerd:c1");
    let mut message = Message::new().text(1, "c1").text(2, "p1").text(3, "app");
    message = message.number(4, if pid == 0 { 1 } else { 3 }).message(11, &linux).number(12, pid);
    if let Some(path) = hook {
        message = message.message(10, &Message::new().message(2, &Message::new().text(1, path)));
    }
    annotated(annotated(message, &name), annotations)
}

fn pair(pod: &Message, container: &Message) -> Message {
    Message::new().message(1, pod).message(2, container)
}

fn state_change(event: u64, pod: &Message, container: &Message) -> Message {
    Message::new().number(1, event).message(2, pod).message(3, container)
}

fn call(method: &str, payload: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    write_frames(PLUGIN, &encode_request(7, PLUGIN_SERVICE, method, payload), &mut out);
    out
}

/// The call Configure of containerd, as it is received.
pub(crate) fn configure(version: &str) -> Vec<u8> {
    call("Configure", &Message::new().text(2, "containerd").text(3, version))
}

/// The payload of the only response, and the events.
fn exchange(session: &mut Session, bytes: &[u8]) -> (Vec<u8>, Vec<Event>) {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    session.receive(bytes, &mut out, &mut events).unwrap();
    let mut frames = Demultiplexer::default();
    frames.push(&out);
    let (connection, response) = frames.next_frame().unwrap().unwrap();
    assert_eq!((connection, frames.next_frame().unwrap()), (PLUGIN, None));
    // Header: length, stream 7, response, no flags.
    assert_eq!(response[4..10], [0, 0, 0, 7, 2, 0]);
    let fields: Vec<_> = Fields::new(&response[10..]).map(Result::unwrap).collect();
    let [(2, Value::Bytes(payload))] = fields[..] else { panic!("{fields:?}") };
    (payload.to_vec(), events)
}

fn reply(method: &str, payload: &Message) -> (Vec<u8>, Vec<Event>) {
    exchange(&mut Session::start(HOOK).0, &call(method, payload))
}

/// The adjustment with these annotations and, if `hook`, the hook.
fn adjustment(annotations: &[(&str, &str)], hook: bool) -> Vec<u8> {
    let mut adjustment = Message::new();
    for (key, value) in annotations {
        adjustment = adjustment.message(2, &Message::new().text(1, key).text(2, value));
    }
    if hook {
        let timeout = Message::new().number(1, 10);
        let hook = Message::new()
            .text(1, "/usr/libexec/oci/hooks.d/memcg-bpf-hook")
            .text(2, "memcg-bpf-hook")
            .message(4, &timeout);
        adjustment = adjustment.message(5, &Message::new().message(2, &hook).message(6, &hook));
    }
    Message::new().message(1, &adjustment).encoded().to_vec()
}

#[test]
fn registration_comes_first() {
    let (mut session, hello) = Session::start(HOOK);
    assert_eq!(hello[..8], [0, 0, 0, 2, 0, 0, 0, u8::try_from(hello.len() - 8).unwrap()]);
    let text = String::from_utf8_lossy(&hello).into_owned();
    for part in ["nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin", "memcg-bpf", "90"] {
        assert!(text.contains(part), "{text:?}");
    }
    for (answer, event) in [
        (encode_response(1, &Message::new()), Event::Registered),
        (encode_error(1, 2, "no\n"), Event::NotRegistered("no\\n".to_owned())),
    ] {
        let (mut bytes, mut out, mut events) = (Vec::new(), Vec::new(), Vec::new());
        write_frames(RUNTIME, &answer, &mut bytes);
        session.receive(&bytes, &mut out, &mut events).unwrap();
        assert_eq!((out, events), (vec![], vec![event]));
    }
}

#[test]
fn configure_subscribes_to_three_events() {
    let payload = Message::new().text(2, "containerd").text(3, "v2.1.9").number(4, 5000).number(5, 2000);
    let configuration = Configuration {
        runtime: "containerd".to_owned(),
        version: "v2.1.9".to_owned(),
        request_timeout: 2000,
    };
    let (payload, events) = reply("Configure", &payload);
    assert_eq!(payload, [0x10, 0b100_1010]);
    assert_eq!(events, [Event::Configured(configuration)]);
}

#[test]
fn hook_and_annotations_are_added_in_both_dialects() {
    let (pod, container) =
        (pod(&[POLICY, ("memcg.bpf/required", "true"), ("x/y", "z")]), container(&[], 0, None));
    let wanted = adjustment(&[POLICY, ("memcg.bpf/required", "true")], true);
    let event = vec![Event::Adjusted("default/web app".to_owned())];
    assert_eq!(reply("CreateContainer", &pair(&pod, &container)), (wanted.clone(), event.clone()));
    assert_eq!(reply("StateChange", &state_change(4, &pod, &container)), (wanted, event));
}

#[test]
fn container_without_policy_is_not_adjusted() {
    for annotations in [
        &[][..],
        &[("memcg.bpf/required", "true")],
        &[("memcg.bpf/policy.other", "observe"), ("policy.memcg.bpf/other", "observe")],
    ] {
        let payload = pair(&pod(annotations), &container(&[], 0, None));
        assert_eq!(reply("CreateContainer", &payload), (vec![], vec![]), "{annotations:?}");
    }
}

#[test]
fn only_annotations_of_the_container_are_added() {
    let own = ("memcg.bpf/policy.app", "observe");
    let other = ("policy.memcg.bpf/app", "deny limit=1G");
    let payload = pair(&pod(&[own, other, ("policy.memcg.bpf/db", "observe")]), &container(&[], 0, None));
    assert_eq!(reply("CreateContainer", &payload).0, adjustment(&[own, other], true));
    // The container's own annotation stays.
    let payload = pair(&pod(&[POLICY]), &container(&[("memcg.bpf/policy", "observe")], 0, None));
    assert_eq!(reply("CreateContainer", &payload).0, adjustment(&[], true));
}

#[test]
fn hook_of_the_specification_is_not_added_twice() {
    let hook = Some("/opt/memcg-bpf-hook");
    let payload = pair(&pod(&[POLICY]), &container(&[], 0, hook));
    assert_eq!(reply("CreateContainer", &payload).0, adjustment(&[POLICY], false));
    let payload = pair(&pod(&[POLICY]), &container(&[POLICY], 0, hook));
    assert_eq!(reply("CreateContainer", &payload), (vec![], vec![]));
}

fn late(line: &str) -> LateContainer {
    LateContainer {
        id: ContainerId::parse("c1").unwrap(),
        pid: 42,
        line: Some(line.to_owned()),
        pod_line: None,
        pod: PodName::parse("default/web app").ok(),
        sandbox: ContainerId::parse("p1").ok(),
        cgroups_path: Some("a.slice:cri-containerd:c1".to_owned()),
        required: false,
        name: "default/web app".to_owned(),
    }
}

#[test]
fn container_that_starts_without_the_hook_is_reported() {
    let pod = pod(&[POLICY]);
    let without = container(&[], 42, None);
    let event = vec![Event::Started(late("deny limit=64M"))];
    assert_eq!(reply("PostStartContainer", &pair(&pod, &without)), (vec![], event.clone()));
    let change = state_change(POST_START_CONTAINER, &pod, &without);
    assert_eq!(reply("StateChange", &change), (vec![], event));
    let with = container(&[POLICY], 42, Some(HOOK));
    assert_eq!(reply("PostStartContainer", &pair(&pod, &with)), (vec![], vec![]));
}

/// The specification has the hook, but not the pod's annotations: containerd without the setting pod_annotations.
#[test]
fn hook_without_annotations_is_reported_as_late() {
    let payload = pair(&pod(&[POLICY]), &container(&[], 42, Some(HOOK)));
    let event = vec![Event::Started(late("deny limit=64M"))];
    assert_eq!(reply("PostStartContainer", &payload), (vec![], event));
    let complete = pair(&pod(&[POLICY]), &container(&[POLICY], 42, Some(HOOK)));
    assert_eq!(reply("PostStartContainer", &complete), (vec![], vec![]));
}

fn warned(warnings: &[&str]) -> Vec<Event> {
    let warnings: Vec<String> = warnings.iter().map(|text| (*text).to_owned()).collect();
    let name = "default/web app".to_owned();
    vec![Event::Warned(ContainerWarnings { id: "c1".to_owned(), name, warnings })]
}

/// The hook does not run, or does not get the annotation, so only the plugin can report it.
#[test]
fn mistyped_annotation_is_reported_and_does_not_stop_the_container() {
    let typo = ("memcg.bpf/polcy\n", "deny limit=64M");
    let sentence = "ignoring annotation 'memcg.bpf/polcy\\n'; there are memcg.bpf/policy, policy.memcg.bpf/CONTAINER, \
                    memcg.bpf/policy.CONTAINER, memcg.bpf/pod-policy and memcg.bpf/required";
    let created = container(&[], 0, None);
    let reply_of =
        |annotations: &[(&str, &str)]| reply("CreateContainer", &pair(&pod(annotations), &created));
    assert_eq!(reply_of(&[typo]), (vec![], warned(&[sentence])));
    let maybe = ("memcg.bpf/required", "maybe");
    let neither = "annotation memcg.bpf/required is 'maybe', which is neither true nor false; taken as false";
    assert_eq!(reply_of(&[maybe]), (vec![], warned(&[neither])));
    // The hook reports the annotation that it gets.
    let (payload, events) = reply_of(&[POLICY, maybe, typo]);
    assert_eq!(payload, adjustment(&[POLICY, maybe], true));
    assert_eq!(events[1..], warned(&[sentence]));
    // Annotations of other containers of the pod are not mistyped.
    assert_eq!(
        reply_of(&[("policy.memcg.bpf/db", "observe"), ("memcg.bpf/policy.db", "x")]),
        (vec![], vec![])
    );
    let none = Message::new().message(1, &pod(&[typo])).message(2, &container(&[], 42, None));
    let (_, events) = reply("Synchronize", &none);
    assert_eq!(events[1..], warned(&[sentence]));
}

#[test]
fn paused_container_is_synchronized() {
    // The last value of a field counts.
    let paused = container(&[], 42, None).number(4, 2);
    let payload = Message::new().message(1, &pod(&[POLICY])).message(2, &paused);
    let event = Event::Synchronized { containers: vec![late("deny limit=64M")], dropped: 0 };
    assert_eq!(reply("Synchronize", &payload).1, [event]);
}

/// Without annotations of the runtime about the pod, the plugin adds those that the hook needs.
#[test]
fn names_of_the_pod_are_added_if_the_runtime_does_not() {
    let bare = Message::new().text(1, "c1").text(2, "p1").text(3, "app").number(4, 1);
    let wanted = [
        ("io.kubernetes.cri.container-name", "app"),
        ("io.kubernetes.cri.sandbox-id", "p1"),
        ("io.kubernetes.cri.sandbox-name", "web"),
        ("io.kubernetes.cri.sandbox-namespace", "default"),
        ("memcg.bpf/pod-policy", "observe"),
    ];
    let pod = pod(&[("memcg.bpf/pod-policy", "observe")]);
    assert_eq!(reply("CreateContainer", &pair(&pod, &bare)).0, adjustment(&wanted, true));
}

#[test]
fn pod_policy_lasts_until_the_pod_stops() {
    let own = ("memcg.bpf/pod-policy", "observe");
    let running = container(&[], 42, None);
    let (_, events) = reply("PostStartContainer", &pair(&pod(&[own]), &running));
    let expected = LateContainer { line: None, pod_line: Some("observe".to_owned()), ..late("") };
    assert_eq!(events, [Event::Started(expected)]);
    let stopped = vec![Event::PodStopped(ContainerId::parse("p1").unwrap())];
    let alone = |pod| Message::new().message(1, &pod);
    assert_eq!(reply("StopPodSandbox", &alone(pod(&[own]))), (vec![], stopped.clone()));
    assert_eq!(reply("StateChange", &state_change(2, &pod(&[own]), &Message::new())), (vec![], stopped));
    assert_eq!(reply("StopPodSandbox", &alone(pod(&[POLICY]))), (vec![], vec![]));
}

#[test]
fn synchronization_in_parts_lists_running_containers() {
    let mut session = Session::start(HOOK).0;
    let part = Message::new()
        .message(2, &container(&[], 42, Some(HOOK)))
        .message(2, &container(&[], 0, None))
        .number(3, 1);
    assert_eq!(exchange(&mut session, &call("Synchronize", &part)), (vec![0x10, 1], vec![]));
    let last = Message::new().message(1, &pod(&[POLICY]));
    let event = Event::Synchronized { containers: vec![late("deny limit=64M")], dropped: 0 };
    assert_eq!(exchange(&mut session, &call("Synchronize", &last)), (vec![], vec![event]));
    // The next synchronization starts anew.
    let event = Event::Synchronized { containers: vec![], dropped: 0 };
    assert_eq!(exchange(&mut session, &call("Synchronize", &Message::new())), (vec![], vec![event]));
}

#[test]
fn synchronization_is_limited() {
    let mut session = Session::start(HOOK).0;
    let mut last = Message::new();
    for _ in 0..20_000 {
        last = last.message(2, &Message::new().text(1, "c1").number(4, 3).number(12, 9));
    }
    let (_, events) = exchange(&mut session, &call("Synchronize", &last));
    assert_eq!(events, [Event::Synchronized { containers: vec![], dropped: 20_000 - 16_384 }]);
}

#[test]
fn every_other_call_is_answered() {
    let payload = pair(&pod(&[POLICY]), &container(&[], 42, None));
    for method in ["RunPodSandbox", "StopContainer", "ValidateContainerAdjustment", "Unknown"] {
        assert_eq!(reply(method, &payload), (vec![], vec![]), "{method}");
    }
    assert_eq!(reply("StateChange", &state_change(1, &pod(&[POLICY]), &Message::new())), (vec![], vec![]));
    assert_eq!(reply("Shutdown", &Message::new()), (vec![], vec![Event::Shutdown]));
}

#[test]
fn unknown_service_is_an_error_and_unknown_connection_is_ignored() {
    let (mut session, mut bytes) = (Session::start(HOOK).0, Vec::new());
    write_frames(9, b"anything", &mut bytes);
    write_frames(PLUGIN, &encode_request(7, "x", "Configure", &Message::new()), &mut bytes);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    session.receive(&bytes, &mut out, &mut events).unwrap();
    assert_eq!(events, []);
    let mut reader = Reader::default();
    reader.push(&out[8..]);
    let error = Some("memcg-bpf-nri has no such service".to_owned());
    assert_eq!(reader.next_message().unwrap(), Some(ttrpc::Received::Response { stream: 7, error }));
}

#[test]
fn damaged_message_ends_the_session() {
    let mut bytes = Vec::new();
    write_frames(
        PLUGIN,
        &encode_request(7, PLUGIN_SERVICE, "CreateContainer", &Message::new().bytes(1, &[0x0f])),
        &mut bytes,
    );
    let mut session = Session::start(HOOK).0;
    let result = session.receive(&bytes, &mut Vec::new(), &mut Vec::new());
    assert_eq!(result, Err(ProtocolError::WireType(7)));
}
