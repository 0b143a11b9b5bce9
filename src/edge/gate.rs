//! The gate: who comes, and whether anything of theirs is read. It stands before TLS, on both ports.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::Clock;
use crate::edge::edge_core::EdgeCore;
use crate::edge::places::{CallPlace, Place};
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, Lease, Socket};
use crate::policy::{Admission, Lines, Networks, Rules, Source, SourceKey, Verdict, Why};
use crate::tls::HandshakeError;
use crate::wire::proxy::{ProxyError, ProxyHeader};

/// At most so many lines in a second about those who were turned away, on each core.
const LINES_PER_S: u32 = 5;

/// Which of the two ports somebody knocks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Agents,
    Connectors,
}

/// What is known of somebody before the first byte.
pub(super) enum Knock {
    /// Let in.
    Welcome(Visitor),
    /// A proxy, which has still to say for whom it speaks.
    Proxy(Option<SocketAddr>),
}

/// Somebody who was let in.
#[derive(Default)]
pub(super) struct Visitor {
    /// Where they come from, as the proxy says if there is one.
    pub(super) peer: Option<SocketAddr>,
    /// The other end of the connection.
    pub(super) direct: Option<SocketAddr>,
    /// Who they are.
    pub(super) source: Source,
    /// Its place among the connections of its source, if those are counted.
    pub(super) place: Option<Place>,
}

/// Why somebody who came through a proxy was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnedAway {
    #[error(transparent)]
    Connection(#[from] HandshakeError),
    #[error("from the proxy: {0}")]
    Header(#[from] ProxyError),
    #[error("the connection ended before its PROXY header did")]
    Cut,
    /// Counted and told already.
    #[error("not admitted")]
    Refused,
}

/// Why a call is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyCalls;

/// What a core remembers for its gate.
pub(super) struct Gate(std::cell::RefCell<Lines>);

impl Default for Gate {
    fn default() -> Gate {
        Gate(std::cell::RefCell::new(Lines::new(LINES_PER_S)))
    }
}

impl Port {
    const fn name(self) -> &'static str {
        match self {
            Port::Agents => "agents",
            Port::Connectors => "connectors",
        }
    }

    fn rules(self, admission: &Admission) -> &Rules {
        match self {
            Port::Agents => &admission.agents,
            Port::Connectors => &admission.connectors,
        }
    }

    fn proxies(self, admission: &Admission) -> &Networks {
        match self {
            Port::Agents => &admission.agents_proxies,
            Port::Connectors => &admission.connectors_proxies,
        }
    }
}

/// Judges somebody by their address alone. None: the connection is to be dropped.
pub(super) fn knock(here: &EdgeCore, port: Port, peer: Option<SocketAddr>) -> Option<Knock> {
    let tables = here.tables();
    let admission = &tables.admission;
    let is_proxy = peer.is_some_and(|peer| port.proxies(admission).contains(peer.ip()));
    if is_proxy {
        return Some(Knock::Proxy(peer));
    }
    enter(here, port, admission, peer, peer).map(Knock::Welcome)
}

/// Lets somebody in who was welcome, or whose proxy says who they are; and gives what was read beyond that.
pub(super) async fn introduce(
    here: &Rc<EdgeCore>,
    port: Port,
    knock: Knock,
    socket: &Socket,
) -> Result<(Visitor, Option<Lease>), TurnedAway> {
    let direct = match knock {
        Knock::Welcome(visitor) => return Ok((visitor, None)),
        Knock::Proxy(direct) => direct,
    };
    let reading = here.core.timeout(here.edge.settings.handshake_timeout, read_header(socket));
    let (said, rest) = match reading.await.unwrap_or(Err(TurnedAway::Connection(HandshakeError::Timeout))) {
        Ok(read) => read,
        Err(error) => {
            Counters::add(&here.edge.counters.proxy_headers_refused);
            return Err(error);
        }
    };
    let tables = here.tables();
    let visitor = match said {
        Some(peer) => enter(here, port, &tables.admission, Some(peer), direct).ok_or(TurnedAway::Refused)?,
        // The proxy itself, to see whether anybody is here. Its calls, if it made any, would be judged as its own.
        None => {
            let source = tables.admission.source(direct.map(|direct| direct.ip()));
            Visitor { peer: direct, direct, source, place: None }
        }
    };
    Ok((visitor, rest))
}

/// Whether a call may enter its tunnel.
pub(super) fn admits_call(here: &EdgeCore, source: &Source, verdict: Verdict) -> bool {
    obey(here, "call", source, verdict)
}

/// An agent that was let in on another core. It keeps its place: the limit was asked for there.
pub(super) fn handed_over(here: &EdgeCore, peer: Option<SocketAddr>, source: Source) -> Visitor {
    let place = limited_key(&source).and_then(|key| here.edge.agents.take(key, None));
    Visitor { peer, direct: None, source, place }
}

