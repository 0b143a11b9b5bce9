//! The time that callers wait, through the real edge and the real connector on virtual time: no call outlives it, whatever the
//! upstream does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit::base::{DeadlineOverrides, GuardMode, Rng, Time};
use adit::connector::Connector;
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeSettings};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_MIN, ByteStream, Core, Socket, StreamError, mailbox};
use adit::route::RouteOverrides;
use adit::wire::mux;
use futures_lite::future;

use crate::bodies::{read, read_head, send, work};
use crate::roles::{
    self, AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, UPSTREAM_AT, add_core, connector_tables_with,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);
/// The way in one direction between any two hosts.
pub(crate) const WAY: Duration = Duration::from_millis(20);
/// By how much a call may outlive its budget, besides one round trip.
const SLACK: Duration = Duration::from_millis(10);
/// What an agent of the era without sessions sends.
const STATELESS: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: search\r\n";
/// What an agent of that era sends that waits for events for as long as it wants.
const LISTENS: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n";

/// What an upstream has seen of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The number of the call.
    pub(crate) id: u64,
    /// What it was told of the time.
    timeout: Option<String>,
    /// When it had nothing more to do for it.
    pub(crate) ended: Option<Time>,
}

#[derive(Default)]
pub(crate) struct Upstream {
    pub(crate) seen: RefCell<Vec<Seen>>,
    /// The ids of calls that were cancelled by a notification.
    pub(crate) cancelled: RefCell<Vec<u64>>,
}

/// Edge, connector and upstream, with one core each.
pub(crate) struct Bed {
    pub(crate) sim: Simulation,
    pub(crate) edge: Arc<Edge>,
    edge_core: Core,
    pub(crate) connector: Arc<Connector>,
    connector_member: MemberId,
    upstream_member: MemberId,
    pub(crate) upstream: Rc<Upstream>,
    pub(crate) agents: Core,
}

/// An agent's call: when it began, and when and how it ended.
#[derive(Clone, Debug)]
struct Called {
    id: u64,
    began: Time,
    budget: Duration,
    ended: Option<(Time, String)>,
}

