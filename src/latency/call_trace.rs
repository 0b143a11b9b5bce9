//! What is exported of one sampled call, and the queue in which it waits for that.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::call_id::TraceId;
use super::call_record::CallRecord;
use super::trace_context::{CallOrigin, SpanId, TraceContext};
use crate::base::{Time, text_start};

/// How many calls make the ratio of sampled ones a whole number.
pub const SAMPLES_OF: u32 = 1_000_000;

/// The points at which a call passed a role, on the clock of its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPoints {
    /// The request was received, or at a connector known well enough to route.
    pub began: Time,
    /// The first byte was sent onward: to the link, or to the MCP server.
    pub sent: Option<Time>,
    /// The first byte of the answer was received.
    pub first: Option<Time>,
    /// The last byte of the answer was received.
    pub last: Option<Time>,
    /// The answer was passed on, or the call was given up.
    pub ended: Time,
}

/// A call that is sampled, and where its spans stand in their trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledCall {
    /// The trace of the spans.
    pub trace: TraceId,
    /// The parent of the role's span; `None` for the first span of a trace.
    pub parent: Option<SpanId>,
    /// The id of the role's span.
    pub own: SpanId,
    /// The id of the span of what the role waits for.
    pub onward: SpanId,
    /// The context in the message, if the one in the head differs and was used.
    pub link: Option<TraceContext>,
}

/// The start of a text, of at most `LEN` bytes, without memory of its own.
#[derive(Clone, Copy)]
pub struct TextStart<const LEN: usize> {
    len: usize,
    bytes: [u8; LEN],
}

/// One sampled call that has ended.
#[derive(Clone, Debug)]
pub struct CallTrace {
    /// What the call log would keep of it.
    pub record: CallRecord,
    /// When it passed the role.
    pub points: CallPoints,
    /// Where it stands in its trace.
    pub sampled: SampledCall,
    /// The name of its route.
    pub route: TextStart<64>,
    /// The method of HTTP; `_OTHER` if it is a rare one.
    pub http_method: &'static str,
    /// The MCP method; empty if there is no message.
    pub method: &'static str,
    /// The tool, prompt, resource or task that the method names.
    pub target: TextStart<128>,
    /// The id of the JSON-RPC message, as JSON text.
    pub rpc_id: TextStart<48>,
    /// The revision of MCP that the request names.
    pub revision: TextStart<16>,
    /// The start of the hash of the session id, as in the audit log.
    pub session: Option<[u8; 8]>,
}

/// Which calls are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// How many of [`SAMPLES_OF`] calls are sampled whose callers send no context.
    pub sampled: u32,
    /// The most calls that wait.
    pub queue_max: usize,
    /// A random number of this process.
    pub process: u64,
    /// Whether spans of a connector are children of those of the edge.
    pub joins_edge: bool,
}

/// The sampled calls of a role that wait for the export. Cores never wait for it: if it is full, the call is counted as
/// dropped.
pub struct TraceQueue {
    settings: TraceSettings,
    calls: ArrayQueue<CallTrace>,
    dropped: AtomicU64,
    /// The calls that got ids of this process.
    numbered: AtomicU64,
}

impl TraceQueue {
    /// An empty queue for sampled calls.
    #[must_use]
    pub fn new(settings: TraceSettings) -> TraceQueue {
        let calls = ArrayQueue::new(settings.queue_max.max(1));
        TraceQueue { settings, calls, dropped: AtomicU64::new(0), numbered: AtomicU64::new(0) }
    }

    /// Whether a call of an edge is sampled, by the context in its head, or otherwise in its message, or by its id.
    #[must_use]
    pub fn sample_at_edge(
        &self,
        of_head: Option<TraceContext>,
        of_message: Option<TraceContext>,
        origin: CallOrigin,
    ) -> Option<SampledCall> {
        let (ids, context) = (origin.ids(), of_head.or(of_message));
        let trace = self.sampled_trace(context, ids.trace)?;
        let parent = context.map(|context| context.parent);
        Some(SampledCall { trace, parent, own: ids.own, onward: ids.onward, link: link(of_head, of_message) })
    }

    /// Whether a call of a connector is sampled. `edge` identifies it if the edge has exactly one span for it.
    #[must_use]
    pub fn sample_at_connector(
        &self,
        of_head: Option<TraceContext>,
        of_message: Option<TraceContext>,
        edge: Option<CallOrigin>,
    ) -> Option<SampledCall> {
        let context = of_head.or(of_message);
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        let own = CallOrigin { process: self.settings.process, number }.ids();
        let edge = edge.filter(|_| self.settings.joins_edge).map(CallOrigin::ids);
        let trace = self.sampled_trace(context, edge.map_or(own.trace, |edge| edge.trace))?;
        let parent = edge.map(|edge| edge.onward).or_else(|| context.map(|context| context.parent));
        Some(SampledCall { trace, parent, own: own.own, onward: own.onward, link: link(of_head, of_message) })
    }

