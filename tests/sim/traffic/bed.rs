//! One edge, one connector, and an upstream that notes when a call is given up; with a kind of traffic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{Clock, Time, Traffic};
use adit::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorSettings};
use adit::dial::Resolver;
use adit::edge::{Edge, EdgeCommand, EdgeEvent, EdgeSettings};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_MIN, ByteStream, Core, MailReceiver, Socket, StreamError, mailbox, send_bytes};
use adit::tls::{ALPN_HTTP2, Connection};
use adit::wire::mux;

use crate::bodies::{body, read_head, send};
use crate::http2::frames::{ACK, Frame, PING, begin, frame};
use crate::roles::{self, AGENTS, CONNECTOR, EDGE, HOST, UPSTREAM, UPSTREAM_AT, add_core};
use crate::sealed::Sealed;

/// How long a leg of the way takes: agent to edge, edge to connector, connector to upstream.
const LEG: Duration = Duration::from_millis(1);
const MEMORY: usize = 8 << 20;
/// As much as the system of a host keeps for a connection, in bytes.
const SYSTEM_BUFFER: usize = 30_000;
/// So long that a test never waits for it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
/// The one event of each event stream.
pub(crate) const EVENT: &str = "data: {}\n\n";

pub(crate) struct Bed {
    sim: Simulation,
    edge: Arc<Edge>,
    edge_core: Core,
    edge_events: MailReceiver<EdgeEvent>,
    connector: Arc<Connector>,
    connector_core: Core,
    connector_events: MailReceiver<ConnectorEvent>,
    pub(crate) upstream: Rc<Upstream>,
    pub(crate) agents: Core,
    pub(crate) sealed: Sealed,
}

/// What the upstream has seen.
#[derive(Default)]
pub(crate) struct Upstream {
    /// Requests that came.
    pub(crate) asked: Cell<usize>,
    /// When those ended that were given up.
    pub(crate) given_up: RefCell<Vec<Time>>,
}

/// What an agent over HTTP/2 has done and heard.
#[derive(Default)]
pub(crate) struct Heard {
    /// When each piece was sent.
    pub(crate) sent_at: Vec<Time>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) is_closed: bool,
}

impl Heard {
    /// The frames of these kinds, by kind, flags and stream.
    pub(crate) fn of(&self, kinds: &[u8]) -> Vec<(u8, u8, u32)> {
        let wanted = self.frames.iter().filter(|frame| kinds.contains(&frame.kind));
        wanted.map(|frame| (frame.kind, frame.flags, frame.stream)).collect()
    }
}

