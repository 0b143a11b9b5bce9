//! The live state for dashboards: one task samples the process while somebody watches, and gives each sample to all streams.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::sse::Event;
use futures_lite::{Stream, stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::base::Clock;
use crate::control::bodies::{CallInfo, LatencyBody, StatusBody};
use crate::control::dashboard::history::{History, Interval, Series};
use crate::control::dashboard_counts::StreamOutcome;
use crate::control::state::State;
use crate::control::wall_time::WallTime;
use crate::engine::MonotonicClock;
use crate::latency::{CallFilter, Label};

/// The most streams at a time. Further ones are refused.
pub(super) const STREAMS_MAX: usize = 16;
/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// The samples that may wait for a slow reader. One that falls further behind is dropped.
const SAMPLES_WAITING_MAX: usize = 3;
/// The samples that are still taken when nobody watches any more, so that a page that is reloaded finds its charts: five minutes.
const UNWATCHED_SAMPLES_MAX: u32 = 150;
/// How long before its connection's end a stream ends by itself, so that browsers see a complete answer.
const END_BEFORE: Duration = Duration::from_secs(3);
/// The longest life of a stream. Browsers reconnect.
const STREAM_LIFE: Duration = Duration::from_secs(50);
/// How long a browser waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// The most rows of each list in a sample. What is left out is counted.
const ROWS_MAX: usize = 200;
/// The last calls in a sample.
const CALLS_MAX: usize = 100;

/// The live state of a process.
pub(super) struct Live {
    state: Arc<State>,
    places: Arc<Semaphore>,
    hub: Mutex<Hub>,
    interval: Duration,
}

#[derive(Default)]
struct Hub {
    readers: Vec<mpsc::Sender<Arc<str>>>,
    is_sampling: bool,
    last: Option<Arc<str>>,
    history: History,
}

/// The streams of a process, as a sample shows them.
#[derive(Debug, Serialize)]
struct StreamsInfo {
    open: usize,
    max: usize,
    refused: u64,
    dropped: u64,
}

/// All that views show, at one moment.
#[derive(Serialize)]
struct Sample<'a> {
    at_ms: i64,
    status: StatusBody,
    latency: LatencyBody,
    /// Since the sample before.
    interval: Option<&'a Interval>,
    calls: Vec<CallInfo>,
    /// How many rows of each list were left out.
    omitted: BTreeMap<&'static str, usize>,
    streams: StreamsInfo,
}

/// A reader that takes part in the stream, and its place.
struct Reader {
    samples: mpsc::Receiver<Arc<str>>,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// Creates it; nobody watches it yet.
    pub(super) fn new(state: Arc<State>) -> Arc<Live> {
        Live::every(SAMPLE_INTERVAL, state)
    }

    fn every(interval: Duration, state: Arc<State>) -> Arc<Live> {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        Arc::new(Live { state, places, hub: Mutex::default(), interval })
    }

