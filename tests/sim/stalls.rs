//! Calls whose agent takes nothing of its answer, through the real edge and the real connector on virtual time: how each ends,
//! when, and that nothing of it stays.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{DeadlineOverrides, Secret, TunnelId};
use adit::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorRoute};
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings, EdgeTables, TunnelEntry};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{
    BUFFER_MEMORY_MIN, ByteStream, Class, Core, Lease, MailReceiver, MailSender, Socket, StreamError, mailbox,
};
use adit::latency::{BreakerReading, CallFilter, CallLine, CoreFigures, ForcedState, Label, Outcome, QueueReading};
use adit::route::RouteOverrides;
use adit::serve::AuditLog;
use adit::wire::mux;

use crate::bodies::{body, read, read_head, send, serve};
use crate::figures;
use crate::roles::{self, AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, add_core};
use crate::sealed::Sealed;

const SECOND: Duration = Duration::from_secs(1);
/// Within which an end that waits for nobody is there.
const AT_ONCE: Duration = Duration::from_millis(300);
/// How long an agent may take nothing.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long calls may go on after a role was told to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent may take nothing while calls are to end, and how long the edge may take to see it.
const DRAIN_STALL: Duration = Duration::from_secs(5 + 6);
/// How long an upstream may take to begin its answer.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(120);
/// More than all buffers between an upstream and an agent hold.
pub(crate) const LARGE: usize = 8_000_000;

/// Edge, connector and upstream, with one core each.
pub(crate) struct Bed {
    sim: Simulation,
    edge: Arc<Edge>,
    pub(crate) edge_core: Core,
    edge_events: MailReceiver<EdgeEvent>,
    connector: Arc<Connector>,
    connector_core: (Core, MemberId),
    connector_events: MailReceiver<ConnectorEvent>,
    upstream: MemberId,
    pub(crate) agents: Core,
    /// Whose buffers no agent that stands still has.
    probes: Core,
}

/// What became of an agent: nothing yet, the bytes of its answer that it read, or why it did not get all of them.
type Fate = Rc<RefCell<Option<Result<Vec<u8>, StreamError>>>>;

impl Bed {
    /// Starts all, and waits for the link.
    pub(crate) fn start() -> Bed {
        Bed::start_with(mux::Settings::default())
    }

    /// The same, with these settings of the link.
    pub(crate) fn start_with(link: mux::Settings) -> Bed {
        Bed::start_audited(link, None)
    }

