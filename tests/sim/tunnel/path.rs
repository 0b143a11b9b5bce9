//! The whole path on one simulated network: agents, edge, connector and upstream, each on a host of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{BreakerOverrides, ConcurrencyOverrides, DeadlineOverrides, GuardMode, Rng};
use adit::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorReport};
use adit::dial::Resolver;
use adit::edge::{CoreReport, Edge, EdgeCommand, EdgeEvent};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, SimStop, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, BUFFER_MEMORY_MIN, Core, MailReceiver, MailSender, mailbox};
use adit::latency::LabelFigures;
use adit::policy::SafeRequests;
use adit::route::RouteOverrides;
use adit::wire::mux;

use super::agent::Agent;
use super::ledger::Ledger;
use super::plan::Weather;
use super::upstream::Upstream;
use crate::roles::{
    AGENTS, AGENTS_AT, CONNECTOR, DRAIN_TIMEOUT, EDGE, HOST, UPSTREAM, UPSTREAM_AT, add_core, connector_settings,
    connector_tables_with, edge_settings, edge_tables_with,
};

/// What the upstream has said of its tool.
const READ_ONLY: &[u8] = br#"{"id":0,"result":{"tools":[{"name":"echo","annotations":{"readOnlyHint":true}}]}}"#;
/// What a drain may take beyond its time-out: goodbyes, and agents that read why they were refused.
const DRAIN_SLACK: Duration = Duration::from_secs(5);

/// How one run is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) weather: Weather,
    pub(crate) edge_cores: u16,
    pub(crate) connector_cores: u16,
    pub(crate) link: mux::Settings,
    /// How long the upstream works on each call, instead of as long as its plan says.
    pub(crate) service: Option<Duration>,
    /// Bytes of buffers of each core of edge and connector.
    pub(crate) buffer_memory: usize,
    /// What becomes of calls that miss their deadline. Where it is enforced, bodies are read before a call is opened.
    pub(crate) deadlines: GuardMode,
    /// Whether breakers and concurrency limits are enforced as well, some agents say how long they wait, and the upstream's owner lets
    /// calls of the tool that only reads run twice.
    pub(crate) is_guarded: bool,
    /// Whether slow calls of the tool that only reads are tried a second time.
    pub(crate) is_hedged: bool,
}

impl Layout {
    /// One core each and a network without faults.
    pub(crate) fn plain(seed: u64) -> Layout {
        Layout {
            seed,
            faults: Faults::none(),
            weather: Weather::Fair,
            edge_cores: 1,
            connector_cores: 1,
            link: mux::Settings::default(),
            service: None,
            buffer_memory: 8 << 20,
            deadlines: GuardMode::Observe,
            is_guarded: false,
            is_hedged: false,
        }
    }

    /// Everything drawn from the seed.
    pub(crate) fn draw(seed: u64, rng: &mut Rng) -> Layout {
        let drawn = Layout::draw_any(seed, rng);
        // Two links on one core of the edge.
        match drawn.is_hedged {
            true => Layout { edge_cores: 1, connector_cores: 2, ..drawn },
            false => drawn,
        }
    }

    fn draw_any(seed: u64, rng: &mut Rng) -> Layout {
        Layout {
            seed,
            faults: Faults::draw(rng),
            weather: Weather::Foul,
            edge_cores: rng.between(1, 2) as u16,
            connector_cores: rng.between(1, 2) as u16,
            link: mux::Settings {
                stream_window: [2_000, 32_000, 256_000][rng.below(3) as usize],
                link_window: [40_000, 4_000_000][rng.below(2) as usize],
                ping_interval_ms: rng.between(500, 5_000) as u32,
                ..mux::Settings::default()
            },
            service: None,
            buffer_memory: [BUFFER_MEMORY_MIN, 8 << 20][rng.below(2) as usize],
            deadlines: if seed.is_multiple_of(3) { GuardMode::Enforce } else { GuardMode::Observe },
            is_guarded: seed % 4 == 1,
            is_hedged: seed % 16 == 2,
        }
    }
}

