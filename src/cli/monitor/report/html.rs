//! Formats histories as an HTML page. Names are escaped.

use std::fmt::Write;

use super::cgroup_history::CgroupHistory;
use super::escape::text;
use super::summary;
use super::svg::{Annotation, AxisUnit, Series, Style, plot};
use crate::cli::monitor::events::Event;
use crate::cli::monitor::history::CgroupSample;
use crate::cli::term::time::Timestamp;

/// A number of a sample, if the sample has it.
type Value = fn(&CgroupSample) -> Option<u64>;

/// Number of cgroups on the page. Browsers handle larger pages badly.
const CGROUPS_MAX: usize = 50;
/// Number of actions listed for each cgroup.
const EVENTS_MAX: usize = 200;
/// Lists with more actions are collapsed.
const EVENTS_OPEN: usize = 12;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>memcg-bpf report</title>
<style>
:root { --ink: #1c2330; --dim: #667085; --paper: #fff; --line: #d9dee7; --usage: #2f6fde; --high: #d97706;
  --low: #15803d; --limit: #b42318; --stall: #8b3fc7; --refaults: #0e7490; --denied: #b42318; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --paper: #14181f; --line: #2c3440;
  --usage: #6aa0ff; --high: #f5a524; --low: #4ade80; --limit: #ff7a6b; --stall: #c58af9; --refaults: #43c6dc; --denied: #ff7a6b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 960px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0; }
.dim, .axis, footer { color: var(--dim); } code { font-size: .85em; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } .axis { font-size: 11px; fill: var(--dim); }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
.area { opacity: .18; stroke: none; } .mark line { stroke: var(--ink); stroke-dasharray: 2 3; opacity: .7; }
.mark text { font-size: 11px; font-weight: 700; fill: var(--ink); }
.line.usage { stroke: var(--usage); } .area.usage { fill: var(--usage); } .line.high { stroke: var(--high); }
.line.low { stroke: var(--low); } .line.limit { stroke: var(--limit); stroke-dasharray: 6 4; }
.line.denied { stroke: var(--limit); }
.line.stall { stroke: var(--stall); } .area.stall { fill: var(--stall); } .line.refaults { stroke: var(--refaults); }
.key { display: flex; gap: 1.2rem; flex-wrap: wrap; font-size: .85rem; margin: .6rem 0 0; }
.key i { display: inline-block; width: 1.1em; height: .25em; vertical-align: middle; margin-right: .4em; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin-top: .6rem; }
td, th { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0; border-top: 1px solid var(--line); }
a { color: inherit; } th { width: 1%; white-space: nowrap; } section th:nth-child(3) { width: 30%; } section th:last-child { width: auto; }
summary { cursor: pointer; font-size: .85rem; margin-top: .6rem; }
</style></head><body>
"#;

/// The page.
pub(super) fn render(histories: &[CgroupHistory<'_>]) -> String {
    // Events before the first sample are included.
    let of = |history: &CgroupHistory<'_>| -> Vec<u64> {
        let samples = history.samples.iter().map(|(at, _)| *at);
        samples.chain(history.events.iter().map(|event| event.time_us)).collect()
    };
    let times = || histories.iter().flat_map(of);
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let mut out = HEAD.to_owned();
    let _ = write!(
        out,
        "<h1>memcg-bpf report</h1>\n<p class=\"dim\">{} to {}, {} cgroups with a memory policy. Times are local ({}).</p>\n",
        Timestamp::of_us(first).local(),
        Timestamp::of_us(last).local(),
        histories.len(),
        text(&Timestamp::of_us(last).zone())
    );
    if histories.is_empty() {
        out.push_str("<p>No cgroup had a memory policy in this time.</p>\n");
    } else {
        summary::render(&mut out, histories, CGROUPS_MAX);
    }
    for (at, history) in histories.iter().enumerate().take(CGROUPS_MAX) {
        render_actions(&mut out, at, history, (seconds(first), seconds(last)));
    }
    if let Some(more) = histories.len().checked_sub(CGROUPS_MAX).filter(|more| *more > 0) {
        let _ = writeln!(out, "<p>{more} more cgroups are left out.</p>");
    }
    let _ =
        write!(out, "<footer>Made by memcg-bpf {}.</footer>\n</body></html>\n", env!("CARGO_PKG_VERSION"));
    out
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn clock(at: f64) -> String {
    Timestamp(at as u64).local_clock()
}

fn render_actions(out: &mut String, section: usize, history: &CgroupHistory<'_>, span: (f64, f64)) {
    let _ = write!(
        out,
        "<section id=\"c{section}\"><h2>{}</h2>\n<code class=\"dim\">{}</code>\n",
        text(history.name),
        text(history.cgroup)
    );
    let listed = history.events.get(..history.events.len().min(EVENTS_MAX)).unwrap_or_default();
    let marks: Vec<Annotation> = listed
        .iter()
        .enumerate()
        .map(|(i, event)| Annotation {
            at: seconds(event.time_us),
            number: i.saturating_add(1),
            words: text(&format!("{} {}", what(event), why(event))),
        })
        .collect();
    let of = |name, style, value: &dyn Fn(&CgroupSample) -> Option<u64>| Series {
        name,
        style,
        points: history.samples.iter().map(|(at, it)| (seconds(*at), value(it).map(|n| n as f64))).collect(),
    };
    let mut lines = vec![of("usage", Style::Area, &|it| Some(it.usage))];
    let set: [(&'static str, Value); 3] =
        [("high", |it| it.high), ("low", |it| it.low), ("limit", |it| it.limit)];
    let max = history.samples.iter().map(|(_, it)| it.usage).max().unwrap_or(0);
    for (name, value) in set {
        // A limit far above the memory in use would flatten the line of the memory in use.
        let near = |it: &CgroupSample| value(it).filter(|n| *n <= max.saturating_mul(4).max(1 << 20));
        if history.samples.iter().any(|(_, it)| near(it).is_some()) {
            lines.push(of(name, Style::Steps, &near));
        }
    }
    key(out, &lines, |name| match name {
        "usage" => "memory in use",
        "high" => "memory.high",
        "low" => "memory.low",
        _ => "limit",
    });
    out.push_str(&plot("Memory", span, &lines, &marks, AxisUnit::Bytes, clock));
    let stall = Series { name: "stall", style: Style::Area, points: rate(history, |it| it.stall_ns, 1e-7) };
    let refaults =
        Series { name: "refaults", style: Style::Line, points: rate(history, |it| it.refaults, 1.0) };
    let denied = Series { name: "denied", style: Style::Line, points: rate(history, |it| it.denied, 1.0) };
    for (line, title, unit) in [
        (denied, "denied requests per second", "/s"),
        (stall, "stall time", "%"),
        (refaults, "refaults per second", "/s"),
    ] {
        if line.points.iter().any(|(_, value)| value.is_some_and(|value| value > 0.0)) {
            key(out, std::slice::from_ref(&line), |_| title);
            out.push_str(&plot(title, span, std::slice::from_ref(&line), &marks, AxisUnit::Of(unit), clock));
        }
    }
    table(out, listed, history.events.len());
    out.push_str("</section>\n");
}

/// The increase of a counter per second, times `scale`.
fn rate(history: &CgroupHistory<'_>, of: fn(&CgroupSample) -> u64, scale: f64) -> Vec<(f64, Option<f64>)> {
    let pairs = history.samples.iter().zip(history.samples.iter().skip(1));
    let one = |((before, a), (after, b)): (&(u64, &CgroupSample), &(u64, &CgroupSample))| {
        let length = seconds(after.saturating_sub(*before));
        // The counter was reset.
        let gained = of(b).checked_sub(of(a)).map(|gained| gained as f64 * scale / length);
        (seconds(*after), gained.filter(|_| length > 0.0))
    };
    pairs.map(one).collect()
}

fn key(out: &mut String, lines: &[Series], words: impl Fn(&str) -> &'static str) {
    out.push_str("<p class=\"key\">");
    for line in lines {
        let _ = write!(
            out,
            "<span><i style=\"background: var(--{})\"></i>{}</span>",
            line.name,
            words(line.name)
        );
    }
    out.push_str("</p>\n");
}

fn table(out: &mut String, events: &[&Event], all: usize) {
    if events.is_empty() {
        return;
    }
    // A long list is collapsed, so that the next plot is near.
    let folded = events.len() > EVENTS_OPEN;
    if folded {
        let _ = writeln!(out, "<details><summary>{all} events</summary>");
    }
    out.push_str("<table><tr><th>#</th><th>Time</th><th>Event</th><th>Reason</th></tr>\n");
    for (i, event) in events.iter().enumerate() {
        let at = Timestamp::of_us(event.time_us).local();
        let number = i.saturating_add(1);
        let _ = writeln!(
            out,
            "<tr><td>{number}</td><td>{at}</td><td>{}</td><td>{}</td></tr>",
            text(&what(event)),
            text(&why(event))
        );
    }
    out.push_str("</table>\n");
    if folded {
        out.push_str("</details>\n");
    }
    if let Some(more) = all.checked_sub(events.len()).filter(|more| *more > 0) {
        let _ = writeln!(out, "<p class=\"dim\">{more} more are left out.</p>");
    }
}

fn what(event: &Event) -> String {
    match event.event.as_str() {
        "attached" => format!("attached: {}", event.policies.join(", ")),
        "detached" => "detached".to_owned(),
        _ => {
            let field = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
            let who = field(&event.policy).unwrap_or_else(|| "memcg-bpfd".to_owned());
            let words =
                [field(&event.action), field(&event.outcome)].into_iter().flatten().collect::<Vec<_>>();
            format!("{who}: {}", words.join(" "))
        }
    }
}

fn why(event: &Event) -> String {
    let parts = [&event.detail, &event.reason].into_iter().flatten().filter(|text| !text.is_empty());
    parts.cloned().collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_plots_marks_and_reasons() {
        let sample = |usage: u64, stall_ns: u64| CgroupSample {
            name: "<b>web</b>".into(),
            cgroup: "/x&y".into(),
            usage,
            stall_ns,
            denied: stall_ns / 100_000_000,
            high: Some(64 << 20),
            limit: Some(1 << 40),
            ..CgroupSample::default()
        };
        let (a, b) = (sample(10 << 20, 0), sample(60 << 20, 500_000_000));
        let event = Event {
            event: "acted".into(),
            cgroup: "/x&y".into(),
            time_us: 1_500_000,
            policy: Some("throttle".into()),
            action: Some("memory.high".into()),
            outcome: Some("done".into()),
            reason: Some("usage > 50M".into()),
            ..Event::default()
        };
        let history = CgroupHistory {
            cgroup: "/x&y",
            name: "<b>web</b>",
            samples: vec![(1_000_000, &a), (2_000_000, &b)],
            events: vec![&event],
        };
        let html = render(&[history]);
        let zone = Timestamp(2).zone();
        assert!(html.contains(&format!("{} to {}", Timestamp(1).local(), Timestamp(2).local())), "{html}");
        assert!(
            html.contains(&format!("Times are local ({zone})."))
                && html.contains(&Timestamp(1).local_clock())
        );
        // The summary comes first, and leads to the section.
        assert!(html.find("href=\"#c0\"").unwrap() < html.find("<section id=\"c0\">").unwrap(), "{html}");
        assert!(html.contains("&lt;b&gt;web&lt;/b&gt;") && html.contains("/x&amp;y"), "{html}");
        assert!(html.contains("class=\"line usage\"") && html.contains("class=\"line high\""), "{html}");
        assert!(!html.contains("class=\"line limit\""), "a limit far off is left out");
        // One in half a second.
        assert!(html.contains(">40%</text>") && !html.contains(">60%</text>"), "{html}");
        assert!(html.contains("class=\"line denied\"") && html.contains(">4/s</text>"), "{html}");
        assert!(html.contains("throttle: memory.high done usage &gt; 50M</title>"), "{html}");
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        for foreign in ["http", "<script", "src="] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn reset_counter_is_a_gap() {
        let (a, b) = (CgroupSample { refaults: 5, ..CgroupSample::default() }, CgroupSample::default());
        let history = CgroupHistory { samples: vec![(0, &a), (1_000_000, &b)], ..CgroupHistory::default() };
        assert_eq!(rate(&history, |it| it.refaults, 1.0), [(1.0, None)]);
    }
}