impl Bed {
    pub(crate) fn start(sends_timeout: bool, edge: impl FnOnce(EdgeSettings) -> EdgeSettings) -> Bed {
        let way_ns = WAY.as_nanos() as u64;
        let faults = Faults { delay_ns_min: way_ns, delay_ns_max: way_ns, ..Faults::none() };
        let mut sim = Simulation::new(SimNet::new(1, faults));
        let (agents, _) = add_core(&mut sim, AGENTS, 0, 64 << 20);
        let (edge_core, _) = add_core(&mut sim, EDGE, 0, 64 << 20);
        let (events_sender, _) = mailbox(64);
        let settings = edge(roles::edge_settings(mux::Settings::default()));
        let edge = Edge::new(settings, roles::edge_tables(), 1, 1, &events_sender);
        edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
        let upstream = Rc::<Upstream>::default();
        let (connector, connector_member) = start_connector(&mut sim, sends_timeout);
        let upstream_member = start_upstream(&mut sim, &upstream);
        let mut bed = Bed { sim, edge, edge_core, connector, connector_member, upstream_member, upstream, agents };
        bed.pass(2 * SECOND);
        bed
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).expect("no core fails");
    }

    fn kill_upstream(&mut self) {
        self.sim.net().kill(UPSTREAM, Death::Processes);
        self.sim.remove(self.upstream_member);
        // It does no more work for any of its calls.
        let now = self.sim.net().now();
        self.upstream.seen.borrow_mut().iter_mut().for_each(|seen| seen.ended = seen.ended.or(Some(now)));
    }

    fn start_upstream(&mut self) {
        self.upstream_member = start_upstream(&mut self.sim, &self.upstream);
    }

    fn kill_connector(&mut self) {
        self.sim.net().kill(CONNECTOR, Death::Processes);
        self.sim.remove(self.connector_member);
    }

    /// A call with this budget, whose upstream does `what`.
    fn call(&self, id: u64, what: &str, budget: Duration, is_stateless: bool) -> Rc<RefCell<Called>> {
        self.call_slowly(id, what, budget, is_stateless, Duration::ZERO)
    }

    /// The same, whose body is sent in two parts with a `pause` between them.
    fn call_slowly(
        &self,
        id: u64,
        what: &str,
        budget: Duration,
        is_stateless: bool,
        pause: Duration,
    ) -> Rc<RefCell<Called>> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"search"}}}}"#);
        let fields = if is_stateless { STATELESS } else { "" };
        let fields = format!("X-Request-Timeout: {}ms\r\n{fields}", budget.as_millis());
        self.post(Called { id, began: self.sim.net().now(), budget, ended: None }, what, &fields, body, pause)
    }

    /// A POST with these fields, whose body is sent in two parts with a `pause` between them.
    fn post(&self, called: Called, what: &str, fields: &str, body: String, pause: Duration) -> Rc<RefCell<Called>> {
        let (core, called) = (self.agents.clone(), Rc::new(RefCell::new(called)));
        let shared = Rc::clone(&called);
        let head = format!("POST /{what} HTTP/1.1\r\nHost: {HOST}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.agents.spawn(async move {
            let mut answer = String::new();
            let result = async {
                let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.unwrap();
                shared.borrow_mut().began = core.turn_time();
                let (first, rest) = body.split_at(body.len() / 2);
                let sending = async {
                    send(&socket, format!("{head}{first}").as_bytes()).await?;
                    core.sleep(pause).await;
                    send(&socket, rest.as_bytes()).await?;
                    std::future::pending().await
                };
                let receiving = async {
                    while !is_whole(&answer)
                        && let Some(lease) = socket.recv().await?
                    {
                        answer.push_str(&String::from_utf8_lossy(&lease));
                    }
                    Ok::<_, StreamError>(())
                };
                future::or(receiving, sending).await
            };
            let result = result.await;
            if result.is_err() {
                answer.push_str(" broken");
            }
            shared.borrow_mut().ended = Some((core.turn_time(), answer));
        });
        called
    }

    /// No call may outlive its budget: neither at its agent nor at its upstream.
    #[track_caller]
    fn assert_in_time(&self, calls: &[Rc<RefCell<Called>>], context: &str) {
        for call in calls {
            let Called { id, began, budget, ended, .. } = &*call.borrow();
            let Some((ended, answer)) = ended else { panic!("{context}: call {id} has not ended") };
            // An answer of adit comes before the caller gives up, and one that has begun may be cut then.
            let latest =
                *began + *budget + if answer.contains("caller_timeout") { Duration::ZERO } else { SLACK + 2 * WAY };
            assert!(
                *ended <= latest,
                "{context}: call {id} with {budget:?} ended after {:?}: {answer}",
                *ended - *began
            );
            for seen in self.upstream.seen.borrow().iter().filter(|seen| seen.id == *id) {
                let Some(ended) = seen.ended else { panic!("{context}: the upstream still works for call {id}") };
                // The budget begins when the edge hears of the call.
                let latest = *began + WAY + *budget + SLACK + 2 * WAY;
                assert!(ended <= latest, "{context}: the upstream works for call {id} for {:?}", ended - *began);
            }
        }
    }
}

/// Whether an answer has come to its end.
pub(crate) fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let len = head.split_once("Content-Length: ").map(|(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>());
    len.map_or(body.ends_with("0\r\n\r\n"), |len| body.len() >= len.unwrap())
}

fn start_connector(sim: &mut Simulation, sends_timeout: bool) -> (Arc<Connector>, MemberId) {
    let (core, member) = add_core(sim, CONNECTOR, 0, 64 << 20);
    let (events_sender, _) = mailbox(4096);
    let settings = roles::connector_settings(mux::Settings::default());
    let tables = connector_tables_with(|route| route.sends_timeout = sends_timeout);
    let connector = Connector::new(settings, tables, 1, 2, &events_sender);
    let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
    core.spawn(Arc::clone(&connector).run(core.clone(), resolver));
    (connector, member)
}

