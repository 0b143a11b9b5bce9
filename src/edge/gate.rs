//! The gate: decides on both ports which connections are accepted, by address, before it reads any byte of them.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::Clock;
use crate::edge::front::Front;
use crate::edge::shared::{Counters, Edge};
use crate::edge::source_permits::{CallPermit, ConnectionPermit};
use crate::engine::{ByteStream, Core, Lease, Socket};
use crate::latency::{CallLog, CallStage, OwnAnswer};
use crate::policy::{Admission, AdmissionVerdict, LogRateLimit, Networks, Rules, Source, SourceKey, Why};
use crate::tls::{HandshakeError, TlsError};
use crate::wire::proxy::{ProxyHeader, ProxyHeaderError};

/// The most log lines per second about refused connections and calls, on each core.
const LINES_PER_S: u32 = 5;

/// One of the two ports of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Agents,
    Connectors,
}

/// A connection that is not refused, before its first byte is read.
pub(super) enum PreAccept {
    /// The peer's address is known and admitted.
    Admitted(PeerInfo),
    /// The peer is a proxy, whose PROXY header is not read yet; with its address.
    Proxy(Option<SocketAddr>),
}

impl PreAccept {
    /// Adds a copy of the peer's address. A borrowed one would make the task's future larger.
    pub(super) fn and_address(self) -> (PreAccept, Option<IpAddr>) {
        let address = match &self {
            PreAccept::Admitted(info) => info.source.address,
            PreAccept::Proxy(proxy) => proxy.map(|proxy| proxy.ip()),
        };
        (self, address)
    }
}

/// The peer of an admitted connection.
#[derive(Default)]
pub(super) struct PeerInfo {
    /// The peer's address; behind a proxy, that of the PROXY header.
    pub(super) peer: Option<SocketAddr>,
    /// The remote address of the TCP connection, which may be a proxy's.
    pub(super) direct: Option<SocketAddr>,
    /// The peer's source, for admission rules.
    pub(super) source: Source,
    /// The proxy in front of the edge, if any.
    pub(super) front: Front,
    /// Its permit among the connections of its source, if those are counted.
    pub(super) permit: Option<ConnectionPermit>,
}

/// The path of a connection to the edge.
struct ConnectionPath {
    /// The remote address of the TCP connection.
    direct: Option<SocketAddr>,
    /// Whether the agent's own connection is TLS, if a PROXY header says so.
    is_tls: Option<bool>,
}

/// Why an agent's connection is refused, for the call log.
const DENIED: OwnAnswer = OwnAnswer::unanswered(
    "address_denied",
    "the lists in [admission] do not admit connections of agents from this address",
);
const TOO_OFTEN: OwnAnswer = OwnAnswer::unanswered(
    "connects_too_often",
    "the address makes connections faster than admission.handshakes_per_min allows: raise it, or find out who calls",
);
const TOO_MANY: OwnAnswer = OwnAnswer::unanswered(
    "too_many_connections",
    "the address has as many connections open as admission.connections_per_source_max allows: raise it, or find out who calls",
);

