use std::collections::HashMap;

use super::*;

/// The state of a stream in one side's application.
#[derive(Default)]
struct Book {
    id: Option<StreamId>,
    sent: u64,
    finished: bool,
    received: u64,
    untaken: usize,
    peer_finished: bool,
    gone: bool,
}

/// Two applications with random actions.
struct World {
    pair: Pair,
    books: Side2<HashMap<u32, Book>>,
    seed: u64,
}

/// The byte at a position of a stream in one direction.
fn byte(id: u32, from: usize, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ u64::from(id) ^ ((from as u64) << 6)) as u8
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let settings = Settings {
            streams_max: rng.between(1, 30) as u32,
            stream_window: rng.between(1_024, 60_000) as u32,
            link_window: rng.between(1_024, 200_000) as u32,
            backlog: rng.between(1, 60_000) as u32,
            slow_reader_ms: rng.between(1, 400) as u32,
            ..Settings::default()
        };
        let mut pair = Pair::new(settings, seed);
        pair.latency = Duration::from_micros(rng.below(20_000));
        World { pair, books: [HashMap::new(), HashMap::new()], seed }
    }

    /// Lets both applications process their events.
    fn observe(&mut self) {
        for side in [EDGE, CONNECTOR] {
            let events: Vec<_> = self.pair.events[side].drain(..).collect();
            for event in events {
                self.observe_one(side, event);
            }
        }
    }

    fn observe_one(&mut self, side: usize, event: Event<Bytes>) {
        let seed = self.seed;
        assert!(!matches!(event, Event::Closed { .. }), "seed {seed}: {event:?}");
        let Some(stream) = event.stream() else { return };
        let book = self.books[side].entry(stream.wire()).or_default();
        assert!(!book.gone, "seed {seed}: {event:?} after the end");
        match event {
            Event::Opened { stream } => book.id = Some(stream),
            Event::Data { chunk, .. } => {
                assert!(!book.peer_finished && !chunk.is_empty(), "seed {seed}");
                for b in &chunk {
                    assert_eq!(*b, byte(stream.wire(), 1 - side, book.received), "seed {seed}: out of order");
                    book.received += 1;
                }
                book.untaken += chunk.len();
            }
            Event::Finished { .. } => {
                assert!(!book.peer_finished, "seed {seed}");
                book.peer_finished = true;
                let (received, other) = (book.received, &self.books[1 - side][&stream.wire()]);
                assert_eq!(received, other.sent, "seed {seed}: not every byte arrived");
            }
            Event::Phases { phases, .. } => {
                assert_eq!(phases.connector_ns, book.received, "seed {seed}: PHASES left their place");
            }
            Event::Reset { .. } => book.gone = true,
            _ => {}
        }
    }

    /// Makes one random action of an application.
    fn act(&mut self) {
        let side = self.pair.rng.below(2) as usize;
        let pick = self.pair.rng.below(100);
        if self.pair.rng.chance(0.02) {
            // Nothing may stop for good at any size of the link's window.
            let (mux, most) = (&mut self.pair.sides[side], 200_000);
            let size = mux.resize_window(self.pair.rng.between(1_024, most) as u32);
            assert!(size >= 1_024, "seed {}", self.seed);
            return;
        }
        if self.pair.rng.chance(0.02) {
            let host = format!("h{}.test", self.pair.rng.below(9));
            self.pair.sides[side].set_hosts(self.pair.now, &host_set(&[&host]));
            return;
        }
        if side == EDGE && pick < 15 {
            if let Ok(stream) = self.pair.sides[EDGE].open(&open()) {
                self.books[EDGE].insert(stream.wire(), Book { id: Some(stream), ..Book::default() });
            }
            return;
        }
        let mut known: Vec<u32> = self.books[side].iter().filter(|(_, book)| !book.gone).map(|(id, _)| *id).collect();
        known.sort_unstable();
        if known.is_empty() {
            return;
        }
        let id = known[self.pair.rng.below(known.len() as u64) as usize];
        let book = self.books[side].get_mut(&id).unwrap();
        let stream = book.id.unwrap();
        let mux = &mut self.pair.sides[side];
        match pick {
            15..60 => {
                let len = self.pair.rng.below(20_000);
                let chunk: Bytes = (0..len).map(|at| byte(id, side, book.sent + at)).collect();
                match mux.send(stream, chunk) {
                    Ok(()) => book.sent += len,
                    Err(SendError { error: StreamCommandError::Backlogged, .. }) => {}
                    Err(SendError { error: StreamCommandError::Finished, .. }) => assert!(book.finished),
                    Err(error) => assert!(book.finished && book.peer_finished, "seed {}: {error}", self.seed),
                }
            }
            60..90 => {
                let n = self.pair.rng.below(book.untaken as u64 + 1) as usize;
                book.untaken -= n;
                mux.consumed(stream, n);
            }
            90..92 if side == CONNECTOR => {
                let stage = if self.pair.rng.chance(0.5) { Stage::Head } else { Stage::End };
                let phases = Phases {
                    stage,
                    connector_ns: book.sent,
                    upstream_connect_ns: 0,
                    upstream_first_ns: 0,
                    upstream_last_ns: 0,
                };
                let _ = mux.phases(stream, phases);
            }
            90..92 => mux.ping(self.pair.now),
            92..97 => book.finished |= mux.finish(stream).is_ok(),
            _ => {
                mux.reset(stream, Cause::Cancelled);
                book.gone = true;
            }
        }
    }

    /// Checks the limits of what a side may keep, in every state.
    fn bounded(&mut self, side: usize) {
        let mux = &mut self.pair.sides[side];
        let most = mux.settings.backlog as usize + OVERSHOOT_MAX + 20_000;
        let slots: Vec<u32> = mux.streams.slots_by_id().collect();
        assert!(slots.iter().all(|slot| mux.streams.at(*slot).queued <= most), "seed {}", self.seed);
        assert!(mux.window.held() <= mux.window.size(), "seed {}", self.seed);
        assert!(mux.control.len() <= slots.len() && mux.events.is_empty(), "seed {}", self.seed);
    }

    /// Ends every stream and checks that nothing is left.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            self.observe();
            for side in [EDGE, CONNECTOR] {
                for book in self.books[side].values_mut().filter(|book| !book.gone) {
                    let Some(stream) = book.id else { continue };
                    book.finished |= self.pair.sides[side].finish(stream).is_ok();
                    self.pair.sides[side].consumed(stream, std::mem::take(&mut book.untaken));
                }
            }
            if !self.pair.step() {
                break;
            }
        }
        self.pair.run_until_idle();
        self.observe();
        for (side, mux) in self.pair.sides.iter().enumerate() {
            assert_eq!(mux.streams_live(), 0, "seed {}: streams left on side {side}", self.seed);
            assert_eq!(mux.window.held(), 0, "seed {}", self.seed);
            assert!(mux.streams.slots_len() <= mux.settings.streams_max as usize, "seed {}", self.seed);
            assert!(!mux.wants_transmit(), "seed {}", self.seed);
        }
        for side in [EDGE, CONNECTOR] {
            for book in self.books[side].values().filter(|book| book.id.is_some() && !book.gone) {
                assert!(book.finished && book.peer_finished, "seed {}: a stream has no outcome", self.seed);
            }
        }
    }
}

