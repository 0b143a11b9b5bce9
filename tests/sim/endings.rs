//! How connections of agents end, on virtual time: the last answer on one arrives whole however long its agent pauses, as long as it
//! reads on within `write_timeout`; who leaves is noticed; who says nothing is not waited for longer than for a head.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::connector::Connector;
use adit::dial::Resolver;
use adit::edge::{CoreReport, Edge, EdgeCommand, EdgeSettings};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, ByteStream, Core, MailReceiver, StreamError, mailbox};
use adit::latency::Outcome;
use adit::tls::{
    Authority, CertSet, ClientConfig, ClientSettings, Connection, ReloadingCerts, Roots, ServerSettings, client_config,
    server_config,
};
use adit::wire::mux;
use rustls::pki_types::{ServerName, UnixTime};

use crate::bodies::body;
use crate::figures;
use crate::roles::{self, AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, UPSTREAM_AT, add_core};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// As the edge is set.
const WRITE_TIMEOUT: Duration = MINUTE;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer is, in bytes.
const LEN: usize = 4_000_000;
/// What a host keeps for a connection: what it has to send, and what its process has not read.
const SEND_BUFFER: usize = 128 << 10;
const RECEIVE_BUFFER: usize = 64 << 10;
/// How much of an answer may be left when its agent pauses: all of it is at the agent's host; some is with the edge's system; some
/// with the edge; some has not come to the edge.
const LEFT: [usize; 4] = [200_000, 400_000, 600_000, 1_500_000];

/// Edge, connector and upstream, and a host for agents.
struct Bed {
    sim: Simulation,
    edge: Arc<Edge>,
    agents: Core,
    tls: Arc<ClientConfig>,
    /// Connections on which the upstream saw its peer leave before it had answered.
    abandoned: Rc<Cell<usize>>,
    /// Requests that have reached the upstream.
    asked: Rc<Cell<usize>>,
}

impl Bed {
    fn new() -> Bed {
        let faults = Faults { send_buffer_bytes: SEND_BUFFER, receive_buffer_bytes: RECEIVE_BUFFER, ..Faults::none() };
        let mut sim = Simulation::new(SimNet::new(1, faults));
        let [(upstream, _), (agents, _), (edge_core, _), (connector_core, _)] =
            [UPSTREAM, AGENTS, EDGE, CONNECTOR].map(|host| add_core(&mut sim, host, 0, BUFFER_MEMORY_DEFAULT));
        let (abandoned, asked) = (Rc::default(), Rc::default());
        serve(&upstream, &abandoned, &asked);
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let cert = authority.issue(&[HOST]).unwrap().server_cert(UnixTime::now()).unwrap();
        let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
        let agents_tls = Some(server_config(certs, &ServerSettings::default()).unwrap());
        let mut roots = Roots::new();
        roots.add_der(authority.cert_der().clone()).unwrap();
        let tls = client_config(ClientSettings { roots, ..ClientSettings::default() }).unwrap();
        let link = mux::Settings::default();
        let (received, _) = mailbox(64);
        let settings = EdgeSettings { agents_tls, ..roles::edge_settings(link) };
        let edge = Edge::new(settings, roles::edge_tables(), 1, 1, &received);
        edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
        let (received, _) = mailbox(4096);
        let connector = Connector::new(roles::connector_settings(link), roles::connector_tables(), 1, 2, &received);
        connector_core
            .spawn(Arc::clone(&connector).run(connector_core.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
        sim.run_until(sim.net().now() + 2 * SECOND).unwrap();
        Bed { sim, edge, agents, tls, abandoned, asked }
    }

    /// Starts an agent that does `work` on a connection to the edge; its result is there once it is done.
    fn start<T: 'static, W: Future<Output = T>>(
        &self,
        over_tls: bool,
        work: impl FnOnce(Connection) -> W + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let (core, tls) = (self.agents.clone(), Arc::clone(&self.tls));
        let result = Rc::new(RefCell::new(None));
        let received = Rc::clone(&result);
        self.agents.spawn(async move {
            let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.unwrap();
            let connection = if over_tls {
                let name = ServerName::try_from(HOST).unwrap();
                Connection::client(socket, &tls, name, core.sleep(SECOND))
                    .await
                    .unwrap_or_else(|error| panic!("{error}"))
            } else {
                Connection::plain(socket)
            };
            let worked = work(connection).await;
            *received.borrow_mut() = Some(worked);
        });
        result
    }

    /// Runs an agent to its end.
    fn run<T: 'static, W: Future<Output = T>>(
        &mut self,
        over_tls: bool,
        work: impl FnOnce(Connection) -> W + 'static,
    ) -> T {
        let result = self.start(over_tls, work);
        self.until(10 * MINUTE, || result.borrow().is_some());
        result.take().unwrap()
    }

