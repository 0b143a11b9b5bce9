//! The task that exports traces and metrics.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::base::Trouble;
use crate::control::metrics::write_metrics;
use crate::control::otlp::counts::{OtlpCounts, Signal, SpanOutcome};
use crate::control::otlp::delivery::{BackOff, OtlpEndpoint, OtlpRefusal};
use crate::control::otlp::messages::{
    KeyValue, MetricsRequest, Resource, ResourceMetrics, ResourceSpans, Scope, ScopeMetrics, ScopeSpans, TracesRequest,
};
use crate::control::otlp::points::PointFamilies;
use crate::control::otlp::spans::{Clocks, spans_of};
use crate::control::reading::RoleKind;
use crate::control::state::State;
use crate::latency::TraceQueue;

/// The most calls whose spans go into one request.
const CALLS_PER_REQUEST: usize = 256;
/// How long spans are retried that the collector does not take.
const RETRIED_FOR: Duration = Duration::from_secs(300);
/// How long the last spans may take at the end of the process.
const LAST_WITHIN: Duration = Duration::from_secs(3);

/// What is exported, where, and how often.
pub struct OtlpSettings {
    /// The collector to which everything is sent.
    pub endpoint: OtlpEndpoint,
    /// The sampled calls of each role of the process; none if no traces are exported.
    pub traces: Vec<RoleTraces>,
    /// How often sampled calls are sent.
    pub traces_interval: Duration,
    /// How often metrics are sent; `None` if they are not.
    pub metrics_interval: Option<Duration>,
    /// The name of the process in the collector.
    pub service_name: String,
    /// A random number of this process.
    pub instance: u64,
}

/// The sampled calls of a role.
pub struct RoleTraces {
    /// The role that measured them.
    pub role: RoleKind,
    /// The name of the role in the collector.
    pub service_name: String,
    /// The calls that wait for the export.
    pub calls: Arc<TraceQueue>,
}

/// Exports the traces and metrics of a process.
pub struct OtlpExporter {
    settings: OtlpSettings,
    counts: Arc<OtlpCounts>,
    last_within: Duration,
}

/// An export that runs on the control thread.
pub struct RunningExport {
    task: JoinHandle<()>,
    ends: watch::Sender<bool>,
}

/// An encoded request with spans.
struct Batch {
    body: Bytes,
    spans: u64,
    since: Instant,
}

impl OtlpExporter {
    /// An export that does not run yet.
    #[must_use]
    pub fn new(settings: OtlpSettings) -> OtlpExporter {
        let counts = Arc::<OtlpCounts>::default();
        counts.show_queues(settings.traces.iter().map(|traces| Arc::clone(&traces.calls)).collect());
        OtlpExporter { settings, counts, last_within: LAST_WITHIN }
    }

    /// Exports until it is told to finish. The counts are reported in `state`, whose metrics are exported.
    #[must_use]
    pub fn start(self, state: &Arc<State>) -> RunningExport {
        state.show_otlp(&self.counts);
        let (ends, ending) = watch::channel(false);
        let state = Arc::clone(state);
        let task = tokio::spawn(async move {
            tokio::join!(self.keep_sending_spans(ending.clone()), self.keep_sending_metrics(&state, ending));
        });
        RunningExport { task, ends }
    }

    async fn keep_sending_spans(&self, mut ending: watch::Receiver<bool>) {
        if self.settings.traces.is_empty() {
            return;
        }
        let (mut back_off, mut trouble) = (BackOff::new(self.settings.instance), Trouble::default());
        let (mut batch, mut pause) = (None, self.settings.traces_interval);
        while unless_ended(tokio::time::sleep(pause), &mut ending).await.is_some() {
            pause = self.settings.traces_interval;
            match unless_ended(self.send_spans(&mut batch), &mut ending).await {
                Some(Ok(())) => {
                    back_off.on_success();
                    log_success(&mut trouble, Signal::Traces);
                }
                Some(Err(refusal)) => {
                    pause = pause.max(back_off.pause(&refusal));
                    log_failure(&mut trouble, Signal::Traces, &refusal);
                }
                None => break,
            }
        }
        let last = tokio::time::timeout(self.last_within, self.send_spans(&mut batch)).await;
        if !matches!(last, Ok(Ok(()))) {
            let lost = batch.map_or(0, |batch| batch.spans);
            self.counts.on_spans(SpanOutcome::Failed, lost);
            let calls: usize = self.settings.traces.iter().map(|traces| traces.calls.waiting()).sum();
            tracing::warn!(spans = lost, calls, "the last spans could not be exported");
        }
    }

