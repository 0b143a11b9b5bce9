//! Both sides of a link on a virtual clock, with a wire between them that delays bytes and cuts them anywhere.

mod budget;
mod credit;
mod drain;
mod example;
mod fairness;
mod faults;
mod garbage;
mod greeting;
mod hosts;
mod lanes;
mod life;
mod pressure;
mod sequences;
mod splits;
mod streams;

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::{FrameKind, HEADER_LEN, Header};
use super::machine::{LinkRole, Mux};
use super::*;
use crate::base::{CoreId, HostPattern, HostSet, Rng, Secret, Time, Traffic};

pub(super) type Bytes = Vec<u8>;
pub(super) type Side2<T> = [T; 2];
pub(super) const EDGE: usize = 0;
pub(super) const CONNECTOR: usize = 1;

/// The end of a wire, which keeps what is sent.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) frames: Vec<(Header, Bytes)>,
}

impl FrameSink<Bytes> for Sent {
    fn frame(&mut self, head: &[u8], payload: Option<Bytes>) {
        let header = Header::decode(head.first_chunk().unwrap()).unwrap();
        let mut body = head[HEADER_LEN..].to_vec();
        assert!(payload.is_none() || body.is_empty());
        body.extend(payload.unwrap_or_default());
        assert_eq!(usize::from(header.len), body.len(), "{header:?}");
        self.bytes.extend_from_slice(&head[..HEADER_LEN]);
        self.bytes.extend_from_slice(&body);
        self.frames.push((header, body));
    }
}

/// An edge and a connector, connected by wires.
pub(super) struct Pair {
    pub(super) sides: Side2<Mux<Bytes>>,
    pub(super) events: Side2<Vec<Event<Bytes>>>,
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) latency: Duration,
    /// The bytes in transit to each side, with their arrival times.
    pub(super) wires: Side2<VecDeque<(Time, Bytes)>>,
    /// Every frame that each side has sent.
    pub(super) sent: Side2<Vec<(Header, Bytes)>>,
}

pub(super) fn hello() -> Hello {
    Hello {
        tunnel: "tnl_test".parse().unwrap(),
        secret: Secret::from("a secret"),
        instance: 77,
        software: "adit/test".to_owned(),
        link_index: 1,
    }
}

pub(super) fn identity() -> EdgeIdentity {
    EdgeIdentity { instance: 99, core: CoreId(1), cores: 2 }
}

pub(super) fn host_set(hosts: &[&str]) -> HostSet {
    hosts.iter().map(|host| host.parse::<HostPattern>().unwrap()).collect()
}

pub(super) fn start() -> Time {
    Time::from_nanos(1_000_000_000)
}

pub(super) fn open<'a>() -> Open<'a> {
    Open { route: "mcp.example.com", call: 42, traffic: Traffic::Plain, peer: Some("192.0.2.1:5000"), until: None }
}

impl Pair {
    /// Two sides that have exchanged nothing yet.
    pub(super) fn new(settings: Settings, seed: u64) -> Pair {
        let now = start();
        Pair {
            sides: [Mux::edge(now, settings), Mux::connector(now, settings, hello()).unwrap()],
            events: [Vec::new(), Vec::new()],
            now,
            rng: Rng::new(seed),
            latency: Duration::from_millis(5),
            wires: [VecDeque::new(), VecDeque::new()],
            sent: [Vec::new(), Vec::new()],
        }
    }

    /// Two sides after the greeting and a round-trip measurement.
    pub(super) fn ready(settings: Settings) -> Pair {
        let mut pair = Pair::new(settings, 1);
        pair.run_until_idle();
        assert!(pair.sides[EDGE].is_ready() && pair.sides[CONNECTOR].is_ready());
        pair.clear();
        pair
    }

    /// Forgets events and frames seen so far.
    pub(super) fn clear(&mut self) {
        for side in [EDGE, CONNECTOR] {
            self.events[side].clear();
            self.sent[side].clear();
        }
    }

    /// Collects events; a HELLO is answered.
    pub(super) fn collect(&mut self, side: usize) {
        while let Some(event) = self.sides[side].poll_event() {
            if matches!(event, Event::Hello(_)) {
                self.sides[side].welcome(self.now, identity());
            }
            self.events[side].push(event);
        }
    }

    /// Sends the frames of a side, at most `budget` bytes; returns their length.
    pub(super) fn transmit(&mut self, side: usize, budget: usize) -> usize {
        let mut sent = Sent::default();
        let used = self.sides[side].poll_transmit(self.now, budget, &mut sent);
        assert_eq!(used, sent.bytes.len());
        let least = if sent.frames.first().is_some_and(|(header, _)| header.kind == FrameKind::Hosts) {
            HEADER_LEN + HOSTS_LEN_MAX
        } else {
            TRANSMIT_BUDGET_MIN
        };
        assert!(used <= budget.max(least));
        self.sent[side].append(&mut sent.frames);
        if used > 0 {
            self.wires[1 - side].push_back((self.now + self.latency, sent.bytes));
        }
        self.collect(side);
        used
    }

