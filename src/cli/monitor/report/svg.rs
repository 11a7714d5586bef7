//! Formats a plot as SVG: lines over time, steps for settings, and marks for events.

use std::fmt::Write;

use crate::text::human_bytes;

/// Size of a plot in its own units, which the page scales.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
/// Margins for the labels at the left, top and bottom.
const LEFT: f64 = 70.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 22.0;
/// Number of points of a line, as many as a screen has columns.
const POINTS_MAX: usize = 900;
/// Number of grid lines, not counting zero.
const STEPS_MAX: f64 = 4.0;
/// Width of the number of a mark.
const NUMBER: f64 = 9.0;

/// The unit of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AxisUnit {
    Bytes,
    /// Numbers with this suffix.
    Of(&'static str),
}

impl AxisUnit {
    /// The smallest round step (1, 2, 5, 10, …, or a power of two) that does not result in too many grid lines.
    fn step(self, top: f64) -> f64 {
        let least = (top / STEPS_MAX).max(f64::MIN_POSITIVE);
        let tens = 10_f64.powf(least.log10().floor());
        match self {
            AxisUnit::Bytes => 2_f64.powf(least.log2().ceil()),
            AxisUnit::Of(_) => {
                [1.0, 2.0, 5.0].map(|n| n * tens).into_iter().find(|n| *n >= least).unwrap_or(10.0 * tens)
            }
        }
    }

    fn show(self, value: f64, step: f64) -> String {
        match self {
            AxisUnit::Bytes => human_bytes(value as u64),
            AxisUnit::Of(unit) => format!("{value:.*}{unit}", (-step.log10().floor()).max(0.0) as usize),
        }
    }
}

/// The style of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// The area below the line is filled.
    Area,
    Line,
    /// The value is constant until the next point.
    Steps,
}

/// A line: its name, which is also its class in the style sheet, and points of seconds and values.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub name: &'static str,
    pub style: Style,
    pub points: Vec<(f64, Option<f64>)>,
}

/// An event: its time, its number in the table below, and its tooltip.
#[derive(Debug, Clone)]
pub(super) struct Annotation {
    pub at: f64,
    pub number: usize,
    pub words: String,
}

