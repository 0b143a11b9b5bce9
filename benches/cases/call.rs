//! Calls through the real edge and the real connector, on the simulated network, in one thread: what our own code needs
//! for a call, and the kernel nothing.
//!
//! Agents speak TLS and the link is TLS, as in production. Agents and upstream count too, and are the same from one run to
//! the next.

#[path = "../../tests/sim/roles.rs"]
pub(super) mod roles;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit::base::{BreakerOverrides, ConcurrencyOverrides, DeadlineOverrides, GuardMode};
use adit::connector::{Connector, ConnectorSettings, ConnectorTables, EdgeTls};
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeSettings, EdgeTables};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, ByteStream, Core, MailReceiver, Socket, mailbox};
use adit::latency::TaskSettings;
use adit::policy::{InventoryMemory, PinMode, ToolInventory, ToolPins};
use adit::route::RouteOverrides;
use adit::serve::{AuditEntries, AuditEntry, AuditLog};
use adit::tls::{
    ALPN_HTTP1, ALPN_HTTP2, ALPN_LINK, ClientConfig, ClientSettings, Connection, ServerConfig, ServerName, Versions,
    WallClock, client_config,
};
use adit::wire::mux;
use memchr::memmem;

use super::Work;
use super::call_http2;
use super::governance;
use super::jsonrpc::tools_call;
use super::tls_pair::{NAME, believed};
use roles::{AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, UPSTREAM_AT};

const SEED: u64 = 4711;
pub(super) const BODY_LEN: usize = 1024;
/// Longer than anything here takes in simulated time.
const LONGEST: Duration = Duration::from_secs(60);
/// What begins with this is the upstream's answer.
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// So many calls at once, each on a connection of its own that is open before.
pub(crate) fn calls(at_once: usize) -> Work {
    let mut path = Path::start();
    let agents = path.connect(at_once);
    Box::new(move || path.call(&agents))
}

/// The same with all guards: deadlines, breakers and concurrency limits are enforced, agents say how long they wait, their calls are
/// added to tasks, and requests that are safe may be sent again.
pub(crate) fn guarded_calls(at_once: usize) -> Work {
    let mut path = Path::start_with(Guards::All);
    let agents = path.connect(at_once);
    Box::new(move || path.call(&agents))
}

/// The same with all of governance: the connector decides each call by the policy of [`governance`], keeps an inventory and looks
/// at the texts, and the edge writes each call to its audit log before the answer leaves.
pub(crate) fn governed_calls(at_once: usize) -> Work {
    let mut path = Path::start_with(Guards::Governed);
    let agents = path.connect(at_once);
    Box::new(move || path.call(&agents))
}

/// So many calls at once over HTTP/2, on one connection that is open before.
pub(crate) fn calls_over_http2(at_once: usize) -> Work {
    let mut path = Path::start();
    let agent = path.connect_http2();
    Box::new(move || path.call_over_http2(&agent, at_once))
}

/// Which guards are on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guards {
    /// As without any setting.
    Default,
    /// All of them, enforced.
    All,
    /// None of them, but all of governance.
    Governed,
}

impl Guards {
    fn edge_tables(self) -> EdgeTables {
        let mode = match self {
            Guards::Default | Guards::Governed => return roles::edge_tables(),
            Guards::All => Some(GuardMode::Enforce),
        };
        roles::edge_tables_with(RouteOverrides {
            deadlines: DeadlineOverrides { mode, ..DeadlineOverrides::default() },
            breaker: BreakerOverrides { mode },
            concurrency: ConcurrencyOverrides { mode, max: None },
            ..RouteOverrides::default()
        })
    }

    fn connector_tables(self) -> ConnectorTables {
        match self {
            Guards::Default => roles::connector_tables(),
            Guards::All => roles::connector_tables_with(|route| route.resend = Some(Arc::default())),
            Guards::Governed => {
                roles::connector_tables_with(|route| route.policy = Some(Arc::new(governance::policy().pinned(pins()))))
            }
        }
    }

    fn tasks(self) -> TaskSettings {
        let tasks_max = if self == Guards::All { 1_000 } else { TaskSettings::default().tasks_max };
        TaskSettings { tasks_max, ..TaskSettings::default() }
    }

    /// What the upstream answers.
    fn answer(self) -> Vec<u8> {
        if self == Guards::Governed { governance::answer(BODY_LEN).into_bytes() } else { vec![b'y'; BODY_LEN] }
    }

    /// What agents add to their requests.
    fn fields(self) -> &'static str {
        if self == Guards::All { "X-Request-Timeout: 60\r\n" } else { "" }
    }
}

