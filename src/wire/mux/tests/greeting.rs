use super::*;

#[test]
fn both_sides_learn_the_identity_of_the_other() {
    let mut pair = Pair::new(Settings { stream_window: 2_048, ping_interval_ms: 700, ..Settings::default() }, 3);
    pair.run_until_idle();
    let Event::Hello(hello) = &pair.events[EDGE][0] else { panic!("{:?}", pair.events[EDGE]) };
    assert_eq!((hello.instance, hello.link_index, hello.secret.expose()), (77, 1, &b"a secret"[..]));
    let Event::Welcomed(welcome) = &pair.events[CONNECTOR][0] else { panic!("{:?}", pair.events[CONNECTOR]) };
    assert_eq!((welcome.version, welcome.instance, welcome.core, welcome.cores), (2, 99, CoreId(1), 2));
    assert_eq!((welcome.stream_window, welcome.ping_interval_ms), (2_048, 700));
}

#[test]
fn the_edge_sends_nothing_before_hello() {
    let mut edge: Mux<Bytes> = Mux::edge(start(), Settings::default());
    assert!(!edge.wants_transmit());
    assert_eq!(edge.open(&open()), Err(OpenError::NotReady));
    edge.drain();
    assert!(!edge.wants_transmit());
}

#[test]
fn a_refusal_reaches_the_connector_with_its_reason() {
    let mut pair = Pair::new(Settings::default(), 1);
    pair.transmit(CONNECTOR, 16_384);
    let (_, bytes) = pair.wires[EDGE].pop_front().unwrap();
    pair.sides[EDGE].receive(pair.now, bytes);
    assert!(matches!(pair.sides[EDGE].poll_event(), Some(Event::Hello(_))));
    pair.sides[EDGE].refuse(RegistrationRefusal::Credentials, "no such tunnel");
    pair.run_until_idle();
    let refused = Refused { refusal: RegistrationRefusal::Credentials, reason: "no such tunnel".to_owned() };
    assert!(matches!(&pair.events[CONNECTOR][0], Event::Refused(received) if *received == refused));
    assert_eq!(pair.closed(CONNECTOR), Some((Fault::Refused, Side::Peer)));
    assert_eq!(pair.closed(EDGE), Some((Fault::Refused, Side::Local)));
    assert!(pair.sides[EDGE].is_closed() && pair.sides[CONNECTOR].is_closed());
}

#[test]
fn a_connector_of_a_later_version_is_refused_not_cut_off() {
    let mut edge: Mux<Bytes> = Mux::edge(start(), Settings::default());
    let mut payload = b"adit\0\x03\0\x07".to_vec();
    payload.extend_from_slice(&[9; 500]);
    edge.receive(start(), frame(FrameKind::Hello, 0, &payload));
    let mut sent = Sent::default();
    edge.poll_transmit(start(), 16_384, &mut sent);
    assert_eq!(sent.frames.len(), 1);
    assert_eq!(sent.frames[0].0.kind, FrameKind::Refused);
    assert_eq!(sent.frames[0].1[..2], RegistrationRefusal::Version.code().to_be_bytes());
    assert!(matches!(edge.poll_event(), Some(Event::Closed { fault: Fault::VersionUnsupported, by: Side::Local })));
    assert!(edge.is_closed());
}

#[test]
fn answers_out_of_turn_change_nothing() {
    let mut pair = Pair::ready(Settings::default());
    pair.sides[EDGE].welcome(start(), identity());
    pair.sides[EDGE].refuse(RegistrationRefusal::Internal, "");
    pair.sides[CONNECTOR].welcome(start(), identity());
    assert!(!pair.sides[EDGE].wants_transmit() && !pair.sides[CONNECTOR].wants_transmit());
}

#[test]
fn the_secret_is_wiped_from_the_machine_once_sent() {
    let mut connector: Mux<Bytes> = Mux::connector(start(), Settings::default(), hello()).unwrap();
    let mut sent = Sent::default();
    connector.poll_transmit(start(), 16_384, &mut sent);
    assert!(sent.bytes.windows(8).any(|window| window == b"a secret"));
    assert!(connector.greeting.is_none() && connector.scratch.is_empty());
}
