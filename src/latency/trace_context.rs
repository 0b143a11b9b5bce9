//! Where a call stands in a distributed trace (W3C Trace Context): the context that its caller sends, and the ids of the
//! spans of adit.

use std::fmt;

use super::call_id::{TraceId, digit};
use crate::base::{Hex, Rng};

/// The length of a span id as text.
const SPAN_ID_LEN: usize = 16;
/// Where the id of the parent begins in a `traceparent`.
const PARENT_AT: usize = 36;
/// Where the flags begin in a `traceparent`.
const FLAGS_AT: usize = 53;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// The id of a span; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// The context that a caller sends in `traceparent`, in a header field or in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace of the caller.
    pub trace: TraceId,
    /// The span of the caller.
    pub parent: SpanId,
    /// Whether the caller records the trace.
    pub is_sampled: bool,
}

/// What identifies a call: a random number of a process, and the call's number there. Both sides of a link know it of
/// the edge, so that both compute the same ids without sending them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOrigin {
    /// The random number of the process.
    pub process: u64,
    /// The number of the call.
    pub number: u64,
}

/// The ids that belong to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginIds {
    /// The trace of a call whose caller sends none.
    pub trace: TraceId,
    /// The span of the role itself.
    pub own: SpanId,
    /// The span of what the role waits for: the link or the MCP server.
    pub onward: SpanId,
}

impl TraceContext {
    /// The context in the value of a `traceparent` field; none if the value is malformed.
    #[must_use]
    pub fn of_traceparent(value: &[u8]) -> Option<TraceContext> {
        let trace = TraceId::of_traceparent(value)?;
        let parent = SpanId::of_digits(value.get(PARENT_AT..PARENT_AT + SPAN_ID_LEN)?)?;
        let flags = digit(*value.get(FLAGS_AT)?)? << 4 | digit(*value.get(FLAGS_AT + 1)?)?;
        Some(TraceContext { trace, parent, is_sampled: flags & SAMPLED != 0 })
    }
}

impl SpanId {
    /// The id as it is sent.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// Parses a span id from hexadecimal digits in lower case.
    fn of_digits(digits: &[u8]) -> Option<SpanId> {
        let mut id = [0; 8];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        (id != [0; 8]).then_some(SpanId(id))
    }

    fn of_number(number: u64) -> SpanId {
        SpanId(number.max(1).to_be_bytes())
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl CallOrigin {
    /// The ids of the call. The number of the process is random, so the ids are too.
    #[must_use]
    pub fn ids(self) -> OriginIds {
        let mut rng = Rng::new(Rng::new(self.process).next_u64() ^ self.number);
        let trace = TraceId::of_numbers(rng.next_u64(), rng.next_u64());
        OriginIds { trace, own: SpanId::of_number(rng.next_u64()), onward: SpanId::of_number(rng.next_u64()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_gives_trace_parent_and_flag() {
        let context = TraceContext::of_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.parent.to_string(), context.is_sampled), ("00f067aa0ba902b7".to_owned(), true));
        let of =
            |end: &str| TraceContext::of_traceparent(format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{end}").as_bytes());
        assert!(!of("00f067aa0ba902b7-02").unwrap().is_sampled && of("00f067aa0ba902b7-ff").unwrap().is_sampled);
        for malformed in ["0000000000000000-01", "00F067aa0ba902b7-01", "00f067aa0ba902b7-0x", "00f067aa0ba902b7-0"] {
            assert_eq!(of(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn both_sides_compute_the_same_ids_and_calls_have_different_ones() {
        let of = |process, number| CallOrigin { process, number }.ids();
        assert_eq!(of(7, 1), of(7, 1));
        let ids = [of(7, 1), of(7, 2), of(8, 1), of(0, 0)];
        let mut spans: Vec<SpanId> = ids.iter().flat_map(|ids| [ids.own, ids.onward]).collect();
        let mut traces: Vec<TraceId> = ids.iter().map(|ids| ids.trace).collect();
        spans.sort();
        spans.dedup();
        traces.sort();
        traces.dedup();
        assert_eq!((spans.len(), traces.len()), (8, 4));
    }
}
