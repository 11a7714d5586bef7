//! Draws the screen of `top`: the table, the history of the selected cgroup, and the keys.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Sparkline, Table, TableState};

use super::details;
use super::model::{Model, Row, Sort};
use crate::cli::change::dry_run::is_dry_run;
use crate::cli::term::{ellipsize, escape_line};
use crate::report::AttachedPolicy;
use crate::report::explain::nearest_limit;
use crate::text::human_bytes;

/// The sparklines of the selected cgroup, with their titles.
const HISTORY_HEIGHT: u16 = 5;
/// The header of the table. From the third column on, columns contain numbers, and memory is aligned as text.
const TITLES: [&str; 6] = ["NAME", "POLICIES", "MEMORY", "STALL", "REFAULTS", "DENIED"];
const FIRST_NUMBER: usize = 3;
/// Space between two columns.
const GAP: usize = 2;
/// Minimum width of names.
const NAME_MIN: usize = 12;
/// Width of a sparkline in the table, which is omitted on a narrow screen.
const TREND_MIN: usize = 20;
const TREND_MAX: usize = 80;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Width of the bar of usage against the limit, on a screen that is wide enough.
const BAR_WIDTH: usize = 10;
const BAR_SCREEN_MIN: u16 = 100;
/// The keys with their effects.
const KEYS: [&str; 12] = [
    "↑ ↓ k j   select a cgroup",
    "Enter     show the details of the cgroup",
    "m         sort by memory",
    "n         sort by name",
    "s         sort by stall time",
    "r         sort by refaults",
    "d         sort by denied requests",
    "/         filter by name, path or policy",
    "Esc       remove the filter, or quit",
    "p Space   pause",
    "? h       show or hide these keys",
    "q         quit",
];

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let history = if frame.area().height >= 16 { HISTORY_HEIGHT } else { 0 };
    let [head, body, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(history),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(model), head);
    table(frame, model, body);
    if let Some(row) = model.rows().get(model.chosen()).filter(|_| history > 0) {
        sparklines(frame, row, below);
    }
    let text = match model.typing {
        true => format!("/{}", escape_line(&model.filter)),
        false => "q quit  ↑↓ select  Enter details  / filter  ? keys  sort: m memory n name s stall r refaults d denied"
            .to_owned(),
    };
    frame.render_widget(Line::styled(text, Style::new().add_modifier(Modifier::DIM)), keys);
    if let (Some(row), Some(from)) = (model.rows().get(model.chosen()), model.details) {
        details::draw(frame, row, from);
    }
    if model.help {
        help(frame);
    }
}

/// The keys, over the table.
fn help(frame: &mut Frame<'_>) {
    let width = KEYS.iter().map(|line| line.chars().count()).max().unwrap_or(0).saturating_add(4);
    let size = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let [row] = Layout::vertical([Constraint::Length(size(KEYS.len().saturating_add(2)))])
        .flex(Flex::Center)
        .areas(frame.area());
    let [area] = Layout::horizontal([Constraint::Length(size(width))]).flex(Flex::Center).areas(row);
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = KEYS.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}

fn headline(model: &Model) -> Line<'static> {
    let order = match model.sort {
        Sort::Memory => "memory",
        Sort::Name => "name",
        Sort::Stall => "stall",
        Sort::Refaults => "refaults",
        Sort::Denied => "denied",
    };
    match (&model.trouble, model.paused) {
        (Some(trouble), _) => Line::styled(escape_line(trouble), Style::new().fg(Color::Red)),
        (None, true) => {
            Line::styled("memcg-bpf top: paused, press p to continue", Style::new().fg(Color::Yellow))
        }
        (None, false) if model.filter.is_empty() => {
            Line::from(format!("memcg-bpf top: {} cgroups, by {order}", model.rows().len()))
        }
        (None, false) => Line::from(format!(
            "memcg-bpf top: {} cgroups with '{}', by {order}",
            model.rows().len(),
            escape_line(&model.filter)
        )),
    }
}

