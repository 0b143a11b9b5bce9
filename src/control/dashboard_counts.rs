//! What is counted of the dashboard.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a stream of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOutcome {
    /// It was opened for a page.
    Opened,
    /// There were too many.
    Refused,
    /// It was opened, and its reader was too slow later.
    Dropped,
}

/// What became of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInOutcome {
    /// It opened a session.
    Opened,
    /// Its code was not one, was used up, or was over.
    Invalid,
}

/// The counts of a process.
#[derive(Debug, Default)]
pub struct DashboardCounts {
    streams: [AtomicU64; 3],
    log_ins: [AtomicU64; 2],
}

/// The counts at one moment, with the names of the outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DashboardReading {
    /// Streams of samples, by outcome.
    pub streams: [(&'static str, u64); 3],
    /// Attempts to log in.
    pub log_ins: [(&'static str, u64); 2],
}

impl DashboardCounts {
    /// Counts what became of a stream.
    pub fn on_stream(&self, outcome: StreamOutcome) {
        self.streams[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt to log in.
    pub fn on_log_in(&self, outcome: LogInOutcome) {
        self.log_ins[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The number of streams with this outcome.
    #[must_use]
    pub fn streams(&self, outcome: StreamOutcome) -> u64 {
        self.streams[outcome as usize].load(Ordering::Relaxed)
    }

    /// The counts so far.
    #[must_use]
    pub fn reading(&self) -> DashboardReading {
        let log_ins = |outcome: LogInOutcome| self.log_ins[outcome as usize].load(Ordering::Relaxed);
        DashboardReading {
            streams: [
                ("opened", self.streams(StreamOutcome::Opened)),
                ("refused", self.streams(StreamOutcome::Refused)),
                ("dropped", self.streams(StreamOutcome::Dropped)),
            ],
            log_ins: [("opened", log_ins(LogInOutcome::Opened)), ("invalid", log_ins(LogInOutcome::Invalid))],
        }
    }
}
