use super::*;

/// The end of a link after a violation by the peer.
struct Broken {
    fault: Fault,
    close: Option<Fault>,
}

fn ready(side: usize) -> (Mux<Bytes>, u32) {
    let mut pair = Pair::ready(Settings { streams_max: 4, ..Settings::default() });
    let [edge, _] = pair.open();
    let [a, b] = pair.sides;
    (if side == EDGE { a } else { b }, edge.wire())
}

/// Feeds frames; returns why the link ended, and the CLOSE for the peer.
fn broken(mut mux: Mux<Bytes>, frames: &[Bytes]) -> Broken {
    for bytes in frames {
        mux.receive(start(), bytes.clone());
    }
    let mut fault = None;
    while let Some(event) = mux.poll_event() {
        if let Event::Closed { fault: why, by } = event {
            assert_eq!(by, Side::Local);
            fault = Some(why);
        }
    }
    let mut sent = Sent::default();
    mux.poll_transmit(start(), 16_384, &mut sent);
    assert!(mux.is_closed() && mux.streams_live() == 0);
    mux.receive(start(), vec![1; 100]);
    assert!(mux.poll_event().is_none(), "a closed link reads nothing");
    let close = sent.frames.iter().find(|(header, _)| header.kind == FrameKind::Close);
    let close = close.map(|(_, body)| Fault::from_code(u16::from_be_bytes([body[0], body[1]])));
    Broken { fault: fault.expect("the link goes on"), close }
}

fn opening(route: &[u8]) -> Bytes {
    let mut payload = vec![0; 9];
    payload.push(route.len() as u8);
    payload.extend_from_slice(route);
    payload.push(0);
    payload
}

fn data(id: u32, len: usize) -> Bytes {
    frame(FrameKind::Data, id, &vec![0; len])
}

fn reset(id: u32) -> Bytes {
    frame(FrameKind::Reset, id, &[2, 0])
}

fn credit(id: u32, n: u32) -> Bytes {
    let size = if id == 0 { &[0, 1, 0, 0][..] } else { &[] };
    frame(FrameKind::Credit, id, &[&n.to_be_bytes(), size].concat())
}

fn hosts(text: &[u8]) -> Bytes {
    frame(FrameKind::Hosts, 0, &[&[0, 0, 0, 0, text.len() as u8], text].concat())
}

fn hello_with(change: impl Fn(&mut Bytes)) -> Bytes {
    let mut payload = Vec::new();
    hello().encode(VERSION, &mut payload);
    change(&mut payload);
    frame(FrameKind::Hello, 0, &payload)
}

fn welcome_with(change: impl Fn(&mut Bytes)) -> Bytes {
    let mut pair = Pair::new(Settings::default(), 1);
    pair.run_until_idle();
    let mut payload = pair.sent[EDGE][0].1.clone();
    change(&mut payload);
    frame(FrameKind::Welcome, 0, &payload)
}

fn phases(stage: u8) -> Bytes {
    let mut payload = vec![0; 33];
    payload[0] = stage;
    frame(FrameKind::Phases, 1, &payload)
}