    /// The same, with an edge that writes its calls to this audit log.
    pub(crate) fn start_audited(link: mux::Settings, audit: Option<AuditLog>) -> Bed {
        // What an agent does not read may not disappear in the buffers of systems.
        let faults = Faults { send_buffer_bytes: 30_000, receive_buffer_bytes: 30_000, ..Faults::none() };
        let mut sim = Simulation::new(SimNet::new(1, faults));
        let (upstream, upstream_member) = add_core(&mut sim, UPSTREAM, 0, BUFFER_MEMORY_MIN);
        let (agents, _) = add_core(&mut sim, AGENTS, 0, BUFFER_MEMORY_MIN);
        let (probes, _) = add_core(&mut sim, AGENTS, 1, BUFFER_MEMORY_MIN);
        let (edge_core, _) = add_core(&mut sim, EDGE, 0, 8 << 20);
        let connector_core = add_core(&mut sim, CONNECTOR, 0, 8 << 20);
        serve(&upstream);
        let (events_sender, edge_events) = mailbox(64);
        let settings = EdgeSettings { drain_timeout: DRAIN_TIMEOUT, audit, ..roles::edge_settings(link) };
        assert_eq!(settings.write_timeout, WRITE_TIMEOUT);
        assert_eq!(settings.deadlines.ceiling, FIRST_BYTE_TIMEOUT);
        let edge = Edge::new(settings, roles::edge_tables(), 1, 1, &events_sender);
        edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
        let (events_sender, connector_events) = mailbox(4096);
        let settings =
            adit::connector::ConnectorSettings { drain_timeout: DRAIN_TIMEOUT, ..roles::connector_settings(link) };
        let connector = Connector::new(settings, roles::connector_tables(), 1, 2, &events_sender);
        let nobody = Resolver::Table(Rc::new(|_, _| Vec::new()));
        connector_core.0.spawn(Arc::clone(&connector).run(connector_core.0.clone(), nobody));
        let mut bed = Bed {
            sim,
            edge,
            edge_core,
            edge_events,
            connector,
            connector_core,
            connector_events,
            upstream: upstream_member,
            agents,
            probes,
        };
        bed.pass(2 * SECOND);
        bed
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).expect("no core fails");
    }

    /// The route gets settings of its own.
    pub(crate) fn reload(&self, own: RouteOverrides) {
        self.edge.reload(roles::edge_tables_with(own));
    }

    /// An agent that asks for so much and takes nothing of it for ten minutes.
    fn dead_agent(&self, path: &str) -> Fate {
        self.agent(path, usize::MAX, 600 * SECOND, Duration::ZERO)
    }

    /// An agent that reads so much after `first`, with a `pause` after each piece.
    fn agent(&self, path: &str, len: usize, first: Duration, pause: Duration) -> Fate {
        agent_on(&self.agents, path, len, first, pause)
    }

    /// The same, with buffers that no agent that stands still has.
    fn probe(&self, path: &str, len: usize, first: Duration, pause: Duration) -> Fate {
        agent_on(&self.probes, path, len, first, pause)
    }

    /// An agent that uploads in pieces of 60 bytes, each by itself, to an upstream that takes none of them.
    fn chatty_upload(&self) {
        let core = self.agents.clone();
        self.agents.spawn(async move {
            let socket = connect(&core).await;
            let head = format!("POST /deaf HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut sent = send(&socket, head.as_bytes()).await;
            let piece = format!("3c\r\n{}\r\n", "x".repeat(60));
            while sent.is_ok() {
                core.sleep(Duration::from_millis(1)).await;
                sent = send(&socket, piece.as_bytes()).await;
            }
        });
    }

    /// How calls have ended so far.
    pub(crate) fn outcomes(&mut self) -> Vec<(Outcome, u64)> {
        figures::outcomes(|index| self.figures(index))
    }

    /// The figures of the edge's label with this index.
    pub(crate) fn figures(&mut self, index: usize) -> CoreFigures {
        let (sender, mut figures) = mailbox(1);
        assert_eq!(self.edge.command(|| EdgeCommand::Figures(index, MailSender::clone(&sender))), 1);
        self.pass(Duration::from_millis(1));
        try_recv(&mut figures).expect("the core answers")
    }

    /// The call is under way, with as much of its answer as the buffers on its way hold.
    #[track_caller]
    fn assert_stands(&mut self) {
        assert_eq!(self.outcomes(), [], "the call is under way");
        assert!(self.edge_core.pool().usage().leased_bytes > 0, "the edge holds what the agent does not read");
        assert_eq!(self.sim.net().open_sockets(UPSTREAM), 1);
    }

    /// Nothing of any call is left at the edge.
    #[track_caller]
    pub(crate) fn assert_nothing_is_left(&mut self) {
        assert_eq!(self.edge_core.pool().usage().leased_bytes, 0, "buffers of the edge");
        assert_eq!(self.connector_core.0.pool().usage().leased_bytes, 0, "buffers of the connector");
        assert_eq!(self.sim.net().open_sockets(UPSTREAM), 0, "the upstream is still at work");
    }

    /// The upstream's process is killed: its connections are reset, and further ones are refused.
    pub(crate) fn kill_upstream(&mut self) {
        self.sim.net().kill(UPSTREAM, Death::Processes);
        self.sim.remove(self.upstream);
    }

    /// It is started again.
    pub(crate) fn start_upstream(&mut self) {
        let (core, member) = add_core(&mut self.sim, UPSTREAM, 0, BUFFER_MEMORY_MIN);
        self.upstream = member;
        serve(&core);
    }

    /// The counters of the edge.
    pub(crate) fn counters(&self) -> &adit::edge::Counters {
        self.edge.counters()
    }

    /// The breakers of the edge that have seen calls.
    pub(crate) fn breakers(&self) -> Vec<BreakerReading> {
        self.edge.breakers().readings(self.sim.net().now())
    }

    /// An operator decides about the breaker of a tool.
    pub(crate) fn force_breaker(&self, tool: &str, forced: Option<ForcedState>) {
        let label = Label { route: "route".into(), method: "tools/call".into(), tool: tool.into() };
        self.edge.breakers().force(&label, forced, self.sim.net().now());
    }

    /// The concurrency limits of the edge, by the names of their routes.
    pub(crate) fn limits(&self) -> Vec<(String, QueueReading)> {
        self.edge.limits()
    }

    /// The last calls that failed, or that did not.
    pub(crate) fn calls(&mut self, failed: bool) -> Vec<CallLine> {
        let (sender, mut calls) = mailbox(1);
        let filter = Arc::new(CallFilter { failed, limit: 1_000, ..CallFilter::default() });
        assert_eq!(self.edge.command(|| EdgeCommand::Calls(Arc::clone(&filter), MailSender::clone(&sender))), 1);
        self.pass(Duration::from_millis(1));
        try_recv(&mut calls).expect("the core answers")
    }

    /// Agents at another address.
    pub(crate) fn add_agents(&mut self, address: IpAddr) -> Core {
        add_core(&mut self.sim, address, 0, BUFFER_MEMORY_MIN).0
    }

    /// The edge serves these tables, and the connector these hosts, with as many connections as a configured one has.
    pub(crate) fn serve_tables(&self, tables: EdgeTables, hosts: &[&str]) {
        self.connector.reload(roles::connector_tables_of(hosts, 1_024, |_| {}));
        self.edge.reload(tables);
    }

    /// The edge passes what comes for [`HOST`] on as it is, and the connector's route is changed so.
    pub(crate) fn pass_through(&self, sealed: &Sealed, change: impl FnOnce(&mut ConnectorRoute)) {
        self.connector.reload(sealed.connector_tables(&roles::connector_tables_of(&[HOST], 1_024, change)));
        self.edge.reload(sealed.edge_tables(roles::edge_tables()));
    }

    /// The concurrency limits of the connector.
    pub(crate) fn connector_limits(&self) -> Vec<(String, QueueReading)> {
        self.connector.limits()
    }

    /// The connector's process is killed.
    pub(crate) fn kill_connector(&mut self) {
        self.sim.net().kill(CONNECTOR, Death::Processes);
        self.sim.remove(self.connector_core.1);
    }

    /// Nothing passes between the edge and the connector any more, and neither is told so.
    pub(crate) fn cut_connector_off(&self) {
        self.sim.net().partition(EDGE, CONNECTOR);
    }

    /// The tunnel's credential is withdrawn.
    fn revoke(&mut self) {
        let mut tables = roles::edge_tables();
        let tunnels: Vec<TunnelId> = tables.tunnels.keys().cloned().collect();
        for tunnel in tunnels {
            let entry = TunnelEntry::of_secret(&Secret::from("the secret that came after it"));
            tables.tunnels.insert(tunnel, entry);
        }
        self.edge.reload(tables);
        let (sender, mut reviewed) = mailbox(1);
        self.edge.command(|| EdgeCommand::Review(MailSender::clone(&sender)));
        self.pass(Duration::from_millis(1));
        assert_eq!(try_recv(&mut reviewed).map(|reviewed| reviewed.ended), Some(1), "one link is ended");
    }

    fn edge_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.edge_events)).any(|event| matches!(event, EdgeEvent::Ended(_)))
    }

    fn connector_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.connector_events))
            .any(|event| matches!(event, ConnectorEvent::Ended(_)))
    }
}

