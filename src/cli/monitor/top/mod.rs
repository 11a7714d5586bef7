//! `memcg-bpf top`: shows cgroups with policies live. This file contains the loop and the terminal setup.

mod details;
mod draw;
mod model;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::cli::client::Client;
use crate::cli::find::container;
use crate::cli::output::Output;
use crate::cli::term::{self, Terminal, json};
use crate::report::BindingReport;
use crate::text::parse_duration;
use model::{Model, Sort};

/// Minimum interval. Shorter ones are unreadable and load the daemon.
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Longest filter in bytes.
const FILTER_MAX: usize = 100;

/// Lines by which the details can be scrolled. They have some fifty.
const DETAILS_MAX: u16 = 100;

/// Show cgroups with policies live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  memcg-bpf top
  memcg-bpf top --interval 5s
  memcg-bpf top --batch --iterations 10 > log

Keys: up and down select, Enter shows the details of the cgroup, m n s r d sort by memory, name, stall, refaults and denied requests, / filters,
p pauses, ? shows all keys, q quits. STALL is the time that tasks were stalled on memory, as a percentage of one CPU;
REFAULTS are pages per second that were read again soon after they were reclaimed. With --json,
prints the output of status --json once.")]
pub(in crate::cli) struct Top {
    /// Interval between two samples
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print a table at each interval instead of drawing a screen
    #[arg(long, short)]
    batch: bool,
    /// End after this number of tables. Defaults to until interrupted
    #[arg(long, short = 'n', value_name = "NUMBER", requires = "batch")]
    iterations: Option<u64>,
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
        if self.batch {
            return self.print_tables(&client);
        }
        anyhow::ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "top requires a terminal; for a file or a program, use: memcg-bpf top --batch, or status --json"
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

    fn print_tables(&self, client: &Client) -> anyhow::Result<Output> {
        let (mut model, began) = (Model::default(), Instant::now());
        let mut printed = 0_u64;
        loop {
            model.take(fetch(client)?, began.elapsed().as_secs_f64());
            let table = term::table(&draw::plain(&model), &Terminal::default());
            let gap = if printed > 0 { "\n" } else { "" };
            term::print(&format!("{gap}{table}"));
            printed = printed.saturating_add(1);
            if self.iterations.is_some_and(|most| printed >= most) {
                return Ok(Output::success(String::new()));
            }
            std::thread::sleep(self.interval);
        }
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
    if model.typing {
        match key {
            KeyCode::Enter => model.typing = false,
            KeyCode::Esc => (model.typing, model.filter) = (false, String::new()),
            KeyCode::Backspace => drop(model.filter.pop()),
            KeyCode::Char(c) if model.filter.len() < FILTER_MAX => model.filter.push(c),
            _ => {}
        }
        return true;
    }
    if let Some(from) = model.details.filter(|_| !model.help) {
        model.details = match key {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => None,
            KeyCode::Down | KeyCode::Char('j') => Some(from.saturating_add(1).min(DETAILS_MAX)),
            KeyCode::Up | KeyCode::Char('k') => Some(from.saturating_sub(1)),
            _ => Some(from),
        };
        return true;
    }
    match key {
        KeyCode::Enter => model.details = Some(0),
        KeyCode::Char('?' | 'h') => model.help = !model.help,
        KeyCode::Esc if model.help => model.help = false,
        KeyCode::Esc if !model.filter.is_empty() => model.filter.clear(),
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('/') => (model.typing, model.filter) = (true, String::new()),
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
        for key in ['/', 'q', 'x'].map(KeyCode::Char) {
            assert!(pressed(&mut model, key), "typed");
        }
        assert_eq!((model.filter.as_str(), model.typing), ("qx", true));
        assert!(pressed(&mut model, KeyCode::Backspace) && pressed(&mut model, KeyCode::Enter));
        assert_eq!((model.filter.as_str(), model.typing), ("q", false));
        assert!(pressed(&mut model, KeyCode::Char('?')) && model.help);
        assert!(pressed(&mut model, KeyCode::Esc) && !model.help);
        assert!(pressed(&mut model, KeyCode::Esc) && model.filter.is_empty());
        assert!(pressed(&mut model, KeyCode::Enter) && pressed(&mut model, KeyCode::Down));
        assert_eq!(model.details, Some(1));
        assert!(pressed(&mut model, KeyCode::Esc) && model.details.is_none());
        assert!(!pressed(&mut model, KeyCode::Esc));
        assert_eq!(interval("10ms"), Err("the minimum is 250ms".to_owned()));
    }
}
