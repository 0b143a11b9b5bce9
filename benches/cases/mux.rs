//! Both sides of a link, without records or sockets: frames are encoded into leases and decoded out of them.

use std::time::Duration;

use adit::base::{CoreId, Secret, Time, Traffic};
use adit::engine::{BUFFER_MEMORY_DEFAULT, Class, LARGE_LEN, Lease, Pool};
use adit::wire::mux::{EdgeIdentity, Event, FrameSink, Hello, Mux, Open, Phases, Settings, Stage, StreamId};

use super::Work;

/// What a link puts into one record.
const RECORD_LEN: usize = 16 * 1024;
const BULK_LEN: usize = 64 * 1024;

/// So many calls at once: each a request and an answer of 1 KiB, with what goes around them.
pub(crate) fn calls(at_once: usize) -> Work {
    let mut link = Pair::new();
    Box::new(move || {
        for _ in 0..at_once {
            link.call();
        }
        let before = link.ended;
        link.carry();
        assert_eq!(link.ended - before, at_once, "every call comes to its end");
    })
}

/// 64 KiB from the connector to the edge on a stream that stays open.
pub(crate) fn bulk() -> Work {
    let mut link = Pair::new();
    let open = Open { route: "mcp.example.com", call: 1, traffic: Traffic::Plain, peer: None, until: None };
    let at_edge = link.edge.open(&open).expect("the link has room");
    link.carry();
    let stream = link.opened.expect("the stream arrived");
    Box::new(move || {
        let before = link.received;
        let mut left = BULK_LEN;
        while left > 0 {
            let lease = link.lease(left.min(RECORD_LEN));
            left -= lease.len();
            assert!(link.connector.send(stream, lease).is_ok(), "the window holds it");
        }
        link.carry();
        assert_eq!(link.received - before, BULK_LEN, "on stream {at_edge}");
    })
}

struct Pair {
    edge: Mux<Lease>,
    connector: Mux<Lease>,
    pool: Pool,
    now: Time,
    opened: Option<StreamId>,
    received: usize,
    ended: usize,
}

impl Pair {
    /// Two sides that have greeted each other.
    fn new() -> Pair {
        let now = Time::from_nanos(1);
        let hello = Hello {
            tunnel: "tnl_bench".parse().expect("an id"),
            secret: Secret::from("a secret"),
            instance: 1,
            software: "bench".to_owned(),
            link_index: 0,
        };
        let settings = Settings::default();
        let mut pair = Pair {
            edge: Mux::edge(now, settings),
            connector: Mux::connector(now, settings, hello).expect("a greeting"),
            pool: Pool::new(BUFFER_MEMORY_DEFAULT),
            now,
            opened: None,
            received: 0,
            ended: 0,
        };
        pair.carry();
        assert!(pair.edge.is_ready() && pair.connector.is_ready());
        pair
    }

    fn lease(&self, len: usize) -> Lease {
        let class = if len <= 4096 { Class::Small } else { Class::Large };
        let mut lease = self.pool.take(class).expect("a buffer");
        lease.filled(len);
        lease
    }

    fn call(&mut self) {
        let open = Open {
            route: "mcp.example.com",
            call: 42,
            traffic: Traffic::Plain,
            peer: Some("192.0.2.7:4711"),
            until: None,
        };
        let stream = self.edge.open(&open).expect("the link has room");
        let request = self.lease(1024);
        assert!(self.edge.send(stream, request).is_ok(), "the window holds it");
        self.edge.finish(stream).expect("the stream is open");
    }

    /// Carries over until both sides have said all.
    fn carry(&mut self) {
        loop {
            self.now += Duration::from_micros(10);
            let there = transmit(&mut self.edge, &mut self.connector, &self.pool, self.now);
            while let Some(event) = self.connector.poll_event() {
                self.at_connector(event);
            }
            let back = transmit(&mut self.connector, &mut self.edge, &self.pool, self.now);
            while let Some(event) = self.edge.poll_event() {
                self.at_edge(event);
            }
            if !there && !back {
                return;
            }
        }
    }

    fn at_edge(&mut self, event: Event<Lease>) {
        match event {
            Event::Hello(_) => {
                self.edge.welcome(self.now, EdgeIdentity { instance: 1, core: CoreId(0), cores: 1 });
            }
            Event::Data { stream, chunk } => {
                self.received += chunk.len();
                self.edge.consumed(stream, chunk.len());
            }
            Event::Finished { .. } => self.ended += 1,
            _ => {}
        }
    }

    fn at_connector(&mut self, event: Event<Lease>) {
        match event {
            Event::Opened { stream } => self.opened = Some(stream),
            Event::Data { stream, chunk } => self.connector.consumed(stream, chunk.len()),
            Event::Finished { stream } => self.answer(stream),
            _ => {}
        }
    }

    fn answer(&mut self, stream: StreamId) {
        let head = Phases {
            stage: Stage::Head,
            connector_ns: 1_000,
            upstream_connect_ns: 0,
            upstream_first_ns: 2_000,
            upstream_last_ns: 0,
        };
        self.connector.phases(stream, head).expect("the stream is open");
        let answer = self.lease(1024);
        assert!(self.connector.send(stream, answer).is_ok(), "the window holds it");
        let end = Phases { stage: Stage::End, upstream_last_ns: 3_000, ..head };
        self.connector.phases(stream, end).expect("the stream is open");
        self.connector.finish(stream).expect("the stream is open");
    }
}

/// Gathers frames in one lease, as a record does.
struct Record(Lease);

impl FrameSink<Lease> for Record {
    fn frame(&mut self, head: &[u8], payload: Option<Lease>) {
        self.0.append(head);
        if let Some(payload) = payload {
            self.0.append(&payload);
        }
    }
}

fn transmit(from: &mut Mux<Lease>, to: &mut Mux<Lease>, pool: &Pool, now: Time) -> bool {
    const { assert!(RECORD_LEN <= LARGE_LEN) }
    let mut any = false;
    while from.wants_transmit() {
        let mut record = Record(pool.take(Class::Large).expect("a buffer"));
        if from.poll_transmit(now, RECORD_LEN, &mut record) == 0 {
            break;
        }
        to.receive(now, record.0);
        any = true;
    }
    any
}
