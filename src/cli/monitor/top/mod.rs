//! `memcg-bpf top`: shows cgroups with policies live. This file contains the loop and the terminal setup.

mod draw;
mod model;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::cli::client::Client;
use crate::cli::find::container;
use crate::cli::output::Output;
use crate::cli::term::json;
use crate::report::BindingReport;
use crate::text::parse_duration;
use model::{Model, Sort};

/// Minimum interval. Shorter ones are unreadable and load the daemon.
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Show cgroups with policies live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf top
  memcg-bpf top --interval 5s

Keys: up and down select, m n s r d sort by memory, name, stall, refaults and denied requests, p
pauses, q quits. STALL is the time that tasks were stalled on memory, as a percentage of one CPU;
REFAULTS are pages per second that were read again soon after they were reclaimed. With --json,
prints the output of status --json once.")]
pub(in crate::cli) struct Top {
    /// Interval between two samples
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map(Duration::from_nanos) {
        Ok(duration) if duration < INTERVAL_MIN => Err("the minimum is 250ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

impl Top {
    pub fn run(&self, as_json: bool) -> anyhow::Result<Output> {
        let client = Client::connect_to_look()?;
        if as_json {
            return Ok(Output::success(json(&fetch(&client)?)?));
        }
        anyhow::ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "top requires a terminal; for a file or a program, use: memcg-bpf status --json"
        );
        let mut model = Model::default();
        model.take(fetch(&client)?, 0.0);
        // Restores the terminal after a panic too.
        let mut terminal = ratatui::try_init()?;
        let ended = self.watch(&client.silent(), &mut model, &mut terminal);
        ratatui::restore();
        ended?;
        Ok(Output::success(String::new()))
    }

    fn watch(
        &self,
        client: &Client,
        model: &mut Model,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut fetched = began;
        loop {
            terminal.draw(|frame| draw::draw(frame, model))?;
            let left = self.interval.saturating_sub(fetched.elapsed());
            if event::poll(left)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        if control && key.code == KeyCode::Char('c') || !pressed(model, key.code) {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
                continue;
            }
            fetched = Instant::now();
            if model.paused {
                continue;
            }
            match fetch(client) {
                Ok(reports) => model.take(reports, began.elapsed().as_secs_f64()),
                // The daemon may be restarting; the last reports stay on the screen.
                Err(error) => model.trouble = Some(error.to_string()),
            }
        }
    }
}

fn fetch(client: &Client) -> anyhow::Result<Vec<BindingReport>> {
    let mut reports: Vec<BindingReport> = client.list()?;
    container::add_names(&mut reports);
    Ok(reports)
}

/// Handles a key. Returns false to quit.
fn pressed(model: &mut Model, key: KeyCode) -> bool {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('m') => model.sort = Sort::Memory,
        KeyCode::Char('n') => model.sort = Sort::Name,
        KeyCode::Char('s') => model.sort = Sort::Stall,
        KeyCode::Char('r') => model.sort = Sort::Refaults,
        KeyCode::Char('d') => model.sort = Sort::Denied,
        KeyCode::Char('p') | KeyCode::Char(' ') => model.paused = !model.paused,
        KeyCode::Down | KeyCode::Char('j') => model.choose(1),
        KeyCode::Up | KeyCode::Char('k') => model.choose(-1),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_choose_pause_and_end() {
        let mut model = Model::default();
        assert!(pressed(&mut model, KeyCode::Char('s')) && model.sort == Sort::Stall);
        assert!(pressed(&mut model, KeyCode::Char('p')) && model.paused);
        assert!(pressed(&mut model, KeyCode::Down) && !pressed(&mut model, KeyCode::Char('q')));
        assert_eq!(interval("10ms"), Err("the minimum is 250ms".to_owned()));
    }
}
