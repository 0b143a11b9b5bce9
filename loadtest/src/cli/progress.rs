//! A progress bar, on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::Phases;
use crate::run::{Phase, Progress};

/// A bar that shows the progress of a run until it is dropped.
pub struct Bar {
    bar: ProgressBar,
    phases: Phases,
}

impl Bar {
    /// A bar for a run with these phases; nothing is drawn if standard error is not a terminal.
    #[must_use]
    pub fn new(what: &str, phases: Phases) -> Bar {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(millis(phases.warm_up + phases.measure)), target);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
        bar.set_style(style.expect("the template is a valid constant"));
        bar.set_prefix(what.to_owned());
        Bar { bar, phases }
    }

    /// Updates the bar to this progress.
    pub fn show(&self, progress: &Progress) {
        let Phases { warm_up, measure, .. } = self.phases;
        let (position, name) = match progress.phase {
            Phase::Connect => (Duration::ZERO, "connecting"),
            Phase::WarmUp => (progress.elapsed.min(warm_up), "warming up"),
            Phase::Measure => (warm_up + progress.elapsed.min(measure), "measuring"),
            Phase::Drain => (warm_up + measure, "draining"),
        };
        self.bar.set_position(millis(position));
        let failed = if progress.failed > 0 { format!(", {} failed", progress.failed) } else { String::new() };
        self.bar.set_message(format!("{name}, {} calls{failed}", progress.calls));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
