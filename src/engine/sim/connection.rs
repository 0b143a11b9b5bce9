//! A simulated connection: two ends, and a pipe in each direction.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::Time;
use crate::engine::driver::Address;
use crate::engine::sim::faults::Faults;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConnectionEnd {
    Client,
    Server,
}

impl ConnectionEnd {
    pub(super) const BOTH: [ConnectionEnd; 2] = [ConnectionEnd::Client, ConnectionEnd::Server];

    pub(super) fn other(self) -> ConnectionEnd {
        match self {
            ConnectionEnd::Client => ConnectionEnd::Server,
            ConnectionEnd::Server => ConnectionEnd::Client,
        }
    }
}

/// Identifies one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndId {
    pub(super) connection: u64,
    pub(super) side: ConnectionEnd,
}

impl EndId {
    pub(super) fn peer(self) -> EndId {
        EndId { connection: self.connection, side: self.side.other() }
    }
}

/// A driver and the index of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) driver: usize,
    pub(super) index: u32,
}

/// The state of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Not established yet (only at the server).
    Embryo,
    /// A process holds it, or it waits to be accepted.
    Open,
    /// Its process closed it; bytes sent earlier are still in flight.
    Orphan,
    /// The host keeps no state of it any more.
    Dead,
}

/// One of the two ends of a connection.
pub(super) struct End {
    pub(super) host: IpAddr,
    pub(super) address: Option<SocketAddr>,
    pub(super) owner: Option<Owner>,
    pub(super) life: Life,
    /// Why the connection failed at this end.
    pub(super) error: Option<ErrorKind>,
    /// How long the other host may leave probes unanswered before the connection fails at this end.
    pub(super) silence_max: Option<Duration>,
}

impl End {
    pub(super) fn new(host: IpAddr, address: Option<SocketAddr>, life: Life) -> End {
        End { host, address, owner: None, life, error: None, silence_max: None }
    }

    /// Whether bytes that arrive here are accepted.
    pub(super) fn listens(&self) -> bool {
        matches!(self.life, Life::Embryo | Life::Open) && self.error.is_none()
    }
}

/// What a segment carries.
pub(super) enum Payload {
    /// The client's acknowledgement that completes the handshake.
    Established,
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// A segment in flight, and when it arrives.
pub(super) struct Segment {
    pub(super) due: Time,
    pub(super) payload: Payload,
}

/// One direction of a connection.
pub(super) struct Pipe {
    /// Bytes that the sender's host has accepted and not sent.
    pub(super) unsent: VecDeque<u8>,
    unsent_max: usize,
    /// The sender has finished; the FIN follows the last byte.
    pub(super) finishing: bool,
    /// The FIN is in flight or has arrived.
    pub(super) fin_sent: bool,
    /// The FIN has arrived.
    pub(super) fin_arrived: bool,
    pub(super) flight: VecDeque<Segment>,
    flight_bytes: usize,
    /// Bytes that the sender's host had accepted and that were dropped before they arrived.
    lost_bytes: usize,
    /// Bytes that wait at the receiver's host.
    pub(super) arrived: VecDeque<u8>,
    arrived_max: usize,
    /// The number of the current stall; `None` if segments get through.
    pub(super) stall: Option<u64>,
    pub(super) last_due: Time,
}

impl Pipe {
    pub(super) fn new(faults: &Faults) -> Pipe {
        Pipe {
            unsent: VecDeque::new(),
            unsent_max: faults.send_buffer_bytes.max(1),
            finishing: false,
            fin_sent: false,
            fin_arrived: false,
            flight: VecDeque::new(),
            flight_bytes: 0,
            lost_bytes: 0,
            arrived: VecDeque::new(),
            arrived_max: faults.receive_buffer_bytes.max(1),
            stall: None,
            last_due: Time::ZERO,
        }
    }

    /// How many bytes the sender's host would accept.
    pub(super) fn room(&self) -> usize {
        self.unsent_max.saturating_sub(self.unsent.len())
    }

    /// How many bytes the receiver's host has room for, minus those in flight.
    pub(super) fn window(&self) -> usize {
        self.arrived_max.saturating_sub(self.arrived.len() + self.flight_bytes)
    }

