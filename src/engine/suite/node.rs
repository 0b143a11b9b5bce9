//! A driver under test, with a record of what it reported.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::Rng;
use crate::engine::driver::{Address, Close, Driver, DriverEvent, RawSocket, SocketOptions, Token, Wait};
use crate::engine::pool::{Class, Pool, SMALL_LEN};
use crate::engine::{BoundDatagrams, DatagramBatch, Lease};

/// What was reported about one socket or listener.
#[derive(Debug, Default)]
pub(super) struct SocketLog {
    pub(super) connected: Option<io::Result<()>>,
    pub(super) received: Vec<u8>,
    pub(super) ended: Option<io::Result<()>>,
    /// Set when the end was reported while receiving was paused; true if the connection failed.
    pub(super) peer_ended: Option<bool>,
    pub(super) sent: usize,
    pub(super) send_failed: Option<io::Error>,
    pub(super) datagrams: Vec<DatagramBatch>,
    pub(super) datagrams_dropped: Vec<io::Error>,
    pub(super) accept_failed: Option<io::Error>,
    pub(super) closed: bool,
    pub(super) detached: Option<RawSocket>,
}

/// A connection that a listener accepted.
pub(super) struct Accepted {
    pub(super) listener: Token,
    pub(super) raw: RawSocket,
}

pub(super) struct Node {
    pub(super) driver: Box<dyn Driver>,
    pub(super) pool: Pool,
    pub(super) accepted: VecDeque<Accepted>,
    /// If set, received leases are kept here instead of being dropped.
    pub(super) kept: Option<Vec<Lease>>,
    logs: HashMap<Token, SocketLog>,
    free: Vec<Token>,
    places: u32,
    events: Vec<DriverEvent>,
}

impl Node {
    pub(super) fn new(driver: Box<dyn Driver>, pool: Pool) -> Node {
        Node {
            driver,
            pool,
            accepted: VecDeque::new(),
            kept: None,
            logs: HashMap::new(),
            free: Vec::new(),
            places: 0,
            events: Vec::new(),
        }
    }

    pub(super) fn listen(&mut self, address: &Address) -> (Token, Address) {
        let token = self.open();
        let bound = self.driver.listen(token, address).expect("a free address");
        (token, bound)
    }

    pub(super) fn bind(&mut self, address: SocketAddr) -> (Token, BoundDatagrams) {
        let token = self.open();
        let bound = self.driver.bind(token, address).expect("a free address");
        (token, bound)
    }

    pub(super) fn connect(&mut self, address: &Address) -> Token {
        let token = self.open();
        self.driver
            .connect(token, address, SocketOptions { quick_ack: true, ..SocketOptions::default() })
            .expect("a socket");
        token
    }

    pub(super) fn adopt(&mut self, raw: RawSocket) -> Token {
        let token = self.open();
        self.driver.adopt(token, raw, SocketOptions::default()).expect("a socket of this driver's kind");
        token
    }

    /// Closes the socket, and forgets its log once it is gone.
    pub(super) fn close(&mut self, token: Token) {
        self.driver.close(token, Close::Abort);
    }

    /// Queues `bytes` in leases of at most a small buffer. Returns how many bytes there were buffers for.
    pub(super) fn send(&mut self, token: Token, bytes: &[u8]) -> usize {
        let mut queued = 0;
        for piece in bytes.chunks(SMALL_LEN) {
            let Some(mut lease) = self.pool.take(Class::Small) else { break };
            lease.append(piece);
            queued += piece.len();
            self.driver.send(token, lease);
        }
        queued
    }

    /// As [`Node::send`], in leases of random sizes.
    pub(super) fn send_cut(&mut self, token: Token, mut bytes: &[u8], rng: &mut Rng) -> usize {
        let mut queued = 0;
        while !bytes.is_empty() {
            let class = if rng.chance(0.2) { Class::Large } else { Class::Small };
            let Some(mut lease) = self.pool.take(class) else { break };
            let n = (rng.between(1, class.bytes() as u64) as usize).min(bytes.len());
            lease.reserve_headroom(rng.below((class.bytes() - n + 1) as u64) as usize);
            lease.append(&bytes[..n]);
            bytes = &bytes[n..];
            queued += n;
            while lease.len() > 1 && rng.chance(0.3) {
                let cut = rng.below(lease.len() as u64) as usize;
                let front = lease.split_to(cut);
                self.driver.send(token, front);
            }
            self.driver.send(token, lease);
        }
        queued
    }