fn table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if model.rows().is_empty() && !model.filter.is_empty() {
        return frame.render_widget(Paragraph::new("No cgroup passes the filter."), area);
    }
    if model.rows().is_empty() {
        let text = "No cgroup has a memory policy. To attach one, run: memcg-bpf attach UNIT observe";
        return frame.render_widget(Paragraph::new(text), area);
    }
    let rows = model.rows();
    let mut cells: Vec<[String; 6]> = rows.iter().map(|row| cells_of(row)).collect();
    if area.width >= BAR_SCREEN_MIN {
        for (row, cells) in rows.iter().zip(&mut cells) {
            cells[2] = format!("{} {}", bar(row), cells[2]);
        }
    }
    // Columns are as wide as their contents. If there is not enough space, names are truncated; the sparkline gets
    // the rest.
    let widest = |i: usize| {
        let longest = cells.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(TITLES.get(i).map_or(0, |title| title.len()))
    };
    let mut widths: [usize; 6] = std::array::from_fn(widest);
    let gaps = GAP.saturating_mul(widths.len().saturating_sub(1));
    let others = widths.iter().skip(1).sum::<usize>().saturating_add(gaps);
    let room = usize::from(area.width).saturating_sub(others).max(NAME_MIN);
    if let Some(name) = widths.first_mut() {
        *name = room.min(*name);
        cells.iter_mut().filter_map(|row| row.first_mut()).for_each(|cell| *cell = ellipsize(cell, *name));
    }
    let left = usize::from(area.width).saturating_sub(widths.iter().sum::<usize>()).saturating_sub(gaps);
    let trend = left.saturating_sub(GAP).min(TREND_MAX);
    let trend = if trend >= TREND_MIN { trend } else { 0 };
    let mut titles: Vec<Cell<'_>> = TITLES.iter().enumerate().map(|(i, title)| cell(i, *title)).collect();
    if trend > 0 {
        titles.push(Cell::from("MEMORY HISTORY"));
    }
    let rows = rows.iter().zip(cells).map(|(row, texts)| {
        let mut line: Vec<Cell<'_>> = texts.into_iter().enumerate().map(|(i, text)| cell(i, text)).collect();
        if trend > 0 {
            line.push(Cell::from(sparkline(&row.usage, trend)));
        }
        TableRow::new(line)
    });
    let trend = (trend > 0).then_some(trend);
    let widths = widths.into_iter().chain(trend).map(|w| Constraint::Length(u16::try_from(w).unwrap_or(0)));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(rows, widths)
        .column_spacing(GAP as u16)
        .header(TableRow::new(titles).style(bold))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(model.chosen()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Usage against the limit that is reached first.
fn bar(row: &Row) -> String {
    let share = match (row.report.usage, nearest_limit(&row.report)) {
        (Some(usage), Some(limit)) => {
            let scaled = u128::from(usage).saturating_mul(BAR_WIDTH as u128);
            // Usage may exceed a limit that does not count file cache.
            usize::try_from(scaled.checked_div(limit.into()).unwrap_or(0)).unwrap_or(BAR_WIDTH).min(BAR_WIDTH)
        }
        _ => 0,
    };
    let (full, empty) = (share, BAR_WIDTH.saturating_sub(share));
    "█".repeat(full) + &"░".repeat(empty)
}

/// The table as text, for `--batch`.
pub(super) fn plain(model: &Model) -> Vec<Vec<String>> {
    let head = TITLES.map(str::to_owned).to_vec();
    std::iter::once(head).chain(model.rows().into_iter().map(|row| cells_of(row).to_vec())).collect()
}

fn cells_of(row: &Row) -> [String; 6] {
    let name = |policy: &AttachedPolicy| {
        let mark = if is_dry_run(policy) { " (dry-run)" } else { "" };
        format!("{}{mark}", policy.name)
    };
    let policies: Vec<String> = row.report.policies.iter().map(name).collect();
    let policies = if policies.is_empty() { "none".to_owned() } else { policies.join(" ") };
    [
        escape_line(&row.name),
        escape_line(&policies),
        memory(row),
        tenths(row.stall.back()),
        row.refaults.back().map_or("-".to_owned(), u64::to_string),
        row.counter("growth_denied").to_string(),
    ]
}

/// Numbers are aligned to the right, text to the left.
fn cell<'a>(column: usize, text: impl Into<Text<'a>>) -> Cell<'a> {
    let text: Text<'a> = text.into();
    Cell::from(if column >= FIRST_NUMBER { text.right_aligned() } else { text })
}

