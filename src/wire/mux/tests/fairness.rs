use super::*;

fn big() -> Settings {
    Settings { stream_window: 8 << 20, link_window: 64 << 20, backlog: 8 << 20, ..Settings::default() }
}

/// The data frames of the next `n` records.
fn records(pair: &mut Pair, n: usize) -> Vec<(u32, usize)> {
    pair.clear();
    for _ in 0..n {
        pair.transmit(EDGE, 16_384);
    }
    let data = pair.sent[EDGE].iter().filter(|(header, _)| header.kind == FrameKind::Data);
    data.map(|(header, body)| (header.stream, HEADER_LEN + body.len())).collect()
}

#[test]
fn a_small_message_is_sent_before_all_bulk() {
    let mut pair = Pair::ready(big());
    let bulk: Vec<StreamId> = (0..10).map(|_| pair.open()[EDGE]).collect();
    let small = pair.open()[EDGE];
    for stream in &bulk {
        pair.sides[EDGE].send(*stream, vec![0; 2 << 20]).unwrap();
    }
    records(&mut pair, 25);
    pair.sides[EDGE].send(small, vec![1; 700]).unwrap();
    assert_eq!(records(&mut pair, 1)[0], (small.wire(), 708));
}

#[test]
fn a_small_message_never_waits_behind_more_than_a_quantum_of_any_other_stream() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::ready(big());
        let streams: Vec<StreamId> = (0..2 + rng.below(8)).map(|_| pair.open()[EDGE]).collect();
        let small = pair.open()[EDGE];
        for stream in &streams {
            for _ in 0..1 + rng.below(8) {
                pair.sides[EDGE].send(*stream, vec![0; 1 + rng.below(200_000) as usize]).unwrap();
            }
            records(&mut pair, rng.below(3) as usize);
        }
        pair.sides[EDGE].send(small, vec![1; 1 + rng.below(1_000) as usize]).unwrap();
        let mut ahead = std::collections::HashMap::new();
        let mut found = false;
        for (stream, len) in records(&mut pair, 20) {
            found |= stream == small.wire();
            if !found {
                *ahead.entry(stream).or_insert(0) += len;
            }
        }
        assert!(found, "seed {seed}");
        assert!(ahead.values().all(|bytes| *bytes <= QUANTUM), "seed {seed}: {ahead:?}");
    }
}

#[test]
fn a_stream_that_waited_for_credit_is_no_newcomer() {
    let mut pair = Pair::ready(Settings { stream_window: 40_000, ..big() });
    let [bulk, other] = [0; 2].map(|_| pair.open());
    pair.sides[EDGE].send(bulk[EDGE], vec![0; 400_000]).unwrap();
    pair.run_until_idle();
    let n = pair.bytes(CONNECTOR, bulk[CONNECTOR]).len();
    assert_eq!(n, 40_000);
    pair.sides[EDGE].send(other[EDGE], vec![0; 38_000]).unwrap();
    records(&mut pair, 1);
    pair.sides[CONNECTOR].consumed(bulk[CONNECTOR], n);
    pair.transmit(CONNECTOR, 16_384);
    pair.now += pair.latency;
    pair.deliver(EDGE);
    let order: Vec<u32> = records(&mut pair, 3).iter().map(|(id, _)| *id).collect();
    assert_eq!(order[..2], [other[EDGE].wire(), bulk[EDGE].wire()]);
}

#[test]
fn bulk_streams_share_evenly() {
    let mut pair = Pair::ready(big());
    let streams: Vec<StreamId> = (0..4).map(|_| pair.open()[EDGE]).collect();
    for (n, stream) in streams.iter().enumerate() {
        for _ in 0..8 {
            pair.sides[EDGE].send(*stream, vec![0; 100_000 + 7_777 * n]).unwrap();
        }
    }
    let sent = records(&mut pair, 100);
    for stream in &streams {
        let bytes: usize = sent.iter().filter(|(id, _)| *id == stream.wire()).map(|(_, len)| len).sum();
        assert!((380_000..=430_000).contains(&bytes), "{bytes} of {}", 100 * 16_384);
    }
}

#[test]
fn a_stream_that_sends_little_and_often_cannot_starve_bulk() {
    let mut pair = Pair::ready(big());
    let bulk = pair.open()[EDGE];
    let busy: Vec<StreamId> = (0..3).map(|_| pair.open()[EDGE]).collect();
    pair.sides[EDGE].send(bulk, vec![0; 4 << 20]).unwrap();
    let mut got = 0;
    for _ in 0..200 {
        for stream in &busy {
            if pair.sides[EDGE].capacity(*stream, usize::MAX) > (8 << 20) - 50_000 {
                pair.sides[EDGE].send(*stream, vec![0; 6_000]).unwrap();
            }
        }
        got += records(&mut pair, 1).iter().filter(|(id, _)| *id == bulk.wire()).map(|(_, len)| len).sum::<usize>();
    }
    assert!(got > 200 * 16_384 / 5, "bulk has had only {got} bytes");
}

#[test]
fn control_is_sent_before_data() {
    let mut pair = Pair::ready(big());
    let [bulk, _] = pair.open();
    pair.sides[EDGE].send(bulk, vec![0; 1 << 20]).unwrap();
    records(&mut pair, 3);
    let fresh = pair.sides[EDGE].open(&open()).unwrap();
    pair.sides[EDGE].send(fresh, b"request".to_vec()).unwrap();
    pair.sides[EDGE].finish(fresh).unwrap();
    pair.sides[EDGE].ping(pair.now);
    pair.clear();
    pair.transmit(EDGE, 16_384);
    assert_eq!(pair.kinds(EDGE)[..3], [FrameKind::Ping, FrameKind::Open, FrameKind::Data]);
    let (header, body) = &pair.sent[EDGE][2];
    assert!(header.fin && header.stream == fresh.wire() && body == b"request");
}

#[test]
fn a_budget_is_filled_and_never_overrun() {
    let mut pair = Pair::ready(big());
    let [bulk, _] = pair.open();
    pair.sides[EDGE].send(bulk, vec![0; 1 << 20]).unwrap();
    for budget in [0, 1_032, 4_000, 16_384, 100_000] {
        let used = pair.transmit(EDGE, budget);
        let budget = budget.max(TRANSMIT_BUDGET_MIN);
        assert!(used <= budget && used + HEADER_LEN + 1_024 > budget, "{used} of {budget}");
    }
}