/// Every fault that a peer's frames can provoke, and the frames that do.
fn cases() -> Vec<(Fault, Mux<Bytes>, Vec<Bytes>)> {
    let edge = || ready(EDGE).0;
    let connector = || ready(CONNECTOR).0;
    let new_edge = || Mux::edge(start(), Settings::default());
    let new_connector = || Mux::connector(start(), Settings::default(), hello()).unwrap();
    let narrow = || {
        let settings = Settings { link_window: 3_000, stream_window: 2_000, ..Settings::default() };
        let mut pair = Pair::ready(settings);
        pair.open();
        let [_, connector] = pair.sides;
        connector
    };
    let resetting = || {
        let mut pair = Pair::ready(Settings::default());
        let [stream, _] = pair.open();
        let [mut edge, _] = pair.sides;
        edge.reset(stream, Cause::Cancelled);
        edge
    };
    let last_data = Header { fin: true, ..Header::new(FrameKind::Data, 1, 1) };
    let open_at = |id| frame(FrameKind::Open, id, &opening(b"h"));
    let opens = |from: u32, n: u32| (0..n).map(move |k| open_at(from + 2 * k));
    vec![
        (Fault::UnknownType, edge(), vec![vec![0, 0, 99, 0, 0, 0, 0, 0]]),
        (Fault::UnknownFlag, edge(), vec![vec![0, 0, 7, 1, 0, 0, 0, 1]]),
        (Fault::FrameLength, edge(), vec![vec![0x40, 1, 5, 0, 0, 0, 0, 1]]),
        (Fault::StreamOnLinkFrame, edge(), vec![vec![0, 0, 12, 0, 0, 0, 0, 1]]),
        (Fault::StreamMissing, edge(), vec![vec![0, 0, 7, 0, 0, 0, 0, 0]]),
        (Fault::Truncated, new_edge(), vec![hello_with(|payload| payload.truncate(20))]),
        (Fault::TrailingBytes, new_edge(), vec![hello_with(|payload| payload.push(0))]),
        (Fault::BadText, connector(), vec![frame(FrameKind::Open, 3, &opening(b"\xff\xfe"))]),
        (Fault::BadText, connector(), vec![frame(FrameKind::Open, 3, &opening(b"a\nb"))]),
        (Fault::BadText, edge(), vec![hosts(b"a\nb")]),
        (Fault::BadHost, edge(), vec![hosts(b"a_b")]),
        (Fault::BadHost, connector(), vec![hosts(b"A.test")]),
        (Fault::Truncated, connector(), vec![frame(FrameKind::Hosts, 0, &[0, 0, 0, 0, 9, b'a'])]),
        (Fault::FieldRange, edge(), vec![hosts(b"")]),
        (Fault::HelloExpected, new_edge(), vec![hosts(b"a")]),
        (Fault::TooEarly, new_edge(), vec![hello_with(|_| {}), hosts(b"a")]),
        (Fault::WelcomeExpected, new_connector(), vec![hosts(b"a")]),
        (Fault::BadMagic, new_edge(), vec![hello_with(|payload| payload[0] = b'A')]),
        (Fault::BadTunnelId, new_edge(), vec![hello_with(|payload| payload[9] = b' ')]),
        (Fault::FieldRange, new_connector(), vec![welcome_with(|payload| payload[18] = 0xff)]),
        (Fault::HelloExpected, new_edge(), vec![frame(FrameKind::Ping, 0, &[0; 8])]),
        (Fault::WelcomeExpected, new_connector(), vec![frame(FrameKind::Ping, 0, &[0; 8])]),
        (Fault::GreetingRepeated, edge(), vec![hello_with(|_| {})]),
        (Fault::GreetingRepeated, connector(), vec![welcome_with(|_| {})]),
        (Fault::TooEarly, new_edge(), vec![hello_with(|_| {}), frame(FrameKind::Ping, 0, &[0; 8])]),
        (Fault::WrongSide, edge(), vec![open_at(3)]),
        (Fault::WrongSide, connector(), vec![phases(0)]),
        (
            Fault::VersionUnsupported,
            new_edge(),
            vec![hello_with(|payload| payload[4..8].copy_from_slice(&[0, 3, 0, 4]))],
        ),
        (Fault::VersionNotOffered, new_connector(), vec![welcome_with(|payload| payload[1] = 3)]),
        (Fault::PongUnexpected, edge(), vec![frame(FrameKind::Pong, 0, &[9; 8])]),
        (Fault::DrainRepeated, edge(), vec![frame(FrameKind::Drain, 0, &[]), frame(FrameKind::Drain, 0, &[])]),
        (Fault::StreamIdEven, connector(), vec![open_at(4)]),
        (Fault::StreamIdReused, connector(), vec![open_at(1)]),
        (Fault::StreamUnknown, connector(), vec![data(3, 1)]),
        (Fault::StreamUnknown, edge(), vec![credit(3, 1)]),
        (Fault::StreamsExceeded, connector(), opens(3, 4).collect()),
        (Fault::OpenAfterDrain, connector(), vec![frame(FrameKind::Drain, 0, &[]), open_at(3)]),
        (Fault::FrameAfterFin, edge(), vec![frame(FrameKind::Fin, 1, &[]), data(1, 1)]),
        (Fault::FrameAfterFin, edge(), vec![frame(FrameKind::Fin, 1, &[]), frame(FrameKind::Fin, 1, &[])]),
        (Fault::FrameAfterFin, edge(), vec![frame(FrameKind::Fin, 1, &[]), phases(0)]),
        (Fault::FrameAfterFin, resetting(), vec![[&last_data.encode()[..], b"x"].concat(), data(1, 1)]),
        (Fault::StaleData, edge(), vec![reset(1), data(1, 1)]),
        (Fault::StaleFrames, edge(), std::iter::once(reset(1)).chain((0..40).map(|_| credit(1, 1))).collect()),
        (Fault::PhasesRepeated, edge(), vec![phases(0), phases(1), phases(0)]),
        (Fault::StreamCreditExceeded, edge(), (0..17).map(|_| data(1, 16_000)).collect()),
        (Fault::LinkCreditExceeded, narrow(), [open_at(3), data(1, 2_000), data(3, 1_500)].into()),
        (Fault::CreditZero, edge(), vec![credit(1, 0)]),
        (Fault::CreditZero, edge(), vec![credit(0, 0)]),
        (Fault::CreditOverflow, edge(), vec![credit(1, CREDIT_MAX)]),
        (Fault::CreditOverflow, edge(), vec![credit(0, u32::MAX)]),
        (Fault::ResetFlood, connector(), (0..20_100).flat_map(|k| [open_at(3 + 2 * k), reset(3 + 2 * k)]).collect()),
        (Fault::PingFlood, edge(), (0..200).map(|_| frame(FrameKind::Ping, 0, &[0; 8])).collect()),
        (Fault::HostsFlood, edge(), (0..200).map(|_| hosts(b"a")).collect()),
        (Fault::HostsFlood, connector(), (0..200).map(|_| hosts(b"a")).collect()),
        (Fault::EmptyDataFlood, edge(), (0..1_000).map(|_| data(1, 0)).collect()),
    ]
}

#[test]
fn every_fault_of_a_peer_has_its_name() {
    let cases = cases();
    for fault in Fault::ALL.iter().filter(|fault| fault.code() >= 0x0100) {
        assert!(cases.iter().any(|case| case.0 == *fault), "nothing provokes {fault:?}");
    }
    for (n, (fault, mux, frames)) in cases.into_iter().enumerate() {
        let broken = broken(mux, &frames);
        assert_eq!(broken.fault, fault, "case {n}");
        let expected = if fault == Fault::VersionUnsupported { None } else { Some(fault) };
        assert_eq!(broken.close, expected, "case {n}: the reason must be sent to the peer");
    }
}