    /// Sends the spans that wait, also those of an earlier batch that failed. What the collector does not take now stays in `batch`.
    async fn send_spans(&self, batch: &mut Option<Batch>) -> Result<(), OtlpRefusal> {
        loop {
            let Some(Batch { body, spans, since }) = batch.take().or_else(|| self.next_batch()) else {
                return Ok(());
            };
            // Kept while the request is out: this future is dropped when the process ends.
            *batch = Some(Batch { body: body.clone(), spans, since });
            let sent = self.settings.endpoint.post(Signal::Traces, body).await;
            self.counts.on_request(Signal::Traces, sent.is_ok());
            match sent {
                Ok(rejected) => {
                    self.counts.on_spans(SpanOutcome::Accepted, spans.saturating_sub(rejected));
                    self.counts.on_spans(SpanOutcome::Rejected, rejected.min(spans));
                }
                Err(refusal) if refusal.may_retry && since.elapsed() < RETRIED_FOR => return Err(refusal),
                Err(refusal) => {
                    *batch = None;
                    self.counts.on_spans(SpanOutcome::Failed, spans);
                    return Err(refusal);
                }
            }
            *batch = None;
        }
    }

    fn next_batch(&self) -> Option<Batch> {
        let clocks = Clocks::now();
        let of_role = |traces: &RoleTraces| {
            let calls = std::iter::from_fn(|| traces.calls.pop()).take(CALLS_PER_REQUEST);
            let spans: Vec<_> = calls.flat_map(|call| spans_of(&call, traces.role, &clocks)).collect();
            let scope_spans = vec![ScopeSpans { scope: Some(Scope::own()), spans }];
            ResourceSpans { resource: Some(self.resource(&traces.service_name)), scope_spans }
        };
        let count_of =
            |spans: &ResourceSpans| spans.scope_spans.iter().map(|scope| scope.spans.len() as u64).sum::<u64>();
        let resource_spans: Vec<_> =
            self.settings.traces.iter().map(of_role).filter(|spans| count_of(spans) > 0).collect();
        let count = resource_spans.iter().map(count_of).sum();
        if count == 0 {
            return None;
        }
        let body = TracesRequest { resource_spans }.encode_to_vec().into();
        Some(Batch { body, spans: count, since: Instant::now() })
    }

    async fn keep_sending_metrics(&self, state: &State, mut ending: watch::Receiver<bool>) {
        let Some(interval) = self.settings.metrics_interval else { return };
        let (mut back_off, mut trouble) = (BackOff::new(!self.settings.instance), Trouble::default());
        let mut pause = interval;
        while unless_ended(tokio::time::sleep(pause), &mut ending).await.is_some() {
            pause = interval;
            let sending = async { self.settings.endpoint.post(Signal::Metrics, self.metrics(state).await).await };
            let Some(sent) = unless_ended(sending, &mut ending).await else { return };
            self.counts.on_request(Signal::Metrics, sent.is_ok());
            match sent {
                Ok(_) => {
                    back_off.on_success();
                    log_success(&mut trouble, Signal::Metrics);
                }
                // The next request has the newer counts, so nothing is retried.
                Err(refusal) => {
                    pause = pause.max(back_off.pause(&refusal));
                    log_failure(&mut trouble, Signal::Metrics, &refusal);
                }
            }
        }
    }

