//! Roles that are told to end, on virtual time: what becomes of event streams that nobody ends, of calls under way, and of those
//! that come while the only connector is replaced.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorSettings};
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{ByteStream, Core, MailReceiver, MailSender, mailbox};
use adit::latency::Outcome;
use adit::wire::mux;

use crate::bodies::{EVENT, send, serve};
use crate::figures;
use crate::roles::{self, AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, add_core};

const SECOND: Duration = Duration::from_secs(1);
/// Within which a role has ended that waits for nothing.
const AT_ONCE: Duration = Duration::from_millis(900);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
const OFFLINE_WAIT: Duration = Duration::from_secs(2);
const RESTART_WAIT: Duration = Duration::from_secs(20);
const MEMORY: usize = 8 << 20;

/// Edge, connector and upstream, with one core each.
struct Bed {
    sim: Simulation,
    edge: Arc<Edge>,
    edge_events: MailReceiver<EdgeEvent>,
    connector: Arc<Connector>,
    connector_events: MailReceiver<ConnectorEvent>,
    agents: Core,
}

/// What an agent has received, and whether its connection has ended properly.
#[derive(Default)]
struct Heard {
    text: String,
    has_ended: bool,
}

impl Bed {
    fn start() -> Bed {
        let mut sim = Simulation::new(SimNet::new(1, Faults::none()));
        let [(upstream, _), (agents, _), (edge_core, _)] =
            [UPSTREAM, AGENTS, EDGE].map(|host| add_core(&mut sim, host, 0, MEMORY));
        serve(&upstream);
        let (events_sender, edge_events) = mailbox(64);
        let settings = EdgeSettings {
            drain_timeout: DRAIN_TIMEOUT,
            offline_wait: OFFLINE_WAIT,
            restart_wait: RESTART_WAIT,
            ..roles::edge_settings(mux::Settings::default())
        };
        let edge = Edge::new(settings, roles::edge_tables(), 1, 1, &events_sender);
        edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
        let (connector, connector_events) = start_connector(&mut sim, 2);
        let mut bed = Bed { sim, edge, edge_events, connector, connector_events, agents };
        bed.pass(2 * SECOND);
        bed
    }

    /// Starts another connector in the place of the one that has ended.
    fn restart_connector(&mut self) {
        (self.connector, self.connector_events) = start_connector(&mut self.sim, 3);
    }

    fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).expect("no core fails");
    }

    /// An agent that makes one request, and listens until its connection ends, or `until` comes.
    fn agent(&self, request: &str, until: &'static str) -> Rc<RefCell<Heard>> {
        let (core, heard) = (self.agents.clone(), Rc::<RefCell<Heard>>::default());
        let (shared, request) =
            (Rc::clone(&heard), format!("{request} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"));
        self.agents.spawn(async move {
            let socket =
                core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens");
            send(&socket, request.as_bytes()).await.expect("the edge is there");
            while let Ok(received) = socket.recv().await {
                let mut heard = shared.borrow_mut();
                let Some(lease) = received else {
                    heard.has_ended = true;
                    break;
                };
                heard.text.push_str(&String::from_utf8_lossy(&lease));
                if heard.text.contains(until) {
                    break;
                }
            }
        });
        heard
    }

    /// How calls have ended so far.
    fn outcomes(&mut self) -> Vec<(Outcome, u64)> {
        figures::outcomes(|index| {
            let (sender, mut figures) = mailbox(1);
            assert_eq!(self.edge.command(|| EdgeCommand::Figures(index, MailSender::clone(&sender))), 1);
            self.pass(Duration::from_millis(1));
            try_recv(&mut figures).expect("the core answers")
        })
    }

    fn drain_edge(&self) {
        assert_eq!(self.edge.command(|| EdgeCommand::Drain), 1);
    }

    fn drain_connector(&self) {
        assert_eq!(self.connector.command(|| ConnectorCommand::Drain), 1);
    }

    fn edge_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.edge_events)).any(|event| matches!(event, EdgeEvent::Ended(_)))
    }

    fn connector_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.connector_events))
            .any(|event| matches!(event, ConnectorEvent::Ended(_)))
    }
}