fn agent_on(core: &Core, path: &str, len: usize, first: Duration, pause: Duration) -> Fate {
    let (fate, task_core, path) = (Fate::default(), core.clone(), path.to_owned());
    let shared = Rc::clone(&fate);
    core.spawn(async move {
        let ended = call(&task_core, &path, len, first, pause).await;
        shared.replace(Some(ended));
    });
    fate
}

pub(crate) async fn connect(core: &Core) -> Socket {
    core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens")
}

async fn call(core: &Core, path: &str, len: usize, first: Duration, pause: Duration) -> Result<Vec<u8>, StreamError> {
    let socket = connect(core).await;
    send(&socket, format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
    core.sleep(first).await;
    let mut received = Vec::new();
    let head = read_head(&socket, &mut received).await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    read(&socket, &mut received, len, pause).await
}

/// Takes every buffer that calls could have.
fn take_all(core: &Core) -> Vec<Lease> {
    std::iter::from_fn(|| core.pool().take(Class::Small)).collect()
}

fn try_recv<T>(receiver: &mut MailReceiver<T>) -> Option<T> {
    match receiver.poll_recv(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message,
        Poll::Pending => None,
    }
}

#[test]
fn an_agent_that_takes_nothing_loses_its_call_and_keeps_nothing() {
    let mut bed = Bed::start();
    bed.assert_nothing_is_left();
    let agent = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(WRITE_TIMEOUT - SECOND);
    bed.assert_stands();
    // It may be seen late by as much as the edge looks rarely.
    bed.pass(WRITE_TIMEOUT + 2 * SECOND);
    assert_eq!(bed.outcomes(), [(Outcome::AgentStalled, 1)]);
    bed.assert_nothing_is_left();
    // What it does not read it has lost, and it is told so.
    bed.pass(600 * SECOND);
    assert_eq!(agent.borrow_mut().take(), Some(Err(StreamError::Reset)));
    assert_eq!(bed.agents.pool().usage().leased_bytes, 0);
}

#[test]
fn a_withdrawn_credential_ends_a_call_whose_agent_takes_nothing() {
    let mut bed = Bed::start();
    let _agent = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(SECOND);
    bed.assert_stands();
    bed.revoke();
    bed.pass(AT_ONCE);
    assert_eq!(bed.outcomes(), [(Outcome::Revoked, 1)]);
    bed.assert_nothing_is_left();
}

#[test]
fn the_loss_of_its_link_ends_a_call_whose_agent_takes_nothing() {
    let mut bed = Bed::start();
    let _agent = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(SECOND);
    bed.assert_stands();
    bed.kill_connector();
    bed.pass(AT_ONCE);
    assert_eq!(bed.outcomes(), [(Outcome::LinkLost, 1)]);
    assert_eq!(bed.edge_core.pool().usage().leased_bytes, 0, "buffers of the edge");
}

#[test]
fn an_agent_that_takes_nothing_holds_up_the_end_of_the_edge_only_for_a_moment() {
    let mut bed = Bed::start();
    let _agent = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(SECOND);
    bed.assert_stands();
    bed.edge.command(|| EdgeCommand::Drain);
    bed.pass(DRAIN_STALL);
    assert!(bed.edge_has_ended(), "the edge still waits for its agent");
    bed.pass(SECOND);
    bed.assert_nothing_is_left();
}

#[test]
fn while_the_edge_is_to_end_an_agent_that_reads_slowly_has_its_time() {
    const LEN: usize = 400_000;
    let mut bed = Bed::start();
    let slow = bed.agent(&format!("/{LEN}"), LEN, Duration::ZERO, SECOND / 4);
    let _dead = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(SECOND);
    bed.edge.command(|| EdgeCommand::Drain);
    bed.pass(DRAIN_STALL);
    assert_eq!(bed.outcomes(), [(Outcome::AgentStalled, 1)]);
    assert!(!bed.edge_has_ended(), "the other one still reads");
    assert_eq!(slow.borrow().as_ref().map(|read| read.as_ref().map(Vec::len)), None);
    bed.pass(DRAIN_TIMEOUT - DRAIN_STALL);
    assert!(slow.borrow_mut().take().expect("it has read all").is_ok_and(|read| read == body(LEN)));
    assert!(bed.edge_has_ended());
}

#[test]
fn an_agent_that_takes_nothing_holds_up_the_end_of_the_connector_only_for_a_moment() {
    let mut bed = Bed::start();
    let _agent = bed.dead_agent(&format!("/{LARGE}"));
    bed.pass(SECOND);
    bed.assert_stands();
    bed.connector.command(|| ConnectorCommand::Drain);
    bed.pass(DRAIN_STALL);
    assert_eq!(bed.outcomes(), [(Outcome::AgentStalled, 1)]);
    assert!(bed.connector_has_ended(), "the connector still waits for an agent");
    bed.assert_nothing_is_left();
}

/// A bed whose link has a window that a few agents that stand still can fill.
fn narrow() -> Bed {
    Bed::start_with(mux::Settings { stream_window: 16 << 10, link_window: 64 << 10, ..mux::Settings::default() })
}

#[test]
fn an_agent_that_pauses_is_not_cut_for_others_that_stand_still() {
    const LEN: usize = 200_000;
    let mut bed = narrow();
    let paused = bed.probe(&format!("/{LEN}"), LEN, WRITE_TIMEOUT / 2, Duration::ZERO);
    bed.pass(SECOND);
    for _ in 0..12 {
        let _dead = bed.dead_agent(&format!("/{LARGE}"));
    }
    bed.pass(WRITE_TIMEOUT - 2 * SECOND);
    assert!(paused.borrow_mut().take().expect("it has read all").is_ok_and(|read| read == body(LEN)));
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
}

#[test]
fn an_agent_that_reads_slowly_is_not_cut_however_many_others_stand_still() {
    const LEN: usize = 200_000;
    let mut bed = narrow();
    // It has few buffers, so that it takes a little at a time.
    let mut taken: Vec<Lease> = std::iter::from_fn(|| bed.probes.pool().take_for_receive(Class::Small)).collect();
    taken.truncate(taken.len() - 10);
    let slow = bed.probe(&format!("/{LEN}"), LEN, Duration::ZERO, 5 * SECOND / 2);
    bed.pass(SECOND);
    for _ in 0..40 {
        let _dead = bed.dead_agent(&format!("/{LARGE}"));
    }
    bed.pass(WRITE_TIMEOUT);
    let outcomes = bed.outcomes();
    // Those that stand still have clogged the link, and some of them have given way.
    assert!(outcomes.iter().any(|(outcome, _)| *outcome == Outcome::Overloaded), "{outcomes:?}");
    bed.pass(4 * WRITE_TIMEOUT);
    assert!(slow.borrow_mut().take().expect("it has read all").is_ok_and(|read| read == body(LEN)), "{outcomes:?}");
}

#[test]
fn interim_responses_do_not_extend_the_time_to_the_first_byte_of_an_answer() {
    let mut bed = Bed::start();
    let (core, heads) = (bed.agents.clone(), Rc::<RefCell<Vec<String>>>::default());
    let read = Rc::clone(&heads);
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        let head = format!("POST /hints HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        send(&socket, head.as_bytes()).await.expect("the edge is there");
        let mut received = Vec::new();
        while let Ok(head) = read_head(&socket, &mut received).await {
            read.borrow_mut().push(head.lines().next().unwrap_or_default().to_owned());
        }
    });
    bed.pass(FIRST_BYTE_TIMEOUT - SECOND);
    assert_eq!(bed.outcomes(), []);
    bed.pass(2 * SECOND);
    assert_eq!(bed.outcomes(), [(Outcome::TimedOut, 1)]);
    let heads = heads.borrow();
    let (last, interim) = heads.split_last().expect("the agent is answered");
    assert_eq!(last, "HTTP/1.1 504 Gateway Timeout");
    assert!(interim.len() >= 3 && interim.iter().all(|head| head == "HTTP/1.1 103 Early Hints"), "{interim:?}");
}

