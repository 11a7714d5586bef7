//! How `top` looks: a table above, the chosen cgroup's past below, the keys at the foot.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row as TableRow, Sparkline, Table, TableState};

use super::view::{Row, Sort, View};
use crate::cli::screen::one_line;
use crate::units::human_bytes;

/// The sparklines of the chosen cgroup, with their titles.
const PAST_HEIGHT: u16 = 5;
/// Columns of a sparkline in the table.
const SPARK: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let past = if frame.area().height >= 16 { PAST_HEIGHT } else { 0 };
    let [head, body, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(past),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(view), head);
    table(frame, view, body);
    if let Some(row) = view.rows().get(view.chosen()).filter(|_| past > 0) {
        sparklines(frame, row, below);
    }
    let text = "q quit  ↑↓ choose  sort: m memory n name s stall r refaults a refused  p pause";
    frame.render_widget(Line::styled(text, Style::new().add_modifier(Modifier::DIM)), keys);
}

fn headline(view: &View) -> Line<'static> {
    let order = match view.sort {
        Sort::Memory => "memory",
        Sort::Name => "name",
        Sort::Stall => "stall",
        Sort::Refaults => "refaults",
        Sort::Refused => "refused",
    };
    match (&view.trouble, view.paused) {
        (Some(trouble), _) => Line::styled(one_line(trouble), Style::new().fg(Color::Red)),
        (None, true) => Line::styled("memcg-bpf top: paused, p goes on", Style::new().fg(Color::Yellow)),
        (None, false) => Line::from(format!("memcg-bpf top: {} governed, by {order}", view.rows().len())),
    }
}

fn table(frame: &mut Frame<'_>, view: &View, area: Rect) {
    if view.rows().is_empty() {
        let text = "Nothing is under a memory policy. Try: memcg-bpf attach UNIT observe";
        return frame.render_widget(Paragraph::new(text), area);
    }
    // The trend is what a narrow screen can do without: it is below for the chosen one.
    let wide = area.width >= 110;
    let mut widths =
        vec![Constraint::Min(16), Constraint::Min(14), Constraint::Length(16), Constraint::Length(8)];
    let mut titles = vec!["NAME", "POLICIES", "MEMORY", "STALL"];
    widths.extend([Constraint::Length(8), Constraint::Length(8)]);
    titles.extend(["REFAULTS", "REFUSED"]);
    if wide {
        widths.push(Constraint::Length(SPARK as u16));
        titles.push("MEMORY LATELY");
    }
    let rows = view.rows().into_iter().map(|row| {
        let policies: Vec<&str> = row.report.policies.iter().map(|policy| policy.name.as_str()).collect();
        let mut cells = vec![
            one_line(&row.name),
            one_line(&policies.join(" ")),
            memory(row),
            tenths(row.stall.back()),
            row.refaults.back().map_or("-".to_owned(), u64::to_string),
            row.counter("growth_denied").to_string(),
        ];
        if wide {
            cells.push(spark(&row.usage));
        }
        TableRow::new(cells.into_iter().map(Cell::from))
    });
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(rows, widths)
        .header(TableRow::new(titles).style(bold))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(view.chosen()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn memory(row: &Row) -> String {
    match (row.report.usage, row.report.effective_max) {
        (Some(usage), Some(max)) => format!("{} of {}", human_bytes(usage), human_bytes(max)),
        (Some(usage), None) => human_bytes(usage),
        (None, _) => "not started".to_owned(),
    }
}

fn tenths(value: Option<&u64>) -> String {
    value.map_or("-".to_owned(), |tenths| {
        format!("{}.{}%", tenths.checked_div(10).unwrap_or(0), tenths.checked_rem(10).unwrap_or(0))
    })
}

/// The end of the past as a line of text, from zero to its highest.
fn spark(past: &VecDeque<u64>) -> String {
    let shown: Vec<u64> = past.iter().rev().take(SPARK).rev().copied().collect();
    let most = shown.iter().max().copied().unwrap_or(0).max(1);
    let bar = |value: &u64| {
        let part = u128::from(*value).saturating_mul(7).checked_div(most.into()).unwrap_or(0);
        BARS.get(usize::try_from(part).unwrap_or(0)).copied().unwrap_or(' ')
    };
    shown.iter().map(bar).collect()
}

fn sparklines(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(1).areas(area);
    let lines = [
        (format!("memory {}", memory(row)), &row.usage, Color::Blue),
        (format!("stall {}", tenths(row.stall.back())), &row.stall, Color::Magenta),
        (format!("refaults {}/s", row.refaults.back().unwrap_or(&0)), &row.refaults, Color::Cyan),
    ];
    for ((title, past, colour), area) in lines.into_iter().zip(areas) {
        let shown: Vec<u64> = past.iter().rev().take(area.width.into()).rev().copied().collect();
        let line =
            Sparkline::default().block(Block::new().title(title)).data(shown).style(Style::new().fg(colour));
        frame.render_widget(line, area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::report::BindingReport;

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(width.into());
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn view() -> View {
        let report = |unit: &str, usage: u64| BindingReport {
            cgroup: format!("/{unit}"),
            cgroup_id: 1,
            unit: Some(unit.to_owned()),
            usage: Some(usage),
            effective_max: Some(1 << 30),
            counters: [("growth_denied".to_owned(), 7)].into(),
            ..BindingReport::default()
        };
        let mut view = View::default();
        view.take(vec![report("a.service", 1 << 20), report("b\u{1b}.service", 2 << 20)], 0.0);
        view.take(vec![report("a.service", 4 << 20), report("b\u{1b}.service", 2 << 20)], 1.0);
        view
    }

    #[test]
    fn a_small_screen_has_the_table_the_past_and_the_keys() {
        let text = screen(&view(), 80, 24);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("memcg-bpf top: 2 governed, by memory"), "{text}");
        assert!(lines[1].starts_with("NAME") && lines[1].contains("STALL"), "{text}");
        assert!(lines[2].starts_with("a.service") && lines[2].contains("4M of 1G"), "{text}");
        assert!(lines[2].contains("0.0%") && lines[2].contains(" 7"), "{text}");
        assert!(lines[18].starts_with("memory 4M of 1G") && lines[18].contains("refaults 0/s"), "{text}");
        assert!(lines[23].starts_with("q quit"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("LATELY"), "{text}");
    }

    #[test]
    fn a_large_screen_shows_every_trend() {
        let text = screen(&view(), 200, 50);
        assert!(text.contains("MEMORY LATELY") && text.contains("▂█"), "{text}");
        assert!(text.lines().nth(3).unwrap().contains("██"), "{text}");
    }

    #[test]
    fn a_tiny_screen_does_no_harm() {
        for (width, height) in [(1, 1), (10, 4), (40, 10)] {
            screen(&view(), width, height);
        }
        assert!(screen(&View::default(), 80, 24).contains("Nothing is under a memory policy."));
    }
}
