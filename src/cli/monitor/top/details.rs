//! The details of the selected cgroup, over the table: what `explain` prints, without what it reads of files.

use ratatui::Frame;
use ratatui::layout::Margin;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::model::Row;
use crate::cli::find::installed::DefaultParams;
use crate::cli::show::explain::describe_with;
use crate::cli::term::{Terminal, escape_line};

/// Draws the details from the line `from` on.
pub(super) fn draw(frame: &mut Frame<'_>, row: &Row, from: u16) {
    let area = frame.area().inner(Margin { horizontal: 2, vertical: 1 });
    let width = usize::from(area.width.saturating_sub(2));
    let terminal = Terminal { width: Some(width), ..Terminal::default() };
    // No file is read while the screen is drawn, so parameters with default values are shown too.
    let text = describe_with(&row.report, &terminal, &DefaultParams::default());
    let lines: Vec<Line<'_>> = text.lines().map(|line| Line::from(line.to_owned())).collect();
    // The last lines stay on the screen.
    let height = usize::from(area.height.saturating_sub(2));
    let last = u16::try_from(lines.len().saturating_sub(height)).unwrap_or(u16::MAX);
    let title = format!(" {} ", escape_line(&row.name));
    let block = Block::bordered().title(title).title_bottom(" ↑↓ scroll  Esc close ");
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block).scroll((from.min(last), 0)), area);
}
