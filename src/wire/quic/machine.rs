use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, ConnectError, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint,
    Endpoint, Event, Incoming, ServerConfig, StreamEvent, StreamId, Transmit, TransportConfig, VarInt, crypto,
};
use rustls::pki_types::CertificateDer;

use crate::base::{CoreId, Time};

use super::settings::{QuicKeys, QuicSettings};

/// The most answers to strangers that wait to be sent; further ones are dropped.
const REPLIES_MAX: usize = 256;
/// The largest batch of datagrams in bytes, as UDP carries it.
const BATCH_LEN_MAX: usize = 65_507;

/// Identifies a connection of a [`QuicMachine`]. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey {
    index: usize,
    generation: u32,
}

/// The addresses of a received datagram, and the mark that it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramPath {
    /// The sender of the datagram.
    pub peer: SocketAddr,
    /// The address of this side that it was sent to, if known.
    pub local: Option<IpAddr>,
    /// The mark of explicit congestion notification.
    pub ecn: Option<EcnCodepoint>,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum QuicEvent {
    /// The handshake is complete. For a connection that a peer has begun it is the first event.
    Connected {
        /// The connection.
        key: ConnectionKey,
        /// Whether the peer has begun it.
        is_incoming: bool,
    },
    /// The peer has opened a stream, or several; see [`QuicMachine::accept_stream`].
    Opened {
        /// The connection.
        key: ConnectionKey,
    },
    /// Something can be read from a stream: bytes, its end or its reset.
    Readable {
        /// The connection.
        key: ConnectionKey,
        /// The stream.
        stream: StreamId,
    },
    /// A stream that was blocked can be written to.
    Writable {
        /// The connection.
        key: ConnectionKey,
    },
    /// The peer reads no more from a stream.
    Stopped {
        /// The connection.
        key: ConnectionKey,
        /// The stream.
        stream: StreamId,
        /// The peer's reason.
        code: u64,
    },
    /// All that was written on a stream, and its end, was acknowledged.
    Delivered {
        /// The connection.
        key: ConnectionKey,
        /// The stream.
        stream: StreamId,
    },
    /// Further streams can be opened.
    Available {
        /// The connection.
        key: ConnectionKey,
    },
    /// A peer that wanted to connect was not accepted, or not yet.
    Stranger(StrangerOutcome),
    /// The connection has ended, or its handshake has failed. Nothing follows.
    Lost {
        /// The connection.
        key: ConnectionKey,
        /// The reason.
        why: ConnectionError,
    },
}

/// What is known of the path of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuicPath {
    /// The present estimate of the round-trip time.
    pub round_trip: Duration,
    /// How many bytes may be under way at a time, as the congestion control sees it.
    pub congestion_window: u64,
    /// Packets that were sent.
    pub packets_sent: u64,
    /// Packets that were lost. Probes for a larger size do not count.
    pub packets_lost: u64,
    /// Datagrams that were received.
    pub datagrams_received: u64,
    /// The size of the largest datagram that the path carries, in bytes.
    pub mtu: u16,
    /// Whether datagrams are sent with the mark that they may be marked instead of dropped, which the path has proven to keep.
    pub has_ecn: bool,
}

/// Why a connection could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum QuicConnectError {
    /// The limit of connections is reached.
    #[error("too many QUIC connections: {0} at most")]
    Full(usize),
    /// The library refuses the parameters.
    #[error(transparent)]
    Refused(#[from] ConnectError),
}

/// What becomes of a peer that wants to connect, unless it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrangerOutcome {
    /// It is refused, because it is not admitted or a limit is reached.
    Refused,
    /// It is asked to show that it receives at its address.
    Retried,
}

/// All QUIC connections of one socket, without the socket.
///
/// Feed it with [`receive`](QuicMachine::receive) and [`handle_timeout`](QuicMachine::handle_timeout). Then handle every
/// [`poll_event`](QuicMachine::poll_event), and send what [`poll_transmit`](QuicMachine::poll_transmit) gives out.
pub struct QuicMachine {
    endpoint: Endpoint,
    settings: QuicSettings,
    keys: QuicKeys,
    transport: Arc<TransportConfig>,
    /// The library's time at [`Time::ZERO`].
    zero: Instant,
    slots: Vec<Slot>,
    open: usize,
    /// Handshakes in progress that peers have begun.
    handshaking: usize,
    /// The timers of all connections, by time and index.
    due: BTreeSet<(Time, usize)>,
    /// Connections whose events were not collected yet.
    unsettled: Vec<usize>,
    /// Connections that may have something to send.
    sending: VecDeque<usize>,
    events: VecDeque<QuicEvent>,
    replies: VecDeque<(Transmit, Vec<u8>)>,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    held: Option<Box<Held>>,
}