impl Bed {
    /// Starts all, and waits for the link.
    pub(crate) fn start(traffic: Traffic) -> Bed {
        let leg_ns = u64::try_from(LEG.as_nanos()).unwrap();
        let faults = Faults {
            delay_ns_min: leg_ns,
            delay_ns_max: leg_ns,
            send_buffer_bytes: SYSTEM_BUFFER,
            receive_buffer_bytes: SYSTEM_BUFFER,
            ..Faults::none()
        };
        let mut sim = Simulation::new(SimNet::new(1, faults));
        let [(at_upstream, _), (agents, _)] =
            [UPSTREAM, AGENTS].map(|host| add_core(&mut sim, host, 0, BUFFER_MEMORY_MIN));
        let [(edge_core, _), (connector_core, _)] = [EDGE, CONNECTOR].map(|host| add_core(&mut sim, host, 0, MEMORY));
        let upstream = Rc::<Upstream>::default();
        upstream.serve(&at_upstream);
        let (sealed, link) = (Sealed::new(traffic, &[HOST]), mux::Settings::default());
        let (events_sender, edge_events) = mailbox(64);
        let settings = EdgeSettings { drain_timeout: DRAIN_TIMEOUT, ..roles::edge_settings(link) };
        let (settings, tables) = (sealed.edge_settings(settings), sealed.edge_tables(roles::edge_tables()));
        let edge = Edge::new(settings, tables, 1, 1, &events_sender);
        edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
        let (events_sender, connector_events) = mailbox(4096);
        let settings = ConnectorSettings { drain_timeout: DRAIN_TIMEOUT, ..roles::connector_settings(link) };
        let connector =
            Connector::new(settings, sealed.connector_tables(&roles::connector_tables()), 1, 2, &events_sender);
        let nobody = Resolver::Table(Rc::new(|_, _| Vec::new()));
        connector_core.spawn(Arc::clone(&connector).run(connector_core.clone(), nobody));
        let mut bed = Bed {
            sim,
            edge,
            edge_core,
            edge_events,
            connector,
            connector_core,
            connector_events,
            upstream,
            agents,
            sealed,
        };
        bed.pass(Duration::from_secs(2));
        bed
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.sim.net().now() + time).expect("no core fails");
    }

    /// An agent over HTTP/2 that sends these pieces, each after a pause, and reads what comes. It may leave it unsaid that it knows
    /// of the end of the connection.
    pub(crate) fn http2_agent(&self, pieces: Vec<(Duration, Vec<u8>)>, answers_pings: bool) -> Rc<RefCell<Heard>> {
        let (core, heard) = (self.agents.clone(), Rc::<RefCell<Heard>>::default());
        let (door, shared) = (self.sealed.door(ALPN_HTTP2), Rc::clone(&heard));
        self.agents.spawn(async move {
            let connection = Rc::new(door.connect(&core).await.expect("a connector is linked"));
            let (sending, sent) = (Rc::clone(&connection), Rc::clone(&shared));
            core.spawn(async move {
                write(&sending, &begin(65_535)).await;
                for (pause, piece) in pieces {
                    sending.core().sleep(pause).await;
                    let now = sending.core().now();
                    sent.borrow_mut().sent_at.push(now);
                    write(&sending, &piece).await;
                }
            });
            let mut received = Vec::new();
            while let Ok(Some(lease)) = connection.recv().await {
                received.extend_from_slice(&lease);
                while let Some(came) = Frame::take(&mut received) {
                    if answers_pings && came.kind == PING && came.flags & ACK == 0 {
                        write(&connection, &frame(PING, ACK, 0, &came.payload)).await;
                    }
                    shared.borrow_mut().frames.push(came);
                }
            }
            shared.borrow_mut().is_closed = true;
        });
        heard
    }

    pub(crate) fn drain_edge(&self) {
        assert_eq!(self.edge.command(|| EdgeCommand::Drain), 1);
    }

    pub(crate) fn drain_connector(&self) {
        assert_eq!(self.connector.command(|| ConnectorCommand::Drain), 1);
    }

    pub(crate) fn edge_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.edge_events)).any(|event| matches!(event, EdgeEvent::Ended(_)))
    }

    pub(crate) fn connector_has_ended(&mut self) -> bool {
        std::iter::from_fn(|| try_recv(&mut self.connector_events))
            .any(|event| matches!(event, ConnectorEvent::Ended(_)))
    }

    /// What the edge and the connector hold of calls: bytes in buffers, and connections to the upstream.
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let leased = |core: &Core| core.pool().usage().leased_bytes;
        (leased(&self.edge_core), leased(&self.connector_core), self.sim.net().open_sockets(UPSTREAM))
    }
}

/// Sends what the other side may not want to have any more.
pub(crate) async fn write(to: &Connection, bytes: &[u8]) {
    let _ = send_bytes(to, to.core().pool(), bytes).await;
}

impl Upstream {
    fn serve(self: &Rc<Self>, core: &Core) {
        let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).expect("a free address");
        let (core, upstream) = (core.clone(), Rc::clone(self));
        core.clone().spawn(async move {
            while let Ok((detached, _)) = listener.accept().await {
                let Ok(socket) = core.adopt(detached, SocketOptions::default()).await else { continue };
                let upstream = Rc::clone(&upstream);
                core.spawn(async move {
                    // What goes wrong, the agent sees.
                    let _ = upstream.answer_all(&socket).await;
                });
            }
        });
    }

    /// `/events` is a stream with one event, of `/hold` nothing comes, and `/LENGTH` is answered with so many bytes.
    async fn answer_all(&self, socket: &Socket) -> Result<(), StreamError> {
        let mut received = Vec::new();
        loop {
            let head = read_head(socket, &mut received).await?;
            self.asked.set(self.asked.get() + 1);
            let path = head.split(' ').nth(1).expect("a path").trim_start_matches('/').to_owned();
            if let Ok(len) = path.parse() {
                send(socket, format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes()).await?;
                send(socket, &body(len)).await?;
                continue;
            }
            if path == "events" {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                send(socket, format!("{head}{:x}\r\n{EVENT}\r\n", EVENT.len()).as_bytes()).await?;
            }
            // Of a body that is under way nothing is needed.
            while let Ok(Some(_)) = socket.recv().await {}
            self.given_up.borrow_mut().push(socket.core().now());
            return Ok(());
        }
    }
}

fn try_recv<T>(receiver: &mut MailReceiver<T>) -> Option<T> {
    match receiver.poll_recv(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(message) => message,
        Poll::Pending => None,
    }
}