/// Why a connection, possibly through a proxy, was not admitted.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmissionError {
    #[error(transparent)]
    Connection(#[from] HandshakeError),
    #[error("invalid PROXY header: {0}")]
    Header(#[from] ProxyHeaderError),
    #[error("the connection ended within its PROXY header")]
    Cut,
    /// Already counted and logged.
    #[error("not admitted")]
    Refused,
}

impl AdmissionError {
    /// The entry in the call log: the stage that the connection reached, and why it ended there.
    pub(super) fn as_answer(&self) -> (CallStage, OwnAnswer) {
        let (stage, code, message) = match self {
            AdmissionError::Header(_) | AdmissionError::Cut => (
                CallStage::Accept,
                "proxy_header",
                "a proxy of admission.agents_proxies sent no valid PROXY header: check its settings",
            ),
            AdmissionError::Refused => return (CallStage::Accept, DENIED),
            AdmissionError::Connection(HandshakeError::Timeout) => (
                CallStage::Tls,
                "tls_timeout",
                "the agent did not complete its TLS handshake or the head of its request in time",
            ),
            AdmissionError::Connection(HandshakeError::Stream(_)) => (
                CallStage::Tls,
                "tls_ended",
                "the agent's connection ended within the TLS handshake: it may not trust the certificate, or a device on the path closed it",
            ),
            AdmissionError::Connection(HandshakeError::Tls(error)) => {
                (CallStage::Tls, "tls_failed", tls_failure(error))
            }
        };
        (stage, OwnAnswer::unanswered(code, message))
    }
}

/// The cause of an agent's failed TLS handshake, and the remedy.
const fn tls_failure(error: &TlsError) -> &'static str {
    match error {
        TlsError::AlertReceived(_) => {
            "the agent refused the TLS handshake: most often it does not trust the certificate, or the certificate is for other names"
        }
        TlsError::ProtocolVersion => "the agent has no TLS version in common: it needs at least TLS 1.2",
        TlsError::NoApplicationProtocol => {
            "the agent offers no application protocol (ALPN) that this port supports: check the port"
        }
        TlsError::PlainHttp | TlsError::NotTls => "the connection began as TLS and went on as something else",
        TlsError::Crowded => "too many TLS handshakes were under way",
        _ => "the TLS handshake failed: the log of the edge says why at the level debug",
    }
}

/// The source of a call has its maximum of calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyCalls;

/// The gate of one core.
pub(super) struct Gate {
    core: Core,
    edge: Arc<Edge>,
    /// The call log, which also contains refused connections.
    calls: Rc<RefCell<CallLog>>,
    log_limit: RefCell<LogRateLimit>,
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

impl Gate {
    pub(super) fn new(core: &Core, edge: &Arc<Edge>, calls: &Rc<RefCell<CallLog>>) -> Gate {
        Gate {
            core: core.clone(),
            edge: Arc::clone(edge),
            calls: Rc::clone(calls),
            log_limit: RefCell::new(LogRateLimit::new(LINES_PER_S)),
        }
    }

    /// Checks a connection by its address alone. None if it must be dropped.
    pub(super) fn pre_accept(&self, port: Port, peer: Option<SocketAddr>) -> Option<PreAccept> {
        let tables = self.edge.tables();
        let admission = &tables.admission;
        let is_proxy = peer.is_some_and(|peer| port.proxies(admission).contains(peer.ip()));
        if is_proxy {
            return Some(PreAccept::Proxy(peer));
        }
        self.admit(port, admission, peer, ConnectionPath { direct: peer, is_tls: None }).map(PreAccept::Admitted)
    }

    /// Checks a peer that connects without a proxy in front. None if it must be refused.
    pub(super) fn admit_directly(&self, port: Port, peer: SocketAddr) -> Option<PeerInfo> {
        match self.pre_accept(port, Some(peer))? {
            PreAccept::Admitted(peer) => Some(peer),
            PreAccept::Proxy(_) => None,
        }
    }

    /// Reads the PROXY header, if one is required, and checks the peer that it names. Also returns the bytes after the
    /// header.
    pub(super) async fn accept(
        &self,
        port: Port,
        connection: PreAccept,
        socket: &Socket,
    ) -> Result<(PeerInfo, Option<Lease>), AdmissionError> {
        let direct = match connection {
            PreAccept::Admitted(peer) => return Ok((peer, None)),
            PreAccept::Proxy(direct) => direct,
        };
        let reading = self.core.timeout(self.edge.settings.handshake_timeout, read_header(socket));
        let read = reading.await.unwrap_or(Err(AdmissionError::Connection(HandshakeError::Timeout)));
        let (header, rest) = read.inspect_err(|_| Counters::add(&self.edge.counters.proxy_headers_refused))?;
        let tables = self.edge.tables();
        let ProxyHeader { source, is_tls, .. } = header;
        let peer = match source {
            Some(peer) => {
                let path = ConnectionPath { direct, is_tls };
                self.admit(port, &tables.admission, Some(peer), path).ok_or(AdmissionError::Refused)?
            }
            // A health check by the proxy itself. Calls of the proxy, if any, are checked by its own address.
            None => {
                let source = tables.admission.source(direct.map(|direct| direct.ip()));
                PeerInfo { peer: direct, direct, source, front: Front::default(), permit: None }
            }
        };
        Ok((peer, rest))
    }