    /// Delivers arrived bytes to a side, cut at random.
    pub(super) fn deliver(&mut self, side: usize) -> bool {
        let mut any = false;
        while self.wires[side].front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, mut bytes) = self.wires[side].pop_front().unwrap();
            while !bytes.is_empty() {
                let n =
                    if self.rng.chance(0.5) { bytes.len() } else { 1 + self.rng.below(bytes.len() as u64) as usize };
                let rest = bytes.split_off(n);
                self.sides[side].receive(self.now, bytes);
                bytes = rest;
            }
            self.collect(side);
            any = true;
        }
        any
    }

    /// One turn: both sides send, time passes, both receive. False if nothing moved.
    pub(super) fn step(&mut self) -> bool {
        let mut moved = false;
        for side in [EDGE, CONNECTOR] {
            while self.transmit(side, 16_384) > 0 {
                moved = true;
            }
        }
        self.now += self.latency;
        for side in [EDGE, CONNECTOR] {
            moved |= self.deliver(side);
            self.check(side);
        }
        moved
    }

    /// Runs until nothing moves any more; timers do not run.
    pub(super) fn run_until_idle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                self.check_credit();
                return;
            }
        }
        panic!("the link does not become idle");
    }

    /// Opens a stream and delivers the frame; returns its id on both sides.
    pub(super) fn open(&mut self) -> Side2<StreamId> {
        let edge = self.sides[EDGE].open(&open()).unwrap();
        self.run_until_idle();
        let opened = self.events[CONNECTOR].iter().rev().find_map(|event| match event {
            Event::Opened { stream } if stream.wire() == edge.wire() => Some(*stream),
            _ => None,
        });
        [edge, opened.unwrap()]
    }

    /// The bytes that a side received on a stream.
    pub(super) fn bytes(&self, side: usize, stream: StreamId) -> Bytes {
        let of_stream = |event: &Event<Bytes>| match event {
            Event::Data { stream: s, chunk } if *s == stream => chunk.clone(),
            _ => Vec::new(),
        };
        self.events[side].iter().flat_map(of_stream).collect()
    }

    pub(super) fn closed(&self, side: usize) -> Option<(Fault, Side)> {
        self.events[side].iter().find_map(|event| match event {
            Event::Closed { fault, by } => Some((*fault, *by)),
            _ => None,
        })
    }

    pub(super) fn cause(&self, side: usize, stream: StreamId) -> Option<Cause> {
        self.events[side].iter().find_map(|event| match event {
            Event::Reset { stream: s, cause } if *s == stream => Some(*cause),
            _ => None,
        })
    }

    pub(super) fn kinds(&self, side: usize) -> Vec<FrameKind> {
        self.sent[side].iter().map(|(header, _)| header.kind).collect()
    }

    /// Checks the invariants of one side.
    pub(super) fn check(&mut self, side: usize) {
        check(&mut self.sides[side]);
    }

    /// Checks that both sides agree on the credit when nothing is in transit.
    pub(super) fn check_credit(&mut self) {
        for side in [EDGE, CONNECTOR] {
            if !self.sides[side].is_ready() || !self.sides[1 - side].is_ready() {
                return;
            }
            let [edge, connector] = &mut self.sides;
            let (from, to) = if side == EDGE { (edge, connector) } else { (connector, edge) };
            assert_eq!(from.credit.left(), to.window.left() as usize);
            let slots: Vec<u32> = from.streams.slots_by_id().collect();
            for slot in slots {
                let stream = from.streams.at(slot);
                let (id, credit) = (stream.id, stream.credit.left());
                if let Some(other) = to.streams.find(id) {
                    assert_eq!(credit, to.streams.at(other).window.left() as usize, "stream {id}");
                }
            }
        }
    }
}

/// Checks the invariants of a mux.
pub(super) fn check(mux: &mut Mux<Bytes>) {
    assert!(mux.window.is_whole());
    let slots: Vec<u32> = mux.streams.slots_by_id().collect();
    assert_eq!(slots.len(), mux.streams.live());
    let (mut held, mut ready, mut lingering) = (0, 0, 0);
    for slot in slots {
        let stream = mux.streams.at(slot);
        assert!(stream.window.is_whole());
        assert_eq!(stream.ready, stream.can_send());
        held += stream.window.held();
        ready += usize::from(stream.ready);
        lingering += usize::from(stream.lingers);
        let queued: usize = stream.queue.iter().map(item_len).sum();
        assert_eq!(queued, stream.queued);
    }
    assert_eq!((mux.window.held(), mux.ready, mux.lingering), (held, ready, lingering));
    if mux.role == LinkRole::Connector && mux.is_ready() {
        assert!(mux.streams.live() <= mux.settings.streams_max as usize);
    }
}

fn item_len(item: &stream::Item<Bytes>) -> usize {
    match item {
        stream::Item::Bytes(chunk) => chunk.len(),
        stream::Item::Phases(_) => 0,
    }
}

/// A frame as sent on the wire.
pub(super) fn frame(kind: FrameKind, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Header::new(kind, stream, payload.len()).encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}