    #[track_caller]
    fn until(&mut self, within: Duration, done: impl FnMut() -> bool) {
        let deadline = self.sim.net().now() + within;
        self.sim.run(deadline, done).expect("it comes about in time");
    }

    fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).unwrap();
    }

    /// How many calls have ended so.
    fn ended(&mut self, outcome: Outcome) -> u64 {
        let sets = figures::sets(|index| {
            let (sender, figures) = mailbox(4);
            self.edge.command(|| EdgeCommand::Figures(index, sender.clone()));
            self.receive(figures)
        });
        sets.iter().map(|set| set.outcome(outcome)).sum()
    }

    fn report(&mut self) -> CoreReport {
        let (sender, reports) = mailbox(4);
        self.edge.command(|| EdgeCommand::Report(sender.clone()));
        self.receive(reports)
    }

    fn receive<T>(&mut self, mut from: MailReceiver<T>) -> T {
        let mut received = None;
        self.until(SECOND, || match from.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(it)) => {
                received = Some(it);
                true
            }
            _ => false,
        });
        received.unwrap()
    }

    fn cut_at_close(&self) -> u64 {
        self.edge.counters().answers_cut_at_close.load(Ordering::Relaxed)
    }

    /// Nothing is left of any agent.
    #[track_caller]
    fn assert_nothing_is_left(&mut self) {
        let report = self.report();
        assert_eq!((report.agents_open, report.calls_open, report.pool.leased_bytes), (0, 0, 0));
    }
}

/// The upstream: answers with as many bytes as the path says, or with none.
fn serve(core: &Core, abandoned: &Rc<Cell<usize>>, asked: &Rc<Cell<usize>>) {
    let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).unwrap();
    let (core, abandoned, asked) = (core.clone(), Rc::clone(abandoned), Rc::clone(asked));
    core.clone().spawn(async move {
        while let Ok((detached, _)) = listener.accept().await {
            let socket = core.adopt(detached, SocketOptions::default()).await.unwrap();
            let (abandoned, asked) = (Rc::clone(&abandoned), Rc::clone(&asked));
            core.spawn(async move {
                // What goes wrong, the agent sees.
                let _ = answer_all(&Connection::plain(socket), &abandoned, &asked).await;
            });
        }
    });
}

async fn answer_all(socket: &Connection, abandoned: &Cell<usize>, asked: &Cell<usize>) -> Result<(), StreamError> {
    let mut received = Vec::new();
    loop {
        let head = read_head(socket, &mut received).await?;
        asked.set(asked.get() + 1);
        let len = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        let Ok(len) = len.parse() else {
            let left = socket.recv().await;
            assert!(!matches!(left, Ok(Some(_))), "nothing follows a request");
            abandoned.set(abandoned.get() + 1);
            return Ok(());
        };
        send(socket, format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes()).await?;
        send(socket, &body(len)).await?;
    }
}

async fn read_head(from: &Connection, received: &mut Vec<u8>) -> Result<String, StreamError> {
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = received.split_off(end + 4);
            return Ok(String::from_utf8(std::mem::replace(received, rest)).expect("a head is text"));
        }
        received.extend_from_slice(&from.recv().await?.ok_or(StreamError::Truncated)?);
    }
}

async fn send(to: &Connection, bytes: &[u8]) -> Result<(), StreamError> {
    let room = to.headroom() + to.tailroom();
    for piece in bytes.chunks(8 << 10) {
        to.ready().await?;
        let mut lease = to.core().pool().lease_for(piece.len() + room).await;
        lease.reserve_headroom(to.headroom());
        lease.append(piece);
        to.send(lease)?;
    }
    Ok(())
}

/// How an agent asks for an answer that is the last on its connection.
const LAST: [&str; 2] = ["1.0\r\n", "1.1\r\nConnection: close\r\n"];

/// What an agent got that pauses with so much of its answer left.
struct Got {
    body: Vec<u8>,
    /// How the connection ended.
    end: Result<(), StreamError>,
}