    /// Whether a connection to the agents' port that is an agent's is admitted. Needed only if connectors may connect
    /// there too; otherwise this was decided when the connection was accepted.
    pub(super) fn admits_agent(&self, source: &Source) -> bool {
        let admits = self.apply(Port::Agents.name(), source, self.edge.tables().admission.agents.judge(source));
        if !admits {
            self.keep_refused(Port::Agents, source, DENIED);
        }
        admits
    }

    /// The peer of a connection to the agents' port that is a connector's, if connectors are admitted from its address.
    /// It counts as one of the connectors' port from then on.
    pub(super) fn admit_connector(&self, info: PeerInfo) -> Option<PeerInfo> {
        let PeerInfo { peer, direct, .. } = info;
        self.admit(Port::Connectors, &self.edge.tables().admission, peer, ConnectionPath { direct, is_tls: None })
    }

    /// Whether a call may enter its tunnel.
    pub(super) fn admits_call(&self, source: &Source, verdict: AdmissionVerdict) -> bool {
        self.apply("call", source, verdict)
    }

    /// The peer of a connection that was admitted on another core. It gets a permit in any case, because the limit was
    /// applied there.
    pub(super) fn handed_over(&self, peer: Option<SocketAddr>, source: Source, front: Front) -> PeerInfo {
        let permit = limited_key(&source).and_then(|key| self.edge.agents.take(key, None));
        PeerInfo { peer, direct: None, source, front, permit }
    }

    /// Counts one more call of the source of a connection, until the returned permit is dropped.
    pub(super) fn begin_call(&self, permit: Option<&ConnectionPermit>) -> Result<Option<CallPermit>, TooManyCalls> {
        let Some(permit) = permit else { return Ok(None) };
        let begun = permit.begin_call();
        if begun.is_none() {
            Counters::add(&self.edge.counters.calls_limited);
        }
        begun.map(Some).ok_or(TooManyCalls)
    }

    /// Counts a registration with a wrong secret against its source.
    pub(super) fn on_failed_registration(&self, source: &Source) {
        let tables = self.edge.tables();
        let key = limited_key(source);
        let (Some(rate), Some(key)) = (tables.admission.failed_registrations, key) else { return };
        self.edge.failed_registrations().take(key, rate, self.core.now());
    }

    /// Writes a log line, if the limit per second allows it. `write` gets the number of lines that were left out.
    pub(super) fn log_limited(&self, write: impl FnOnce(u64)) {
        let left_out = self.log_limit.borrow_mut().allow(self.core.now());
        if let Some(left_out) = left_out {
            write(left_out);
        }
    }

    /// Checks a peer by lists, rates and the number of its connections.
    fn admit(
        &self,
        port: Port,
        admission: &Admission,
        peer: Option<SocketAddr>,
        ConnectionPath { direct, is_tls }: ConnectionPath,
    ) -> Option<PeerInfo> {
        let counters = &self.edge.counters;
        let source = admission.source(peer.map(|peer| peer.ip()));
        let trusted = &self.edge.settings.trusted_proxies;
        let is_trusted = [peer, direct].into_iter().flatten().any(|address| trusted.contains(address.ip()));
        let front = Front { is_tls, is_trusted };
        let mut info = PeerInfo { peer, direct, source, front, permit: None };
        // As long as it may be a connector, the rules for agents do not refuse it.
        let may_be_connector = port == Port::Agents
            && self.edge.settings.connectors_on_agents_listen
            && !matches!(admission.connectors.judge(&info.source), AdmissionVerdict::Denied(_));
        if !may_be_connector && !self.apply(port.name(), &info.source, port.rules(admission).judge(&info.source)) {
            self.keep_refused(port, &info.source, DENIED);
            return None;
        }
        let Some(key) = limited_key(&info.source) else { return Some(info) };
        let now = self.core.now();
        if port == Port::Connectors
            && let Some(rate) = admission.failed_registrations
            && !self.edge.failed_registrations().has(key, rate, now)
        {
            Counters::add(&counters.registrations_limited);
            self.log_limited(|left_out| {
                tracing::warn!(?peer, left_out, "refused: too many failed registrations from the source");
            });
            return None;
        }
        if let Some(rate) = admission.handshakes
            && !self.edge.handshakes().take(key, rate, now)
        {
            Counters::add(&counters.handshakes_limited);
            self.log_limited(|left_out| {
                tracing::warn!(port = port.name(), ?peer, left_out, "refused: the source connects too often")
            });
            self.keep_refused(port, &info.source, TOO_OFTEN);
            return None;
        }
        let (permits, max) = match port {
            Port::Agents => (&self.edge.agents, admission.connections_per_source),
            Port::Connectors => (&self.edge.unregistered, admission.strangers_per_source),
        };
        info.permit = permits.take(key, max);
        if info.permit.is_none() {
            Counters::add(&counters.connections_limited);
            self.log_limited(|left_out| {
                tracing::warn!(
                    port = port.name(),
                    ?peer,
                    left_out,
                    "refused: the source has too many connections open"
                );
            });
            self.keep_refused(port, &info.source, TOO_MANY);
            return None;
        }
        Some(info)
    }