#[test]
fn the_time_to_the_first_byte_begins_when_the_request_is_sent() {
    let mut bed = Bed::start();
    let (core, answer) = (bed.agents.clone(), Rc::<RefCell<Option<String>>>::default());
    let shared = Rc::clone(&answer);
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        // The upstream has the whole limit after an upload that takes nearly three times as long.
        let (pieces, after_ms) = (8, (FIRST_BYTE_TIMEOUT - SECOND).as_millis());
        let head = format!("POST /{pieces}/{after_ms} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {pieces}\r\n\r\n");
        send(&socket, head.as_bytes()).await.expect("the edge is there");
        for _ in 0..pieces {
            core.sleep(40 * SECOND).await;
            send(&socket, b"x").await.expect("the edge is there");
        }
        let head = read_head(&socket, &mut Vec::new()).await.expect("it is answered");
        *shared.borrow_mut() = head.lines().next().map(str::to_owned);
    });
    bed.pass(8 * 40 * SECOND + FIRST_BYTE_TIMEOUT);
    assert_eq!(answer.borrow().as_deref(), Some("HTTP/1.1 200 OK"));
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
}

#[test]
fn a_route_may_have_a_first_byte_timeout_of_its_own_and_the_answer_names_the_setting() {
    let mut bed = Bed::start();
    let own = |ceiling| {
        let deadlines = DeadlineOverrides { ceiling, ..DeadlineOverrides::default() };
        roles::edge_tables_with(RouteOverrides { deadlines, ..RouteOverrides::default() })
    };
    for (limit, waits) in
        [(Some(10 * SECOND), 10 * SECOND), (Some(300 * SECOND), 300 * SECOND), (None, FIRST_BYTE_TIMEOUT)]
    {
        bed.edge.reload(own(limit));
        let (core, answer) = (bed.agents.clone(), Rc::<RefCell<String>>::default());
        let shared = Rc::clone(&answer);
        bed.agents.spawn(async move {
            let socket = connect(&core).await;
            let head = format!("POST /0/900000 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
            send(&socket, head.as_bytes()).await.expect("the edge is there");
            while let Ok(Some(lease)) = socket.recv().await {
                shared.borrow_mut().push_str(&String::from_utf8_lossy(&lease));
            }
        });
        bed.pass(waits - SECOND);
        assert_eq!(*answer.borrow(), "", "{limit:?}");
        bed.pass(2 * SECOND);
        let answer = answer.borrow();
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("first_byte_timeout_ms"), "{limit:?}: {answer}");
    }
    assert_eq!(bed.outcomes(), [(Outcome::TimedOut, 3)]);
}

