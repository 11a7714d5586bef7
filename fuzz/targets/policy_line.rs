//! The policy line: grammar, look-up, parameters to bytes and back, layering.

use memcg_bpf::policy::diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
use memcg_bpf::policy::line::{Arg, Clause, Line, POLICIES_PER_LINE_MAX, parse};
use memcg_bpf::policy::params::{PARAMS_SIZE_MAX, from_call, to_text};
use memcg_bpf::policy::precedence::check_line;
use memcg_bpf::policy::precedence::{AllowList, resolve};
use memcg_bpf::policy::request::{Origin, Request};

use super::{CATALOG, sentence};

/// Longest sentence about a line. What is valid may list all policies; words and places are cut.
pub const SENTENCE_MAX: usize = 4096;

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = parse(&text);
    assert_eq!(parsed, parse(&text), "the same text twice");
    match &parsed {
        Ok(line) => accepted(&text, line),
        Err(wrong) => faults(&text, wrong),
    }
    for origin in [None, Some(Origin::Annotation), Some(Origin::Operator)] {
        let linted = check_line(&text, &CATALOG, origin, Some("a\nplace\u{1b}[2J"));
        faults(&text, &linted);
        assert!(parsed.is_ok() || !linted.is_empty(), "what does not parse is not in order");
        let Some(origin) = origin else { continue };
        let line = text.clone().into_owned();
        let request =
            Request { origin, location: "here".to_owned(), line, container: None, pod: None, unit: None };
        let resolved = resolve(&[request], &CATALOG, &AllowList::default());
        assert_eq!(resolved.errors.is_empty(), linted.is_empty(), "what is linted is what is refused");
        assert!(linted.is_empty() || resolved.policies.is_empty(), "a bad line is refused whole");
        for bound in &resolved.policies {
            let size = CATALOG.policies[&bound.name].size;
            assert_eq!(bound.params.bytes.len(), size, "parameters fill their slot and no more");
        }
    }
}

/// A line that parses says the same when it is written again.
fn accepted(text: &str, line: &Line) {
    let Line::Clauses(calls) = line else { return };
    assert!(!calls.is_empty() && calls.len() <= POLICIES_PER_LINE_MAX);
    for call in calls {
        place(text, call.at);
        for arg in &call.args {
            assert!(!arg.key.is_empty());
            place(text, arg.at);
            place(text, arg.value_at);
        }
    }
    let again = written(calls);
    // Quotes take room: what was barely short enough may have become too long.
    if again.len() <= memcg_bpf::policy::line::LINE_BYTES_MAX {
        let Ok(Line::Clauses(read)) = parse(&again) else {
            panic!("{text:?} written again does not parse: {again:?}")
        };
        assert_eq!(said(&read), said(calls), "{text:?} written again as {again:?}");
    }
    match CATALOG.expand(line) {
        Ok(expanded) => expanded.iter().for_each(|call| encoded(text, call)),
        Err(wrong) => faults(text, &wrong),
    }
}

/// Parameters fit their slot, come back, and their canonical text gives the same bytes.
fn encoded(text: &str, call: &Clause) {
    let schema = &CATALOG.policies[&call.name];
    let params = match from_call(schema, call) {
        Ok(params) => params,
        Err(wrong) => return faults(text, &wrong),
    };
    assert!(params.bytes.len() == schema.size && schema.size <= PARAMS_SIZE_MAX);
    assert_eq!(to_text(schema, &params.bytes).as_ref(), Ok(&params.parameters));
    let args = params.parameters.iter().map(|(key, value)| Arg {
        key: key.clone(),
        value: value.clone(),
        at: 0,
        value_at: 0,
    });
    let canonical = Clause { args: args.collect(), profile: None, ..call.clone() };
    let line = written(std::slice::from_ref(&canonical));
    let Ok(Line::Clauses(read)) = parse(&line) else { panic!("{line:?} does not parse") };
    assert_eq!(from_call(schema, &read[0]), Ok(params), "{line:?}");
}

/// Faults are told in bounded sentences, at places that are in the line.
pub fn faults(text: &str, faults: &[Diagnostic]) {
    assert!(faults.len() <= DIAGNOSTICS_MAX + 1, "{} faults", faults.len());
    for fault in faults {
        sentence(&fault.to_string(), SENTENCE_MAX);
        if let Some(at) = fault.at {
            place(text, at);
        }
    }
}

fn place(text: &str, at: usize) {
    assert!(at <= text.len() && text.is_char_boundary(at), "{at} is no place in {text:?}");
}

/// Names and arguments without their places.
pub fn said(calls: &[Clause]) -> Vec<(&str, Vec<(&str, &str)>)> {
    calls
        .iter()
        .map(|call| {
            (call.name.as_str(), call.args.iter().map(|arg| (arg.key.as_str(), arg.value.as_str())).collect())
        })
        .collect()
}

/// A line that says this, every word in quotes.
pub fn written(calls: &[Clause]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let one = |call: &Clause| {
        let args = call.args.iter().map(|arg| format!(" {}", quoted(&format!("{}={}", arg.key, arg.value))));
        quoted(&call.name) + &args.collect::<String>()
    };
    calls.iter().map(one).collect::<Vec<_>>().join("; ")
}