/// Whether the source of a connection may have one more call in flight, which it has as long as what is returned is kept.
pub(super) fn admits_more(here: &EdgeCore, place: Option<&Place>) -> Result<Option<CallPlace>, TooManyCalls> {
    let Some(place) = place else { return Ok(None) };
    let begun = place.begin_call();
    if begun.is_none() {
        Counters::add(&here.edge.counters.calls_limited);
    }
    begun.map(Some).ok_or(TooManyCalls)
}

/// Notes that a connector of this source could not prove itself.
pub(super) fn on_failed_registration(here: &EdgeCore, visitor: &Visitor) {
    let tables = here.tables();
    let key = limited_key(&visitor.source);
    let (Some(rate), Some(key)) = (tables.admission.failed_registrations, key) else { return };
    here.edge.failed_registrations().take(key, rate, here.core.now());
}

/// Judges by lists and rates.
fn enter(
    here: &EdgeCore,
    port: Port,
    admission: &Admission,
    peer: Option<SocketAddr>,
    direct: Option<SocketAddr>,
) -> Option<Visitor> {
    let source = admission.source(peer.map(|peer| peer.ip()));
    let mut visitor = Visitor { peer, direct, source, place: None };
    if !obey(here, port.name(), &visitor.source, port.rules(admission).judge(&visitor.source)) {
        return None;
    }
    let Some(key) = limited_key(&visitor.source) else { return Some(visitor) };
    let now = here.core.now();
    if port == Port::Connectors
        && let Some(rate) = admission.failed_registrations
        && !here.edge.failed_registrations().has(key, rate, now)
    {
        Counters::add(&here.edge.counters.registrations_limited);
        tell(here, |left_out| {
            tracing::warn!(?peer, left_out, "turned away: connectors from there failed to prove themselves too often");
        });
        return None;
    }
    if let Some(rate) = admission.handshakes
        && !here.edge.handshakes().take(key, rate, now)
    {
        Counters::add(&here.edge.counters.handshakes_limited);
        tell(here, |left_out| tracing::warn!(port = port.name(), ?peer, left_out, "turned away: too many connections"));
        return None;
    }
    let (places, max) = match port {
        Port::Agents => (&here.edge.agents, admission.connections_per_source),
        Port::Connectors => (&here.edge.strangers, admission.strangers_per_source),
    };
    visitor.place = places.take(key, max);
    if visitor.place.is_none() {
        Counters::add(&here.edge.counters.connections_limited);
        tell(here, |left_out| {
            tracing::warn!(port = port.name(), ?peer, left_out, "turned away: too many connections open");
        });
        return None;
    }
    Some(visitor)
}

/// What counts as one source where rates are limited. This machine itself is none: what comes over loopback is a proxy or a
/// test, and all of it would share one bucket.
fn limited_key(source: &Source) -> Option<SourceKey> {
    source.address.filter(|address| !address.is_loopback()).map(SourceKey::of)
}

/// Counts and tells what the rules say; whether to go on.
fn obey(here: &EdgeCore, what: &'static str, source: &Source, verdict: Verdict) -> bool {
    let (denied, why) = match verdict {
        Verdict::Admitted => return true,
        Verdict::Denied(why) => (true, why),
        Verdict::WouldBeDenied(why) => (false, why),
    };
    let counters = &here.edge.counters;
    Counters::add(if denied { &counters.admission_denied } else { &counters.admission_dry_run });
    tell(here, |left_out| say_denied(what, source, why, denied, left_out));
    !denied
}

fn say_denied(what: &'static str, source: &Source, why: Why, denied: bool, left_out: u64) {
    let (address, asn, why) = (source.address, source.asn, why.as_str());
    if denied {
        tracing::info!(what, ?address, ?asn, why, left_out, "not admitted");
    } else {
        tracing::info!(what, ?address, ?asn, why, left_out, "would not be admitted (dry_run)");
    }
}

/// Writes a line, unless this second has had its lines.
pub(super) fn tell(here: &EdgeCore, write: impl FnOnce(u64)) {
    let left_out = here.gate.0.borrow_mut().take(here.core.now());
    if let Some(left_out) = left_out {
        write(left_out);
    }
}

/// Reads a PROXY header; gives what it says, and the bytes behind it.
async fn read_header(socket: &Socket) -> Result<(Option<SocketAddr>, Option<Lease>), TurnedAway> {
    // The pieces before the last, of a header that comes in several; shorter than the longest header can be.
    let mut before: Vec<u8> = Vec::new();
    loop {
        let mut lease = socket.recv().await.map_err(HandshakeError::from)?.ok_or(TurnedAway::Cut)?;
        let header = if before.is_empty() {
            ProxyHeader::parse(&lease)?
        } else {
            ProxyHeader::parse(&[&before, &*lease].concat())?
        };
        let Some(header) = header else {
            before.extend_from_slice(&lease);
            continue;
        };
        lease.advance(header.len - before.len());
        return Ok((header.source, (!lease.is_empty()).then_some(lease)));
    }
}