#[test]
fn unread_uploads_in_tiny_pieces_delay_no_other_call() {
    let mut bed = Bed::start();
    for _ in 0..4 {
        bed.chatty_upload();
    }
    for _ in 0..4 {
        bed.pass(2 * SECOND);
        let answered = bed.probe("/100000", 100_000, Duration::ZERO, Duration::ZERO);
        bed.pass(AT_ONCE);
        let answered = answered.borrow_mut().take();
        let usage = bed.connector_core.0.pool().usage();
        assert!(answered.expect("it is answered").is_ok_and(|read| read == body(100_000)), "{usage:?}");
    }
    let usage = bed.connector_core.0.pool().usage();
    assert!(usage.leased_bytes < usage.bytes_max / 2, "{usage:?}");
}

/// A call whose answer comes when the edge has no buffer to send it with.
fn without_a_buffer() -> (Bed, Fate, Vec<Lease>) {
    let mut bed = Bed::start();
    let agent = bed.agent(&format!("/{LARGE}/500"), LARGE, Duration::ZERO, Duration::ZERO);
    bed.pass(SECOND / 4);
    let taken = take_all(&bed.edge_core);
    bed.pass(SECOND);
    assert_eq!(bed.edge_core.pool().usage().waiting, 1, "the call waits for a buffer");
    assert_eq!(bed.outcomes(), []);
    (bed, agent, taken)
}

