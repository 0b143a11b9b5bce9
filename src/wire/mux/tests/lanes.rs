//! Each call on a transport stream of its own: frames of different streams overtake each other.

use std::collections::BTreeMap;

use super::super::frame::FrameKind;
use super::super::lane::{Lane, LaneAfter, LanePlace};
use super::*;

/// The transport streams towards one side. Bytes of one stream stay in order.
#[derive(Default)]
struct Streams {
    bytes: BTreeMap<u32, Bytes>,
    lanes: BTreeMap<u32, Lane>,
    ends: BTreeMap<u32, LaneAfter>,
}

/// The key of the stream for control.
const CONTROL_STREAM: u32 = 0;

impl FrameSink<Bytes> for Streams {
    fn frame(&mut self, head: &[u8], payload: Option<Bytes>) {
        let stream = match LanePlace::of(head) {
            LanePlace::Control => CONTROL_STREAM,
            LanePlace::Call { stream, after } => {
                assert_ne!(self.ends.get(&stream), Some(&LaneAfter::Finishes), "a frame after the end of {stream}");
                self.ends.insert(stream, after);
                stream
            }
        };
        let bytes = self.bytes.entry(stream).or_default();
        bytes.extend_from_slice(head);
        bytes.extend(payload.unwrap_or_default());
    }
}

struct LanePair {
    sides: Side2<Mux<Bytes>>,
    to: Side2<Streams>,
    events: Side2<Vec<Event<Bytes>>>,
    rng: Rng,
}

impl LanePair {
    fn new(seed: u64) -> LanePair {
        let (now, settings) = (start(), Settings::default());
        let mut sides = [Mux::edge(now, settings), Mux::connector(now, settings, hello()).unwrap()];
        sides.iter_mut().for_each(Mux::use_lanes);
        let mut pair = LanePair { sides, to: Default::default(), events: Default::default(), rng: Rng::new(seed) };
        while !pair.sides.iter().all(Mux::is_ready) {
            pair.step();
        }
        pair
    }

    /// Both sides send, and a piece of one stream arrives at each. False if nothing is under way.
    fn step(&mut self) -> bool {
        for side in [EDGE, CONNECTOR] {
            while self.sides[side].poll_transmit(start(), 16_384, &mut self.to[1 - side]) > 0 {}
            self.deliver(side);
            while let Some(event) = self.sides[side].poll_event() {
                if matches!(event, Event::Hello(_)) {
                    self.sides[side].welcome(start(), identity());
                }
                if let Event::Data { stream, chunk } = &event {
                    self.sides[side].consumed(*stream, chunk.len());
                }
                self.events[side].push(event);
            }
            check(&mut self.sides[side]);
        }
        self.to.iter().any(|to| !to.bytes.is_empty()) || self.sides.iter().any(Mux::wants_transmit)
    }

    fn deliver(&mut self, side: usize) {
        let is_ready = self.sides[side].is_ready();
        let Streams { bytes, lanes, .. } = &mut self.to[side];
        // A connector reads nothing of a call before the greeting is over.
        let keys: Vec<u32> = bytes.keys().copied().filter(|stream| is_ready || *stream == CONTROL_STREAM).collect();
        let Some(stream) = keys.get(self.rng.below(keys.len() as u64) as usize).copied() else { return };
        let waiting = bytes.get_mut(&stream).unwrap();
        let rest = waiting.split_off(self.rng.between(1, waiting.len() as u64) as usize);
        let piece = std::mem::replace(waiting, rest);
        if waiting.is_empty() {
            bytes.remove(&stream);
        }
        let new = || if stream == CONTROL_STREAM { Lane::control() } else { Lane::of_call(stream) };
        self.sides[side].receive_on(start(), lanes.entry(stream).or_insert_with(new), piece);
    }

    fn run(&mut self) {
        while self.step() {}
    }

    fn received(&self, side: usize, id: u32) -> Bytes {
        let of_stream = |event: &Event<Bytes>| match event {
            Event::Data { stream, chunk } if stream.wire() == id => chunk.clone(),
            _ => Vec::new(),
        };
        self.events[side].iter().flat_map(of_stream).collect()
    }