/// A role that runs.
struct Role<H, E> {
    handle: Arc<H>,
    cores: Vec<(Core, MemberId)>,
    events: MailReceiver<E>,
    ended: usize,
}

/// The path.
pub(crate) struct Path {
    pub(crate) net: SimNet,
    pub(crate) sim: Simulation,
    pub(crate) ledger: Ledger,
    layout: Layout,
    rng: Rng,
    agents: Core,
    edge: Option<Role<Edge, EdgeEvent>>,
    connector: Option<Role<Connector, ConnectorEvent>>,
    calls: usize,
    /// The second tries of edges that have ended.
    hedges: u64,
}

impl Path {
    /// Everything is started; links come up when time passes.
    pub(crate) fn new(layout: Layout) -> Path {
        let seed = layout.seed;
        let net = SimNet::new(seed, layout.faults.clone());
        let mut sim = Simulation::new(net.clone());
        let (agents, _) = add_core(&mut sim, AGENTS, 0, BUFFER_MEMORY_DEFAULT);
        let (server, _) = add_core(&mut sim, UPSTREAM, 0, BUFFER_MEMORY_DEFAULT);
        let ledger = Ledger::default();
        let (weather, service) = (layout.weather, layout.service);
        let may_repeat = layout.is_guarded || layout.is_hedged;
        Upstream { core: server, ledger: ledger.clone(), seed, weather, service, may_repeat }.start(UPSTREAM_AT);
        let rng = Rng::new(seed ^ 0x7061_7468);
        let mut path = Path { net, sim, ledger, layout, rng, agents, edge: None, connector: None, calls: 0, hedges: 0 };
        path.start_edge();
        path.start_connector();
        path
    }

    pub(crate) fn start_edge(&mut self) {
        assert!(self.edge.is_none(), "one edge at a time");
        let (sender, events) = mailbox(64);
        let count = self.layout.edge_cores;
        let settings = edge_settings(self.layout.link);
        let deadlines = DeadlineOverrides { mode: Some(self.layout.deadlines), ..DeadlineOverrides::default() };
        let mode = Some(GuardMode::Enforce).filter(|_| self.layout.is_guarded);
        let tables = edge_tables_with(RouteOverrides {
            deadlines,
            breaker: BreakerOverrides { mode },
            concurrency: ConcurrencyOverrides { mode, max: None },
            hedge: self.layout.is_hedged,
            ..RouteOverrides::default()
        });
        let edge = Edge::new(settings, tables, usize::from(count), self.rng.next_u64(), &sender);
        let cores = (0..count).map(|id| add_core(&mut self.sim, EDGE, id, self.layout.buffer_memory)).collect();
        let role = Role { handle: edge, cores, events, ended: 0 };
        for (core, _) in &role.cores {
            core.spawn(Arc::clone(&role.handle).run(core.clone()));
        }
        self.edge = Some(role);
    }

    pub(crate) fn start_connector(&mut self) {
        assert!(self.connector.is_none(), "one connector at a time");
        let (sender, events) = mailbox(4096);
        let count = self.layout.connector_cores;
        let settings = connector_settings(self.layout.link);
        let tables = connector_tables_with(|route| {
            route.resend = self.layout.is_guarded.then(|| {
                let safe = SafeRequests::default();
                safe.learn(READ_ONLY, false, true);
                Arc::new(safe)
            });
        });
        let connector = Connector::new(settings, tables, usize::from(count), self.rng.next_u64(), &sender);
        let cores = (0..count).map(|id| add_core(&mut self.sim, CONNECTOR, id, self.layout.buffer_memory)).collect();
        let role = Role { handle: connector, cores, events, ended: 0 };
        for (core, _) in &role.cores {
            let nobody = Resolver::Table(Rc::new(|_, _| Vec::new()));
            core.spawn(Arc::clone(&role.handle).run(core.clone(), nobody));
        }
        self.connector = Some(role);
    }