#[test]
fn a_call_that_waits_for_a_buffer_goes_on_when_there_is_one() {
    let (mut bed, agent, taken) = without_a_buffer();
    drop(taken);
    bed.pass(10 * SECOND);
    assert!(agent.borrow_mut().take().expect("it has read all").is_ok_and(|read| read == body(LARGE)));
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
}

#[test]
fn a_call_that_waits_for_a_buffer_ends_with_its_link() {
    let (mut bed, _, taken) = without_a_buffer();
    bed.kill_connector();
    bed.pass(AT_ONCE);
    assert_eq!(bed.outcomes(), [(Outcome::LinkLost, 1)]);
    let taken_bytes = taken.len() * Class::Small.bytes();
    assert_eq!(bed.edge_core.pool().usage().leased_bytes, taken_bytes, "it keeps buffers");
}

#[test]
fn a_call_that_waits_for_a_buffer_ends_with_its_credential() {
    let (mut bed, _, _taken) = without_a_buffer();
    bed.revoke();
    bed.pass(AT_ONCE);
    assert_eq!(bed.outcomes(), [(Outcome::Revoked, 1)]);
}

#[test]
fn a_call_that_waits_for_a_buffer_ends_with_its_agent() {
    let (mut bed, _, _taken) = without_a_buffer();
    bed.sim.net().kill(AGENTS, Death::Processes);
    bed.pass(AT_ONCE);
    assert_eq!(bed.outcomes(), [(Outcome::AgentGone, 1)]);
}
