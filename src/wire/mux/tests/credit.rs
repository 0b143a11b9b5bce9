use super::*;

fn small() -> Settings {
    Settings { stream_window: 20_000, link_window: 50_000, backlog: 1 << 20, ..Settings::default() }
}

#[test]
fn a_stream_stops_at_its_window_and_continues_with_its_reader() {
    let mut pair = Pair::ready(Settings { link_window: 1 << 20, ..small() });
    let [edge, connector] = pair.open();
    pair.sides[EDGE].send(edge, vec![7; 100_000]).unwrap();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.bytes(CONNECTOR, connector).len(), 20_000);
    assert!(!pair.sides[EDGE].wants_transmit());
    pair.sides[CONNECTOR].consumed(connector, 4_000);
    pair.run_until_idle();
    assert_eq!(pair.bytes(CONNECTOR, connector).len(), 24_000, "the peer had no credit left, so it gets some at once");
    while pair.bytes(CONNECTOR, connector).len() < 100_000 {
        pair.sides[CONNECTOR].consumed(connector, 3_000);
        pair.run_until_idle();
    }
    assert!(pair.events[CONNECTOR].iter().any(|event| matches!(event, Event::Finished { .. })));
}

#[test]
fn credit_for_a_fast_reader_is_given_in_few_frames() {
    let mut pair = Pair::ready(Settings { backlog: 4 << 20, ..Settings::default() });
    let [edge, connector] = pair.open();
    let mut taken = 0;
    pair.sides[EDGE].send(edge, vec![0; 2 << 20]).unwrap();
    while taken < 2 << 20 {
        pair.transmit(EDGE, 16_384);
        pair.now += pair.latency;
        pair.deliver(CONNECTOR);
        let all = pair.bytes(CONNECTOR, connector).len();
        pair.sides[CONNECTOR].consumed(connector, all - taken);
        taken = all;
        pair.transmit(CONNECTOR, 16_384);
        pair.deliver(EDGE);
    }
    let credits = pair.kinds(CONNECTOR).iter().filter(|kind| **kind == FrameKind::Credit).count();
    assert!(credits <= 24, "{credits} CREDIT frames for 2 MiB; one is due for each 128 KiB, and one more for the link");
}

#[test]
fn a_stalled_stream_does_not_stall_another() {
    let mut pair = Pair::ready(small());
    let [stalled, _] = pair.open();
    let [other, other_far] = pair.open();
    pair.sides[EDGE].send(stalled, vec![0; 100_000]).unwrap();
    pair.run_until_idle();
    for n in 1..50 {
        pair.sides[EDGE].send(other, vec![1; 9_000]).unwrap();
        pair.run_until_idle();
        assert_eq!(pair.bytes(CONNECTOR, other_far).len(), 9_000 * n);
        pair.sides[CONNECTOR].consumed(other_far, 9_000);
        pair.run_until_idle();
    }
}

#[test]
fn the_link_window_bounds_the_unread_bytes_of_all_streams() {
    let mut pair = Pair::ready(small());
    let streams: Vec<Side2<StreamId>> = (0..5).map(|_| pair.open()).collect();
    for [edge, _] in &streams {
        pair.sides[EDGE].send(*edge, vec![0; 100_000]).unwrap();
    }
    pair.run_until_idle();
    let held: usize = streams.iter().map(|[_, far]| pair.bytes(CONNECTOR, *far).len()).sum();
    assert!((25_000..50_000).contains(&held), "each stream stopped at its share: {held}");
    assert!(!pair.sides[EDGE].wants_transmit(), "none of them has more to send for now");
    let [small, small_far] = pair.open();
    pair.sides[EDGE].send(small, vec![1; 500]).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.bytes(CONNECTOR, small_far).len(), 500, "a small message does not wait for the others");
    pair.sides[EDGE].ping(pair.now);
    pair.run_until_idle();
    assert!(matches!(pair.events[EDGE].last(), Some(Event::RoundTrip(_))), "control frames need no credit");
    for [_, far] in &streams {
        let n = pair.bytes(CONNECTOR, *far).len();
        pair.sides[CONNECTOR].consumed(*far, n);
    }
    pair.run_until_idle();
    let came: usize = streams.iter().map(|[_, far]| pair.bytes(CONNECTOR, *far).len()).sum();
    assert!(came > held + 25_000, "{came}");
}