    /// A stream of samples on a connection that ends at this time; `None` if there are too many.
    pub(super) fn stream(
        self: &Arc<Live>,
        connection_ends: Option<Instant>,
    ) -> Option<impl Stream<Item = Result<Event, Infallible>> + Send + 'static> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.state.dashboard.on_stream(StreamOutcome::Refused);
            return None;
        };
        self.state.dashboard.on_stream(StreamOutcome::Opened);
        let (sender, samples) = mpsc::channel(SAMPLES_WAITING_MAX);
        self.add(sender);
        let ends = Instant::now() + STREAM_LIFE;
        let ends = connection_ends.map_or(ends, |connection| ends.min(connection - END_BEFORE));
        let reader = Reader { samples, ends, _place: place };
        Some(stream::unfold(reader, |mut reader| async move {
            let sample = timeout_at(reader.ends, reader.samples.recv()).await.ok()??;
            let event = Event::default().event("sample").retry(RECONNECT_DELAY).data(&*sample);
            Some((Ok(event), reader))
        }))
    }

    /// The intervals of all calls, or of one label.
    pub(super) fn series(&self, label: Option<&Label>) -> Series {
        self.hub().history.series(label)
    }

    fn add(self: &Arc<Live>, sender: mpsc::Sender<Arc<str>>) {
        let mut hub = self.hub();
        if let Some(last) = hub.last.clone().filter(|_| hub.is_sampling) {
            // The queue is empty.
            let _ = sender.try_send(last);
        }
        hub.readers.push(sender);
        if !hub.is_sampling {
            hub.is_sampling = true;
            tokio::spawn(Arc::clone(self).keep_sampling());
        }
    }

    async fn keep_sampling(self: Arc<Live>) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unwatched = 0;
        loop {
            ticks.tick().await;
            let is_watched = self.sample().await;
            // Readers on this thread have their turn, also when a sample took longer than the interval.
            tokio::task::yield_now().await;
            unwatched = if is_watched { 0 } else { unwatched + 1 };
            let mut hub = self.hub();
            if unwatched > UNWATCHED_SAMPLES_MAX && hub.readers.is_empty() {
                (hub.is_sampling, hub.last) = (false, None);
                hub.history.pause();
                return;
            }
        }
    }

    /// Takes a sample and gives it to all readers. Returns whether there are any.
    async fn sample(&self) -> bool {
        let report = self.state.report().await;
        let mut status = report.status_body(&self.state.served());
        let mut latency = report.latency_body(None);
        let filter = CallFilter { limit: CALLS_MAX, ..CallFilter::default() };
        let calls = self.state.calls(filter).await.calls;
        latency.labels.sort_by_key(|label| std::cmp::Reverse(label.times.calls));
        let omitted = shorten(&mut status, &mut latency);
        let open = STREAMS_MAX - self.places.available_permits();
        let count = |outcome| self.state.dashboard.streams(outcome);
        let (refused, dropped) = (count(StreamOutcome::Refused), count(StreamOutcome::Dropped));
        let streams = StreamsInfo { open, max: STREAMS_MAX, refused, dropped };

        let wall = WallTime::now();
        let hub = &mut *self.hub();
        let measured = report.latency.as_ref().map(|times| &*times.snapshot);
        let interval = measured.and_then(|snapshot| hub.history.add(snapshot, MonotonicClock.now(), wall));
        let sample = Sample { at_ms: wall.0, status, latency, interval, calls, omitted, streams };
        let Ok(text) = serde_json::to_string(&sample) else { return !hub.readers.is_empty() };
        let text: Arc<str> = text.into();
        hub.last = Some(Arc::clone(&text));
        hub.readers.retain(|reader| match reader.try_send(Arc::clone(&text)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.state.dashboard.on_stream(StreamOutcome::Dropped);
                false
            }
        });
        !hub.readers.is_empty()
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shortens all lists, and returns how many rows each has lost.
fn shorten(status: &mut StatusBody, latency: &mut LatencyBody) -> BTreeMap<&'static str, usize> {
    let mut omitted = BTreeMap::new();
    let mut cut = |name, len: usize| {
        if len > ROWS_MAX {
            omitted.insert(name, len - ROWS_MAX);
        }
        ROWS_MAX
    };
    status.cores.truncate(cut("cores", status.cores.len()));
    status.links.truncate(cut("links", status.links.len()));
    status.certificates.truncate(cut("certificates", status.certificates.len()));
    status.edges.truncate(cut("edges", status.edges.len()));
    status.upstreams.truncate(cut("upstreams", status.upstreams.len()));
    status.breakers.truncate(cut("breakers", status.breakers.len()));
    status.limits.truncate(cut("limits", status.limits.len()));
    status.routes.truncate(cut("routes", status.routes.len()));
    status.tunnels.truncate(cut("tunnels", status.tunnels.len()));
    status.tunnels.iter_mut().for_each(|tunnel| tunnel.of.hosts.truncate(ROWS_MAX));
    latency.labels.truncate(cut("tools", latency.labels.len()));
    omitted
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::StreamExt;

    use super::*;
    use crate::control::sample::{self, SampleRole};

    fn live() -> Arc<Live> {
        let state = State::new(sample::facts(), vec![SampleRole::new(sample::edge_reading())], None);
        Live::every(Duration::from_millis(1), state)
    }

    #[tokio::test]
    async fn every_reader_gets_the_last_sample_and_those_that_follow() {
        let live = live();
        let mut one = pin!(live.stream(None).unwrap());
        assert!(one.next().await.is_some());
        let mut other = pin!(live.stream(None).unwrap());
        for _ in 0..10 {
            assert!(one.next().await.is_some() && other.next().await.is_some());
        }
        assert!(live.series(None).len() >= 9);
    }

    #[tokio::test]
    async fn a_stream_ends_before_its_connection() {
        let live = live();
        let connection_ends = Instant::now() + END_BEFORE + Duration::from_millis(20);
        let samples = pin!(live.stream(Some(connection_ends)).unwrap()).count().await;
        assert!(samples > 0 && Instant::now() < connection_ends, "{samples}");
    }

    #[tokio::test]
    async fn a_slow_reader_is_dropped_and_counted() {
        let live = live();
        let (mut slow, mut fast) = (pin!(live.stream(None).unwrap()), pin!(live.stream(None).unwrap()));
        for _ in 0..=SAMPLES_WAITING_MAX + 1 {
            assert!(fast.next().await.is_some());
        }
        assert_eq!(live.state.dashboard.streams(StreamOutcome::Dropped), 1);
        assert_eq!(slow.as_mut().count().await, SAMPLES_WAITING_MAX, "its stream ends with what waited");
        assert!(fast.next().await.is_some());
    }

    #[tokio::test]
    async fn streams_are_bounded_and_sampling_ends_when_nobody_watches() {
        let live = live();
        let mut streams: Vec<_> = (0..STREAMS_MAX).map(|_| live.stream(None).unwrap()).collect();
        assert!(live.stream(None).is_none());
        assert_eq!(live.state.dashboard.streams(StreamOutcome::Refused), 1);
        streams.pop();
        assert!(live.stream(None).is_some(), "a place was given back");
        drop(streams);
        while live.hub().is_sampling {
            tokio::time::sleep(live.interval).await;
        }
        assert!(live.hub().readers.is_empty());
        assert!(pin!(live.stream(None).unwrap()).next().await.is_some(), "and it begins again");
    }

    #[test]
    fn long_lists_are_shortened_and_what_is_missing_is_counted() {
        let report = sample::report();
        let (mut status, mut latency) = (report.status_body(&[]), report.latency_body(None));
        assert!(shorten(&mut status, &mut latency).is_empty());
        status.links = vec![status.links[0].clone(); ROWS_MAX + 7];
        assert_eq!(shorten(&mut status, &mut latency), [("links", 7)].into());
        assert_eq!(status.links.len(), ROWS_MAX);
    }
}
