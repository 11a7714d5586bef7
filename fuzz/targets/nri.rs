//! What a container runtime sends to the NRI plugin: frames of the multiplexer with calls of ttrpc.

use memcg_bpf::nri::{Event, HOOK, ProtocolError, Session};

use super::sentence;

/// Longest sentence about a container: three names of 64 characters, each escaped.
const SENTENCE_MAX: usize = 4096;

type Outcome = (Result<(), ProtocolError>, Vec<u8>, Vec<Event>);

/// The same bytes in pieces of at most `size`.
fn session(bytes: &[u8], size: usize) -> Outcome {
    let (mut session, _) = Session::start(HOOK);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        if let Err(error) = session.receive(piece, &mut out, &mut events) {
            return (Err(error), out, events);
        }
    }
    (Ok(()), out, events)
}

pub fn run(bytes: &[u8]) {
    let whole = session(bytes, bytes.len().max(1));
    assert_eq!(whole, session(bytes, 7), "the result depends on how the bytes arrive");
    if let Err(error) = &whole.0 {
        sentence(&error.to_string(), SENTENCE_MAX);
    }
    for event in &whole.2 {
        match event {
            Event::NotRegistered(error) => sentence(error, SENTENCE_MAX),
            Event::Adjusted(name) => sentence(name, SENTENCE_MAX),
            Event::Configured(configuration) => {
                let text = format!("{} {}", configuration.runtime, configuration.version);
                sentence(&text, SENTENCE_MAX);
            }
            Event::Synchronized { containers, .. } => {
                for container in containers {
                    sentence(&container.name, SENTENCE_MAX);
                    assert!(container.pid != 0 && requests_policy(container));
                }
            }
            Event::Started(container) => assert!(container.pid != 0 && requests_policy(container)),
            Event::Warned(container) => {
                sentence(&container.id, SENTENCE_MAX);
                sentence(&container.name, SENTENCE_MAX);
                container.warnings.iter().for_each(|warning| sentence(warning, SENTENCE_MAX));
            }
            Event::PodStopped(_) => {}
            Event::Registered | Event::Shutdown => {}
        }
    }
    // At most one reply for each call, and a call has a header of 10 bytes; annotations are copied once.
    assert!(whole.1.len() <= bytes.len().saturating_mul(40), "{} bytes of replies", whole.1.len());
}

/// An empty annotation is the policy `none`.
fn requests_policy(container: &memcg_bpf::nri::LateContainer) -> bool {
    let lines = [&container.line, &container.pod_line];
    lines.iter().any(|line| line.is_some()) && lines.iter().all(|line| line.as_deref() != Some(""))
}
