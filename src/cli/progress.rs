//! One line on a terminal that says how far long work has come, and is gone when it is done.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::control::store::CopyProgress;
use crate::engine::MonotonicClock;
use crate::process::ERASE_LINE;

/// Work that ends sooner shows nothing.
const SHOWN_AFTER: Duration = Duration::from_millis(500);
/// How often the line is rewritten.
const INTERVAL: Duration = Duration::from_millis(100);
/// The cells of the bar.
const CELLS: usize = 30;

/// The line, on standard error, if that is a terminal.
pub(super) struct Progress<O: Write = io::Stderr> {
    what: &'static str,
    /// `None` if nobody sees it.
    out: Option<O>,
    began: Time,
    drawn: Option<Time>,
}

impl Progress {
    /// Begins work that is described by a verb, such as `checking`.
    pub(super) fn new(what: &'static str) -> Progress {
        let out = io::stderr();
        Progress { what, out: out.is_terminal().then_some(out), began: MonotonicClock.now(), drawn: None }
    }
}

impl Progress {
    /// Shows how far a copy of the store has come, until it is dropped.
    pub(super) fn of_copy(what: &'static str) -> CopyProgress {
        let mut progress = Progress::new(what);
        Box::new(move |done, all| progress.at(done, all))
    }
}

impl<O: Write> Progress<O> {
    /// Says that this much of all is done.
    pub(super) fn at(&mut self, done: usize, all: usize) {
        self.at_time(done, all, MonotonicClock.now());
    }

    fn at_time(&mut self, done: usize, all: usize, now: Time) {
        let is_due = match self.drawn {
            None => now.since(self.began) >= SHOWN_AFTER,
            Some(drawn) => now.since(drawn) >= INTERVAL,
        };
        let Some(out) = self.out.as_mut().filter(|_| is_due) else { return };
        self.drawn = Some(now);
        // If the terminal is gone, the work goes on.
        let _ = write!(out, "{ERASE_LINE}{}", bar(self.what, done, all)).and_then(|()| out.flush());
    }
}

impl<O: Write> Drop for Progress<O> {
    fn drop(&mut self) {
        if let Some(out) = self.out.as_mut().filter(|_| self.drawn.is_some()) {
            let _ = write!(out, "{ERASE_LINE}").and_then(|()| out.flush());
        }
    }
}

fn bar(what: &str, done: usize, all: usize) -> String {
    let done = done.min(all);
    let full = (done * CELLS).checked_div(all).unwrap_or(CELLS);
    let percent = (done * 100).checked_div(all).unwrap_or(100);
    format!("{what} [{}{}] {percent:>3} %  {done} of {all}", "#".repeat(full), " ".repeat(CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_longer_than_a_line_whatever_is_counted() {
        assert_eq!(bar("checking", 1, 2), "checking [###############               ]  50 %  1 of 2");
        for (done, all) in [(0, 0), (9, 3), (0, 7), (7, 7)] {
            assert!(bar("checking", done, all).len() < 80);
        }
    }

    #[test]
    fn work_that_ends_soon_shows_nothing_and_a_line_is_erased() {
        let began = Time::from_nanos(7);
        let mut shown = Vec::new();
        let mut progress = Progress { what: "checking", out: Some(&mut shown), began, drawn: None };
        progress.at_time(1, 9, began);
        assert!(progress.out.as_ref().is_some_and(|out| out.is_empty()));
        progress.at_time(2, 9, began + SHOWN_AFTER);
        progress.at_time(3, 9, began + SHOWN_AFTER);
        drop(progress);
        let text = String::from_utf8(shown).unwrap();
        assert!(text.contains("2 of 9") && !text.contains("3 of 9") && text.ends_with(ERASE_LINE), "{text:?}");
    }
}
