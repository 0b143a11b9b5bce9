use super::*;

/// A pair with one side that supports no later version than this.
fn pair_with(older: usize, version: u16) -> Pair {
    let mut pair = Pair::new(Settings::default(), 5);
    pair.sides[older].speak_at_most(version);
    pair.run_until_idle();
    assert!(pair.sides[EDGE].is_ready() && pair.sides[CONNECTOR].is_ready());
    pair.clear();
    pair
}

/// Opens a stream with this caller's time, and delays the frame on the edge; returns the length of OPEN, and its
/// parameters at the connector.
fn opened(pair: &mut Pair, has: Option<Duration>, waits: Duration) -> (usize, Open<'static>) {
    let until = has.map(|has| pair.now + has);
    let edge = pair.sides[EDGE].open(&Open { until, ..open() }).unwrap();
    pair.now += waits;
    pair.run_until_idle();
    let (header, payload) = pair.sent[EDGE].iter().find(|(header, _)| header.kind == FrameKind::Open).unwrap();
    assert_eq!(usize::from(header.len), payload.len());
    let stream = pair.events[CONNECTOR].iter().find_map(|event| match event {
        Event::Opened { stream } if stream.wire() == edge.wire() => Some(*stream),
        _ => None,
    });
    let Open { call, traffic, until, .. } = pair.sides[CONNECTOR].opening(stream.unwrap()).unwrap();
    (payload.len(), Open { call, traffic, until, ..open() })
}

#[test]
fn the_remaining_time_of_a_call_crosses_the_link_if_it_is_limited() {
    let mut pair = Pair::ready(Settings::default());
    let (len, time_left) = opened(&mut pair, None, Duration::ZERO);
    assert_eq!((len, time_left.until), (12 + "mcp.example.com".len() - 1 + "192.0.2.1:5000".len(), None));
    pair.clear();
    let (began, waits) = (pair.now, Duration::from_millis(300));
    let (len_with, time_left) = opened(&mut pair, Some(Duration::from_secs(2)), waits);
    assert_eq!(len_with, len + 4);
    // It counts from the arrival, one latency later.
    assert_eq!(time_left.until, Some(began + Duration::from_secs(2) + pair.latency));
}

#[test]
fn an_older_connector_is_not_sent_the_callers_time() {
    let mut pair = pair_with(CONNECTOR, 1);
    let (len, time_left) = opened(&mut pair, Some(Duration::from_secs(2)), Duration::ZERO);
    assert_eq!((len, time_left.until), (12 + "mcp.example.com".len() - 1 + "192.0.2.1:5000".len(), None));
}

#[test]
fn an_edge_that_is_older_chooses_the_version_that_it_speaks() {
    let mut pair = Pair::new(Settings::default(), 6);
    pair.sides[EDGE].speak_at_most(1);
    pair.run_until_idle();
    let Some(Event::Welcomed(welcome)) = pair.events[CONNECTOR].first() else { panic!("{:?}", pair.events[CONNECTOR]) };
    assert_eq!(welcome.version, 1);
    let [edge, connector] = pair.open();
    pair.sides[EDGE].send(edge, b"ask".to_vec()).unwrap();
    pair.sides[CONNECTOR].send(connector, b"answer".to_vec()).unwrap();
    pair.run_until_idle();
    assert_eq!((pair.bytes(CONNECTOR, connector), pair.bytes(EDGE, edge)), (b"ask".to_vec(), b"answer".to_vec()));
}

#[test]
fn a_call_that_is_reset_before_its_open_was_sent_is_never_sent() {
    let mut pair = Pair::ready(Settings::default());
    let stream = pair.sides[EDGE].open(&Open { until: Some(pair.now), ..open() }).unwrap();
    pair.sides[EDGE].reset(stream, Cause::Deadline);
    pair.run_until_idle();
    assert!(pair.kinds(EDGE).is_empty(), "{:?}", pair.kinds(EDGE));
}
