//! The caller's time limit in the head of a request.

use std::time::Duration;

use super::RequestHead;
use super::names::Known;
use crate::base::push_decimal;

/// The gRPC field: up to eight digits and a unit. The other field is in seconds, or has the unit `ms` or `s`.
const GRPC_TIMEOUT: &[u8] = b"grpc-timeout";
/// The field in which an edge sends the rest of that time to a connector, in the head of a request on a sealed session.
/// It has its own name, so that the caller's field is forwarded to the server unchanged.
const TIME_LEFT: &str = "Adit-Time-Left";
/// The most digits of a number.
const DIGITS_MAX: usize = 8;

/// A caller's time limit that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTimeout;

impl RequestHead {
    /// How long the caller waits for its answer, if the head states it (`X-Request-Timeout`, `grpc-timeout`). The first
    /// field counts.
    ///
    /// # Errors
    ///
    /// If the field is malformed or zero.
    pub fn caller_timeout(&self) -> Result<Option<Duration>, MalformedTimeout> {
        let section = self.section();
        let Some(field) = section.fields().iter().find(|field| field.known == Known::CallerTimeout) else {
            return Ok(None);
        };
        let read = if section.name(field).len() == GRPC_TIMEOUT.len() { grpc_timeout } else { request_timeout };
        read(section.value(field)).map(Some).ok_or(MalformedTimeout)
    }
}

impl RequestHead {
    /// The rest of the caller's time, as sent by the edge in the head of a request on a sealed session.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        request_timeout(self.get(TIME_LEFT)?)
    }
}

/// Whether a field of this name is [`TIME_LEFT`].
pub(super) fn is_time_left(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(TIME_LEFT.as_bytes())
}

/// Appends a field with the caller's time, in whole milliseconds, at least one.
pub(super) fn push_timeout(out: &mut Vec<u8>, timeout: Duration) {
    push_millis(out, "X-Request-Timeout", timeout);
}

/// Appends [`TIME_LEFT`], in whole milliseconds, at least one.
pub(super) fn push_time_left(out: &mut Vec<u8>, left: Duration) {
    push_millis(out, TIME_LEFT, left);
}

fn push_millis(out: &mut Vec<u8>, name: &str, timeout: Duration) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push_decimal(out, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
    out.extend_from_slice(b"ms\r\n");
}

fn request_timeout(value: &[u8]) -> Option<Duration> {
    // The usual form.
    let (digits, unit_ms) = match value {
        [digits @ .., b'm', b's'] => (digits, 1),
        [digits @ .., b's'] => (digits, 1_000),
        digits => (digits, 1_000),
    };
    if (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) {
        let number = digits.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0'));
        return Some(Duration::from_millis(number * unit_ms)).filter(|timeout| !timeout.is_zero());
    }
    let text = std::str::from_utf8(value).ok()?.trim_ascii();
    let (number, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1_000),
        (None, None) => (text, 1_000),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || number.ends_with('.') {
        return None;
    }
    let seconds = number.parse::<f64>().ok()? * f64::from(unit_ms) / 1e3;
    Some(Duration::from_secs_f64(seconds)).filter(|timeout| !timeout.is_zero())
}

fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.trim_ascii().split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()?;
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(field: &str) -> Result<Option<Duration>, MalformedTimeout> {
        let mut head = RequestHead::new();
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        head.feed(text.as_bytes()).unwrap();
        head.caller_timeout()
    }

    #[test]
    fn the_time_of_a_caller_is_parsed() {
        let ms = |ms| Ok(Some(Duration::from_millis(ms)));
        for (field, expected) in [
            ("X-Request-Timeout: 5", ms(5_000)),
            ("x-request-timeout: 0.25", ms(250)),
            ("X-Request-Timeout: 5s", ms(5_000)),
            ("X-Request-Timeout:  1500ms ", ms(1_500)),
            ("grpc-timeout: 2H", ms(7_200_000)),
            ("grpc-timeout: 3M", ms(180_000)),
            ("Grpc-Timeout: 5S", ms(5_000)),
            ("grpc-timeout: 00000250m", ms(250)),
            ("grpc-timeout: 5000u", ms(5)),
            ("grpc-timeout: 99999999n", Ok(Some(Duration::from_nanos(99_999_999)))),
            ("X-Request-Id: 5", Ok(None)),
        ] {
            assert_eq!(timeout_of(field), expected, "{field}");
        }
    }

    #[test]
    fn written_timeouts_are_parsed_back() {
        let round_trip = |timeout| {
            let mut field = Vec::new();
            push_timeout(&mut field, timeout);
            timeout_of(String::from_utf8(field).unwrap().trim_end())
        };
        assert_eq!(round_trip(Duration::from_micros(4_900_999)), Ok(Some(Duration::from_millis(4_900))));
        assert_eq!(round_trip(Duration::ZERO), Ok(Some(Duration::from_millis(1))));
    }

    #[test]
    fn malformed_timeouts_are_errors() {
        for value in
            ["", "0", "0ms", "-1", "5 s", "1e9", "five", "5m", "5.", ".5", "1.2.3", "123456789", "inf", "NaN", "+5"]
        {
            assert_eq!(timeout_of(&format!("X-Request-Timeout: {value}")), Err(MalformedTimeout), "{value}");
        }
        for value in ["", "S", "5", "5s", "5 S", "123456789S", "-5S", "0S", "5SS"] {
            assert_eq!(timeout_of(&format!("grpc-timeout: {value}")), Err(MalformedTimeout), "{value}");
        }
    }
}
