//! What is counted of the export.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::latency::TraceQueue;

/// What came of spans that were to be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanOutcome {
    /// The collector has accepted them.
    Accepted,
    /// The collector has the request and rejects them.
    Rejected,
    /// They were given up: the collector could not be reached for too long, or refuses the request.
    Failed,
}

/// What is exported: the kinds of data have URLs of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// The counts of the export of a process.
#[derive(Default)]
pub struct OtlpCounts {
    spans: [AtomicU64; 3],
    /// By signal: requests that were accepted, and those that were not.
    requests: [[AtomicU64; 2]; 2],
    queues: OnceLock<Vec<Arc<TraceQueue>>>,
}

/// The counts at one moment, with their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpReading {
    /// Spans, by what came of their export.
    pub spans: [(&'static str, u64); 3],
    /// Requests, by signal and by what came of them.
    pub requests: [(&'static str, &'static str, u64); 4],
    /// Sampled calls that were dropped because the queue was full.
    pub calls_dropped: u64,
    /// Sampled calls that wait.
    pub calls_waiting: usize,
}

impl OtlpCounts {
    /// Also reports these queues.
    pub(super) fn show_queues(&self, queues: Vec<Arc<TraceQueue>>) {
        let _ = self.queues.set(queues);
    }

    pub(super) fn on_spans(&self, outcome: SpanOutcome, count: u64) {
        self.spans[outcome as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn on_request(&self, signal: Signal, is_accepted: bool) {
        self.requests[signal as usize][usize::from(!is_accepted)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    #[must_use]
    pub fn reading(&self) -> OtlpReading {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let [accepted, rejected, failed] = self.spans.each_ref().map(read);
        let queues = || self.queues.get().into_iter().flatten();
        let [traces, metrics] = self.requests.each_ref().map(|counts| counts.each_ref().map(read));
        OtlpReading {
            spans: [("accepted", accepted), ("rejected", rejected), ("failed", failed)],
            requests: [
                ("traces", "accepted", traces[0]),
                ("traces", "failed", traces[1]),
                ("metrics", "accepted", metrics[0]),
                ("metrics", "failed", metrics[1]),
            ],
            calls_dropped: queues().map(|queue| queue.dropped()).sum(),
            calls_waiting: queues().map(|queue| queue.waiting()).sum(),
        }
    }
}