fn memory(row: &Row) -> String {
    match (row.report.usage, nearest_limit(&row.report)) {
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

fn per_second(value: Option<&u64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value}/s"))
}

/// The end of the history as one line of text, scaled from zero to the maximum.
fn sparkline(history: &VecDeque<u64>, width: usize) -> String {
    let shown: Vec<u64> = history.iter().rev().take(width).rev().copied().collect();
    let max = shown.iter().max().copied().unwrap_or(0).max(1);
    let bar = |value: &u64| {
        let part = u128::from(*value).saturating_mul(7).checked_div(max.into()).unwrap_or(0);
        BARS.get(usize::try_from(part).unwrap_or(0)).copied().unwrap_or(' ')
    };
    shown.iter().map(bar).collect()
}

fn sparklines(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(1).areas(area);
    let lines = [
        (format!("memory {}", memory(row)), &row.usage, Color::Blue),
        (format!("stall {}", tenths(row.stall.back())), &row.stall, Color::Magenta),
        (format!("refaults {}", per_second(row.refaults.back())), &row.refaults, Color::Cyan),
    ];
    for ((title, history, colour), area) in lines.into_iter().zip(areas) {
        let shown: Vec<u64> = history.iter().rev().take(area.width.into()).rev().copied().collect();
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

    #[test]
    fn dry_run_is_marked() {
        let policy = |name: &str, mode: &str| AttachedPolicy {
            name: name.to_owned(),
            parameters: [("mode".to_owned(), mode.to_owned())].into(),
            ..AttachedPolicy::default()
        };
        let policies = vec![policy("deny", "dry-run"), policy("oom", "act")];
        let row = Row { report: BindingReport { policies, ..BindingReport::default() }, ..Row::default() };
        assert_eq!(cells_of(&row)[1], "deny (dry-run) oom");
    }

    fn render(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(width.into());
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn model() -> Model {
        let report = |unit: &str, usage: u64| BindingReport {
            cgroup: format!("/{unit}"),
            cgroup_id: 1,
            unit: Some(unit.to_owned()),
            usage: Some(usage),
            effective_max: Some(1 << 30),
            counters: [("growth_denied".to_owned(), 7), ("charges".to_owned(), 9)].into(),
            ..BindingReport::default()
        };
        let mut model = Model::default();
        model.take(vec![report("a.service", 1 << 20), report("b\u{1b}.service", 2 << 20)], 0.0);
        model.take(vec![report("a.service", 4 << 20), report("b\u{1b}.service", 2 << 20)], 1.0);
        model
    }

    #[test]
    fn small_screen_has_table_history_and_keys() {
        let text = render(&model(), 80, 24);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("memcg-bpf top: 2 cgroups, by memory"), "{text}");
        assert!(lines[1].starts_with("NAME") && lines[1].contains("STALL"), "{text}");
        assert!(lines[2].starts_with("a.service") && lines[2].contains("4M of 1G"), "{text}");
        assert!(lines[2].contains("0.0%") && lines[2].contains(" 7"), "{text}");
        assert!(lines[18].starts_with("memory 4M of 1G") && lines[18].contains("refaults 0/s"), "{text}");
        assert!(lines[23].starts_with("q quit"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("HISTORY"), "{text}");
    }

    #[test]
    fn wide_screen_has_bars_and_keys_cover_the_table() {
        let mut model = model();
        assert!(render(&model, 120, 20).contains("░░░░░░░░░░ 4M of 1G"));
        model.help = true;
        let text = render(&model, 80, 24);
        assert!(text.contains("/         filter by name") && text.contains("keys"), "{text}");
        model.filter = "b".to_owned();
        model.help = false;
        let text = render(&model, 80, 24);
        assert!(text.starts_with("memcg-bpf top: 1 cgroups with 'b', by memory"), "{text}");
        assert!(!text.contains("a.service"), "{text}");
        model.filter = "none such".to_owned();
        assert!(render(&model, 80, 24).contains("No cgroup passes the filter."));
    }

    #[test]
    fn details_cover_the_table_and_scroll_to_their_end() {
        let mut model = model();
        model.details = Some(0);
        let text = render(&model, 80, 9);
        assert!(text.contains("┌ a.service ") && text.contains("Memory in use: 4M"), "{text}");
        assert!(!text.contains("growth_denied"), "{text}");
        model.details = Some(u16::MAX);
        let text = render(&model, 80, 9);
        assert!(text.contains("growth_denied  7") && !text.contains("Memory in use"), "{text}");
        for (width, height) in [(1, 1), (5, 3), (20, 4)] {
            render(&model, width, height);
        }
    }

    #[test]
    fn bar_is_full_at_the_limit() {
        let row = |usage, max| Row {
            report: BindingReport { usage: Some(usage), effective_max: max, ..BindingReport::default() },
            ..Row::default()
        };
        assert_eq!(bar(&row(50, Some(100))), "█████░░░░░");
        assert_eq!(bar(&row(200, Some(100))), "█".repeat(10));
        assert_eq!(bar(&row(5, None)), "░".repeat(10));
    }

    #[test]
    fn a_large_screen_shows_every_trend() {
        let text = render(&model(), 200, 50);
        assert!(text.contains("MEMORY HISTORY") && text.contains("▂█"), "{text}");
        assert!(text.lines().nth(3).unwrap().contains("██"), "{text}");
    }

    #[test]
    fn long_name_is_ellipsized_and_missing_counter_is_a_dash() {
        let report = BindingReport {
            cgroup: "/x".to_owned(),
            unit: Some("session-cache-of-the-shop@frontend-and-backend.service".to_owned()),
            usage: Some(283 << 20),
            effective_max: Some(420 << 20),
            ..BindingReport::default()
        };
        let mut model = Model::default();
        model.take(vec![report.clone()], 0.0);
        model.take(vec![report], 1.0);
        let text = render(&model, 80, 24);
        let line = text.lines().nth(2).unwrap().trim_end();
        assert!(line.starts_with("session-cache-o…backend"), "{text}");
        assert!(line.contains(".service  none      283M of 420M      -") && line.ends_with('0'), "{text}");
    }

    #[test]
    fn a_tiny_screen_does_no_harm() {
        for (width, height) in [(1, 1), (10, 4), (40, 10)] {
            render(&model(), width, height);
        }
        assert!(render(&Model::default(), 80, 24).contains("No cgroup has a memory policy."));
    }
}
