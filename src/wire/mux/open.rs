use crate::base::Traffic;
use crate::wire::field::{Fields, put_text};

use super::fault::Fault;

/// The longest hostname, in bytes (RFC 1035 section 2.3.4, as text).
pub const ROUTE_LEN_MAX: usize = 253;
/// The longest text of an agent's address, in bytes.
pub const PEER_LEN_MAX: usize = 64;

pub(super) const OPEN_LEN_MIN: usize = 8 + 1 + 2 + 1;
/// The longest payload of OPEN, in bytes.
pub const OPEN_LEN_MAX: usize = 8 + 1 + 1 + ROUTE_LEN_MAX + 1 + PEER_LEN_MAX;

/// What the edge says when it opens a stream.
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

    pub(super) fn decode(payload: &'a [u8]) -> Result<Open<'a>, Fault> {
        let mut fields = Fields::new(payload);
        let call = fields.u64()?;
        let traffic = fields.u8()?;
        let traffic = Traffic::ALL.into_iter().find(|known| code(*known) == traffic).ok_or(Fault::FieldRange)?;
        let route = fields.text(1, ROUTE_LEN_MAX)?;
        let peer = fields.text(0, PEER_LEN_MAX)?;
        fields.end()?;
        Ok(Open { route, call, traffic, peer: Some(peer).filter(|text| !text.is_empty()) })
    }
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

    fn encoded(open: Open<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        open.encode(&mut out);
        out
    }

    #[test]
    fn open_round_trips() {
        for peer in [None, Some("[2001:db8::1]:443")] {
            for traffic in Traffic::ALL {
                let open = Open { route: "mcp.example.com", call: u64::MAX, traffic, peer };
                assert_eq!(Open::decode(&encoded(open)), Ok(open));
            }
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let (route, peer) = ("r".repeat(ROUTE_LEN_MAX + 1), "p".repeat(PEER_LEN_MAX + 1));
        let most = Open { route: &route[1..], call: 0, traffic: Traffic::Plain, peer: Some(&peer[1..]) };
        assert!(most.is_sendable());
        assert_eq!(encoded(most).len(), OPEN_LEN_MAX);
        for bad in [
            Open { route: &route, ..most },
            Open { route: "", ..most },
            Open { route: "a\r\nb", ..most },
            Open { peer: Some(&peer), ..most },
        ] {
            assert!(!bad.is_sendable());
            assert!(Open::decode(&encoded(bad)).is_err());
        }
    }

    #[test]
    fn cuts_and_extensions_are_named() {
        let whole = encoded(Open { route: "h", call: 1, traffic: Traffic::Plain, peer: Some("p") });
        for len in 0..whole.len() {
            assert_eq!(Open::decode(&whole[..len]), Err(Fault::Truncated));
        }
        assert_eq!(Open::decode(&[&whole[..], b"x"].concat()), Err(Fault::TrailingBytes));
        let mut unknown = whole;
        unknown[8] = 3;
        assert_eq!(Open::decode(&unknown), Err(Fault::FieldRange));
    }
}
