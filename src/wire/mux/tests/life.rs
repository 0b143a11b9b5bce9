use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn the_first_round_trip_is_measured_at_once_and_exactly() {
    let mut pair = Pair::new(Settings::default(), 1);
    pair.run_until_idle();
    for side in [EDGE, CONNECTOR] {
        let trips = pair.events[side].iter().filter_map(|event| match event {
            Event::RoundTrip(trip) => Some(*trip),
            _ => None,
        });
        assert_eq!(trips.collect::<Vec<_>>(), [2 * pair.latency]);
    }
}

#[test]
fn a_quiet_link_is_pinged_once_per_interval_and_stays_up() {
    let mut pair = Pair::ready(Settings { ping_interval_ms: 1_000, ..Settings::default() });
    let end = pair.now + ms(60_000);
    while pair.now < end {
        let next = pair.sides.iter().filter_map(Mux::poll_timeout).min().unwrap();
        pair.now = pair.now.max(next);
        for side in [EDGE, CONNECTOR] {
            pair.sides[side].handle_timeout(pair.now);
        }
        pair.run_until_idle();
    }
    assert_eq!((pair.closed(EDGE), pair.closed(CONNECTOR)), (None, None));
    for side in [EDGE, CONNECTOR] {
        let pings = pair.kinds(side).iter().filter(|kind| **kind == FrameKind::Ping).count();
        assert!((14..=60).contains(&pings), "{pings}");
    }
}

#[test]
fn streams_of_which_nothing_was_sent_can_be_taken_back_and_others_cannot() {
    let mut pair = Pair::ready(Settings::default());
    let opened = |pair: &mut Pair, allowed: bool| {
        let stream = pair.sides[EDGE].open(&open()).unwrap();
        if allowed {
            pair.sides[EDGE].set_withdrawal(stream, Withdrawal::UntilSent);
        }
        stream
    };
    let sent = opened(&mut pair, true);
    pair.sides[EDGE].send(sent, vec![1; 10]).unwrap();
    let only_opened = opened(&mut pair, true);
    pair.run_until_idle();
    pair.clear();
    let queued = opened(&mut pair, true);
    let kept = opened(&mut pair, false);
    for stream in [only_opened, queued, kept] {
        pair.sides[EDGE].send(stream, vec![1; 10]).unwrap();
    }
    assert_eq!(pair.sides[EDGE].withdraw(), [only_opened, queued]);
    assert!(pair.sides[EDGE].withdraw().is_empty());
    pair.run_until_idle();
    let frames: Vec<_> = pair.sent[EDGE].iter().map(|(header, _)| (header.kind, header.stream)).collect();
    let (open, data) = ((FrameKind::Open, kept.wire()), (FrameKind::Data, kept.wire()));
    assert_eq!(frames, [open, (FrameKind::Reset, only_opened.wire()), data]);
    // Bytes that were sent before do not count.
    pair.sides[EDGE].set_withdrawal(sent, Withdrawal::UntilSent);
    assert_eq!(pair.sides[EDGE].withdraw(), [sent]);
    // With `Allowed` a stream is withdrawn although bytes were sent, until that is forbidden.
    let [greeted, begun] = [Withdrawal::Allowed, Withdrawal::Forbidden].map(|after| {
        let stream = opened(&mut pair, false);
        pair.sides[EDGE].set_withdrawal(stream, Withdrawal::Allowed);
        pair.sides[EDGE].send(stream, vec![1; 10]).unwrap();
        pair.run_until_idle();
        pair.sides[EDGE].set_withdrawal(stream, after);
        stream
    });
    assert_eq!(pair.sides[EDGE].withdraw(), [greeted]);
    assert_ne!(greeted, begun);
}

#[test]
fn traffic_replaces_pings_but_the_round_trip_is_still_measured() {
    let mut pair = Pair::ready(Settings { ping_interval_ms: 1_000, ..Settings::default() });
    let [edge, connector] = pair.open();
    pair.clear();
    for _ in 0..400 {
        pair.now += ms(90);
        pair.sides[EDGE].send(edge, vec![1; 10]).unwrap();
        pair.sides[CONNECTOR].send(connector, vec![1; 10]).unwrap();
        for side in [EDGE, CONNECTOR] {
            pair.sides[side].handle_timeout(pair.now);
        }
        pair.run_until_idle();
        pair.sides[EDGE].consumed(edge, 10);
        pair.sides[CONNECTOR].consumed(connector, 10);
    }
    let pings = pair.kinds(EDGE).iter().filter(|kind| **kind == FrameKind::Ping).count();
    assert!((9..=11).contains(&pings), "{pings} pings in about 40 s, one is due every 4 s");
}