struct Held {
    connection: Connection,
    due: Time,
    is_incoming: bool,
    is_connected: bool,
    is_unsettled: bool,
    is_sending: bool,
    /// Whether the last datagrams were sent with a mark of congestion control.
    has_ecn: bool,
}

impl QuicMachine {
    /// Creates a machine without connections for the socket of `core`. `zero` stands for [`Time::ZERO`].
    #[must_use]
    pub fn new(core: CoreId, settings: QuicSettings, keys: QuicKeys, zero: Instant) -> QuicMachine {
        QuicMachine {
            endpoint: Endpoint::new(keys.endpoint(core), None, true, None),
            settings,
            keys,
            transport: settings.transport(),
            zero,
            slots: Vec::new(),
            open: 0,
            handshaking: 0,
            due: BTreeSet::new(),
            unsettled: Vec::new(),
            sending: VecDeque::new(),
            events: VecDeque::new(),
            replies: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// From now on accepts connections, with these certificates; connections that exist keep theirs.
    pub fn serve(&mut self, crypto: Arc<dyn crypto::ServerConfig>) {
        let config: Arc<ServerConfig> = self.settings.server(crypto, &self.keys, Arc::clone(&self.transport));
        self.endpoint.set_server_config(Some(config));
    }

    /// Begins a connection. [`QuicEvent::Connected`] or [`QuicEvent::Lost`] follows.
    ///
    /// # Errors
    ///
    /// If a limit is reached, or the name or the address cannot be used.
    pub fn connect(
        &mut self,
        now: Time,
        crypto: Arc<dyn crypto::ClientConfig>,
        peer: SocketAddr,
        name: &str,
    ) -> Result<ConnectionKey, QuicConnectError> {
        if self.open >= self.settings.connections_max {
            return Err(QuicConnectError::Full(self.settings.connections_max));
        }
        let mut config = ClientConfig::new(crypto);
        config.transport_config(Arc::clone(&self.transport));
        let (handle, connection) = self.endpoint.connect(self.instant(now), config, peer, name)?;
        Ok(self.insert(handle, connection, false))
    }

    /// Processes a datagram. `admits` decides whether its sender may begin a connection, if that is what it wants.
    pub fn receive(&mut self, now: Time, path: DatagramPath, datagram: &[u8], admits: impl FnOnce(SocketAddr) -> bool) {
        let (now, DatagramPath { peer, local, ecn }) = (self.instant(now), path);
        self.scratch.clear();
        match self.endpoint.handle(now, peer, local, ecn, BytesMut::from(datagram), &mut self.scratch) {
            None => {}
            Some(DatagramEvent::Response(reply)) => self.reply(&reply),
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(held) = self.held(handle.0) {
                    held.connection.handle_event(event);
                    self.touch(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.answer(now, incoming, admits(peer)),
        }
    }

    /// The next time at which [`handle_timeout`](QuicMachine::handle_timeout) has something to do.
    #[must_use]
    pub fn timeout(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        let instant = self.instant(now);
        while let Some((at, index)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(held) = self.held(index) {
                held.due = Time::NEVER;
                held.connection.handle_timeout(instant);
                self.touch(index);
            }
        }
    }

    /// The next event of any connection.
    pub fn poll_event(&mut self) -> Option<QuicEvent> {
        self.settle();
        self.events.pop_front()
    }

    /// Writes the next datagrams into `out`, which must be empty, at most `segments_max` of one size.
    pub fn poll_transmit(&mut self, now: Time, segments_max: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        if let Some((transmit, bytes)) = self.replies.pop_front() {
            out.extend_from_slice(&bytes);
            return Some(transmit);
        }
        self.settle();
        let now = self.instant(now);
        while let Some(index) = self.sending.pop_front() {
            let Some(held) = self.held(index) else { continue };
            let segments = segments_max.min(BATCH_LEN_MAX / usize::from(held.connection.current_mtu()).max(1)).max(1);
            if let Some(transmit) = held.connection.poll_transmit(now, segments, out) {
                held.has_ecn = transmit.ecn.is_some();
                // The others have their turn before the next batch.
                self.sending.push_back(index);
                return Some(transmit);
            }
            held.is_sending = false;
            self.schedule(index);
        }
        None
    }

    /// Whether there may be something to send.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !(self.sending.is_empty() && self.unsettled.is_empty() && self.replies.is_empty())
    }

    /// Ends a connection, with a code and a reason for the peer. [`QuicEvent::Lost`] does not follow.
    pub fn close(&mut self, now: Time, key: ConnectionKey, code: u32, reason: &str) {
        let now = self.instant(now);
        if let Some(connection) = self.connection(key) {
            connection.close(now, VarInt::from_u32(code), bytes::Bytes::copy_from_slice(reason.as_bytes()));
            self.touch(key.index);
        }
    }

    /// The keys of the process.
    #[must_use]
    #[cfg(test)]
    pub fn keys(&self) -> &QuicKeys {
        &self.keys
    }

    /// The peer's present address; `None` if the connection is gone.
    #[must_use]
    pub fn peer(&self, key: ConnectionKey) -> Option<SocketAddr> {
        self.look(key).map(Connection::remote_address)
    }

    /// What is known of the path; `None` if the connection is gone.
    #[must_use]
    pub fn path(&self, key: ConnectionKey) -> Option<QuicPath> {
        let slot = self.slots.get(key.index).filter(|slot| slot.generation == key.generation)?;
        let held = slot.held.as_ref()?;
        let stats = held.connection.stats();
        Some(QuicPath {
            round_trip: stats.path.rtt,
            congestion_window: stats.path.cwnd,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            datagrams_received: stats.udp_rx.datagrams,
            mtu: stats.path.current_mtu,
            has_ecn: held.has_ecn,
        })
    }

    /// The peer's certificates, its own first; none if it sent none.
    #[must_use]
    pub fn peer_certificates(&self, key: ConnectionKey) -> Vec<CertificateDer<'static>> {
        let identity = self.look(key).and_then(|connection| connection.crypto_session().peer_identity());
        identity.and_then(|identity| identity.downcast().ok()).map(|certificates| *certificates).unwrap_or_default()
    }

    /// The application protocol that was agreed.
    #[must_use]
    pub fn protocol(&self, key: ConnectionKey) -> Option<Vec<u8>> {
        let data = self.look(key)?.crypto_session().handshake_data()?;
        data.downcast::<crypto::rustls::HandshakeData>().ok()?.protocol
    }

    /// The number of connections, including those that have ended and still answer late packets.
    #[must_use]
    #[cfg(test)]
    pub fn connections(&self) -> usize {
        self.open
    }

    /// The connection of `key`, unless it is gone.
    pub(super) fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(key.index).filter(|slot| slot.generation == key.generation)?;
        slot.held.as_mut().map(|held| &mut held.connection)
    }

    /// Notes that a connection may have events, or something to send.
    pub(super) fn touch_key(&mut self, key: ConnectionKey) {
        self.touch(key.index);
    }

    /// [`QuicMachine::connection`] for reading its state only.
    pub(super) fn look(&self, key: ConnectionKey) -> Option<&Connection> {
        let slot = self.slots.get(key.index).filter(|slot| slot.generation == key.generation)?;
        slot.held.as_ref().map(|held| &held.connection)
    }

    /// Decides about a peer that wants to connect.
    fn answer(&mut self, now: Instant, incoming: Incoming, is_admitted: bool) {
        self.scratch.clear();
        let is_full = self.open >= self.settings.connections_max || self.handshaking >= self.settings.handshakes_max;
        let is_proven = incoming.remote_address_validated();
        if !is_admitted {
            self.count(StrangerOutcome::Refused);
            self.endpoint.ignore(incoming);
        } else if is_full {
            self.count(StrangerOutcome::Refused);
            let reply = self.endpoint.refuse(incoming, &mut self.scratch);
            self.reply(&reply);
        } else if self.handshaking >= self.settings.retry_from && !is_proven && incoming.may_retry() {
            self.count(StrangerOutcome::Retried);
            match self.endpoint.retry(incoming, &mut self.scratch) {
                Ok(reply) => self.reply(&reply),
                Err(error) => self.endpoint.ignore(error.into_incoming()),
            }
        } else {
            match self.endpoint.accept(incoming, now, &mut self.scratch, None) {
                Ok((handle, connection)) => {
                    self.handshaking += 1;
                    self.insert(handle, connection, true);
                }
                Err(error) => {
                    self.count(StrangerOutcome::Refused);
                    if let Some(reply) = error.response {
                        self.reply(&reply);
                    }
                }
            }
        }
    }

    /// Queues an answer that the library has written into `scratch`.
    fn reply(&mut self, reply: &Transmit) {
        if self.replies.len() >= REPLIES_MAX {
            return self.count(StrangerOutcome::Refused);
        }
        let Transmit { destination, ecn, segment_size, src_ip, size } = *reply;
        let bytes = self.scratch[..size].to_vec();
        self.replies.push_back((Transmit { destination, ecn, segment_size, src_ip, size }, bytes));
    }

    fn count(&mut self, outcome: StrangerOutcome) {
        self.events.push_back(QuicEvent::Stranger(outcome));
    }

    fn insert(&mut self, handle: ConnectionHandle, connection: Connection, is_incoming: bool) -> ConnectionKey {
        let index = handle.0;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        self.open += 1;
        self.slots[index].held = Some(Box::new(Held {
            connection,
            due: Time::NEVER,
            is_incoming,
            is_connected: false,
            is_unsettled: false,
            is_sending: false,
            has_ecn: false,
        }));
        self.touch(index);
        ConnectionKey { index, generation: self.slots[index].generation }
    }

    fn held(&mut self, index: usize) -> Option<&mut Held> {
        self.slots.get_mut(index)?.held.as_deref_mut()
    }

    fn touch(&mut self, index: usize) {
        if let Some(held) = self.held(index)
            && !std::mem::replace(&mut held.is_unsettled, true)
        {
            self.unsettled.push(index);
        }
    }

    /// Collects the events of all connections that may have some.
    fn settle(&mut self) {
        while let Some(index) = self.unsettled.pop() {
            self.settle_one(index);
        }
    }

    fn settle_one(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(held) = slot.held.as_deref_mut() else { return };
        let key = ConnectionKey { index, generation: slot.generation };
        held.is_unsettled = false;
        while let Some(event) = held.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(index), event) {
                held.connection.handle_event(event);
            }
        }
        while let Some(event) = held.connection.poll() {
            let event = match event {
                Event::Connected => {
                    self.handshaking -= usize::from(held.is_incoming && !held.is_connected);
                    held.is_connected = true;
                    QuicEvent::Connected { key, is_incoming: held.is_incoming }
                }
                Event::ConnectionLost { reason } => QuicEvent::Lost { key, why: reason },
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => QuicEvent::Opened { key },
                Event::Stream(StreamEvent::Readable { id }) => QuicEvent::Readable { key, stream: id },
                Event::Stream(StreamEvent::Writable { .. }) => QuicEvent::Writable { key },
                Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    QuicEvent::Stopped { key, stream: id, code: error_code.into_inner() }
                }
                Event::Stream(StreamEvent::Finished { id }) => QuicEvent::Delivered { key, stream: id },
                Event::Stream(StreamEvent::Available { dir: Dir::Bi }) => QuicEvent::Available { key },
                // Without meaning here: one-way streams and application datagrams are not used.
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {
                    continue;
                }
            };
            self.events.push_back(event);
        }
        if held.connection.is_drained() {
            self.handshaking -= usize::from(held.is_incoming && !held.is_connected);
            self.due.remove(&(held.due, index));
            slot.held = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.open -= 1;
            return;
        }
        if !std::mem::replace(&mut held.is_sending, true) {
            self.sending.push_back(index);
        }
    }

    /// Sets the timer of a connection to what it wants.
    fn schedule(&mut self, index: usize) {
        let zero = self.zero;
        let Some(held) = self.held(index) else { return };
        let wanted =
            held.connection.poll_timeout().map_or(Time::NEVER, |at| Time::ZERO + at.saturating_duration_since(zero));
        let before = std::mem::replace(&mut held.due, wanted);
        if before != wanted {
            self.due.remove(&(before, index));
            if wanted != Time::NEVER {
                self.due.insert((wanted, index));
            }
        }
    }

    fn instant(&self, now: Time) -> Instant {
        self.zero + now.since(Time::ZERO)
    }
}
