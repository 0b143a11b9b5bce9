//! Fixtures of this module's unit tests: an edge, a core that no driver runs, and established links.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::{BreakerTerms, Clock, ConcurrencyTerms, CoreId, DeadlineTerms, LinkId, Secret, SharedMap, TunnelId};
use crate::edge::{AgentRoutes, Edge, EdgeEvent, EdgeSettings, EdgeTables, PlainHttp, TunnelEntry};
use crate::engine::sim::{Faults, SimNet};
use crate::engine::{ByteStream, Class, Core, Lease, MailReceiver, MailSender, Pool, StreamError, mailbox};
use crate::latency::{CallLog, LatencySettings, SlowCallSettings, TaskSettings};
use crate::link::Link;
use crate::policy::{Admission, Networks};
use crate::route::RouteTable;
use crate::tls::WallClock;
use crate::wire::mux::{self, EdgeIdentity, Hello, Mux};

/// An edge with one tunnel, and one of its cores.
pub(super) struct Fixture {
    pub(super) core: Core,
    pub(super) edge: Arc<Edge>,
    pub(super) events: MailSender<EdgeEvent>,
    pub(super) sent: MailReceiver<EdgeEvent>,
    pub(super) calls: Rc<RefCell<CallLog>>,
    /// The network, which keeps the core's clock.
    _net: SimNet,
}

pub(super) fn tunnel() -> TunnelId {
    "tnl_a".parse().unwrap()
}

/// Tables with the tunnel, which has this secret.
pub(super) fn tables(secret: &str, admission: Admission) -> EdgeTables {
    let tunnels = SharedMap::from([(tunnel(), TunnelEntry::of_secret(&Secret::from(secret)))]);
    EdgeTables { routes: AgentRoutes::default(), hosts: RouteTable::default(), tunnels, admission }
}

impl Fixture {
    pub(super) fn new(admission: Admission) -> Fixture {
        Fixture::with(admission, |_| {})
    }

    /// An edge with other settings.
    pub(super) fn with(admission: Admission, set: impl FnOnce(&mut EdgeSettings)) -> Fixture {
        let net = SimNet::new(1, Faults::none());
        let pool = Pool::new(0);
        let driver = net.driver(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.clone());
        let core = Core::new(CoreId(1), Box::new(driver), pool, Duration::ZERO);
        let (events, sent) = mailbox(16);
        let mut settings = settings();
        set(&mut settings);
        let edge = Edge::new(settings, tables("secret", admission), 2, 7, &events);
        let calls = Rc::new(RefCell::new(CallLog::new(16)));
        Fixture { core, edge, events, sent, calls, _net: net }
    }

    /// A link after its handshake: the connector's HELLO was received and accepted.
    pub(super) fn link(&self, id: LinkId) -> Link {
        let (now, settings) = (self.core.now(), mux::Settings::default());
        let (secret, software) = (Secret::from("secret"), "adit/test".to_owned());
        let hello = Hello { tunnel: tunnel(), secret, instance: 1, software, link_index: 0 };
        let mut bytes = Bytes(Vec::new());
        Mux::connector(now, settings, hello).unwrap().poll_transmit(now, 4096, &mut bytes);
        let mut received = self.core.pool().take(Class::Small).unwrap();
        received.append(&bytes.0);
        let link = Link::edge(&self.core, id, settings);
        let mut run = pin!(link.run(&Quiet, Some(received)));
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        link.welcome(EdgeIdentity { instance: 1, core: self.core.id(), cores: 2 });
        assert!(link.is_open());
        link.clone()
    }
}

/// The frames of a mux as one byte string.
struct Bytes(Vec<u8>);

impl mux::FrameSink<Vec<u8>> for Bytes {
    fn frame(&mut self, head: &[u8], payload: Option<Vec<u8>>) {
        self.0.extend_from_slice(head);
        self.0.extend_from_slice(&payload.unwrap_or_default());
    }
}

/// A connection on which nothing arrives.
struct Quiet;

impl ByteStream for Quiet {
    fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        Poll::Pending
    }

    fn send(&self, _: Lease) -> Result<(), StreamError> {
        Ok(())
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&self) {}

    fn abort(&self) {}
}

fn settings() -> EdgeSettings {
    let second = Duration::from_secs(1);
    EdgeSettings {
        agents_listen: (Ipv4Addr::LOCALHOST, 443).into(),
        agents_tls: None,
        agents_tls_asking: None,
        plain_http: PlainHttp::Anywhere,
        http2: true,
        connectors_listen: (Ipv4Addr::LOCALHOST, 7844).into(),
        connectors_on_agents_listen: false,
        cloudflared: None,
        quic: None,
        connectors_tls: None,
        certifier: None,
        clock: WallClock::default(),
        link: mux::Settings::default(),
        origins: Arc::default(),
        public: None,
        trusted_proxies: Networks::default(),
        connections_max: 100,
        handshake_timeout: second,
        header_timeout: second,
        idle_timeout: second,
        deadlines: DeadlineTerms { ceiling: second, ..DeadlineTerms::default() },
        breaker: BreakerTerms::default(),
        concurrency: ConcurrencyTerms::default(),
        sse_keepalive: None,
        offline_wait: second,
        restart_wait: second,
        stalled_connector_timeout: Duration::from_secs(5),
        session_idle_timeout: second * 60,
        drain_timeout: second,
        write_timeout: second,
        latency: LatencySettings::default(),
        slow_calls: SlowCallSettings::default(),
        calls_kept: 16,
        retries_max: 2,
        tasks: TaskSettings::default(),
        audit: None,
        traces: None,
        local_links: None,
    }
}