/// A plot of `lines` between two times, labelled by `unit` on the left and `clock` below.
pub(super) fn plot(
    title: &str,
    span: (f64, f64),
    lines: &[Series],
    marks: &[Annotation],
    unit: AxisUnit,
    clock: impl Fn(f64) -> String,
) -> String {
    let values = lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, value)| *value));
    let top = values.fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let length = (span.1 - span.0).max(1e-6);
    let x = |at: f64| LEFT + (at - span.0) / length * (WIDTH - LEFT);
    let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
    );
    let step = unit.step(top);
    for value in (0_u8..).map(|n| f64::from(n) * step).take_while(|value| *value <= top) {
        let (at, label) = (y(value), unit.show(value, step));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (part, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let at = span.0 + length * part;
        let _ = write!(
            out,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x(at),
            HEIGHT - 6.0,
            clock(at)
        );
    }
    for line in lines {
        draw(&mut out, line, &x, &y);
    }
    // Overlapping numbers are not readable, so only the first one is drawn.
    let mut taken = 0.0;
    for mark in marks.iter().filter(|mark| mark.at >= span.0 && mark.at <= span.1) {
        let (at, half) = (x(mark.at), NUMBER * (0.5 + 0.4 * f64::from(mark.number.max(1).ilog10())));
        let _ = write!(
            out,
            "<g class=\"mark\"><title>{}</title><line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
            mark.words,
            HEIGHT - BOTTOM,
        );
        if at - half >= taken {
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                TOP - 3.0,
                mark.number
            );
            taken = at + half;
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>\n");
    out
}

/// Each part without a gap is a path of its own.
fn draw(out: &mut String, line: &Series, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let points = thinned(&line.points);
    for stretch in points.split(|(_, value)| value.is_none()) {
        let mut known = stretch.iter().filter_map(|(at, value)| Some((x(*at), y((*value)?))));
        let Some(first) = known.next() else { continue };
        let mut path = format!("M{:.1},{:.1}", first.0, first.1);
        let mut last = first;
        for (at, value) in known {
            if line.style == Style::Steps {
                let _ = write!(path, "H{at:.1}V{value:.1}");
            } else {
                let _ = write!(path, "L{at:.1},{value:.1}");
            }
            last = (at, value);
        }
        if line.style == Style::Area {
            let _ = write!(
                out,
                "<path class=\"area {}\" d=\"{path}V{zero:.1}H{:.1}Z\"/>",
                line.name,
                first.0,
                zero = y(0.0)
            );
        }
        // A single sample is a line without length, which round line caps draw as a dot.
        if last == first {
            path.push_str("h0");
        }
        let _ = write!(out, "<path class=\"line {}\" d=\"{path}\"/>", line.name);
    }
}

/// Keeps the highest point of each group, so that peaks stay visible.
fn thinned(points: &[(f64, Option<f64>)]) -> Vec<(f64, Option<f64>)> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |group: &[(f64, Option<f64>)]| {
        group.iter().copied().reduce(|a, b| if b.1.unwrap_or(-1.0) > a.1.unwrap_or(-1.0) { b } else { a })
    };
    points.chunks(group).filter_map(highest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style, points: Vec<(f64, Option<f64>)>) -> Series {
        Series { name: "usage", style, points }
    }

    fn drawn(lines: &[Series], marks: &[Annotation]) -> String {
        plot("t", (0.0, 10.0), lines, marks, AxisUnit::Of(""), |at| format!("{at:.0}s"))
    }

    #[test]
    fn line_spans_the_plot() {
        let text = drawn(&[line(Style::Line, vec![(0.0, Some(0.0)), (10.0, Some(100.0))])], &[]);
        // Zero is at the bottom, the highest value five hundredths below the top.
        assert!(text.contains("d=\"M70.0,158.0L900.0,20.9\""), "{text}");
        assert!(text.contains(">100</text>") && text.contains(">10s</text>"), "{text}");
    }

    #[test]
    fn steps_hold_and_gaps_are_not_bridged() {
        let points = vec![(0.0, Some(1.0)), (5.0, Some(2.0)), (6.0, None), (10.0, Some(1.0))];
        let text = drawn(&[line(Style::Steps, points)], &[]);
        assert_eq!(text.matches("<path").count(), 2, "{text}");
        assert!(text.contains("H485.0V"), "{text}");
    }

    #[test]
    fn marks_outside_of_the_plot_are_left_out() {
        let mark = |at, number| Annotation { at, number, words: "why".into() };
        let text = drawn(&[], &[mark(5.0, 1), mark(11.0, 2)]);
        assert_eq!(text.matches("class=\"mark\"").count(), 1);
        assert!(text.contains("<title>why</title>"));
    }

    #[test]
    fn numbers_on_the_left_are_round_and_few() {
        let labels = |unit: AxisUnit, top: f64| {
            let step = unit.step(top);
            let values = (0_u8..).map(|n| f64::from(n) * step).take_while(|value| *value <= top);
            values.map(|value| unit.show(value, step)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(AxisUnit::Of("%"), 105.0), "0% 50% 100%");
        assert_eq!(labels(AxisUnit::Of("/s"), 0.37), "0.0/s 0.1/s 0.2/s 0.3/s");
        assert_eq!(labels(AxisUnit::Of(""), 1.0), "0.0 0.5 1.0");
        assert_eq!(labels(AxisUnit::Bytes, f64::from(117 << 20)), "0B 32M 64M 96M");
    }

    #[test]
    fn numbers_of_marks_do_not_cover_each_other() {
        let mark = |at, number| Annotation { at, number, words: "why".into() };
        let text = drawn(&[], &[mark(5.0, 1), mark(5.01, 2), mark(5.5, 3)]);
        assert_eq!(text.matches("<title>why</title>").count(), 3);
        assert!(
            text.contains(">1</text>") && !text.contains(">2</text>") && text.contains(">3</text>"),
            "{text}"
        );
    }

    #[test]
    fn many_points_are_thinned_and_the_peak_stays() {
        let mut points: Vec<_> = (0..10_000).map(|n| (f64::from(n), Some(1.0))).collect();
        points[7777].1 = Some(9.0);
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.iter().any(|(_, value)| *value == Some(9.0)));
    }
}
