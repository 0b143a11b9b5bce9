//! `adit top`: a live view of a running process.

mod args;
mod poll;
mod screen;
mod state;
#[cfg(test)]
mod state_tests;
mod text;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::base::Clock;
use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::output::print;
use crate::cli::run::on_control_thread;
use crate::cli::top::poll::TopSample;
use crate::cli::top::screen::draw;
use crate::cli::top::state::{TopKey, TopState};
use crate::cli::top::text::sample_text;
use crate::cli::tunnel::report;
use crate::engine::MonotonicClock;
use crate::process::RunError;

pub use args::TopArgs;

/// The shortest interval, so that the process is not kept busy by being watched.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// How long a thread waits for a key before it looks whether it is still needed.
const KEY_POLL: Duration = Duration::from_millis(100);
/// Keys that wait to be handled.
const KEYS_MAX: usize = 64;
/// The variable by which users turn colours off (no-color.org).
const NO_COLOR_ENV: &str = "NO_COLOR";

/// Runs `adit top` and returns the exit code.
#[must_use]
pub fn run_top(args: &TopArgs, env: &BTreeMap<String, String>) -> u8 {
    on_control_thread(async {
        let done = match AdminClient::without_token(args.admin.as_deref(), env) {
            Ok(client) if !args.json && !args.plain && io::stdout().is_terminal() && io::stdin().is_terminal() => {
                live(&client, args).await?
            }
            Ok(client) => lines(&client, args).await,
            Err(error) => Err(error),
        };
        Ok::<u8, RunError>(done.map_or_else(|error| report(&error), |()| 0))
    })
}

/// Prints each sample, until it is told to end or the process cannot be asked.
async fn lines(client: &AdminClient, args: &TopArgs) -> Result<(), AdminError> {
    let started = MonotonicClock.now();
    let mut ticks = tokio::time::interval(Duration::from(args.interval).max(INTERVAL_MIN));
    let mut state = TopState::new();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        ticks.tick().await;
        let sample = TopSample::take(client, MonotonicClock.now().since(started)).await?;
        let body = json!({ "status": sample.status, "latency": sample.latency, "calls": sample.calls.calls });
        state.sampled(sample);
        print(&if args.json { format!("{body}\n") } else { sample_text(&state) });
        left -= 1;
    }
    Ok(())
}

/// Shows the screen until a key or a signal ends it.
async fn live(client: &AdminClient, args: &TopArgs) -> Result<Result<(), AdminError>, RunError> {
    let failed = |what| move |error| RunError::Io { what, error };
    // What is wrong before the screen is there is an error on the terminal as it was.
    let started = MonotonicClock.now();
    let mut state = TopState::new();
    match TopSample::take(client, MonotonicClock.now().since(started)).await {
        Ok(sample) => state.sampled(sample),
        Err(error) => return Ok(Err(error)),
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("signals cannot be received"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed("signals cannot be received"))?;
    let has_colours = std::env::var_os(NO_COLOR_ENV).is_none_or(|value| value.is_empty());
    let mut screen = Screen::open().map_err(failed("the terminal cannot be used"))?;
    let mut keys = Keys::read();
    let mut ticks = tokio::time::interval(Duration::from(args.interval).max(INTERVAL_MIN));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        screen
            .terminal
            .draw(|frame| draw(frame, &state, has_colours))
            .map_err(failed("the terminal cannot be used"))?;
        tokio::select! {
            _ = ticks.tick() => {
                match TopSample::take(client, MonotonicClock.now().since(started)).await {
                    Ok(sample) => state.sampled(sample),
                    Err(error) => state.failed(error.to_string()),
                }
                left -= 1;
            }
            key = keys.receiver.recv() => match key {
                // Another size of the terminal is seen when it is drawn.
                Some(None) => {}
                Some(Some(key)) if state.key(key) => {}
                _ => break,
            },
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
        }
    }
    Ok(Ok(()))
}

/// The terminal as the screen needs it, and as it was when this is dropped.
struct Screen {
    terminal: ratatui::DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Screen> {
        Ok(Screen { terminal: ratatui::try_init()? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The keys that are pressed, read by a thread of their own. `None` stands for anything else that changes the screen.
struct Keys {
    receiver: mpsc::Receiver<Option<TopKey>>,
    is_over: Arc<AtomicBool>,
}

impl Keys {
    fn read() -> Keys {
        let (sender, receiver) = mpsc::channel(KEYS_MAX);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let key = match event::poll(KEY_POLL) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let key = match key {
                    Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => match key_of(key) {
                        Some(key) => Some(key),
                        None => continue,
                    },
                    Ok(Event::Resize(..)) => None,
                    Ok(_) => continue,
                    // The terminal is gone.
                    Err(_) => Some(TopKey::Interrupt),
                };
                let is_last = key == Some(TopKey::Interrupt);
                if sender.blocking_send(key).is_err() || is_last {
                    break;
                }
            }
        });
        Keys { receiver, is_over }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn key_of(KeyEvent { code, modifiers, .. }: KeyEvent) -> Option<TopKey> {
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => TopKey::Interrupt,
        KeyCode::Char(typed) => TopKey::Char(typed),
        KeyCode::Enter => TopKey::Enter,
        KeyCode::Esc => TopKey::Escape,
        KeyCode::Tab => TopKey::Tab,
        KeyCode::Backspace => TopKey::Backspace,
        KeyCode::Up => TopKey::Up,
        KeyCode::Down => TopKey::Down,
        KeyCode::PageUp => TopKey::PageUp,
        KeyCode::PageDown => TopKey::PageDown,
        _ => return None,
    })
}