/// A call for a last answer, whose agent pauses when so much of it is left, sends `stray` in the middle of that, and reads on.
async fn paused_call(agent: Connection, last: &str, left: usize, pause: Duration, stray: usize) -> Got {
    send(&agent, format!("GET /{LEN} HTTP/{last}Host: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut body = Vec::new();
    let head = read_head(&agent, &mut body).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut paused = false;
    let end = loop {
        if LEN - body.len() <= left && !std::mem::replace(&mut paused, true) {
            agent.core().sleep(pause / 2).await;
            for piece in vec![b'x'; stray].chunks(8 << 10) {
                let mut lease = agent.core().pool().lease_for(piece.len() + agent.headroom() + agent.tailroom()).await;
                lease.reserve_headroom(agent.headroom());
                lease.append(piece);
                // Not waited for: the edge need not take it.
                if agent.send(lease).is_err() {
                    break;
                }
            }
            agent.core().sleep(pause / 2).await;
        }
        match agent.recv().await {
            Ok(Some(lease)) => body.extend_from_slice(&lease),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Got { body, end }
}

#[test]
fn an_agent_that_pauses_near_the_end_of_its_last_answer_gets_all_of_it() {
    let mut bed = Bed::new();
    let mut calls = 0;
    for over_tls in [false, true] {
        for (last, left) in LAST.into_iter().flat_map(|last| LEFT.map(|left| (last, left))) {
            for (pause, stray) in [(10, 0), (50, 0), (20, 1), (20, 2 << 20)] {
                let got = bed.run(over_tls, move |agent| paused_call(agent, last, left, pause * SECOND, stray));
                let what = format!("TLS: {over_tls}, HTTP/{last:?}, {left} left, paused for {pause} s, {stray} sent");
                assert_eq!(got.body.len(), LEN, "{what}: {:?}", got.end);
                assert!(got.body == body(LEN), "{what}");
                calls += 1;
                bed.pass(5 * SECOND);
                assert_eq!(bed.ended(Outcome::Ok), calls, "{what}");
                bed.assert_nothing_is_left();
            }
        }
    }
    assert_eq!(bed.cut_at_close(), 0);
}

#[test]
fn an_agent_that_never_reads_on_is_reset_and_its_cut_answer_is_none_of_the_good_ones() {
    let mut bed = Bed::new();
    let mut stalled = 0;
    for over_tls in [false, true] {
        for (last, left) in
            LAST.into_iter().flat_map(|last| LEFT.map(|left| (last, left))).filter(|(_, left)| *left != LEFT[0])
        {
            let before = bed.sim.net().now();
            let got = bed.start(over_tls, move |agent| paused_call(agent, last, left, 10 * MINUTE, 0));
            let what = format!("TLS: {over_tls}, HTTP/{last:?}, {left} left");
            bed.pass(WRITE_TIMEOUT - SECOND);
            assert_eq!(bed.report().agents_open, 1, "{what}: it still has time");
            bed.pass(WRITE_TIMEOUT + 5 * SECOND);
            stalled += 1;
            assert_eq!(bed.ended(Outcome::AgentStalled), stalled, "{what}: {:?}", bed.sim.net().now() - before);
            bed.assert_nothing_is_left();
            bed.until(10 * MINUTE, || got.borrow().is_some());
            let got = got.take().unwrap();
            assert!(got.body.len() < LEN, "{what}");
            assert_eq!(got.end, Err(StreamError::Reset), "{what}");
        }
    }
    assert_eq!(bed.ended(Outcome::Ok), 0);
}

#[test]
fn a_silent_agent_is_closed_after_the_time_for_a_head() {
    let mut bed = Bed::new();
    // One that has made a call is owed more.
    let called = bed.start(true, async |agent| {
        send(&agent, format!("GET /10 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        while agent.recv().await.unwrap().is_some() {}
    });
    let silent = bed.start(true, async |agent| assert!(agent.recv().await.unwrap().is_none()));
    bed.pass(HEADER_TIMEOUT - SECOND);
    assert_eq!(bed.report().agents_open, 2);
    bed.pass(2 * SECOND);
    assert!(silent.borrow().is_some(), "it is still waited for");
    assert!(called.borrow().is_none());
    bed.pass(roles::EDGE_IDLE_TIMEOUT);
    assert!(called.borrow().is_some());
    bed.pass(5 * SECOND);
    bed.assert_nothing_is_left();
}

#[test]
fn an_agent_that_sent_bytes_ahead_and_left_is_noticed() {
    let mut bed = Bed::new();
    let mut left = 0;
    for over_tls in [false, true] {
        // The longer ones are more than the edge takes: some wait with its system, or with the agent's.
        let ahead = [(1, false), (1, true), (60_000, false), (60_000, true), (300_000, false), (300_000, true)];
        for (ahead, resets) in ahead.into_iter().chain([(600_000, true)]) {
            let go = Rc::new(Cell::new(false));
            let received = Rc::clone(&go);
            let agent = bed.start(over_tls, async move |agent| {
                send(&agent, format!("GET /never HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
                send(&agent, &body(ahead)).await.unwrap();
                while !received.get() {
                    agent.core().sleep(SECOND / 10).await;
                }
                if resets {
                    agent.abort();
                }
            });
            let what = format!("TLS: {over_tls}, {ahead} bytes ahead, resets: {resets}");
            let (asked, abandoned) = (Rc::clone(&bed.asked), Rc::clone(&bed.abandoned));
            bed.until(SECOND, || asked.get() == left + 1);
            bed.pass(SECOND);
            assert_eq!(abandoned.get(), left, "{what}: it is still there");
            go.set(true);
            left += 1;
            bed.until(2 * SECOND, || abandoned.get() == left && agent.borrow().is_some());
            assert_eq!(bed.ended(Outcome::AgentGone), left as u64, "{what}");
            bed.assert_nothing_is_left();
        }
    }
}