fn start_upstream(sim: &mut Simulation, upstream: &Rc<Upstream>) -> MemberId {
    let (core, member) = add_core(sim, UPSTREAM, 0, BUFFER_MEMORY_MIN);
    let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).expect("a free address");
    let upstream = Rc::clone(upstream);
    let spawner = core.clone();
    core.spawn(async move {
        loop {
            let Ok((detached, _)) = listener.accept().await else { continue };
            let Ok(socket) = spawner.adopt(detached, SocketOptions::default()).await else { continue };
            let upstream = Rc::clone(&upstream);
            spawner.spawn(async move {
                let current = Cell::new(None);
                let _ = upstream.serve(&socket, &current).await;
                upstream.end(socket.core(), &current);
            });
        }
    });
    member
}

impl Upstream {
    /// Serves one connection: `POST /KIND/MILLISECONDS`.
    async fn serve(&self, socket: &Socket, current: &Cell<Option<usize>>) -> Result<(), StreamError> {
        let mut received = Vec::new();
        loop {
            let head = read_head(socket, &mut received).await?;
            let field = |name: &str| {
                let of_name =
                    |line: &&str| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
                Some(head.lines().find(of_name)?[name.len()..].trim().to_owned())
            };
            let len = field("Content-Length:").map_or(0, |len| len.parse().unwrap());
            let timeout = field("X-Request-Timeout:");
            let slot = self.seen.borrow().len();
            self.seen.borrow_mut().push(Seen { id: u64::MAX, timeout, ended: None });
            current.set(Some(slot));
            let body = read(socket, &mut received, len, Duration::ZERO).await?;
            let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
            if message["method"] == "notifications/cancelled" {
                self.cancelled.borrow_mut().push(message["params"]["requestId"].as_u64().unwrap());
                send(socket, b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await?;
                self.end(socket.core(), current);
                continue;
            }
            self.seen.borrow_mut()[slot].id = message["id"].as_u64().unwrap();
            let mut words = head.split([' ', '/']).filter(|word| !word.is_empty()).skip(1);
            let kind = words.next().unwrap();
            let pause = Duration::from_millis(words.next().unwrap().parse().unwrap());
            match kind {
                "answer" => {
                    work(socket, pause).await?;
                    send(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
                }
                "close" => {
                    work(socket, pause).await?;
                    return Ok(());
                }
                // A body of 20 pieces, or events, of which each takes so long.
                "drip" | "events" => {
                    let (media, piece) = match kind {
                        "drip" => ("application/json", "[]".to_owned()),
                        _ => (
                            "text/event-stream",
                            r#"data: {"jsonrpc":"2.0","method":"notifications/message"}"#.to_owned() + "\n\n",
                        ),
                    };
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n");
                    send(socket, head.as_bytes()).await?;
                    for _ in 0..20 {
                        work(socket, pause).await?;
                        send(socket, format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await?;
                    }
                    send(socket, b"0\r\n\r\n").await?;
                }
                other => panic!("{other}"),
            }
            self.end(socket.core(), current);
        }
    }

    fn end(&self, core: &Core, current: &Cell<Option<usize>>) {
        if let Some(slot) = current.take() {
            self.seen.borrow_mut()[slot].ended.get_or_insert(core.turn_time());
        }
    }
}

fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

/// Slow, dying and flapping upstreams, agents of both eras, and links that are lost.
#[test]
fn no_call_outlives_the_time_that_its_caller_waits() {
    for seed in 0..24 {
        let mut rng = Rng::new(seed);
        let mut bed = Bed::start(rng.chance(0.5), |settings| settings);
        let (mut calls, mut id) = (Vec::new(), 0);
        let mut is_up = true;
        for _ in 0..rng.between(20, 40) {
            let kind = ["answer", "answer", "close", "drip", "events"][rng.below(5) as usize];
            let budget = MS * rng.between(300, 4_000) as u32;
            let what = format!("{kind}/{}", rng.below(if kind == "drip" || kind == "events" { 500 } else { 6_000 }));
            let pause = if rng.chance(0.2) { MS * rng.below(5_000) as u32 } else { Duration::ZERO };
            id += 1;
            calls.push(bed.call_slowly(id, &what, budget, rng.chance(0.5), pause));
            bed.pass(MS * rng.below(600) as u32);
            match rng.below(12) {
                0 if is_up => {
                    bed.kill_upstream();
                    is_up = false;
                }
                0..3 if !is_up => {
                    bed.start_upstream();
                    is_up = true;
                }
                3 => {
                    bed.kill_connector();
                    let (connector, member) = start_connector(&mut bed.sim, rng.chance(0.5));
                    (bed.connector, bed.connector_member) = (connector, member);
                }
                _ => {}
            }
        }
        bed.pass(15 * SECOND);
        bed.assert_in_time(&calls, &format!("seed {seed}"));
        assert_eq!(bed.edge_core.pool().usage().leased_bytes, 0, "seed {seed}: buffers of the edge");
    }
}

/// Each era in its own way: a closed connection, and where that says nothing a message besides.
#[test]
fn a_call_is_cancelled_at_the_upstream_in_the_way_of_its_era() {
    let mut bed = Bed::start(false, |settings| settings);
    let kinds = ["answer/60000", "events/1000", "drip/1000"];
    let calls: Vec<_> = (0..6).map(|id| bed.call(id, kinds[id as usize % 3], 2 * SECOND, id >= 3)).collect();
    bed.pass(5 * SECOND);
    bed.assert_in_time(&calls, "both eras");
    let mut cancelled = bed.upstream.cancelled.borrow().clone();
    cancelled.sort_unstable();
    assert_eq!(cancelled, [0, 1, 2], "a server with sessions goes on unless it is told");
    let counters = bed.connector.counters();
    assert_eq!((count(&counters.cancellations_sent), count(&counters.cancellations_failed)), (3, 0));
    assert_eq!(count(&counters.calls_out_of_time), 6);
    let answers: Vec<String> = calls.iter().map(|call| call.borrow().ended.clone().unwrap().1).collect();
    for answer in [&answers[0], &answers[3]] {
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains(r#""code":-31021"#), "{answer}");
    }
    for answer in [&answers[1], &answers[4]] {
        assert!(answer.contains(r#""reason":"caller_timeout""#) && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

/// A deadline that was learned is told to the upstream as one that its caller has set.
#[test]
fn an_upstream_sees_the_cancellation_within_10_ms_of_a_learned_deadline() {
    let mut bed = Bed::start(false, |settings| settings);
    let deadlines = DeadlineOverrides { mode: Some(GuardMode::Enforce), ..DeadlineOverrides::default() };
    bed.edge.reload(roles::edge_tables_with(RouteOverrides { deadlines, ..RouteOverrides::default() }));
    bed.pass(SECOND);
    let call = |bed: &Bed, id: u64, what: &str, fields: &str, pad: usize| {
        let pad = "x".repeat(pad);
        let body = format!(
            r#"{{"method":"tools/call","params":{{"name":"search","arguments":{{"a":"{pad}"}}}},"jsonrpc":"2.0","id":{id}}}"#
        );
        let called = Called { id, began: bed.sim.net().now(), budget: Duration::MAX, ended: None };
        bed.post(called, what, fields, body, Duration::ZERO)
    };
    for id in 100..130 {
        call(&bed, id, "answer/100", "", 0);
    }
    bed.pass(5 * SECOND);
    // A fresh connection, one that was used, a long body, an event stream; and a server for which its closed connection says it.
    let cut = [
        call(&bed, 1, "answer/60000", "", 0),
        call(&bed, 2, "answer/60000", "", 40_000),
        call(&bed, 3, "events/60000", "", 0),
        call(&bed, 4, "answer/60000", STATELESS, 0),
    ];
    bed.pass(5 * SECOND);
    for call in &cut {
        let Called { id, ended, .. } = call.borrow().clone();
        let (ended, answer) = ended.expect("it was cut");
        assert!(answer.contains(r#""reason":"deadline""#), "call {id}: {answer}");
        let seen = bed.upstream.seen.borrow().iter().find(|seen| seen.id == id).cloned().expect("it was sent");
        let stopped = seen.ended.expect("the upstream still works for it");
        assert!(stopped <= ended + WAY + SLACK, "call {id} went on for {:?}", stopped - ended);
    }
    let mut cancelled = bed.upstream.cancelled.borrow().clone();
    cancelled.sort_unstable();
    assert_eq!(cancelled, [1, 2, 3], "a server with sessions goes on unless it is told");
}

#[test]
fn an_upstream_gets_the_remaining_time_where_its_route_asks_for_it() {
    for (sends, expected) in [(false, "2000ms"), (true, "")] {
        let mut bed = Bed::start(sends, |settings| settings);
        let call = bed.call(1, "answer/10", 2 * SECOND, true);
        bed.pass(SECOND);
        assert!(call.borrow().ended.as_ref().is_some_and(|(_, answer)| answer.starts_with("HTTP/1.1 200 ")));
        let seen = bed.upstream.seen.borrow()[0].timeout.clone().expect("the field");
        if sends {
            // A twentieth before the end, less the way to the connector and the time for connecting.
            let ms: u64 = seen.strip_suffix("ms").unwrap().parse().unwrap();
            assert!((1_835..=1_840).contains(&ms), "{seen}");
        } else {
            assert_eq!(seen, expected, "what the caller says is passed on");
        }
    }
}

/// The connector is away, and its agents do not wait as long as the edge would.
#[test]
fn a_call_whose_time_is_over_before_a_link_comes_is_answered_then_and_never_sent() {
    let mut bed = Bed::start(false, |settings| EdgeSettings { offline_wait: 30 * SECOND, ..settings });
    bed.kill_connector();
    bed.pass(SECOND);
    let call = bed.call(1, "answer/10", 2 * SECOND, false);
    bed.pass(2_100 * MS);
    bed.assert_in_time(std::slice::from_ref(&call), "no link");
    let (_, answer) = call.borrow().ended.clone().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connector_offline"), "{answer}");
    let (connector, member) = start_connector(&mut bed.sim, false);
    (bed.connector, bed.connector_member) = (connector, member);
    bed.pass(10 * SECOND);
    assert!(bed.upstream.seen.borrow().is_empty(), "nobody waits for it any more");
}

/// The body comes in pieces, and the caller's time passes meanwhile.
#[test]
fn a_body_that_is_sent_slowly_is_not_waited_for_longer_than_its_caller_waits() {
    let mut bed = Bed::start(false, |settings| settings);
    let call = bed.call_slowly(1, "answer/10", 2 * SECOND, false, 10 * SECOND);
    bed.pass(2_100 * MS);
    bed.assert_in_time(std::slice::from_ref(&call), "a slow body");
    let (_, answer) = call.borrow().ended.clone().unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let seen = bed.upstream.seen.borrow().clone();
    assert!(seen.iter().all(|seen| seen.ended.is_some()), "the upstream waits for the rest: {seen:?}");
}

/// Neither what it says of its time nor what its route says is how long it wants to hear of events.
#[test]
fn a_stream_of_events_that_an_agent_listens_to_outlives_the_time_for_answers() {
    let mut bed = Bed::start(false, |settings| settings);
    let own = RouteOverrides { client_timeout: Some(2 * SECOND), ..RouteOverrides::default() };
    bed.edge.reload(roles::edge_tables_with(own));
    bed.pass(SECOND);
    let listens = |id, more: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{}}}}"#);
        let called = Called { id, began: bed.sim.net().now(), budget: 2 * SECOND, ended: None };
        bed.post(called, "events/1000", &format!("{more}{LISTENS}"), body, Duration::ZERO)
    };
    let streams = [listens(1, ""), listens(2, "X-Request-Timeout: 2\r\n")];
    // Any other answer ends in time.
    let call = bed.call(3, "events/1000", 2 * SECOND, true);
    bed.pass(25 * SECOND);
    bed.assert_in_time(std::slice::from_ref(&call), "no stream that an agent listens to");
    for stream in streams {
        let Called { id, began, ended, .. } = stream.borrow().clone();
        let (ended, answer) = ended.expect("the server has ended it");
        assert_eq!(answer.matches("notifications/message").count(), 20, "stream {id}: {answer}");
        assert!(ended - began >= 20 * SECOND && !answer.contains("caller_timeout"), "stream {id}: {answer}");
    }
}