pub(crate) struct Path {
    pub(crate) sim: Simulation,
    agents: Core,
    guards: Guards,
    client: Arc<ClientConfig>,
    /// Kept so that the roles have somebody to speak to.
    _events: Box<dyn std::any::Any>,
    /// What the edge writes to its audit log, if it has one.
    audited: Option<AuditEntries>,
    done: Rc<Cell<usize>>,
}

impl Path {
    /// Everything runs, and the link is up.
    pub(crate) fn start() -> Path {
        Path::start_with(Guards::Default)
    }

    fn start_with(guards: Guards) -> Path {
        let mut sim = Simulation::new(SimNet::new(SEED, Faults::none()));
        // The cold count of `instructions` knows edge and connector by this order.
        let mut core = |host| roles::add_core(&mut sim, host, 0, BUFFER_MEMORY_DEFAULT).0;
        let (agents, edge, connector, upstream) = (core(AGENTS), core(EDGE), core(CONNECTOR), core(UPSTREAM));
        serve(&upstream, guards.answer());
        let (log, audited) = match guards {
            Guards::Governed => Some(AuditLog::new(true)).unzip(),
            Guards::Default | Guards::All => (None, None),
        };
        let versions = Versions::Tls13;
        let (roots, server) = believed(versions);
        let mut for_connectors = ServerConfig::clone(&server);
        for_connectors.alpn_protocols = vec![ALPN_LINK.to_vec()];
        let mut for_agents = ServerConfig::clone(&server);
        for_agents.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        let edge_tls = EdgeTls::new(roots.clone(), WallClock::default(), 1).expect("TLS towards the edge");
        let client = client_config(ClientSettings { roots, versions, ..ClientSettings::default() }).expect("a client");
        let link = mux::Settings::default();
        let settings = EdgeSettings {
            connectors_tls: Some(Arc::new(for_connectors)),
            agents_tls: Some(Arc::new(for_agents)),
            // Off unless it is asked for.
            tasks: guards.tasks(),
            audit: log,
            ..roles::edge_settings(link)
        };
        let (sender, edge_events) = mailbox(64);
        let role = Edge::new(settings, guards.edge_tables(), 1, SEED, &sender);
        edge.spawn(role.run(edge.clone()));
        let settings = ConnectorSettings {
            edge_tls: Some(Arc::new(edge_tls)),
            edge_name: Some(NAME.into()),
            ..roles::connector_settings(link)
        };
        let (sender, connector_events) = mailbox(64);
        let role = Connector::new(settings, guards.connector_tables(), 1, SEED, &sender);
        connector.spawn(role.run(connector.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
        let events: (MailReceiver<_>, MailReceiver<_>) = (edge_events, connector_events);
        let (_events, done): (Box<dyn std::any::Any>, _) = (Box::new(events), Rc::default());
        let mut path = Path { sim, agents, guards, client, _events, audited, done };
        path.pass(Duration::from_secs(1));
        path
    }

    fn pass(&mut self, time: Duration) {
        let until = self.sim.net().now() + time;
        self.sim.run_until(until).expect("no core fails");
    }

    pub(crate) fn connect(&mut self, agents: usize) -> Vec<Rc<Agent>> {
        let connected: Rc<RefCell<Vec<Rc<Agent>>>> = Rc::default();
        for _ in 0..agents {
            let (connected, core, client) = (Rc::clone(&connected), self.agents.clone(), Arc::clone(&self.client));
            let fields = self.guards.fields();
            self.agents.spawn(async move {
                let agent = Agent::connect(&core, &client, fields).await;
                connected.borrow_mut().push(Rc::new(agent));
            });
        }
        self.pass(Duration::from_secs(1));
        let connected = connected.take();
        assert_eq!(connected.len(), agents, "the edge takes connections within a second");
        connected
    }

    fn connect_http2(&mut self) -> Rc<call_http2::Agent> {
        let connected: Rc<RefCell<Option<Rc<call_http2::Agent>>>> = Rc::default();
        let (shared, core) = (Rc::clone(&connected), self.agents.clone());
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        self.agents.spawn(async move {
            let agent = call_http2::Agent::connect(&core, &Arc::new(client)).await;
            shared.replace(Some(Rc::new(agent)));
        });
        self.pass(Duration::from_secs(1));
        connected.take().expect("the edge takes a connection within a second")
    }

    /// Has the agent make so many calls.
    fn call_over_http2(&mut self, agent: &Rc<call_http2::Agent>, at_once: usize) {
        self.done.set(0);
        let (agent, done) = (Rc::clone(agent), Rc::clone(&self.done));
        self.agents.spawn(async move {
            agent.call(at_once).await;
            done.set(1);
        });
        let (done, until) = (Rc::clone(&self.done), self.sim.net().now() + LONGEST);
        self.sim.run(until, || done.get() == 1).expect("every call is answered");
    }

    /// Has every agent make one call.
    pub(crate) fn call(&mut self, agents: &[Rc<Agent>]) {
        self.done.set(0);
        for agent in agents {
            let (agent, done) = (Rc::clone(agent), Rc::clone(&self.done));
            self.agents.spawn(async move {
                agent.call().await;
                done.set(done.get() + 1);
            });
        }
        let (done, all, until) = (Rc::clone(&self.done), agents.len(), self.sim.net().now() + LONGEST);
        let audited = self.audited.as_ref();
        let is_done = || {
            write_all(audited);
            done.get() == all
        };
        self.sim.run(until, is_done).expect("every call is answered");
    }
}

pub(crate) struct Agent {
    core: Core,
    connection: Connection,
    request: Vec<u8>,
}

impl Agent {
    async fn connect(core: &Core, config: &Arc<ClientConfig>, fields: &str) -> Agent {
        let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens");
        let name = ServerName::try_from(NAME).expect("a name");
        let connection = Connection::client(socket, config, name, pending()).await.expect("the edge speaks TLS");
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2025-11-25\r\n\
             Mcp-Session-Id: 0123456789abcdef0123456789abcdef\r\nUser-Agent: agent/1.0\r\n\
             {fields}Content-Length: {BODY_LEN}\r\n\r\n"
        );
        Agent { core: core.clone(), connection, request: [head, tools_call(BODY_LEN)].concat().into_bytes() }
    }

    async fn call(&self) {
        send(&self.core, &self.connection, &self.request).await;
        let mut answer = Vec::with_capacity(2 * BODY_LEN);
        receive(&self.connection, BODY_LEN, &mut answer).await;
        assert!(answer.starts_with(GOOD), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Reports the queued lines of the audit log as written, so that their calls continue. No core writes the log.
fn write_all(audited: Option<&AuditEntries>) {
    while let Some(AuditEntry::Line { written, .. }) = audited.and_then(AuditEntries::try_next) {
        if let Some(written) = written {
            written.send(()).expect("the call waits for it");
        }
    }
}

/// Pins in the mode `warn`: no tool is approved, and all tools can be called.
fn pins() -> Option<ToolPins> {
    ToolPins::new(PinMode::Warn, &Arc::new(ToolInventory::new(&InventoryMemory::new(1 << 20))))
}

/// Starts the upstream, which gives this answer.
fn serve(core: &Core, body: Vec<u8>) {
    let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).expect("a free address");
    let here = core.clone();
    core.spawn(async move {
        while let Ok((detached, _)) = listener.accept().await {
            let socket = here.adopt(detached, SocketOptions::default()).await.expect("the driver takes it");
            here.spawn(answer(here.clone(), socket, body.clone()));
        }
    });
}

/// Answers every request of one connection.
async fn answer(core: Core, socket: Socket, body: Vec<u8>) {
    let fields =
        format!("Content-Type: application/json\r\nServer: upstream/1.0\r\nContent-Length: {BODY_LEN}\r\n\r\n");
    let answer = [GOOD, fields.as_bytes(), &body].concat();
    let mut request = Vec::with_capacity(2 * BODY_LEN);
    loop {
        request.clear();
        receive(&socket, BODY_LEN, &mut request).await;
        send(&core, &socket, &answer).await;
    }
}

pub(super) async fn send(core: &Core, stream: &impl ByteStream, bytes: &[u8]) {
    let mut lease = core.pool().lease_for(stream.headroom() + bytes.len() + stream.tailroom()).await;
    lease.reserve_headroom(stream.headroom());
    lease.append(bytes);
    stream.send(lease).expect("the peer stays");
}

/// Receives one head and a body of `body_len` bytes.
async fn receive(stream: &impl ByteStream, body_len: usize, message: &mut Vec<u8>) {
    loop {
        let lease = stream.recv().await.expect("the peer stays").expect("the peer stays");
        message.extend_from_slice(&lease);
        let head_end = memmem::find(message, b"\r\n\r\n");
        if head_end.is_some_and(|at| message.len() >= at + 4 + body_len) {
            return;
        }
    }
}
