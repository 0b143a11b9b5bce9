use std::time::Duration;

use crate::base::{Time, Traffic};
use crate::wire::field::{Fields, put_text};

use super::fault::Fault;
use super::hello::VERSION_WITH_BUDGET;

/// The longest hostname, in bytes (RFC 1035 section 2.3.4, as text).
pub const ROUTE_LEN_MAX: usize = 253;
/// The longest text of an agent's address, in bytes.
pub const PEER_LEN_MAX: usize = 64;

pub(super) const OPEN_LEN_MIN: usize = 8 + 1 + 2 + 1;
/// The length of the budget, in bytes.
const BUDGET_LEN: usize = 4;
/// The longest payload of OPEN, in bytes.
pub const OPEN_LEN_MAX: usize = 8 + 1 + 1 + ROUTE_LEN_MAX + 1 + PEER_LEN_MAX + BUDGET_LEN;

/// The parameters with which the edge opens a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// The hostname that the agent called.
    pub route: &'a str,
    /// The edge's number for the call, for logs on both sides.
    pub call: u64,
    /// What the stream carries: one plain exchange, or an encrypted session with any number of exchanges.
    pub traffic: Traffic,
    /// The agent's address, if the edge passes it on.
    pub peer: Option<&'a str>,
    /// When the caller's time ends, on the clock of this side, if it is limited. From version 2 on, OPEN contains the
    /// rest of it.
    pub until: Option<Time>,
}

impl<'a> Open<'a> {
    /// Whether the host name and the address have a length that a frame can carry, and no control characters.
    pub(super) fn is_sendable(&self) -> bool {
        let peer = self.peer.unwrap_or_default();
        (1..=ROUTE_LEN_MAX).contains(&self.route.len())
            && self.peer.is_none_or(|text| (1..=PEER_LEN_MAX).contains(&text.len()))
            && !self.route.chars().chain(peer.chars()).any(char::is_control)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.call.to_be_bytes());
        out.push(code(self.traffic));
        put_text(out, self.route);
        put_text(out, self.peer.unwrap_or_default());
    }

    /// Decodes a payload of this protocol version that arrived at `now`.
    pub(super) fn decode(payload: &'a [u8], version: u16, now: Time) -> Result<Open<'a>, Fault> {
        let mut fields = Fields::new(payload);
        let (call, traffic) = decode_call(&mut fields)?;
        let route = fields.text(1, ROUTE_LEN_MAX)?;
        let peer = fields.text(0, PEER_LEN_MAX)?;
        let until = if version < VERSION_WITH_BUDGET || fields.is_at_end() {
            None
        } else {
            let budget_ms = Some(fields.u32()?).filter(|ms| *ms > 0).ok_or(Fault::FieldRange)?;
            Some(now + Duration::from_millis(u64::from(budget_ms)))
        };
        fields.end()?;
        Ok(Open { route, call, traffic, peer: Some(peer).filter(|text| !text.is_empty()), until })
    }
}

/// Decodes the number and the traffic of a call at the start of the payload. The texts are not read.
pub(super) fn decode_call(fields: &mut Fields<'_>) -> Result<(u64, Traffic), Fault> {
    let call = fields.u64()?;
    let traffic = fields.u8()?;
    let traffic = Traffic::ALL.into_iter().find(|known| code(*known) == traffic).ok_or(Fault::FieldRange)?;
    Ok((call, traffic))
}

/// Appends the time from `now` to `until`, in milliseconds, at least the minimum: if the time is already over, the
/// stream is about to be reset.
pub(super) fn put_budget(out: &mut Vec<u8>, until: Time, now: Time) {
    let left_ms = u32::try_from((until - now).as_millis()).unwrap_or(u32::MAX);
    out.extend_from_slice(&left_ms.max(1).to_be_bytes());
}

const fn code(traffic: Traffic) -> u8 {
    match traffic {
        Traffic::Plain => 0,
        Traffic::Resealed => 1,
        Traffic::Passthrough => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mux::hello::{VERSION, VERSION_MIN};

    const NOW: Time = Time::from_nanos(5_000_000_000);

    fn encoded(open: Open<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        open.encode(&mut out);
        if let Some(until) = open.until {
            put_budget(&mut out, until, NOW);
        }
        out
    }

    fn decoded(payload: &[u8]) -> Result<Open<'_>, Fault> {
        Open::decode(payload, VERSION, NOW)
    }

    fn after_ms(ms: u64) -> Option<Time> {
        Some(NOW + Duration::from_millis(ms))
    }

    #[test]
    fn open_round_trips() {
        for peer in [None, Some("[2001:db8::1]:443")] {
            for traffic in Traffic::ALL {
                for until in [None, after_ms(1), after_ms(u32::MAX.into())] {
                    let open = Open { route: "mcp.example.com", call: u64::MAX, traffic, peer, until };
                    assert_eq!(decoded(&encoded(open)), Ok(open));
                }
            }
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let (route, peer) = ("r".repeat(ROUTE_LEN_MAX + 1), "p".repeat(PEER_LEN_MAX + 1));
        let most =
            Open { route: &route[1..], call: 0, traffic: Traffic::Plain, peer: Some(&peer[1..]), until: after_ms(9) };
        assert!(most.is_sendable());
        assert_eq!(encoded(most).len(), OPEN_LEN_MAX);
        for bad in [
            Open { route: &route, ..most },
            Open { route: "", ..most },
            Open { route: "a\r\nb", ..most },
            Open { peer: Some(&peer), ..most },
        ] {
            assert!(!bad.is_sendable());
            assert!(decoded(&encoded(bad)).is_err());
        }
    }

    #[test]
    fn cuts_and_extensions_are_named() {
        let open = Open { route: "h", call: 1, traffic: Traffic::Plain, peer: Some("p"), until: None };
        let whole = encoded(open);
        for len in 0..whole.len() {
            assert_eq!(decoded(&whole[..len]), Err(Fault::Truncated));
        }
        assert_eq!(decoded(&[&whole[..], b"xyz"].concat()), Err(Fault::Truncated));
        assert_eq!(decoded(&[&whole[..], b"\0\0\0\x01x"].concat()), Err(Fault::TrailingBytes));
        assert_eq!(decoded(&[&whole[..], b"\0\0\0\0"].concat()), Err(Fault::FieldRange));
        let mut unknown = whole;
        unknown[8] = 3;
        assert_eq!(decoded(&unknown), Err(Fault::FieldRange));
        let budget = encoded(Open { until: after_ms(1), ..open });
        assert_eq!(Open::decode(&budget, VERSION_MIN, NOW), Err(Fault::TrailingBytes));
    }

    #[test]
    fn the_remaining_time_is_rounded_down_and_never_zero() {
        let left_ms = |until: Time| {
            let mut out = Vec::new();
            put_budget(&mut out, until, NOW);
            u32::from_be_bytes(out.try_into().unwrap())
        };
        assert_eq!(left_ms(NOW + Duration::from_micros(2_999)), 2);
        assert_eq!((left_ms(NOW), left_ms(Time::ZERO), left_ms(Time::NEVER)), (1, 1, u32::MAX));
    }
}
