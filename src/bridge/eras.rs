//! Which eras of MCP a server speaks, as far as it is known, and what follows for a request.

use std::time::Duration;

use crate::base::Time;
use crate::wire::http1::{Method, RequestHead};
use crate::wire::mcp::{Era, SESSION_ID, is_stateless};

/// The most paths of a route whose eras are kept. Requests to further paths are passed on unchanged.
const PATHS_MAX: usize = 16;
/// The longest path that is kept, in bytes.
const PATH_LEN_MAX: usize = 512;
/// After a probe that found nothing out, and after one that an answer has caused, the next one is this much later.
const PROBE_PAUSE: Duration = Duration::from_secs(10);

/// The ids of sessions that the bridge has opened for agents begin with this.
pub const BRIDGED_SESSION: &str = "adit-bridge-";
/// The parameter of the target with which an agent of the transport HTTP+SSE (2024-11-05) names its session.
pub const BRIDGED_QUERY: &str = "adit_bridge_session=";

/// How a server is reached that speaks with sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionTransport {
    /// Streamable HTTP (2025-03-26 to 2025-11-25).
    Streamable,
    /// HTTP+SSE (2024-11-05): a stream of events, and an endpoint for messages that its first event names.
    HttpSse,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEra {
    /// It speaks the era of the agent who asked, and perhaps the other one.
    Same,
    /// It speaks the other era only, reached in this way if that is the one with sessions.
    Other(SessionTransport),
    /// It gave no answer that tells.
    Unknown,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeChoice {
    /// It is passed on unchanged.
    Direct,
    /// It is translated, for a server of this kind.
    Translate(SessionTransport),
    /// The server is probed first.
    Probe,
}

/// What is known of the servers of one route, by path.
#[derive(Debug, Default)]
pub struct EraTable {
    paths: Vec<PathEras>,
}

#[derive(Debug)]
struct PathEras {
    path: Box<[u8]>,
    /// For agents with sessions, and for agents without.
    by_agent: [Option<Verdict>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    era: ServerEra,
    at: Time,
    /// An answer has suggested that it does not hold any more.
    is_doubted: bool,
}

/// The era of the agent that sends a request, if the bridge may have to translate it.
#[must_use]
pub fn era_of_agent(head: &RequestHead) -> Option<Era> {
    let is_json = || head.get("content-type").is_some_and(|kind| names(kind, b"application/json"));
    match head.method() {
        Method::Post if is_stateless(head) && is_json() => Some(Era::Stateless),
        Method::Post if is_json() => Some(Era::Sessions),
        Method::Get if accepts_events(head) => Some(Era::Sessions),
        Method::Delete if head.get(SESSION_ID).is_some() => Some(Era::Sessions),
        _ => None,
    }
}

/// Whether a request belongs to a session that the bridge has opened.
#[must_use]
pub fn is_of_bridged_session(head: &RequestHead) -> bool {
    let by_field = head.get(SESSION_ID).is_some_and(|id| id.starts_with(BRIDGED_SESSION.as_bytes()));
    by_field || bridged_query(head).is_some()
}

/// The session that the target names, for agents of the transport HTTP+SSE.
#[must_use]
pub fn bridged_query(head: &RequestHead) -> Option<&[u8]> {
    let target = head.path();
    let query = &target[memchr::memchr(b'?', target)? + 1..];
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(BRIDGED_QUERY.as_bytes()))
}

/// The path of a request, without its query.
#[must_use]
pub fn path_of(head: &RequestHead) -> &[u8] {
    head.path().split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// Whether a field accepts an event stream.
#[must_use]
pub fn accepts_events(head: &RequestHead) -> bool {
    let fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept"));
    fields.flat_map(|(_, value)| value.split(|byte| *byte == b',')).any(|range| names(range, b"text/event-stream"))
}

/// Whether a media type is this one, whatever its parameters are.
#[must_use]
pub fn names(kind: &[u8], wanted: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(wanted)
}

impl EraTable {
    /// What is done with a request of an agent of this era.
    #[must_use]
    pub fn choose(&self, path: &[u8], agent: Era, now: Time) -> BridgeChoice {
        let Some(known) = self.paths.iter().find(|known| *known.path == *path) else {
            let has_room = self.paths.len() < PATHS_MAX && path.len() <= PATH_LEN_MAX;
            return if has_room { BridgeChoice::Probe } else { BridgeChoice::Direct };
        };
        let Some(verdict) = known.by_agent[slot(agent)] else { return BridgeChoice::Probe };
        let may_probe = now - verdict.at >= PROBE_PAUSE;
        match verdict.era {
            ServerEra::Unknown if may_probe => BridgeChoice::Probe,
            _ if verdict.is_doubted && may_probe => BridgeChoice::Probe,
            ServerEra::Unknown | ServerEra::Same => BridgeChoice::Direct,
            ServerEra::Other(transport) => BridgeChoice::Translate(transport),
        }
    }

    /// Keeps what a probe has found out. A path at which nothing was found is not kept, as agents may name any.
    pub fn on_probed(&mut self, path: &[u8], agent: Era, era: ServerEra, now: Time) {
        let at = match self.paths.iter().position(|known| *known.path == *path) {
            Some(at) => at,
            None if self.paths.len() >= PATHS_MAX || path.len() > PATH_LEN_MAX => return,
            None => {
                self.paths.push(PathEras { path: path.into(), by_agent: [None; 2] });
                self.paths.len() - 1
            }
        };
        self.paths[at].by_agent[slot(agent)] = Some(Verdict { era, at: now, is_doubted: false });
        if self.paths.len() == PATHS_MAX {
            // Paths without a server make room.
            let is_of_use = |known: &PathEras| known.by_agent.iter().flatten().any(|v| v.era != ServerEra::Unknown);
            self.paths.retain(is_of_use);
        }
    }

    /// Notes an answer to a request that was passed on unchanged or translated: a server of another era refuses with these
    /// statuses. The next request probes it again, at most every 10 seconds.
    pub fn on_refused(&mut self, path: &[u8], agent: Era) {
        let known = self.paths.iter_mut().find(|known| *known.path == *path);
        if let Some(verdict) = known.and_then(|known| known.by_agent[slot(agent)].as_mut()) {
            verdict.is_doubted = true;
        }
    }

    /// Forgets everything: the server has been started again, and may be another version.
    pub fn forget(&mut self) {
        self.paths.clear();
    }
}

const fn slot(agent: Era) -> usize {
    match agent {
        Era::Sessions => 0,
        Era::Stateless => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(text.as_bytes()).unwrap();
        head
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    const SSE: SessionTransport = SessionTransport::HttpSse;

    #[test]
    fn the_era_of_an_agent_follows_from_its_head() {
        let json = "Content-Type: application/json; charset=utf-8\r\n";
        let new = "MCP-Protocol-Version: 2026-07-28\r\n";
        for (text, era) in [
            (format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{json}{new}\r\n"), Some(Era::Stateless)),
            (format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{json}\r\n"), Some(Era::Sessions)),
            (format!("POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n{new}\r\n"), None),
            ("GET /mcp HTTP/1.1\r\nHost: a\r\nAccept: a/b, text/event-stream;q=1\r\n\r\n".into(), Some(Era::Sessions)),
            ("GET /.well-known/x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n".into(), None),
            ("DELETE /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: x\r\n\r\n".into(), Some(Era::Sessions)),
            ("DELETE /mcp HTTP/1.1\r\nHost: a\r\n\r\n".into(), None),
        ] {
            assert_eq!(era_of_agent(&head(&text)), era, "{text}");
        }
    }

    #[test]
    fn sessions_of_the_bridge_are_known_by_field_and_target() {
        let of = |text: &str| is_of_bridged_session(&head(text));
        assert!(of("POST /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: adit-bridge-01\r\n\r\n"));
        assert!(of("POST /sse?a=b&adit_bridge_session=adit-bridge-01 HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!of("POST /mcp?x=adit_bridge_session HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: 01\r\n\r\n"));
    }

    #[test]
    fn a_server_is_probed_once_for_each_era_of_agents_and_again_when_in_doubt() {
        let mut table = EraTable::default();
        let new = Era::Stateless;
        assert_eq!(table.choose(b"/mcp", new, at(0)), BridgeChoice::Probe);
        table.on_probed(b"/mcp", new, ServerEra::Other(SSE), at(0));
        assert_eq!(table.choose(b"/mcp", new, at(99)), BridgeChoice::Translate(SSE));
        assert_eq!(table.choose(b"/mcp", Era::Sessions, at(99)), BridgeChoice::Probe);
        table.on_probed(b"/mcp", Era::Sessions, ServerEra::Same, at(99));
        assert_eq!(table.choose(b"/mcp", Era::Sessions, at(100)), BridgeChoice::Direct);
        table.on_refused(b"/mcp", Era::Sessions);
        assert_eq!(table.choose(b"/mcp", Era::Sessions, at(100)), BridgeChoice::Direct, "it was just probed");
        assert_eq!(table.choose(b"/mcp", Era::Sessions, at(109)), BridgeChoice::Probe);
        table.on_probed(b"/x", new, ServerEra::Unknown, at(200));
        assert_eq!(table.choose(b"/x", new, at(201)), BridgeChoice::Direct);
        assert_eq!(table.choose(b"/x", new, at(210)), BridgeChoice::Probe);
        table.forget();
        assert_eq!(table.choose(b"/mcp", new, at(210)), BridgeChoice::Probe);
    }

    #[test]
    fn paths_that_agents_invent_take_no_room_from_those_of_servers() {
        let mut table = EraTable::default();
        table.on_probed(b"/mcp", Era::Stateless, ServerEra::Same, at(0));
        for nth in 0..10 * PATHS_MAX {
            table.on_probed(format!("/{nth}").as_bytes(), Era::Stateless, ServerEra::Unknown, at(0));
            assert!(table.paths.len() < PATHS_MAX);
        }
        assert_eq!(table.choose(b"/mcp", Era::Stateless, at(0)), BridgeChoice::Direct);
        for nth in 0..PATHS_MAX {
            table.on_probed(format!("/s{nth}").as_bytes(), Era::Stateless, ServerEra::Same, at(0));
        }
        assert_eq!(table.choose(b"/another", Era::Stateless, at(0)), BridgeChoice::Direct, "the table is full");
        assert_eq!(table.choose(&[b'/'; PATH_LEN_MAX + 1], Era::Stateless, at(0)), BridgeChoice::Direct);
    }
}
