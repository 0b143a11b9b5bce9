//! The counts of calls and their results.

use std::sync::Arc;
use std::time::Duration;

use adit::base::Time;

use super::line::{Line, Times};
use crate::answer::{Answered, CallError};
use crate::load::{Limits, Load};
use crate::monitor::Monitor;
use crate::outcome::{Outcome, Partial, Traced};
use crate::split::Split;

/// Counts the calls whose planned start lies in the measured time.
pub(super) struct Tally {
    outcome: Outcome,
    limits: Limits,
    trace: bool,
    monitor: Arc<Monitor>,
    from: Time,
    until: Time,
    failing: Option<Failing>,
}

/// Failed calls in a row, without a good one in between.
struct Failing {
    since: Time,
    last: Time,
    /// The error of the last one.
    cause: String,
}

impl Tally {
    pub(super) fn new(load: &Load, monitor: Arc<Monitor>) -> Tally {
        let outcome = Outcome { split: load.split.then(Split::default), ..Outcome::default() };
        Tally {
            outcome,
            limits: load.limits,
            trace: load.trace,
            monitor,
            from: Time::NEVER,
            until: Time::NEVER,
            failing: None,
        }
    }

    /// Sets the measured time.
    pub(super) fn measure_between(&mut self, from: Time, until: Time) {
        (self.from, self.until) = (from, until);
    }

    /// Ends the measured time at `now`, earlier than planned.
    pub(super) fn stop_at(&mut self, now: Time) {
        self.until = self.until.min(now.max(self.from));
    }

    /// Whether `at` comes after the measured time.
    pub(super) fn is_after(&self, at: Time) -> bool {
        at >= self.until
    }

    /// Counts a call that ended at `now`.
    pub(super) fn record(&mut self, times: &Times, result: &Result<Answered, CallError>, now: Time, line: &Line) {
        match result {
            Ok(_) => self.failing = None,
            // Cut by the end of the run, which is not a failure of the target.
            Err(CallError::Unfinished) => {}
            Err(error) => {
                let since = self.failing.as_ref().map_or(now, |failing| failing.since);
                self.failing = Some(Failing { since, last: now, cause: error.to_string() });
            }
        }
        if !self.counts(times.due) {
            return;
        }
        self.trace(times.due, times.sent, now, result.as_ref().err());
        let outcome = &mut self.outcome;
        if times.sent != Time::NEVER {
            let ready = times.due.max(times.free);
            outcome.generator_lag.record(times.sent - ready);
            if times.free > times.due {
                outcome.waited.record(times.free - times.due);
            }
        }
        if let Some(connect) = times.connect {
            outcome.connects.record(connect);
        }
        match result {
            Ok(answered) => {
                outcome.calls += 1;
                outcome.corrected.record(answered.at - times.due);
                outcome.uncorrected.record(answered.at - times.sent);
                if let Some(first) = answered.first_event {
                    outcome.first_event.record(first - times.due);
                }
                outcome.bytes_sent += line.request_len();
                outcome.bytes_received += answered.bytes;
                if let Some(split) = &mut outcome.split {
                    split.record(line.last_head(), answered.at - times.sent);
                }
                self.monitor.count_good();
            }
            Err(error) => {
                outcome.failed.add(error.cause(), error);
                self.monitor.count_failed();
            }
        }
    }

    /// Counts a due call for which the queue was full.
    pub(super) fn overflowed(&mut self, due: Time, now: Time) {
        if self.counts(due) {
            self.outcome.overflowed += 1;
            self.trace(due, Time::NEVER, now, Some(&CallError::Unfinished));
        }
    }

    /// Counts a due call that was still queued when the drain ended.
    pub(super) fn never_sent(&mut self, due: Time, now: Time) {
        if self.counts(due) {
            self.trace(due, Time::NEVER, now, Some(&CallError::Unfinished));
            self.outcome.failed.add(CallError::Unfinished.cause(), &CallError::Unfinished);
            self.monitor.count_failed();
        }
    }

    /// Whether every call has failed for too long.
    pub(super) fn lost(&self) -> Option<Partial> {
        // Judged by the calls that ended: an old failure says nothing about calls that are still in flight.
        let failing = self.failing.as_ref()?;
        let patience = self.limits.patience;
        (failing.last - failing.since >= patience).then(|| Partial::Lost { patience, cause: failing.cause.clone() })
    }

    /// Ends the run early. The first reason is kept.
    pub(super) fn end_early(&mut self, partial: Partial) {
        self.outcome.partial.get_or_insert(partial);
    }

    /// Why the run ends early, if it does.
    pub(super) fn partial(&self) -> Option<&Partial> {
        self.outcome.partial.as_ref()
    }

    /// Takes the outcome, with the verdict about the generator.
    pub(super) fn take(&mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.measured = if self.until == Time::NEVER { Duration::ZERO } else { self.until - self.from };
        outcome.judge(&self.limits);
        outcome
    }

    fn trace(&mut self, due: Time, sent: Time, ended: Time, failed: Option<&CallError>) {
        if self.trace {
            self.outcome.trace.push(Traced { due, sent, ended, failed: failed.map(CallError::cause) });
        }
    }

    fn counts(&self, due: Time) -> bool {
        due >= self.from && due < self.until
    }
}
