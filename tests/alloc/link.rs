//! Nothing is allocated when calls go through a link, once it has seen as many at a time before.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use adit::base::{Chunk, CoreId, Secret, Time, Traffic};
use adit::wire::mux::{EdgeIdentity, Event, FrameSink, Hello, Mux, Open, Phases, Settings, Stage, StreamId};

use crate::counting::allocations;

/// A piece of a shared buffer: what a lease is on a core.
struct Piece {
    buffer: Rc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }
}

impl Chunk for Piece {
    fn split_to(&mut self, at: usize) -> Piece {
        assert!(at <= self.to - self.from);
        let first = Piece { buffer: Rc::clone(&self.buffer), from: self.from, to: self.from + at };
        self.from += at;
        first
    }
}

/// Buffers that are used again when nobody holds a piece of them.
struct Pool(VecDeque<Rc<Vec<u8>>>);

impl Pool {
    fn new() -> Pool {
        Pool((0..64).map(|_| Rc::new(Vec::with_capacity(64 << 10))).collect())
    }

    fn take(&mut self) -> Rc<Vec<u8>> {
        let free = self.0.iter().position(|buffer| Rc::strong_count(buffer) == 1).expect("a buffer is free");
        self.0.swap(0, free);
        let mut buffer = self.0.pop_front().expect("the pool is not empty");
        Rc::get_mut(&mut buffer).expect("nobody holds a piece of it").clear();
        buffer
    }

    fn give(&mut self, buffer: Rc<Vec<u8>>) -> Piece {
        self.0.push_back(Rc::clone(&buffer));
        let to = buffer.len();
        Piece { buffer, from: 0, to }
    }

    fn piece(&mut self, bytes: &[u8]) -> Piece {
        let mut buffer = self.take();
        Rc::get_mut(&mut buffer).expect("just taken").extend_from_slice(bytes);
        self.give(buffer)
    }
}

/// Gathers frames in one buffer, as a record would.
struct Record(Rc<Vec<u8>>);

impl FrameSink<Piece> for Record {
    fn frame(&mut self, head: &[u8], payload: Option<Piece>) {
        let buffer = Rc::get_mut(&mut self.0).expect("the record is ours");
        buffer.extend_from_slice(head);
        if let Some(payload) = payload {
            buffer.extend_from_slice(payload.as_ref());
        }
    }
}

struct World {
    edge: Mux<Piece>,
    connector: Mux<Piece>,
    pool: Pool,
    now: Time,
    answered: usize,
    open: usize,
}

impl World {
    fn carry(&mut self) {
        loop {
            self.now += Duration::from_micros(10);
            let (edge, connector) = (&mut self.edge, &mut self.connector);
            let moved =
                carry(edge, connector, &mut self.pool, self.now) | carry(connector, edge, &mut self.pool, self.now);
            while let Some(event) = self.edge.poll_event() {
                self.at_edge(event);
            }
            while let Some(event) = self.connector.poll_event() {
                self.at_connector(event);
            }
            if !moved {
                return;
            }
        }
    }

    fn at_edge(&mut self, event: Event<Piece>) {
        match event {
            Event::Hello(_) => {
                let identity = EdgeIdentity { instance: 1, core: CoreId(0), cores: 1 };
                self.edge.welcome(self.now, identity);
            }
            Event::Data { stream, chunk } => self.edge.consumed(stream, chunk.len()),
            Event::Finished { .. } => {
                self.answered += 1;
                self.open -= 1;
            }
            _ => {}
        }
    }

    fn at_connector(&mut self, event: Event<Piece>) {
        match event {
            Event::Opened { stream } => {
                let opening = self.connector.opening(stream).expect("just opened");
                assert_eq!(opening.route, "mcp.example.com");
            }
            Event::Data { stream, chunk } => self.connector.consumed(stream, chunk.len()),
            Event::Finished { stream } => self.answer(stream),
            _ => {}
        }
    }

    fn answer(&mut self, stream: StreamId) {
        let mut phases = Phases {
            stage: Stage::Head,
            connector_ns: 1,
            upstream_connect_ns: 0,
            upstream_first_ns: 2,
            upstream_last_ns: 3,
        };
        self.connector.phases(stream, phases).expect("the stream is open");
        for part in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 40_000]] {
            let piece = self.pool.piece(part);
            assert!(self.connector.send(stream, piece).is_ok());
        }
        phases.stage = Stage::End;
        self.connector.phases(stream, phases).expect("the stream is open");
        self.connector.finish(stream).expect("the stream is open");
    }

    /// Makes `n` calls, six at a time.
    fn calls(&mut self, n: usize) {
        for call in 0..n {
            let open = Open {
                route: "mcp.example.com",
                call: call as u64,
                traffic: Traffic::Plain,
                peer: Some("192.0.2.7:4711"),
                until: None,
            };
            let stream = self.edge.open(&open).expect("the link has room");
            let piece = self.pool.piece(&[b'q'; 1_000]);
            assert!(self.edge.send(stream, piece).is_ok());
            self.edge.finish(stream).expect("the stream is open");
            self.open += 1;
            if self.open == 6 {
                self.carry();
            }
        }
        self.carry();
    }
}

fn carry(from: &mut Mux<Piece>, to: &mut Mux<Piece>, pool: &mut Pool, now: Time) -> bool {
    let mut moved = false;
    while from.wants_transmit() {
        let mut record = Record(pool.take());
        let used = from.poll_transmit(now, 16_384, &mut record);
        let piece = pool.give(record.0);
        moved |= used > 0;
        to.receive(now, piece);
    }
    moved
}

#[test]
fn a_call_on_a_link_in_use_allocates_nothing() {
    let now = Time::from_nanos(1);
    let hello = Hello {
        tunnel: "tnl".parse().expect("a sound id"),
        secret: Secret::from("s"),
        instance: 1,
        software: String::new(),
        link_index: 0,
    };
    let settings = Settings::default();
    let mut world = World {
        edge: Mux::edge(now, settings),
        connector: Mux::connector(now, settings, hello).expect("a sound secret"),
        pool: Pool::new(),
        now,
        answered: 0,
        open: 0,
    };
    world.carry();
    world.calls(600);
    let before = allocations();
    world.calls(6_000);
    assert_eq!(allocations() - before, 0);
    assert!(before > 0, "the counter counts");
    assert_eq!((world.answered, world.edge.streams_live(), world.connector.streams_live()), (6_600, 0, 0));
}