    /// The log of a token that was opened here.
    #[track_caller]
    pub(super) fn log(&mut self, token: Token) -> &mut SocketLog {
        self.logs.get_mut(&token).expect("a token that was opened here")
    }

    /// Forgets a token whose end was reported, so that its slot is reused.
    #[track_caller]
    pub(super) fn forget(&mut self, token: Token) -> SocketLog {
        let log = self.logs.remove(&token).expect("a token that was opened here");
        assert!(log.closed, "{token:?} is still open");
        self.free.push(token);
        log
    }

    /// One turn that waits only briefly.
    pub(super) fn turn_briefly(&mut self) {
        let moment = self.driver.now() + Duration::from_micros(100);
        self.turn(Wait::Until(moment));
    }

    pub(super) fn turn(&mut self, wait: Wait) {
        let mut events = std::mem::take(&mut self.events);
        self.driver.turn(wait, &mut events).expect("the driver works");
        for event in events.drain(..) {
            self.note(event);
        }
        self.events = events;
    }

    /// Ends the driver, and checks that every buffer was returned.
    pub(super) fn finish(self) {
        let Node { driver, pool, kept, logs, .. } = self;
        drop((driver, kept, logs));
        assert_eq!(pool.usage().leased_bytes, 0, "buffers that did not come back");
    }

    fn open(&mut self) -> Token {
        let token = match self.free.pop() {
            Some(old) => Token { index: old.index, generation: old.generation + 1 },
            None => {
                self.places += 1;
                Token { index: self.places - 1, generation: 0 }
            }
        };
        self.logs.insert(token, SocketLog::default());
        token
    }

    fn note(&mut self, event: DriverEvent) {
        match event {
            DriverEvent::Accepted { listener, socket, .. } => {
                self.living(listener);
                self.accepted.push_back(Accepted { listener, raw: socket });
            }
            DriverEvent::AcceptFailed { listener, error } => self.living(listener).accept_failed = Some(error),
            DriverEvent::Connected { socket, result } => {
                let before = self.living(socket).connected.replace(result);
                assert!(before.is_none(), "connected twice");
            }
            DriverEvent::Received { socket, lease } => {
                assert!(!lease.is_empty(), "an empty receive");
                let log = self.living(socket);
                assert!(log.ended.is_none(), "bytes after the end");
                log.received.extend_from_slice(&lease);
                if let Some(kept) = &mut self.kept {
                    kept.push(lease);
                }
            }
            DriverEvent::ReceiveEnded { socket, result } => {
                let before = self.living(socket).ended.replace(result);
                assert!(before.is_none(), "ended twice");
            }
            DriverEvent::PeerEnded { socket, has_failed } => {
                let log = self.living(socket);
                assert!(log.ended.is_none(), "the end behind the end");
                assert!(log.peer_ended.is_none_or(|failed| has_failed && !failed), "the same told twice");
                log.peer_ended = Some(has_failed);
            }
            DriverEvent::Sent { socket, bytes } => self.living(socket).sent += bytes,
            DriverEvent::SendFailed { socket, error } => {
                let before = self.living(socket).send_failed.replace(error);
                assert!(before.is_none(), "failed twice");
            }
            DriverEvent::DatagramsReceived { socket, batch } => {
                assert!(batch.segment_len > 0 && !batch.bytes.is_empty(), "an empty batch");
                self.living(socket).datagrams.push(batch);
            }
            DriverEvent::DatagramsDropped { socket, error, .. } => self.living(socket).datagrams_dropped.push(error),
            DriverEvent::Closed { token } => self.living(token).closed = true,
            DriverEvent::Detached { socket, raw } => {
                let log = self.living(socket);
                log.closed = true;
                log.detached = Some(raw);
            }
        }
    }

    /// The log of a token that may still be reported on.
    #[track_caller]
    fn living(&mut self, token: Token) -> &mut SocketLog {
        let log = self.logs.get_mut(&token).unwrap_or_else(|| panic!("a report of {token:?}, which is not in use"));
        assert!(!log.closed, "a report of {token:?} after its last");
        log
    }
}