    /// Agents that make `calls_each` calls one after the other, each within `pause_max` of the one before.
    pub(crate) fn start_agents(&mut self, agents: usize, calls: impl Fn(usize) -> Vec<u64>, pause_max: Duration) {
        for nth in 0..agents {
            let pause_ns = pause_max.as_nanos() as u64 + 1;
            let calls = calls(nth);
            self.calls += calls.len();
            let calls = calls.into_iter().map(|id| (id, Duration::from_nanos(self.rng.below(pause_ns)))).collect();
            let agent = Agent {
                core: self.agents.clone(),
                ledger: self.ledger.clone(),
                seed: self.layout.seed,
                weather: self.layout.weather,
                waits: self.layout.is_guarded,
                target: AGENTS_AT,
                host: HOST,
            };
            self.agents.spawn(agent.run(calls));
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.net.now() + time).expect("no core fails");
    }

    /// Runs until every call has ended.
    pub(crate) fn run_calls(&mut self, within: Duration) {
        let (ledger, calls) = (self.ledger.clone(), self.calls);
        self.run("the calls end", within, move || ledger.ended() == calls);
    }

    /// Runs until it is so.
    #[track_caller]
    pub(crate) fn run(&mut self, what: &str, within: Duration, done: impl FnMut() -> bool) {
        match self.sim.run(self.net.now() + within, done) {
            Ok(()) => {}
            Err(SimStop::OutOfTime) => panic!("not within {within:?}: {what}"),
            Err(other) => panic!("before {what}: {other}"),
        }
    }

    /// The edge dies.
    pub(crate) fn kill_edge(&mut self, how: Death) {
        self.net.kill(EDGE, how);
        self.hedges = self.hedges();
        if let Some(edge) = self.edge.take() {
            edge.remove(&mut self.sim);
        }
    }

    /// The connector dies.
    pub(crate) fn kill_connector(&mut self, how: Death) {
        self.net.kill(CONNECTOR, how);
        if let Some(connector) = self.connector.take() {
            self.assert_resends_are_in_budget(&connector);
            connector.remove(&mut self.sim);
        }
    }

    /// The edge is told to end, and does within its bound.
    pub(crate) fn drain_edge(&mut self) {
        let before = self.hedges;
        let Some(mut edge) = self.edge.take() else { return };
        assert_eq!(edge.handle.command(|| EdgeCommand::Drain), edge.cores.len());
        self.run("the edge drains", DRAIN_TIMEOUT + DRAIN_SLACK, || {
            edge.read_events(|event| matches!(event, EdgeEvent::Ended(_)));
            edge.ended == edge.cores.len()
        });
        self.hedges = before + edge.handle.counters().hedges.load(Ordering::Relaxed);
        edge.remove(&mut self.sim);
    }

    /// The connector is told to end, and does within its bound.
    pub(crate) fn drain_connector(&mut self) {
        let Some(mut connector) = self.connector.take() else { return };
        assert_eq!(connector.handle.command(|| ConnectorCommand::Drain), connector.cores.len());
        self.run("the connector drains", DRAIN_TIMEOUT + DRAIN_SLACK, || {
            connector.read_events(|event| matches!(event, ConnectorEvent::Ended(_)));
            connector.ended == connector.cores.len()
        });
        self.assert_resends_are_in_budget(&connector);
        connector.remove(&mut self.sim);
    }

    /// How many second tries there were: one for fifty calls at the most.
    pub(crate) fn hedges(&self) -> u64 {
        let now = self.edge.as_ref().map_or(0, |edge| edge.handle.counters().hedges.load(Ordering::Relaxed));
        assert!(now * 50 <= self.calls as u64, "{now} second tries of {} calls", self.calls);
        self.hedges + now
    }

