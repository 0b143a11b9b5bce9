use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quinn_proto::crypto;

use crate::base::{Clock, CoreId, Time};
use crate::engine::{BATCH_LEN_MAX, Class, Core, DatagramBatch, Datagrams, Ecn, Timer, instant_of_zero};
use crate::quic::connection::{ConnectionState, QuicConnection, QuicNews};
use crate::quic::crypto::quic_server;
use crate::quic::error::QuicError;
use crate::tls::ServerConfig;
use crate::wire::quic::{
    ConnectionKey, DatagramPath, EcnCodepoint, QuicEvent, QuicKeys, QuicMachine, QuicSettings, StrangerOutcome,
    core_of_datagram,
};

/// The bit of a datagram's first byte that marks packets of a handshake (RFC 9000 section 17.2).
const LONG_HEADER: u8 = 0x80;
/// How many batches are processed before other tasks have their turn.
const BATCHES_PER_POLL_MAX: usize = 32;
/// How many batches are sent before what has arrived is processed.
const SENDS_PER_TURN_MAX: usize = 16;

/// A datagram for a connection of another core, on its way there.
#[derive(Debug)]
pub struct MovedDatagram {
    path: DatagramPath,
    bytes: Vec<u8>,
}

/// What an endpoint asks its role.
pub struct QuicRoles {
    /// Whether a peer may begin a connection.
    pub admits: Box<dyn Fn(SocketAddr) -> bool>,
    /// The certificates for connections that peers begin; none if they are refused.
    pub server_tls: Box<dyn Fn() -> Option<Arc<ServerConfig>>>,
    /// Counts what became of a peer that was not accepted.
    pub on_stranger: Box<dyn Fn(StrangerOutcome)>,
    /// Brings a datagram to the core that it names, if cores share the port; the datagram is lost if that core has no room for it.
    pub elsewhere: Option<Box<dyn Fn(CoreId, MovedDatagram)>>,
}

/// All QUIC connections of one socket on a core. Clones are the same.
#[derive(Clone)]
pub struct QuicEndpoint(Rc<Shared>);

struct Shared {
    core: Core,
    socket: Datagrams,
    machine: RefCell<QuicMachine>,
    mask: u8,
    roles: QuicRoles,
    /// The certificates that are in use for new connections.
    serving: RefCell<Option<Arc<ServerConfig>>>,
    connections: RefCell<HashMap<ConnectionKey, Rc<ConnectionState>>>,
    /// Connections of peers that no task has taken yet.
    arrived: RefCell<VecDeque<ConnectionKey>>,
    arrived_waker: RefCell<Option<Waker>>,
    waker: RefCell<Option<Waker>>,
    timer: RefCell<Timer>,
    out: RefCell<Vec<u8>>,
}

