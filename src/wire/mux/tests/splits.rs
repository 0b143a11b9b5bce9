use super::*;

/// The events of a side as text, with pieces of data joined, so that it does not depend on where the bytes were cut.
fn described(events: Vec<Event<Bytes>>) -> Vec<String> {
    let mut described: Vec<String> = Vec::new();
    let mut run: Option<(StreamId, Bytes)> = None;
    for event in events {
        if let Event::Data { stream, chunk } = event {
            match &mut run {
                Some((of, bytes)) if *of == stream => bytes.extend(chunk),
                _ => {
                    described.extend(run.take().map(|run| format!("{run:?}")));
                    run = Some((stream, chunk));
                }
            }
            continue;
        }
        described.extend(run.take().map(|run| format!("{run:?}")));
        described.push(format!("{event:?}"));
    }
    described.extend(run.map(|run| format!("{run:?}")));
    described
}

/// Feeds `pieces` to a new side; returns its events.
fn feed<'a>(fresh: &dyn Fn() -> Mux<Bytes>, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut mux = fresh();
    let mut events = Vec::new();
    for piece in pieces {
        mux.receive(start(), piece.to_vec());
        while let Some(event) = mux.poll_event() {
            events.push(event);
        }
        check(&mut mux);
    }
    described(events)
}

/// Checks that every cut of `bytes` in two, and the cut into single bytes, yields the same events as the whole.
fn every_split(name: &str, fresh: &dyn Fn() -> Mux<Bytes>, bytes: &[u8]) {
    let whole = feed(fresh, std::iter::once(bytes));
    assert!(!whole.is_empty(), "{name} tells nothing");
    assert_eq!(feed(fresh, bytes.chunks(1)), whole, "{name}, byte by byte");
    for at in 1..bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(feed(fresh, [a, b].into_iter()), whole, "{name}, cut at {at}");
    }
}

fn fresh_edge() -> Mux<Bytes> {
    Mux::edge(start(), Settings::default())
}

fn fresh_connector() -> Mux<Bytes> {
    let mut mux = Mux::connector(start(), Settings::default(), hello()).unwrap();
    mux.poll_transmit(start(), 16_384, &mut Sent::default());
    mux
}

/// An edge that has greeted a connector and opened two streams.
fn ready_edge() -> Mux<Bytes> {
    let mut pair = Pair::ready(Settings::default());
    pair.open();
    pair.open();
    let [mut edge, _] = pair.sides;
    edge.ping(start());
    edge.poll_transmit(start(), 16_384, &mut Sent::default());
    edge
}

fn ready_connector() -> Mux<Bytes> {
    let mut pair = Pair::ready(Settings::default());
    pair.open();
    let [_, connector] = pair.sides;
    connector
}

fn greeting(side: usize) -> Bytes {
    let mut pair = Pair::new(Settings::default(), 1);
    pair.run_until_idle();
    let (header, body) = &pair.sent[side][0];
    frame(header.kind, header.stream, body)
}

#[test]
fn every_frame_means_the_same_wherever_it_is_cut() {
    let stamp = start().as_nanos().to_be_bytes();
    let mut opening = Vec::new();
    open().encode(&mut opening);
    let mut phases = Vec::new();
    Phases { stage: Stage::Head, connector_ns: 1, upstream_connect_ns: 2, upstream_first_ns: 3, upstream_last_ns: 0 }
        .encode(&mut phases);
    let mut refused = Vec::new();
    Refused::new(RegistrationRefusal::Overloaded, "later").encode(&mut refused);
    let finished = Header { fin: true, ..Header::new(FrameKind::Data, 1, 5) };
    let last_data = [&finished.encode()[..], b"12345"].concat();

    every_split("HELLO", &fresh_edge, &greeting(CONNECTOR));
    every_split("WELCOME", &fresh_connector, &greeting(EDGE));
    every_split("REFUSED", &fresh_connector, &frame(FrameKind::Refused, 0, &refused));
    every_split("OPEN", &ready_connector, &frame(FrameKind::Open, 3, &opening));
    every_split("DATA", &ready_edge, &frame(FrameKind::Data, 1, b"some payload"));
    every_split("DATA with FIN", &ready_edge, &last_data);
    every_split("FIN", &ready_edge, &frame(FrameKind::Fin, 1, &[]));
    every_split("RESET", &ready_edge, &frame(FrameKind::Reset, 1, &Cause::NoRoute.code().to_be_bytes()));
    every_split("PHASES", &ready_edge, &frame(FrameKind::Phases, 1, &phases));
    every_split("PONG", &ready_edge, &frame(FrameKind::Pong, 0, &stamp));
    every_split("DRAIN", &ready_edge, &frame(FrameKind::Drain, 0, &[]));
    every_split("CLOSE", &ready_edge, &frame(FrameKind::Close, 0, &[0, 5, 0, 0, 0, 0]));
    let hosts = [&[0, 0, 0, 9, 8][..], b"*.a.test", &[6], b"b.test"].concat();
    every_split("HOSTS", &ready_edge, &frame(FrameKind::Hosts, 0, &hosts));
    every_split("HOSTS", &ready_connector, &frame(FrameKind::Hosts, 0, &hosts));
    // CREDIT and PING cause no events; a frame after them shows that they were read to their end.
    let end = frame(FrameKind::Fin, 1, &[]);
    every_split("CREDIT", &ready_edge, &[frame(FrameKind::Credit, 1, &[0, 0, 1, 0]), end.clone()].concat());
    every_split(
        "link CREDIT",
        &ready_edge,
        &[frame(FrameKind::Credit, 0, &[0, 0, 1, 0, 0, 1, 0, 0]), end.clone()].concat(),
    );
    every_split("PING", &ready_edge, &[frame(FrameKind::Ping, 0, &stamp), end].concat());
}

#[test]
fn a_fault_is_the_same_wherever_it_is_cut() {
    every_split("garbage", &fresh_edge, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    every_split("a bad tunnel id", &fresh_edge, &{
        let mut bytes = greeting(CONNECTOR);
        bytes[HEADER_LEN + 9] = b'/';
        bytes
    });
    every_split("a bad host", &ready_edge, &frame(FrameKind::Hosts, 0, b"\0\0\0\0\x03a_b"));
    every_split("an unknown stage", &ready_edge, &frame(FrameKind::Phases, 1, &[9; 33]));
}

#[test]
fn payload_is_handed_on_before_its_frame_is_whole() {
    let mut edge = ready_edge();
    let bytes = frame(FrameKind::Data, 1, &[7; 1_000]);
    edge.receive(start(), bytes[..HEADER_LEN + 10].to_vec());
    assert!(matches!(edge.poll_event(), Some(Event::Data { chunk, .. }) if chunk == [7; 10]));
}
