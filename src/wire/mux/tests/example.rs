use super::*;

/// The bytes of the example in `docs/PROTOCOL.md`, from the left.
fn example() -> Side2<Bytes> {
    let page = include_str!("../../../../docs/PROTOCOL.md");
    let (_, text) = page.split_once("## 11. An example").unwrap();
    let mut bytes = [Vec::new(), Vec::new()];
    let mut side = CONNECTOR;
    for line in text.lines().filter(|line| line.starts_with("    ")) {
        for word in line.split_whitespace() {
            match word {
                "→" => side = CONNECTOR,
                "←" => side = EDGE,
                hex => bytes[side].push(u8::from_str_radix(hex, 16).unwrap()),
            }
        }
    }
    bytes
}

#[test]
fn the_example_of_the_protocol_page_equals_the_bytes_that_are_sent() {
    let now = start();
    let hello = Hello {
        tunnel: "t".parse().unwrap(),
        secret: Secret::from("s"),
        instance: 1,
        software: "x".to_owned(),
        link_index: 0,
    };
    let mut connector: Mux<Bytes> = Mux::connector(now, Settings::default(), hello).unwrap();
    connector.set_hosts(now, &host_set(&["h"]));
    let mut edge: Mux<Bytes> = Mux::edge(now, Settings::default());
    let [from_edge, from_connector] = example();

    let mut sent = Sent::default();
    connector.poll_transmit(now, 16_384, &mut sent);
    edge.receive(now, sent.bytes.clone());
    edge.welcome(now, EdgeIdentity { instance: 2, core: CoreId(0), cores: 1 });
    edge.set_hosts(now, &host_set(&["*.h"]));
    let stream = edge.open(&Open { route: "h", call: 7, traffic: Traffic::Plain, peer: None, until: None }).unwrap();
    edge.send(stream, b"hi".to_vec()).unwrap();
    edge.finish(stream).unwrap();
    let mut answered = Sent::default();
    edge.poll_transmit(now, 16_384, &mut answered);
    assert_eq!(without_pings(&answered), from_edge);

    connector.receive(now, answered.bytes);
    connector.poll_transmit(now, 16_384, &mut sent);
    assert_eq!(without_pings(&sent), from_connector);
}

fn without_pings(sent: &Sent) -> Bytes {
    let is_ping = |header: &Header| matches!(header.kind, FrameKind::Ping | FrameKind::Pong);
    let frames = sent.frames.iter().filter(|(header, _)| !is_ping(header));
    frames.flat_map(|(header, body)| [&header.encode()[..], body].concat()).collect()
}