    async fn metrics(&self, state: &State) -> Bytes {
        let report = state.report().await;
        let clocks = Clocks::now();
        let (now, uptime) = (clocks.wall_nanos(), u64::try_from(report.uptime.as_nanos()).unwrap_or_default());
        let start_time_unix_nano = now.saturating_sub(uptime);
        let mut points = PointFamilies { start_time_unix_nano, time_unix_nano: now, metrics: Vec::new() };
        write_metrics(report, &mut points).expect("writing to a vector cannot fail");
        let scope_metrics = vec![ScopeMetrics { scope: Some(Scope::own()), metrics: points.metrics }];
        let resource_metrics =
            vec![ResourceMetrics { resource: Some(self.resource(&self.settings.service_name)), scope_metrics }];
        MetricsRequest { resource_metrics }.encode_to_vec().into()
    }

    fn resource(&self, service_name: &str) -> Resource {
        let attributes = vec![
            KeyValue::text("service.name", service_name),
            KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::text("service.instance.id", format!("{:016x}", self.settings.instance)),
        ];
        Resource { attributes }
    }
}

impl RunningExport {
    /// Sends the last spans, for a few seconds at most, and ends.
    pub async fn finish(self) {
        self.ends.send_replace(true);
        let _ = self.task.await;
    }
}

/// Does this work, unless the export ends first. A collector that hangs must not delay the end of the process.
async fn unless_ended<T>(work: impl Future<Output = T>, ending: &mut watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        // If the sender is dropped, the process ends as well.
        _ = ending.wait_for(|ends| *ends) => None,
    }
}

fn log_failure(trouble: &mut Trouble, signal: Signal, refusal: &OtlpRefusal) {
    if trouble.begins() {
        let why = refusal.why.as_str();
        tracing::warn!(?signal, why, "the OTLP endpoint does not take what is exported; adit will try again");
    }
}

fn log_success(trouble: &mut Trouble, signal: Signal) {
    if trouble.ends() {
        tracing::info!(?signal, "the OTLP endpoint takes what is exported again");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::base::Time;
    use crate::control::sample;
    use crate::latency::{CallOrigin, CallPoints, CallRecord, CallTrace, SAMPLES_OF, TextStart, TraceSettings};

    #[tokio::test]
    async fn a_collector_that_hangs_does_not_delay_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let settings = TraceSettings { sampled: SAMPLES_OF, queue_max: 1, process: 1, joins_edge: true };
        let queue = Arc::new(TraceQueue::new(settings));
        let time = Time::ZERO;
        queue.push(CallTrace {
            record: CallRecord::new(time),
            points: CallPoints { began: time, sent: None, first: None, last: None, ended: time },
            sampled: queue.sample_at_edge(None, None, CallOrigin { process: 1, number: 1 }).unwrap(),
            route: TextStart::of("demo"),
            http_method: "POST",
            method: "ping",
            target: TextStart::of(""),
            rpc_id: TextStart::of("1"),
            revision: TextStart::of(""),
            session: None,
        });
        let hour = Duration::from_secs(3_600);
        let exporter = OtlpExporter::new(OtlpSettings {
            endpoint: OtlpEndpoint::new(&url, None, None, hour).unwrap(),
            traces: vec![RoleTraces {
                role: RoleKind::Edge,
                service_name: "adit-edge".to_owned(),
                calls: Arc::clone(&queue),
            }],
            traces_interval: Duration::from_millis(1),
            metrics_interval: Some(Duration::from_millis(1)),
            service_name: "adit-edge".to_owned(),
            instance: 1,
        });
        let counts = Arc::clone(&exporter.counts);
        let state = State::new(sample::facts(), Vec::new(), None);
        let running = OtlpExporter { last_within: Duration::from_millis(20), ..exporter }.start(&state);
        // Both signals have a connection of their own.
        let accepted = tokio::task::spawn_blocking(move || [(); 2].map(|()| listener.accept().unwrap().0));
        let _open = accepted.await.unwrap();
        running.finish().await;
        assert_eq!(counts.reading().spans, [("accepted", 0), ("rejected", 0), ("failed", 1)]);
    }
}
