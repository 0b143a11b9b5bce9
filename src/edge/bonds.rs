//! The connector that a call is bound to, as cached by one core.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{LinkId, Time, TunnelId};
use crate::edge::shared::Edge;
use crate::edge::usage::LinkUsage;
use crate::serve::{SessionKey, SessionMap};
use crate::wire::http1::{Method, RequestHead, ResponseHead};
use crate::wire::mcp::SESSION_ID;

/// How long a core uses a cached session before it asks the shared table again, which also keeps the session from
/// expiring there.
const CACHED_FOR_MAX: Duration = Duration::from_secs(1);
/// The most sessions that a core caches. When the cache is full, it is cleared.
const CACHED_SESSIONS_MAX: usize = 8_192;

/// Which connector a call should go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bond {
    /// Any connector: calls are spread over the links.
    #[default]
    None,
    /// The linked connector that this number hashes to, always the same one while it is linked. The number is that of a
    /// session whose connector is not known, or of an agent's address.
    Hashed(u64),
    /// The connector that has the session, and its number.
    Session(SessionKey, u64),
    /// Any but this connector, which did not pass the call on.
    Other(u64),
    /// For a second try: any link but that of the first try, and another connector if there is one.
    Beside(u64, LinkId),
}

/// The sessions seen by one core, and their connectors. A call of a cached session takes no lock.
pub(super) struct Bonds {
    edge: Arc<Edge>,
    known: RefCell<SessionMap<CachedConnector>>,
}

struct CachedConnector {
    connector: u64,
    asked_at: Time,
}

impl Bond {
    /// The session of the bond, if it is that of a session.
    pub(super) fn session(self) -> Option<SessionKey> {
        match self {
            Bond::Session(key, _) => Some(key),
            Bond::Hashed(key) => Some(SessionKey(key)),
            Bond::None | Bond::Other(_) | Bond::Beside(..) => None,
        }
    }

    /// Binds connections of an agent to one connector by its address, because their content cannot be read.
    pub(super) fn of_address(address: Option<IpAddr>) -> Bond {
        // FNV-1a (draft-eastlake-fnv): the same on every core and after a restart.
        let fold = |octets: &[u8]| {
            octets.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
                (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        };
        match address.map(|address| address.to_canonical()) {
            None => Bond::None,
            Some(IpAddr::V4(address)) => Bond::Hashed(fold(&address.octets())),
            Some(IpAddr::V6(address)) => Bond::Hashed(fold(&address.octets())),
        }
    }
}

impl Bonds {
    pub(super) fn new(edge: &Arc<Edge>) -> Bonds {
        Bonds { edge: Arc::clone(edge), known: RefCell::default() }
    }

    /// The bond of a request, which depends on the session that it names.
    pub(super) fn of_request(&self, head: &RequestHead, tunnel: &TunnelId, now: Time) -> Bond {
        let Some(key) = self.session_of(head, tunnel) else { return Bond::None };
        match self.connector_of(key, now) {
            Some(connector) => Bond::Session(key, connector),
            None => Bond::Hashed(key.0),
        }
    }

    /// The session that a request names.
    pub(super) fn session_of(&self, head: &RequestHead, tunnel: &TunnelId) -> Option<SessionKey> {
        let session = head.get(SESSION_ID).filter(|session| !session.is_empty())?;
        Some(self.edge.affinity.key(tunnel.as_str(), session))
    }

    /// Learns from the head of an answer over this link which sessions its connector has. A 404 ends a session only if
    /// it comes from the connector of the session: from another one it means that the right one is offline.
    pub(super) fn on_answer(&self, link: &LinkUsage, request: &RequestHead, answer: &ResponseHead, now: Time) {
        let (tunnel, connector) = (link.tunnel(), link.connector());
        let succeeded = (200..300).contains(&answer.status());
        let is_delete = request.method() == Method::Delete;
        if (is_delete && succeeded) || answer.status() == 404 {
            match self.of_request(request, tunnel, now) {
                Bond::Session(key, owner) if succeeded || owner == connector => self.release(key),
                _ => {}
            }
        } else if let Some(session) = answer.get(SESSION_ID).filter(|_| succeeded) {
            let key = self.edge.affinity.key(tunnel.as_str(), session);
            if self.connector_of(key, now) != Some(connector) {
                self.edge.affinity.bind(key, tunnel.as_str(), connector, now);
                self.remember(key, connector, now);
            }
        }
    }

    fn connector_of(&self, key: SessionKey, now: Time) -> Option<u64> {
        if let Some(known) = self.known.borrow().get(&key).filter(|known| now - known.asked_at < CACHED_FOR_MAX) {
            return Some(known.connector);
        }
        let connector = self.edge.affinity.holder_of(key, now);
        match connector {
            Some(connector) => self.remember(key, connector, now),
            None => drop(self.known.borrow_mut().remove(&key)),
        }
        connector
    }

    fn release(&self, key: SessionKey) {
        self.edge.affinity.release(key);
        self.known.borrow_mut().remove(&key);
    }

