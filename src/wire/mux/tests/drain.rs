use super::*;

#[test]
fn the_edge_drains() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    pair.sides[EDGE].drain();
    assert_eq!(pair.sides[EDGE].open(&open()), Err(OpenError::Draining));
    pair.run_until_idle();
    assert!(pair.sides.iter().all(|side| side.is_draining() && !side.is_drained()));
    assert!(pair.events[CONNECTOR].iter().any(|event| matches!(event, Event::Draining)));
    pair.sides[CONNECTOR].send(connector, b"late but whole".to_vec()).unwrap();
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.bytes(EDGE, edge), b"late but whole");
    assert!(!pair.sides[EDGE].is_drained(), "its application has not taken the answer yet");
    pair.sides[EDGE].consumed(edge, 14);
    pair.run_until_idle();
    assert!(pair.sides.iter().all(Mux::is_drained));
}

#[test]
fn the_connector_drains_and_still_serves_calls_in_transit() {
    let mut pair = Pair::ready(Settings::default());
    pair.sides[CONNECTOR].drain();
    let crossing = pair.sides[EDGE].open(&open()).unwrap();
    pair.transmit(CONNECTOR, 16_384);
    pair.run_until_idle();
    assert!(pair.events[CONNECTOR].iter().any(|event| matches!(event, Event::Opened { .. })));
    assert_eq!(pair.cause(EDGE, crossing), None);
    assert_eq!(pair.sides[EDGE].open(&open()), Err(OpenError::Draining));
    let drains = |pair: &Pair, side| pair.kinds(side).iter().filter(|kind| **kind == FrameKind::Drain).count();
    assert_eq!((drains(&pair, EDGE), drains(&pair, CONNECTOR)), (1, 1));
    assert_eq!(pair.kinds(EDGE), [FrameKind::Open, FrameKind::Drain]);
    pair.sides[EDGE].reset(crossing, Cause::Cancelled);
    pair.run_until_idle();
    assert!(pair.sides.iter().all(Mux::is_drained));
}

#[test]
fn when_stream_ids_are_used_up_the_link_drains() {
    let mut pair = Pair::ready(Settings::default());
    pair.sides.iter_mut().for_each(|side| side.skip_to(u32::MAX - 2));
    pair.open();
    let [last, _] = pair.open();
    assert_eq!(last.wire(), u32::MAX);
    assert_eq!(pair.sides[EDGE].open(&open()), Err(OpenError::Draining));
    assert!(pair.sides[CONNECTOR].is_draining());
    assert_eq!(pair.closed(EDGE), None);
}