impl QuicEndpoint {
    /// Opens a socket at `address`. Nothing happens until [`QuicEndpoint::run`] runs.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn bind(
        core: &Core,
        address: SocketAddr,
        settings: QuicSettings,
        keys: &QuicKeys,
        roles: QuicRoles,
    ) -> Result<QuicEndpoint, QuicError> {
        let socket = core.bind(address)?;
        Ok(QuicEndpoint(Rc::new(Shared {
            core: core.clone(),
            socket,
            machine: RefCell::new(QuicMachine::new(core.id(), settings, keys.clone(), instant_of_zero())),
            mask: keys.mask(),
            roles,
            serving: RefCell::default(),
            connections: RefCell::default(),
            arrived: RefCell::default(),
            arrived_waker: RefCell::default(),
            waker: RefCell::default(),
            timer: RefCell::new(core.timer()),
            out: RefCell::default(),
        })))
    }

    /// Sends and receives until it is dropped. Run it as one task.
    pub async fn run(self) {
        loop {
            poll_fn(|cx| self.poll_input(cx)).await;
            // Waits for what other tasks have to send in this turn.
            self.0.core.turn_end().await;
            for _ in 0..SENDS_PER_TURN_MAX {
                poll_fn(|cx| self.0.socket.poll_ready(cx)).await;
                if !self.transmit().await {
                    break;
                }
            }
            self.tell();
        }
    }

    /// Makes a connection to `peer`, whose certificate must have the name `name`, until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn connect(
        &self,
        crypto: Arc<dyn crypto::ClientConfig>,
        peer: SocketAddr,
        name: &str,
        deadline: Time,
    ) -> Result<QuicConnection, QuicError> {
        let key = self.machine().connect(self.0.core.now(), crypto, peer, name)?;
        let connection = self.hold(key);
        let state = self.0.connections.borrow().get(&key).map(Rc::clone).unwrap_or_default();
        self.wake();
        let connected = poll_fn(|cx| {
            if let Some(why) = state.lost.borrow_mut().take() {
                return Poll::Ready(Err(QuicError::from(why)));
            }
            if state.is_connected.get() {
                return Poll::Ready(Ok(()));
            }
            state.keep(cx);
            Poll::Pending
        });
        self.0.core.timeout_at(deadline, connected).await.map_err(|_| QuicError::Unanswered)??;
        Ok(connection)
    }

    /// The next connection that a peer has made. Only one task may wait for it.
    pub async fn accept(&self) -> QuicConnection {
        poll_fn(|cx| {
            while let Some(key) = self.0.arrived.borrow_mut().pop_front() {
                if let Some(state) = self.0.connections.borrow().get(&key) {
                    return Poll::Ready(QuicConnection::new(self.clone(), key, Rc::clone(state)));
                }
            }
            *self.0.arrived_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes a datagram that another core has received.
    pub fn receive_moved(&self, moved: &MovedDatagram) {
        self.receive(moved.path, &moved.bytes);
        self.tell();
        self.wake();
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    pub(super) fn machine(&self) -> RefMut<'_, QuicMachine> {
        self.0.machine.borrow_mut()
    }

    /// Makes [`QuicEndpoint::run`] look for what is to be sent.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// No task holds this connection any more.
    pub(super) fn forget(&self, key: ConnectionKey) {
        self.0.connections.borrow_mut().remove(&key);
    }

    fn hold(&self, key: ConnectionKey) -> QuicConnection {
        let state = Rc::new(ConnectionState::default());
        self.0.connections.borrow_mut().insert(key, Rc::clone(&state));
        QuicConnection::new(self.clone(), key, state)
    }

    /// Processes what has arrived and what is due; ready when something may have to be sent.
    fn poll_input(&self, cx: &mut Context<'_>) -> Poll<()> {
        *self.0.waker.borrow_mut() = Some(cx.waker().clone());
        let mut batches = 0;
        while let Poll::Ready(batch) = self.0.socket.poll_recv(cx) {
            self.receive_batch(&batch);
            batches += 1;
            if batches == BATCHES_PER_POLL_MAX {
                break;
            }
        }
        let mut timer = self.0.timer.borrow_mut();
        // Again after each time: what was due on one connection may have nothing to send, and others are due later.
        loop {
            let due = self.machine().timeout();
            if timer.at() != due {
                timer.set(due);
            }
            if timer.poll_elapsed(cx).is_pending() {
                break;
            }
            let now = self.0.core.now();
            self.machine().handle_timeout(now);
        }
        self.tell();
        if batches == BATCHES_PER_POLL_MAX || self.machine().wants_transmit() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn receive_batch(&self, batch: &DatagramBatch) {
        let path = DatagramPath { peer: batch.peer, local: batch.local, ecn: batch.ecn.and_then(of_engine) };
        for datagram in batch.datagrams() {
            self.receive(path, datagram);
        }
    }

    fn receive(&self, path: DatagramPath, datagram: &[u8]) {
        if let Some(elsewhere) = &self.0.roles.elsewhere
            && let Some(other) = core_of_datagram(datagram, self.0.mask).filter(|core| *core != self.0.core.id())
        {
            return elsewhere(other, MovedDatagram { path, bytes: datagram.to_vec() });
        }
        if datagram.first().is_some_and(|first| first & LONG_HEADER != 0) {
            self.renew_certificates();
        }
        let now = self.0.core.turn_time();
        self.machine().receive(now, path, datagram, &self.0.roles.admits);
    }

    /// Uses the present certificates for the connections that peers begin from now on.
    fn renew_certificates(&self) {
        let Some(present) = (self.0.roles.server_tls)() else { return };
        let mut serving = self.0.serving.borrow_mut();
        if serving.as_ref().is_some_and(|serving| Arc::ptr_eq(serving, &present)) {
            return;
        }
        match quic_server(&present) {
            Ok(crypto) => self.machine().serve(crypto),
            Err(error) => tracing::warn!(%error, "QUIC cannot use the certificates for connectors"),
        }
        *serving = Some(present);
    }

    /// Sends the next batch; false if there is none.
    async fn transmit(&self) -> bool {
        let transmit = {
            let mut out = self.0.out.borrow_mut();
            out.clear();
            let (now, segments) = (self.0.core.now(), self.0.socket.segments_max());
            self.machine().poll_transmit(now, segments, &mut out)
        };
        let Some(transmit) = transmit else { return false };
        let len = transmit.size.min(BATCH_LEN_MAX);
        let mut lease = self.0.core.pool().for_links().lease(Class::for_len(len)).await;
        lease.append(&self.0.out.borrow()[..len]);
        // Fails only if the queue is full, and `run` has just waited for room.
        let _ = self.0.socket.send(DatagramBatch {
            peer: transmit.destination,
            local: local_of(transmit.src_ip, self.0.socket.local()),
            ecn: transmit.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
            segment_len: transmit.segment_size.unwrap_or(len),
            bytes: lease,
        });
        true
    }

    /// Tells the tasks what has happened on their connections.
    fn tell(&self) {
        loop {
            let event = self.machine().poll_event();
            let Some(event) = event else { return };
            match event {
                QuicEvent::Connected { key, is_incoming: true } => {
                    self.0.connections.borrow_mut().insert(key, Rc::default());
                    self.0.arrived.borrow_mut().push_back(key);
                    if let Some(waker) = self.0.arrived_waker.borrow_mut().take() {
                        waker.wake();
                    }
                }
                QuicEvent::Connected { key, is_incoming: false } => self.with(key, |state| {
                    state.is_connected.set(true);
                    state.wake();
                }),
                QuicEvent::Opened { key } => self.with(key, |state| state.tell(QuicNews::Opened)),
                QuicEvent::Readable { key, stream } => self.with(key, |state| state.tell(QuicNews::Readable(stream))),
                QuicEvent::Writable { key } | QuicEvent::Available { key } => {
                    self.with(key, |state| state.tell(QuicNews::Unblocked));
                }
                QuicEvent::Stopped { key, stream, code } => {
                    self.with(key, |state| state.tell(QuicNews::Stopped(stream, code)));
                }
                QuicEvent::Delivered { key, stream } => self.with(key, |state| state.tell(QuicNews::Delivered(stream))),
                QuicEvent::Stranger(outcome) => (self.0.roles.on_stranger)(outcome),
                QuicEvent::Lost { key, why } => {
                    if self.0.connections.borrow().get(&key).is_none() {
                        tracing::debug!(%why, "a QUIC handshake failed");
                    }
                    self.with(key, |state| {
                        *state.lost.borrow_mut() = Some(why.clone());
                        state.wake();
                    });
                }
            }
        }
    }

    fn with(&self, key: ConnectionKey, tell: impl FnOnce(&ConnectionState)) {
        if let Some(state) = self.0.connections.borrow().get(&key) {
            tell(state);
        }
    }
}

/// The source to send from. A socket that is bound to one address needs none.
fn local_of(source: Option<IpAddr>, bound: SocketAddr) -> Option<IpAddr> {
    source.filter(|_| bound.ip().is_unspecified())
}

fn of_engine(ecn: Ecn) -> Option<EcnCodepoint> {
    EcnCodepoint::from_bits(ecn.bits())
}