#[test]
fn streams_that_are_read_now_and_then_end_whole_beside_any_number_that_are_not() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::ready(Settings { link_window: 80_000, ..small() });
        let dead = rng.between(0, 30) as usize;
        for _ in 0..dead {
            let [edge, _] = pair.open();
            pair.sides[EDGE].send(edge, vec![0; 30_000]).unwrap();
            pair.run_until_idle();
        }
        let live: Vec<(StreamId, usize)> = (0..5)
            .map(|_| {
                let ([edge, far], len) = (pair.open(), rng.between(1, 40_000) as usize);
                pair.sides[EDGE].send(edge, vec![1; len]).unwrap();
                pair.run_until_idle();
                (far, len)
            })
            .collect();
        let mut taken = [0; 5];
        for _ in 0..2_000 {
            let at = rng.below(5) as usize;
            let there = pair.bytes(CONNECTOR, live[at].0).len() - taken[at];
            let n = rng.below(there as u64 + 1) as usize;
            pair.sides[CONNECTOR].consumed(live[at].0, n);
            taken[at] += n;
            pair.run_until_idle();
            if live.iter().zip(taken).all(|((_, len), taken)| *len == taken) {
                break;
            }
        }
        for ((_, len), taken) in live.iter().zip(taken) {
            assert_eq!(*len, taken, "seed {seed}: a stream stopped beside {dead} that are not read");
        }
    }
}

#[test]
fn bytes_of_a_reset_stream_give_their_link_credit_back() {
    let mut pair = Pair::ready(small());
    for round in 0..100 {
        let [edge, far] = pair.open();
        pair.sides[EDGE].send(edge, vec![0; 20_000]).unwrap();
        match round % 3 {
            0 => {
                pair.transmit(EDGE, 16_384);
                pair.sides[CONNECTOR].reset(far, Cause::UpstreamClosed);
                pair.run_until_idle();
                assert_eq!(pair.cause(EDGE, edge), Some(Cause::UpstreamClosed));
            }
            1 => {
                pair.run_until_idle();
                pair.sides[EDGE].reset(edge, Cause::Cancelled);
                pair.run_until_idle();
                assert_eq!(pair.cause(CONNECTOR, far), Some(Cause::Cancelled));
            }
            _ => {
                pair.run_until_idle();
                pair.sides[CONNECTOR].reset(far, Cause::Overloaded);
                pair.sides[EDGE].reset(edge, Cause::Cancelled);
                pair.run_until_idle();
            }
        }
        pair.clear();
        assert_eq!((pair.sides[EDGE].streams_live(), pair.sides[CONNECTOR].streams_live()), (0, 0), "round {round}");
        assert_eq!(pair.sides[CONNECTOR].window.held(), 0);
    }
}

#[test]
fn a_sender_is_stopped_and_resumed() {
    let mut pair = Pair::ready(Settings { backlog: 32_768, ..Settings::default() });
    let [edge, connector] = pair.open();
    pair.sides[EDGE].send(edge, vec![1; 40_000]).unwrap();
    assert_eq!(pair.sides[EDGE].capacity(edge, usize::MAX), 0);
    pair.transmit(EDGE, 16_384);
    assert!(!pair.events[EDGE].iter().any(|event| matches!(event, Event::Writable { .. })));
    pair.transmit(EDGE, 16_384);
    assert!(matches!(pair.events[EDGE].last(), Some(Event::Writable { stream }) if *stream == edge));
    pair.sides[EDGE].send(edge, vec![2; 5]).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.bytes(CONNECTOR, connector).len(), 40_005);
    assert_eq!(pair.events[EDGE].iter().filter(|event| matches!(event, Event::Writable { .. })).count(), 1);
}

#[test]
fn a_sender_that_ignores_the_backlog_is_stopped() {
    let mut pair = Pair::ready(Settings { backlog: 32_768, ..Settings::default() });
    let [edge, _] = pair.open();
    pair.sides[EDGE].send(edge, vec![1; 32_767]).unwrap();
    pair.sides[EDGE].send(edge, vec![1; OVERSHOOT_MAX]).unwrap();
    pair.sides[EDGE].send(edge, vec![1]).unwrap();
    let refused = pair.sides[EDGE].send(edge, vec![2; 5]).unwrap_err();
    assert_eq!((refused.error, refused.chunk), (StreamCommandError::Backlogged, vec![2; 5]));
}

