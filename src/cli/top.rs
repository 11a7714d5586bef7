//! `memcg-bpf top`: what is governed, live. This file has the loop and the terminal; `view` knows what is shown and
//! `draw` how.

mod draw;
mod view;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::client::Client;
use super::screen::json;
use super::{Answer, container};
use crate::report::BindingReport;
use crate::text::parse_duration;
use view::{Sort, View};

/// Faster is unreadable, and asks the daemon for nothing but work.
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Watch what is governed, live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf top
  memcg-bpf top --interval 5s

Keys: up and down choose, m n s r a sort by memory, name, stall, refaults and refusals, p pauses the view, q ends it.
STALL is the time that tasks waited for memory, as a percentage of one processor's time; REFAULTS are pages read
again soon after they were reclaimed, a second. With --json: one look, as in status --json.")]
pub(super) struct Top {
    /// Between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map(Duration::from_nanos) {
        Ok(duration) if duration < INTERVAL_MIN => Err("it must be at least 250ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

impl Top {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Answer> {
        let client = Client::connect()?;
        if as_json {
            return Ok(Answer::good(json(&look(&client)?)?));
        }
        anyhow::ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "top wants a terminal; for a file or a program there is: memcg-bpf status --json"
        );
        let mut view = View::default();
        view.take(look(&client)?, 0.0);
        // Restores the terminal when we panic, too.
        let mut terminal = ratatui::try_init()?;
        let ended = self.watch(&client.silent(), &mut view, &mut terminal);
        ratatui::restore();
        ended?;
        Ok(Answer::good(String::new()))
    }

    fn watch(
        &self,
        client: &Client,
        view: &mut View,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut looked = began;
        loop {
            terminal.draw(|frame| draw::draw(frame, view))?;
            let left = self.interval.saturating_sub(looked.elapsed());
            if event::poll(left)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        if control && key.code == KeyCode::Char('c') || !pressed(view, key.code) {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
                continue;
            }
            looked = Instant::now();
            if view.paused {
                continue;
            }
            match look(client) {
                Ok(reports) => view.take(reports, began.elapsed().as_secs_f64()),
                // The daemon may come back; what was seen last stays.
                Err(error) => view.trouble = Some(error.to_string()),
            }
        }
    }
}

fn look(client: &Client) -> anyhow::Result<Vec<BindingReport>> {
    let mut reports: Vec<BindingReport> = client.list()?;
    container::name_all(&mut reports);
    Ok(reports)
}

/// False when it is to end.
fn pressed(view: &mut View, key: KeyCode) -> bool {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('m') => view.sort = Sort::Memory,
        KeyCode::Char('n') => view.sort = Sort::Name,
        KeyCode::Char('s') => view.sort = Sort::Stall,
        KeyCode::Char('r') => view.sort = Sort::Refaults,
        KeyCode::Char('d') => view.sort = Sort::Denied,
        KeyCode::Char('p') | KeyCode::Char(' ') => view.paused = !view.paused,
        KeyCode::Down | KeyCode::Char('j') => view.choose(1),
        KeyCode::Up | KeyCode::Char('k') => view.choose(-1),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_choose_pause_and_end() {
        let mut view = View::default();
        assert!(pressed(&mut view, KeyCode::Char('s')) && view.sort == Sort::Stall);
        assert!(pressed(&mut view, KeyCode::Char('p')) && view.paused);
        assert!(pressed(&mut view, KeyCode::Down) && !pressed(&mut view, KeyCode::Char('q')));
        assert_eq!(interval("10ms"), Err("it must be at least 250ms".to_owned()));
    }
}