    /// A tenth of the calls, and ten on each core. Requests of which nothing had reached the upstream are not limited by it.
    fn assert_resends_are_in_budget(&self, connector: &Role<Connector, ConnectorEvent>) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = connector.handle.counters();
        let resent = count(&counters.requests_resent) - count(&counters.resends_unread);
        let most = self.calls as u64 / 10 + 10 * connector.cores.len() as u64;
        assert!(resent <= most, "{resent} requests were sent again of {} calls", self.calls);
    }

    /// What the cores of the edge report.
    pub(crate) fn report_edge(&mut self) -> Vec<CoreReport> {
        let (sender, reports) = mailbox(16);
        let asked = self
            .edge
            .as_ref()
            .map_or(0, |edge| edge.handle.command(|| EdgeCommand::Report(MailSender::clone(&sender))));
        self.collect(asked, reports)
    }

    /// The times of all calls, as the cores of the edge tell them.
    pub(crate) fn figures(&mut self) -> LabelFigures {
        let mut total = LabelFigures::new();
        for index in 0.. {
            let (sender, figures) = mailbox(16);
            let command = || EdgeCommand::Figures(index, MailSender::clone(&sender));
            let asked = self.edge.as_ref().map_or(0, |edge| edge.handle.command(command));
            let sets: Vec<_> = self.collect(asked, figures).into_iter().filter_map(|figures| figures.set).collect();
            if sets.is_empty() {
                break;
            }
            sets.iter().for_each(|(_, set)| total.add(set));
        }
        total
    }

    /// What the cores of the connector report.
    pub(crate) fn report_connector(&mut self) -> Vec<ConnectorReport> {
        let (sender, reports) = mailbox(16);
        let asked = self
            .connector
            .as_ref()
            .map_or(0, |connector| connector.handle.command(|| ConnectorCommand::Report(MailSender::clone(&sender))));
        self.collect(asked, reports)
    }

    fn collect<T>(&mut self, asked: usize, mut reports: MailReceiver<T>) -> Vec<T> {
        let mut collected = Vec::new();
        self.run("the cores report", Duration::from_secs(1), || {
            while let Some(report) = try_recv(&mut reports) {
                collected.push(report);
            }
            collected.len() == asked
        });
        collected
    }

    /// With every call over and good weather, nothing is left of any of them.
    pub(crate) fn assert_nothing_is_left(&mut self) {
        for report in self.report_edge() {
            let streams: usize = report.links.iter().map(|link| link.streams).sum();
            assert_eq!((report.calls_open, report.agents_open, streams), (0, 0, 0), "at the edge: {:?}", report.links);
            assert_eq!(report.pool.leased_bytes, 0, "buffers of the edge that did not come back");
        }
        for report in self.report_connector() {
            let streams: usize = report.links.iter().map(|link| link.streams).sum();
            assert_eq!((report.calls_open, streams), (0, 0), "at the connector: {:?}", report.links);
            assert_eq!(report.pool.leased_bytes, 0, "buffers of the connector that did not come back");
        }
        assert_eq!(self.agents.pool().usage().leased_bytes, 0, "buffers of the agents");
        assert_eq!(self.net.open_sockets(AGENTS), 0);
    }

    /// With both roles gone, nothing is left of either. A peer of a host that lost its power, or that was cut off for
    /// long, may have heard nothing of it.
    pub(crate) fn assert_everything_is_gone(&mut self, all_heard: bool) {
        for host in [AGENTS, EDGE, CONNECTOR] {
            assert_eq!(self.net.open_sockets(host), 0, "sockets of {host}");
        }
        if all_heard {
            assert_eq!((self.net.open_sockets(UPSTREAM), self.net.connections()), (0, 0));
        }
        assert_eq!(self.net.bytes_in_flight(), 0);
    }
}

impl<H, E> Role<H, E> {
    /// Ends the cores where they stand; with them every task, socket and buffer is gone.
    fn remove(self, sim: &mut Simulation) {
        let Role { handle, cores, events, .. } = self;
        for (core, member) in cores {
            sim.remove(member);
            let pool = core.pool().clone();
            drop(core);
            assert_eq!(pool.usage().leased_bytes, 0, "buffers of a core that has ended");
        }
        drop((handle, events));
    }

    fn read_events(&mut self, is_end: impl Fn(&E) -> bool) {
        while let Some(event) = try_recv(&mut self.events) {
            self.ended += usize::from(is_end(&event));
        }
    }
}

fn try_recv<T>(receiver: &mut MailReceiver<T>) -> Option<T> {
    match receiver.poll_recv(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message,
        Poll::Pending => None,
    }
}