#[test]
fn many_tiny_chunks_fill_a_backlog_too() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, _] = pair.open();
    let taken = (0..1_000).take_while(|_| pair.sides[EDGE].send(edge, vec![1]).is_ok()).count();
    assert_eq!(taken, 2 * stream::QUEUE_ITEMS_MAX);
    assert_eq!(pair.sides[EDGE].capacity(edge, usize::MAX), 0);
    pair.run_until_idle();
    assert!(matches!(pair.events[EDGE].last(), Some(Event::Writable { .. })));
}

#[test]
fn any_number_of_bulk_streams_end_whole() {
    let mut pair = Pair::ready(Settings { backlog: 1 << 20, ..Settings::default() });
    let streams: Vec<Side2<StreamId>> = (0..200).map(|_| pair.open()).collect();
    for [edge, _] in &streams {
        pair.sides[EDGE].send(*edge, vec![0; 600_000]).unwrap();
        pair.sides[EDGE].finish(*edge).unwrap();
    }
    let mut came = 0;
    for _ in 0..20_000 {
        pair.transmit(EDGE, 64 << 10);
        pair.now += pair.latency;
        pair.deliver(CONNECTOR);
        for event in std::mem::take(&mut pair.events[CONNECTOR]) {
            if let Event::Data { stream, chunk } = event {
                came += chunk.len();
                pair.sides[CONNECTOR].consumed(stream, chunk.len());
            }
        }
        pair.transmit(CONNECTOR, 64 << 10);
        pair.now += pair.latency;
        pair.deliver(EDGE);
        pair.events[EDGE].clear();
    }
    assert_eq!(came, 200 * 600_000);
}

#[test]
fn the_sender_hears_of_every_size_of_the_window_and_shares_it_out() {
    let settings = Settings { stream_window: 20_000, link_window: 400_000, backlog: 1 << 20, ..Settings::default() };
    let mut pair = Pair::new(settings, 1);
    // The edge has less memory than its settings need.
    let hello = |pair: &Pair| pair.events[EDGE].iter().any(|event| matches!(event, Event::Hello(_)));
    pair.transmit(CONNECTOR, 16_384);
    pair.now += pair.latency;
    let (_, bytes) = pair.wires[EDGE].pop_front().unwrap();
    pair.sides[EDGE].receive(pair.now, bytes);
    pair.sides[EDGE].set_link_window(30_000);
    pair.collect(EDGE);
    assert!(hello(&pair));
    pair.run_until_idle();
    for side in [EDGE, CONNECTOR] {
        assert_eq!((pair.sides[side].window_size(), pair.sides[side].credit.size()), (30_000, 30_000));
    }
    let [edge, far] = pair.open();
    pair.sides[EDGE].send(edge, vec![0; 400_000]).expect("it has room");
    pair.run_until_idle();
    let alone = pair.bytes(CONNECTOR, far).len();
    assert!((5_000..20_000).contains(&alone), "{alone} under way in a window of 30,000");
    pair.sides[CONNECTOR].consumed(far, alone);
    assert!(pair.sides[CONNECTOR].is_window_due());
    assert_eq!(pair.sides[CONNECTOR].resize_window(400_000), 400_000);
    pair.run_until_idle();
    assert_eq!(pair.sides[EDGE].credit.size(), 400_000);
    assert_eq!(pair.bytes(CONNECTOR, far).len() - alone, 20_000, "in a large link window it has its own whole window");
    // The window shrinks only as the peer uses its credit.
    assert_eq!(pair.sides[CONNECTOR].resize_window(30_000), 400_000);
    let mut taken = alone;
    while pair.sides[CONNECTOR].window_size() > 30_000 {
        let all = pair.bytes(CONNECTOR, far).len();
        pair.sides[CONNECTOR].consumed(far, all - taken);
        taken = all;
        pair.sides[CONNECTOR].resize_window(30_000);
        pair.sides[EDGE].send(edge, vec![0; 20_000]).expect("it has room");
        pair.run_until_idle();
        let [sender, receiver] = &pair.sides;
        assert_eq!(sender.credit.size(), receiver.window_size());
    }
    pair.sides[CONNECTOR].consumed(far, usize::MAX);
    pair.run_until_idle();
    assert_eq!(pair.sides[EDGE].credit.size(), 30_000);
}