    fn remember(&self, key: SessionKey, connector: u64, now: Time) {
        let mut known = self.known.borrow_mut();
        if known.len() >= CACHED_SESSIONS_MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, CachedConnector { connector, asked_at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::tests::{Fixture, tunnel};
    use crate::policy::Admission;
    use crate::wire::http1::Progress;

    fn request(method: &str, session: &str) -> RequestHead {
        let session = if session.is_empty() { String::new() } else { format!("mcp-session-id: {session}\r\n") };
        let mut head = RequestHead::new();
        let text = format!("{method} /mcp HTTP/1.1\r\nHost: a.test\r\n{session}\r\n");
        assert!(matches!(head.feed(text.as_bytes()), Ok(Progress::Complete { .. })));
        head
    }

    fn answer(status: u16, session: &str) -> ResponseHead {
        let session = if session.is_empty() { String::new() } else { format!("Mcp-Session-Id: {session}\r\n") };
        let mut head = ResponseHead::new();
        let text = format!("HTTP/1.1 {status} Told\r\n{session}Content-Length: 0\r\n\r\n");
        assert!(matches!(head.feed(text.as_bytes(), Method::Post), Ok(Progress::Complete { .. })));
        head
    }

    /// Two cores of one edge, and calls over them.
    struct Bed([Bonds; 2]);

    impl Bed {
        fn new() -> Bed {
            let edge = Fixture::new(Admission::default()).edge;
            Bed([Bonds::new(&edge), Bonds::new(&edge)])
        }

        fn bond(&self, core: usize, session: &str, at_s: u64) -> Bond {
            self.0[core].of_request(&request("POST", session), &tunnel(), Time::ZERO + Duration::from_secs(at_s))
        }

        /// A call of a session over a core, with the connector's answer.
        fn call(
            &self,
            core: usize,
            (method, session): (&str, &str),
            connector: u64,
            status: u16,
            answered_session: &str,
        ) {
            let link = LinkUsage::new(tunnel(), connector, "configured".parse().unwrap());
            self.0[core].on_answer(&link, &request(method, session), &answer(status, answered_session), Time::ZERO);
        }

        fn connector(&self, core: usize, session: &str) -> Option<u64> {
            match self.bond(core, session, 0) {
                Bond::Session(_, connector) => Some(connector),
                _ => None,
            }
        }
    }

    #[test]
    fn a_session_is_bound_by_the_answer_that_names_it_on_every_core() {
        let bed = Bed::new();
        assert_eq!(bed.bond(0, "", 0), Bond::None);
        assert!(matches!(bed.bond(0, "s", 0), Bond::Hashed(_)));
        bed.call(0, ("POST", ""), 7, 400, "s");
        assert_eq!(bed.connector(0, "s"), None, "a refused request begins none");
        bed.call(0, ("POST", ""), 7, 200, "s");
        assert_eq!([bed.connector(0, "s"), bed.connector(1, "s")], [Some(7); 2]);
        bed.call(1, ("POST", ""), 8, 200, "t");
        assert_eq!([bed.connector(0, "s"), bed.connector(0, "t")], [Some(7), Some(8)]);
    }

    #[test]
    fn a_session_ends_with_a_delete_that_succeeds_or_a_404_of_its_connector() {
        for (method, by, status, ends) in [
            ("DELETE", 7, 204, true),
            ("DELETE", 7, 405, false),
            ("DELETE", 7, 404, true),
            ("POST", 7, 404, true),
            ("POST", 7, 500, false),
            ("POST", 8, 404, false),
            ("DELETE", 8, 404, false),
            ("DELETE", 8, 200, true),
        ] {
            let bed = Bed::new();
            bed.call(0, ("POST", ""), 7, 200, "s");
            bed.call(0, (method, "s"), by, status, "");
            let left = if ends { None } else { Some(7) };
            assert_eq!([bed.connector(0, "s"), bed.connector(1, "s")], [left; 2], "{method} {status} by {by}");
        }
    }

    #[test]
    fn a_connector_that_names_a_session_of_another_has_it_from_then_on() {
        let bed = Bed::new();
        bed.call(0, ("POST", ""), 7, 200, "s");
        bed.call(0, ("POST", "s"), 8, 200, "");
        assert_eq!(bed.connector(0, "s"), Some(7), "it did not say that it has it");
        bed.call(0, ("POST", "s"), 8, 200, "s");
        assert_eq!([bed.connector(0, "s"), bed.connector(1, "s")], [Some(8); 2]);
    }

    #[test]
    fn a_core_asks_again_after_a_while_and_its_memory_is_bounded() {
        let bed = Bed::new();
        bed.call(0, ("POST", ""), 7, 200, "s");
        assert_eq!(bed.connector(1, "s"), Some(7));
        bed.0[0].release(bed.0[0].edge.affinity.key(tunnel().as_str(), b"s"));
        assert!(matches!(bed.bond(1, "s", 0), Bond::Session(_, 7)), "it has heard nothing yet");
        assert!(matches!(bed.bond(1, "s", 1), Bond::Hashed(_)));
        for nth in 0..=CACHED_SESSIONS_MAX as u64 {
            bed.0[0].remember(SessionKey(nth), 7, Time::ZERO);
        }
        assert_eq!(bed.0[0].known.borrow().len(), 1);
    }

    #[test]
    fn an_address_has_the_same_bond_in_both_of_its_forms() {
        let of = |text: &str| Bond::of_address(Some(text.parse().unwrap()));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(Bond::of_address(None), Bond::None);
    }
}