    /// Hands a call over. If the queue is full, it is dropped and counted.
    pub fn push(&self, call: CallTrace) {
        if self.calls.push(call).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the call that has waited for longest.
    #[must_use]
    pub fn pop(&self) -> Option<CallTrace> {
        self.calls.pop()
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.calls.len()
    }

    /// How many calls were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The trace of a call, if it is sampled: as its caller says, or else by the trace id, so that all roles decide alike.
    fn sampled_trace(&self, context: Option<TraceContext>, own: TraceId) -> Option<TraceId> {
        if let Some(context) = context {
            return context.is_sampled.then_some(context.trace);
        }
        let [.., a, b, c, d] = own.bytes();
        let place = (u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(SAMPLES_OF)) >> 32;
        (place < u64::from(self.settings.sampled)).then_some(own)
    }
}

/// The context of the message, if there is another one in the head.
fn link(of_head: Option<TraceContext>, of_message: Option<TraceContext>) -> Option<TraceContext> {
    of_message.filter(|message| of_head.is_some_and(|head| head != *message))
}

impl<const LEN: usize> TextStart<LEN> {
    /// The start of this text, cut where a character ends.
    #[must_use]
    pub fn of(text: &str) -> TextStart<LEN> {
        let text = text_start(text, LEN).as_bytes();
        let mut bytes = [0; LEN];
        bytes[..text.len()].copy_from_slice(text);
        TextStart { len: text.len(), bytes }
    }

    /// The text, empty if nothing was kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const LEN: usize> fmt::Debug for TextStart<LEN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: TraceSettings = TraceSettings { sampled: SAMPLES_OF, queue_max: 2, process: 9, joins_edge: true };

    fn context(text: &str) -> Option<TraceContext> {
        TraceContext::of_traceparent(format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{text}").as_bytes())
    }

    #[test]
    fn the_caller_decides_and_otherwise_the_ratio() {
        let none = TraceQueue::new(TraceSettings { sampled: 0, ..SETTINGS });
        let origin = |number| CallOrigin { process: 1, number };
        let sent = context("00f067aa0ba902b7-01");
        let sampled = none.sample_at_edge(sent, None, origin(1)).unwrap();
        assert_eq!((sampled.trace, sampled.parent), (sent.unwrap().trace, Some(sent.unwrap().parent)));
        assert_eq!(none.sample_at_edge(None, None, origin(1)), None);
        let all = TraceQueue::new(SETTINGS);
        assert_eq!(all.sample_at_edge(context("00f067aa0ba902b7-00"), None, origin(1)), None);
        assert_eq!(all.sample_at_edge(None, sent, origin(1)).unwrap().parent, Some(sent.unwrap().parent));
        assert_eq!(all.sample_at_edge(None, None, origin(1)).unwrap().parent, None);
        let some = TraceQueue::new(TraceSettings { sampled: SAMPLES_OF / 4, ..SETTINGS });
        let taken = (0..4_000).filter(|number| some.sample_at_edge(None, None, origin(*number)).is_some()).count();
        assert!((900..1_100).contains(&taken), "{taken} of 4000");
    }

    #[test]
    fn a_connector_continues_the_trace_of_the_edge() {
        let queue = TraceQueue::new(SETTINGS);
        let origin = CallOrigin { process: 1, number: 3 };
        for sent in [None, context("00f067aa0ba902b7-01")] {
            let edge = queue.sample_at_edge(sent, None, origin).unwrap();
            let connector = queue.sample_at_connector(sent, None, Some(origin)).unwrap();
            assert_eq!((connector.trace, connector.parent), (edge.trace, Some(edge.onward)));
            assert_ne!(connector.own, queue.sample_at_connector(sent, None, Some(origin)).unwrap().own);
        }
        let sent = context("00f067aa0ba902b7-01");
        let alone = TraceQueue::new(TraceSettings { joins_edge: false, ..SETTINGS });
        let connector = alone.sample_at_connector(sent, None, Some(origin)).unwrap();
        assert_eq!(connector.parent, Some(sent.unwrap().parent));
        assert_eq!(alone.sample_at_connector(None, None, Some(origin)).unwrap().parent, None);
    }

    #[test]
    fn another_context_in_the_message_is_linked() {
        let (head, message) = (context("00f067aa0ba902b7-01"), context("00f067aa0ba902b8-01"));
        assert_eq!(
            (link(head, message), link(head, head), link(None, message), link(head, None)),
            (message, None, None, None)
        );
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let queue = TraceQueue::new(SETTINGS);
        let time = Time::ZERO;
        let call = CallTrace {
            record: CallRecord::new(time),
            points: CallPoints { began: time, sent: None, first: None, last: None, ended: time },
            sampled: queue.sample_at_edge(None, None, CallOrigin { process: 1, number: 1 }).unwrap(),
            route: TextStart::of("demo"),
            http_method: "POST",
            method: "tools/call",
            target: TextStart::of("search"),
            rpc_id: TextStart::of("1"),
            revision: TextStart::of(""),
            session: None,
        };
        (0..5).for_each(|_| queue.push(call.clone()));
        assert_eq!((queue.waiting(), queue.dropped()), (2, 3));
        assert_eq!(queue.pop().unwrap().target.as_str(), "search");
    }
}