#[test]
fn a_silent_peer_is_given_up_after_three_intervals() {
    let mut pair = Pair::ready(Settings { ping_interval_ms: 1_000, silent_intervals_max: 3, ..Settings::default() });
    let [edge, _] = pair.open();
    let heard = pair.now;
    while pair.closed(EDGE).is_none() {
        pair.now = pair.sides[EDGE].poll_timeout().unwrap();
        pair.sides[EDGE].handle_timeout(pair.now);
        pair.transmit(EDGE, 16_384);
        pair.wires[CONNECTOR].clear();
    }
    assert_eq!(pair.closed(EDGE), Some((Fault::PeerSilent, Side::Local)));
    assert_eq!(pair.cause(EDGE, edge), Some(Cause::LinkLost));
    let waited = pair.now.since(heard);
    assert!(waited >= ms(2_900) && waited <= ms(3_000), "{waited:?}");
    assert_eq!(pair.sides[EDGE].poll_timeout(), None);
}

#[test]
fn a_peer_owes_an_answer_from_the_ping_until_data_arrives() {
    let mut pair = Pair::ready(Settings::default());
    let [_, connector] = pair.open();
    assert_eq!(pair.sides[EDGE].owing_since(), None);
    pair.now += ms(700);
    let pinged = pair.now;
    assert!(pair.sides[EDGE].heard_at() < pinged);
    pair.sides[EDGE].ping(pinged);
    assert_eq!(pair.sides[EDGE].owing_since(), Some(pinged), "from when it was due");
    pair.transmit(EDGE, 16_384);
    pair.now += ms(300);
    assert_eq!(pair.sides[EDGE].owing_since(), Some(pinged));
    // Other data arrives first.
    pair.sides[CONNECTOR].send(connector, vec![1; 10]).unwrap();
    pair.transmit(CONNECTOR, 16_384);
    pair.wires[CONNECTOR].clear();
    pair.run_until_idle();
    let heard = pair.sides[EDGE].heard_at();
    assert!(heard > pinged);
    assert_eq!(pair.sides[EDGE].owing_since(), Some(heard), "the PING is still unanswered");
    assert_eq!(pair.closed(EDGE), None);
}

#[test]
fn a_process_that_slept_asks_before_it_gives_up() {
    let mut pair = Pair::ready(Settings { ping_interval_ms: 1_000, ..Settings::default() });
    pair.now += Duration::from_secs(3_600);
    for _ in 0..3 {
        pair.sides[EDGE].handle_timeout(pair.now);
        pair.transmit(EDGE, 16_384);
    }
    pair.run_until_idle();
    assert_eq!(pair.closed(EDGE), None);
    assert!(matches!(pair.events[EDGE].last(), Some(Event::RoundTrip(_))));
}

#[test]
fn a_greeting_that_does_not_come_ends_the_link() {
    for side in [EDGE, CONNECTOR] {
        let mut pair = Pair::new(Settings { hello_timeout_ms: 300, ..Settings::default() }, 1);
        let at = pair.sides[side].poll_timeout().unwrap();
        assert_eq!(at, start() + ms(300));
        pair.sides[side].handle_timeout(start() + ms(299));
        assert!(pair.closed(side).is_none());
        pair.sides[side].handle_timeout(at);
        pair.collect(side);
        assert_eq!(pair.closed(side), Some((Fault::HelloTimeout, Side::Local)));
    }
}

#[test]
fn close_says_which_streams_were_never_processed() {
    let mut pair = Pair::ready(Settings::default());
    let [taken, _] = pair.open();
    let crossing = pair.sides[EDGE].open(&open()).unwrap();
    pair.transmit(EDGE, 16_384);
    let queued = pair.sides[EDGE].open(&open()).unwrap();
    pair.sides[CONNECTOR].close(Fault::DrainTimeout);
    assert_eq!(pair.transmit(CONNECTOR, 16_384), HEADER_LEN + 6);
    assert!(pair.sides[CONNECTOR].is_closed());
    pair.now += pair.latency;
    pair.deliver(EDGE);
    assert_eq!(pair.cause(EDGE, taken), Some(Cause::LinkLost));
    assert_eq!(pair.cause(EDGE, crossing), Some(Cause::NotSent));
    assert_eq!(pair.cause(EDGE, queued), Some(Cause::NotSent));
    assert_eq!(pair.closed(EDGE), Some((Fault::DrainTimeout, Side::Peer)));
    assert!(pair.sides[EDGE].is_closed());
    assert_eq!(pair.sides[EDGE].open(&open()), Err(OpenError::Closed));
}

#[test]
fn a_lost_transport_resets_every_stream_and_sends_nothing_more() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    for (side, stream) in [(EDGE, edge), (CONNECTOR, connector)] {
        pair.sides[side].send(stream, vec![1; 100]).unwrap();
        pair.sides[side].lost();
        pair.sides[side].lost();
        pair.collect(side);
        assert_eq!(pair.cause(side, stream), Some(Cause::LinkLost));
        assert_eq!(pair.closed(side), Some((Fault::TransportLost, Side::Local)));
        assert!(pair.sides[side].is_closed());
        assert_eq!(pair.sides[side].streams_live(), 0);
        pair.check(side);
    }
}