    /// Puts a segment in flight.
    pub(super) fn launch(&mut self, due: Time, payload: Payload) {
        if let Payload::Bytes(bytes) = &payload {
            self.flight_bytes += bytes.len();
        }
        self.last_due = due;
        self.flight.push_back(Segment { due, payload });
    }

    /// Takes the first segment that arrives.
    pub(super) fn land(&mut self) -> Option<Payload> {
        let segment = self.flight.pop_front()?;
        if let Payload::Bytes(bytes) = &segment.payload {
            self.flight_bytes -= bytes.len();
        }
        Some(segment.payload)
    }

    /// Drops everything that has not arrived.
    pub(super) fn drop_undelivered(&mut self) {
        self.drop_unsent();
        self.flight.clear();
        self.lost_bytes += std::mem::take(&mut self.flight_bytes);
        self.stall = None;
    }

    /// Drops everything that has not been sent.
    pub(super) fn drop_unsent(&mut self) {
        self.lost_bytes += self.unsent.len();
        self.unsent.clear();
        self.finishing = false;
    }

    /// How many accepted bytes have not arrived; a FIN that has not arrived counts as one.
    pub(super) fn unacknowledged_bytes(&self) -> usize {
        let mark = (self.finishing || self.fin_sent) && !self.fin_arrived;
        self.unsent.len() + self.flight_bytes + self.lost_bytes + usize::from(mark)
    }

    /// How many bytes were sent and have not arrived; a FIN counts as one.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.flight_bytes + self.lost_bytes + usize::from(self.fin_sent && !self.fin_arrived)
    }

    /// How many accepted bytes the receiver has not read.
    pub(super) fn held(&self) -> usize {
        self.unsent.len() + self.flight_bytes + self.arrived.len()
    }
}

/// A simulated TCP connection: two ends, and a pipe in each direction.
pub(super) struct Connection {
    client: End,
    server: End,
    upward: Pipe,
    downward: Pipe,
    /// The address that the client connects to.
    pub(super) address: Address,
    /// The result of the client's connect, once there is one.
    pub(super) connected: Option<Result<(), ErrorKind>>,
    /// The listener that will accept it.
    pub(super) listener: Option<u64>,
}

impl Connection {
    pub(super) fn new(client: End, server: End, address: Address, faults: &Faults) -> Connection {
        let (upward, downward) = (Pipe::new(faults), Pipe::new(faults));
        Connection { client, server, upward, downward, address, connected: None, listener: None }
    }

    pub(super) fn end(&self, side: ConnectionEnd) -> &End {
        match side {
            ConnectionEnd::Client => &self.client,
            ConnectionEnd::Server => &self.server,
        }
    }

    pub(super) fn end_mut(&mut self, side: ConnectionEnd) -> &mut End {
        match side {
            ConnectionEnd::Client => &mut self.client,
            ConnectionEnd::Server => &mut self.server,
        }
    }

    /// The pipe that `side` sends into.
    pub(super) fn out(&self, side: ConnectionEnd) -> &Pipe {
        match side {
            ConnectionEnd::Client => &self.upward,
            ConnectionEnd::Server => &self.downward,
        }
    }

    /// The pipe that `side` sends into, to be changed.
    pub(super) fn out_mut(&mut self, side: ConnectionEnd) -> &mut Pipe {
        match side {
            ConnectionEnd::Client => &mut self.upward,
            ConnectionEnd::Server => &mut self.downward,
        }
    }

    /// Removes ends that their process closed, once both FINs have arrived.
    pub(super) fn reap_orphans(&mut self) {
        if self.upward.fin_arrived && self.downward.fin_arrived {
            for end in [&mut self.client, &mut self.server] {
                if end.life == Life::Orphan {
                    end.life = Life::Dead;
                }
            }
        }
    }

    /// Whether no process can observe the connection any more: both ends are closed and, unless one is dead, nothing is
    /// left to send.
    pub(super) fn is_over(&self) -> bool {
        let closed = |end: &End| matches!(end.life, Life::Orphan | Life::Dead);
        let dead = self.client.life == Life::Dead || self.server.life == Life::Dead;
        let embryo_lost = self.client.life == Life::Dead && self.server.life == Life::Embryo;
        (closed(&self.client) && closed(&self.server) && dead) || (embryo_lost && self.upward.flight.is_empty())
    }
}