fn start_connector(sim: &mut Simulation, instance: u64) -> (Arc<Connector>, MailReceiver<ConnectorEvent>) {
    let (core, _) = add_core(sim, CONNECTOR, 0, MEMORY);
    let (events_sender, events) = mailbox(4096);
    let settings =
        ConnectorSettings { drain_timeout: DRAIN_TIMEOUT, ..roles::connector_settings(mux::Settings::default()) };
    let connector = Connector::new(settings, roles::connector_tables(), 1, instance, &events_sender);
    core.spawn(Arc::clone(&connector).run(core.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
    (connector, events)
}

fn try_recv<T>(receiver: &mut MailReceiver<T>) -> Option<T> {
    match receiver.poll_recv(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message,
        Poll::Pending => None,
    }
}

/// What no answer has: the agent listens until its connection ends.
const NEVER: &str = "never";
/// The end of a chunked body.
const END: &str = "\r\n0\r\n\r\n";

#[test]
fn a_role_that_ends_waits_for_no_event_stream_and_for_every_call() {
    for ends_edge in [true, false] {
        let mut bed = Bed::start();
        let idle = bed.agent("GET /events", END);
        let call = bed.agent("POST /0/5000", NEVER);
        bed.pass(SECOND);
        assert!(idle.borrow().text.ends_with(&format!("{EVENT}\r\n")), "{}", idle.borrow().text);
        if ends_edge {
            bed.drain_edge()
        } else {
            bed.drain_connector()
        }
        bed.pass(AT_ONCE);
        assert!(idle.borrow().text.ends_with(&format!("{EVENT}{END}")), "{}", idle.borrow().text);
        assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
        let mut ended = || if ends_edge { bed.edge_has_ended() } else { bed.connector_has_ended() };
        assert!(!ended(), "the call is waited for");
        bed.pass(4 * SECOND);
        assert!(call.borrow().text.starts_with("HTTP/1.1 200 "), "{}", call.borrow().text);
        if !ends_edge {
            assert_eq!(bed.outcomes(), [(Outcome::Ok, 2)]);
        }
        assert!(if ends_edge { bed.edge_has_ended() } else { bed.connector_has_ended() }, "the edge: {ends_edge}");
    }
}

#[test]
fn an_event_under_way_is_waited_for_and_none_behind_it() {
    for ends_edge in [true, false] {
        let mut bed = Bed::start();
        let busy = bed.agent("GET /events/2000", END);
        bed.pass(SECOND);
        if ends_edge {
            bed.drain_edge()
        } else {
            bed.drain_connector()
        }
        bed.pass(AT_ONCE / 2);
        assert!(busy.borrow().text.ends_with("id: 2\n\r\n"), "half an event: {}", busy.borrow().text);
        bed.pass(SECOND);
        assert!(busy.borrow().text.ends_with(&format!("data: {{}}\n\n{END}")), "{}", busy.borrow().text);
        assert!(!busy.borrow().text.contains("id: 3"));
        assert!(if ends_edge { bed.edge_has_ended() } else { bed.connector_has_ended() }, "the edge: {ends_edge}");
        if !ends_edge {
            assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
        }
    }
}

#[test]
fn an_agent_that_closes_its_event_stream_is_no_failure() {
    let mut bed = Bed::start();
    let _left = bed.agent("GET /events", EVENT);
    bed.pass(SECOND);
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
    // One that leaves its call has not.
    let _left = bed.agent("GET /4000000", "HTTP");
    bed.pass(SECOND);
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1), (Outcome::AgentGone, 1)]);
}

#[test]
fn calls_wait_while_the_only_connector_is_replaced() {
    let mut bed = Bed::start();
    let idle = bed.agent("GET /events", END);
    let slow = bed.agent("POST /0/8000", NEVER);
    bed.pass(SECOND);
    bed.drain_connector();
    bed.pass(SECOND);
    assert!(idle.borrow().text.ends_with(END));
    let waiting = bed.agent("POST /0", NEVER);
    bed.pass(6 * SECOND + SECOND / 2);
    assert!(slow.borrow().text.starts_with("HTTP/1.1 200 "), "{}", slow.borrow().text);
    assert!(bed.connector_has_ended());
    bed.pass(SECOND);
    assert_eq!(waiting.borrow().text, "", "it still waits");
    bed.restart_connector();
    bed.pass(SECOND / 2);
    assert!(waiting.borrow().text.starts_with("HTTP/1.1 200 "), "{}", waiting.borrow().text);
}

#[test]
fn no_call_waits_without_bound_for_a_connector_that_is_ending() {
    let mut bed = Bed::start();
    let _slow = bed.agent("POST /0/100000", NEVER);
    bed.pass(SECOND);
    bed.drain_connector();
    bed.pass(SECOND);
    let waiting = bed.agent("POST /0", NEVER);
    bed.pass(RESTART_WAIT + OFFLINE_WAIT - SECOND);
    assert_eq!(waiting.borrow().text, "");
    bed.pass(2 * SECOND);
    assert!(waiting.borrow().text.starts_with("HTTP/1.1 503 "), "{}", waiting.borrow().text);
}