    /// Adds a refused agent's connection to the call log.
    fn keep_refused(&self, port: Port, source: &Source, why: OwnAnswer) {
        if port == Port::Agents {
            let now = self.core.turn_time();
            self.calls.borrow_mut().record_turned_away(now, source.address, CallStage::Accept, why);
        }
    }

    /// Counts and logs a verdict; returns whether to continue.
    fn apply(&self, what: &'static str, source: &Source, verdict: AdmissionVerdict) -> bool {
        let (denied, why) = match verdict {
            AdmissionVerdict::Admitted => return true,
            AdmissionVerdict::Denied(why) => (true, why),
            AdmissionVerdict::WouldBeDenied(why) => (false, why),
        };
        let counters = &self.edge.counters;
        Counters::add(if denied { &counters.admission_denied } else { &counters.admission_dry_run });
        self.log_limited(|left_out| log_denied(what, source, why, denied, left_out));
        !denied
    }
}

/// The key under which rates and connections of a source are counted. Loopback has none: its connections come from
/// proxies and tests, and all would share one limit.
fn limited_key(source: &Source) -> Option<SourceKey> {
    source.address.filter(|address| !address.is_loopback()).map(SourceKey::of)
}

fn log_denied(what: &'static str, source: &Source, why: Why, denied: bool, left_out: u64) {
    let (address, asn, why) = (source.address, source.asn, why.as_str());
    if denied {
        tracing::info!(what, ?address, ?asn, why, left_out, "not admitted");
    } else {
        tracing::info!(what, ?address, ?asn, why, left_out, "would not be admitted (dry_run)");
    }
}

/// Reads a PROXY header. Returns it, and the bytes after it.
async fn read_header(socket: &Socket) -> Result<(ProxyHeader, Option<Lease>), AdmissionError> {
    // The start of a header that arrives in several pieces; shorter than the longest possible header.
    let mut before: Vec<u8> = Vec::new();
    loop {
        let mut lease = socket.recv().await.map_err(HandshakeError::from)?.ok_or(AdmissionError::Cut)?;
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
        return Ok((header, (!lease.is_empty()).then_some(lease)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::edge::tests::Fixture;
    use crate::policy::{Members, Rate};

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 4711))
    }

    fn admitted(gate: &Gate, port: Port, address: &str) -> Option<PeerInfo> {
        match gate.pre_accept(port, peer(address))? {
            PreAccept::Admitted(peer) => Some(peer),
            PreAccept::Proxy(_) => panic!("{address} is not a proxy"),
        }
    }

    #[test]
    fn a_source_has_as_many_connections_as_it_may_and_loopback_any_number() {
        let fixture = Fixture::new(Admission { connections_per_source: Some(2), ..Admission::default() });
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        let open = |address| admitted(&gate, Port::Agents, address);
        let (first, second) = (open("192.0.2.1"), open("192.0.2.1"));
        assert!(first.is_some() && second.is_some() && open("192.0.2.1").is_none());
        assert!(open("192.0.2.2").is_some(), "another source has its own limit");
        assert_eq!(fixture.edge.counters().connections_limited.load(Ordering::Relaxed), 1);
        drop(first);
        assert!(open("192.0.2.1").is_some());
        let loopback: Vec<_> = (0..5).map(|_| open("127.0.0.1").unwrap()).collect();
        assert!(loopback.iter().all(|peer| peer.permit.is_none()));
    }

    #[test]
    fn a_proxy_is_known_by_its_address_on_its_own_port_only() {
        let agents_proxies = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let fixture = Fixture::new(Admission { agents_proxies, ..Admission::default() });
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        assert!(matches!(gate.pre_accept(Port::Agents, peer("192.0.2.1")), Some(PreAccept::Proxy(_))));
        assert!(admitted(&gate, Port::Connectors, "192.0.2.1").is_some());
        assert!(admitted(&gate, Port::Agents, "198.51.100.1").is_some());
    }

    #[test]
    fn a_source_with_too_many_wrong_secrets_may_not_connect_as_a_connector() {
        let fixture = Fixture::new(Admission { failed_registrations: Rate::new(1, 2), ..Admission::default() });
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        for _ in 0..2 {
            let peer = admitted(&gate, Port::Connectors, "192.0.2.1").unwrap();
            gate.on_failed_registration(&peer.source);
        }
        assert!(admitted(&gate, Port::Connectors, "192.0.2.1").is_none());
        assert_eq!(fixture.edge.counters().registrations_limited.load(Ordering::Relaxed), 1);
        assert!(admitted(&gate, Port::Connectors, "192.0.2.2").is_some());
        assert!(admitted(&gate, Port::Agents, "192.0.2.1").is_some(), "agents of that source are not meant");
    }

    #[test]
    fn a_connection_from_another_core_counts_and_is_never_refused() {
        let fixture = Fixture::new(Admission {
            connections_per_source: Some(1),
            calls_per_source: Some(1),
            ..Admission::default()
        });
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        let first = admitted(&gate, Port::Agents, "192.0.2.1").unwrap();
        let second = gate.handed_over(first.peer, first.source, first.front);
        let call = gate.begin_call(first.permit.as_ref()).unwrap();
        assert!(call.is_some());
        assert_eq!(gate.begin_call(second.permit.as_ref()).err(), Some(TooManyCalls), "calls are counted per source");
        assert_eq!(fixture.edge.counters().calls_limited.load(Ordering::Relaxed), 1);
        drop(call);
        assert!(gate.begin_call(second.permit.as_ref()).is_ok());
        assert!(
            gate.begin_call(None).is_ok_and(|permit| permit.is_none()),
            "a connection that is not counted has no limit"
        );
    }

    #[test]
    fn agents_rules_apply_after_the_peer_is_known_where_connectors_may_connect_too() {
        let only = |network: &str| Rules::new(Members::new([network.parse().unwrap()], []), Members::default(), false);
        let admission =
            || Admission { agents: only("192.0.2.0/24"), connectors: only("198.51.100.0/24"), ..Admission::default() };
        let fixture = Fixture::new(admission());
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        assert!(admitted(&gate, Port::Agents, "192.0.2.1").is_some());
        assert!(admitted(&gate, Port::Agents, "198.51.100.1").is_none());

        let fixture = Fixture::with(admission(), |settings| settings.connectors_on_agents_listen = true);
        let gate = Gate::new(&fixture.core, &fixture.edge, &fixture.calls);
        let agent = admitted(&gate, Port::Agents, "192.0.2.1").unwrap();
        assert!(gate.admits_agent(&agent.source) && gate.admit_connector(agent).is_none());
        let connector = admitted(&gate, Port::Agents, "198.51.100.1").unwrap();
        assert!(!gate.admits_agent(&connector.source) && gate.admit_connector(connector).is_some());
        assert!(admitted(&gate, Port::Agents, "203.0.113.1").is_none(), "neither of them may come from there");
    }
}