fn run(seed: u64, ops: usize) {
    let mut world = World::new(seed);
    world.pair.run_until_idle();
    for _ in 0..ops {
        world.act();
        match world.pair.rng.below(4) {
            0 => {
                let side = world.pair.rng.below(2) as usize;
                world.pair.transmit(side, 16_384);
            }
            1 => {
                world.pair.now += Duration::from_millis(2);
                let side = world.pair.rng.below(2) as usize;
                world.pair.deliver(side);
            }
            _ => {}
        }
        for side in [EDGE, CONNECTOR] {
            world.pair.sides[side].handle_timeout(world.pair.now);
            world.pair.collect(side);
        }
        world.observe();
        for side in [EDGE, CONNECTOR] {
            world.pair.check(side);
            world.bounded(side);
        }
    }
    if world.pair.rng.chance(0.5) {
        let side = world.pair.rng.below(2) as usize;
        world.pair.sides[side].drain();
    }
    world.finish();
    let draining = world.pair.sides.iter().any(Mux::is_draining);
    assert!(world.pair.sides.iter().all(|side| side.is_drained() == draining), "seed {seed}");
}

#[test]
fn random_use_from_fixed_seeds_keeps_every_promise() {
    for seed in 0..120 {
        run(seed, 400);
    }
}

#[test]
fn long_random_use_keeps_every_promise() {
    for seed in 1_000..1_004 {
        run(seed, 6_000);
    }
}
