//! The ids of calls: the trace id that the caller sends, and the number that the edge assigns.

use std::fmt;
use std::str::FromStr;

use crate::base::Hex;

/// The trace id of a `traceparent` field (W3C Trace Context, section 3.2.2.3); never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// The id by which calls are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallId {
    /// All calls of a trace.
    Trace(TraceId),
    /// The call with this number; 0 is never used. An edge and a connector use the same number for a call, except for
    /// calls that share an inner TLS session.
    Number(u64),
}

/// The text is not an id of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a call is a trace id (32 hexadecimal digits), a `traceparent`, or a number as `adit calls` shows it")]
pub struct CallIdError;

/// The length of a trace id as text.
const TRACE_ID_LEN: usize = 32;
/// The length of a `traceparent` of version 00; later versions may be longer.
const TRACEPARENT_LEN: usize = 55;
/// The length of the version and its hyphen, in front of the trace id.
const VERSION_LEN: usize = 3;

impl TraceId {
    /// The trace id in the value of a `traceparent` field; none if the value is malformed.
    #[must_use]
    pub fn of_traceparent(value: &[u8]) -> Option<TraceId> {
        let hyphens = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        let is_ended = match value.get(TRACEPARENT_LEN) {
            None => true,
            Some(next) => *next == b'-' && value[..2] != *b"00",
        };
        if value.len() < TRACEPARENT_LEN || !hyphens || !is_ended || value[..2] == *b"ff" {
            return None;
        }
        TraceId::of_digits(&value[VERSION_LEN..VERSION_LEN + TRACE_ID_LEN])
    }

    /// The id as it is sent.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id with these halves.
    pub(super) fn of_numbers(high: u64, low: u64) -> TraceId {
        TraceId((u128::from(high) << 64 | u128::from(low)).max(1).to_be_bytes())
    }

    /// Parses a trace id from hexadecimal digits in lower case.
    #[must_use]
    pub fn of_digits(digits: &[u8]) -> Option<TraceId> {
        if digits.len() != TRACE_ID_LEN {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        (id != [0; 16]).then_some(TraceId(id))
    }
}

/// The value of a hexadecimal digit in lower case.
pub(super) const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl FromStr for CallId {
    type Err = CallIdError;

    fn from_str(text: &str) -> Result<CallId, CallIdError> {
        let bytes = text.as_bytes();
        if let Some(trace) = TraceId::of_traceparent(bytes).or_else(|| TraceId::of_digits(bytes)) {
            return Ok(CallId::Trace(trace));
        }
        // Excludes what `from_str_radix` accepts and no id has, such as a sign. All zeros is the id of no trace and of
        // no call.
        let is_trace = bytes.len() == TRACE_ID_LEN && bytes.iter().all(|byte| *byte == b'0');
        let is_plain = (is_trace || (1..=16).contains(&text.len())) && bytes.iter().all(|byte| digit(*byte).is_some());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_plain);
        number.map(CallId::Number).ok_or(CallIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_trace_id_of_a_traceparent_is_read_as_the_standard_says() {
        let of = |value: &str| TraceId::of_traceparent(value.as_bytes()).map(|id| id.to_string());
        assert_eq!(of(&format!("00-{TRACE}-00f067aa0ba902b7-01")).as_deref(), Some(TRACE));
        assert_eq!(of(&format!("01-{TRACE}-00f067aa0ba902b7-01-more")).as_deref(), Some(TRACE));
        for bad in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00_{TRACE}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_id_is_a_trace_or_a_number() {
        let trace = TraceId::of_digits(TRACE.as_bytes()).unwrap();
        assert_eq!(TRACE.parse(), Ok(CallId::Trace(trace)));
        assert_eq!(format!("00-{TRACE}-00f067aa0ba902b7-01").parse(), Ok(CallId::Trace(trace)));
        assert_eq!("1f3".parse(), Ok(CallId::Number(0x1f3)));
        assert_eq!("ffffffffffffffff".parse(), Ok(CallId::Number(u64::MAX)));
        assert_eq!("0".repeat(32).parse(), Ok(CallId::Number(0)), "no call has it");
        for bad in ["", "+1", "1F", "x", "10000000000000000", "1 "] {
            assert_eq!(bad.parse::<CallId>(), Err(CallIdError), "{bad}");
        }
    }
}