    fn closed(&self) -> Vec<Fault> {
        let faults = self.events.iter().flatten().filter_map(|event| match event {
            Event::Closed { fault, .. } => Some(*fault),
            _ => None,
        });
        faults.collect()
    }
}

#[test]
fn calls_that_overtake_each_other_arrive_whole() {
    for seed in 0..20 {
        let mut pair = LanePair::new(seed);
        let mut sent = Vec::new();
        for n in 0..30_u8 {
            let stream = pair.sides[EDGE].open(&open()).unwrap();
            let bytes = vec![n; 1 + 500 * usize::from(n)];
            pair.sides[EDGE].send(stream, bytes.clone()).unwrap();
            pair.sides[EDGE].finish(stream).unwrap();
            sent.push((stream.wire(), bytes));
            pair.step();
        }
        pair.sides[EDGE].drain();
        pair.run();
        for (id, bytes) in &sent {
            assert!(pair.received(CONNECTOR, *id) == *bytes, "stream {id}, seed {seed}");
        }
        assert_eq!(pair.closed(), []);
        // The answers go back, and nothing is left.
        let opened: Vec<StreamId> = pair.events[CONNECTOR]
            .iter()
            .filter_map(|event| if let Event::Opened { stream } = event { Some(*stream) } else { None })
            .collect();
        for stream in opened {
            pair.sides[CONNECTOR].send(stream, b"answer".to_vec()).unwrap();
            pair.sides[CONNECTOR].finish(stream).unwrap();
        }
        pair.run();
        assert!(sent.iter().all(|(id, _)| pair.received(EDGE, *id) == b"answer"));
        assert_eq!((pair.closed(), pair.sides[EDGE].streams_live()), (vec![], 0));
    }
}

#[test]
fn resets_race_with_everything_and_break_nothing() {
    for seed in 100..140 {
        let mut pair = LanePair::new(seed);
        for _ in 0..40 {
            let Ok(stream) = pair.sides[EDGE].open(&open()) else { continue };
            let _ = pair.sides[EDGE].send(stream, vec![7; pair.rng.below(3_000) as usize + 1]);
            for _ in 0..pair.rng.below(4) {
                pair.step();
            }
            let opened = pair.events[CONNECTOR].iter().rev().find_map(|event| match event {
                Event::Opened { stream } => Some(*stream),
                _ => None,
            });
            match (pair.rng.below(4), opened) {
                (0, _) => pair.sides[EDGE].reset(stream, Cause::NotNeeded),
                (1, Some(other)) => pair.sides[CONNECTOR].reset(other, Cause::UpstreamClosed),
                (2, _) => drop(pair.sides[EDGE].finish(stream)),
                _ => {}
            }
        }
        pair.run();
        assert_eq!(pair.closed(), [], "seed {seed}");
    }
}

#[test]
fn a_frame_on_the_wrong_stream_is_a_fault() {
    let data = |stream| frame(FrameKind::Data, stream, b"x");
    for (mut lane, bytes) in [
        (Lane::control(), data(1)),
        (Lane::of_call(1), data(3)),
        (Lane::of_call(1), frame(FrameKind::Ping, 0, &[0; 8])),
        (Lane::of_call(1), frame(FrameKind::Credit, 1, &[0, 0, 0, 1])),
    ] {
        let mut pair = LanePair::new(1);
        pair.sides[EDGE].open(&open()).unwrap();
        pair.sides[EDGE].open(&open()).unwrap();
        pair.run();
        pair.sides[CONNECTOR].receive_on(start(), &mut lane, bytes);
        pair.run();
        assert_eq!(pair.closed().first(), Some(&Fault::StreamUnknown));
    }
}

#[test]
fn stop_sending_counts_as_a_reset_once() {
    let mut pair = LanePair::new(1);
    let stream = pair.sides[EDGE].open(&open()).unwrap();
    pair.run();
    for _ in 0..3 {
        pair.sides[CONNECTOR].receive_reset(start(), stream.wire(), Cause::Overloaded);
    }
    pair.run();
    let resets = pair.events[CONNECTOR].iter().filter(|event| matches!(event, Event::Reset { .. })).count();
    assert_eq!((resets, pair.closed()), (1, vec![]));
    assert!(!pair.sides[CONNECTOR].is_live(stream.wire()));
}
