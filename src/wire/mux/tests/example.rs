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
fn the_example_of_the_protocol_page_is_what_is_sent() {
    let now = start();
    let hello = Hello {
        tunnel: "t".parse().unwrap(),
        secret: Secret::from("s"),
        instance: 1,
        software: "x".to_owned(),
        link_index: 0,
    };
    let mut connector: Mux<Bytes> = Mux::connector(now, Settings::default(), hello).unwrap();
    let mut sent = Sent::default();
    connector.poll_transmit(now, 16_384, &mut sent);
    let [from_edge, from_connector] = example();
    assert_eq!(sent.bytes, from_connector);

    let mut edge: Mux<Bytes> = Mux::edge(now, Settings::default());
    edge.receive(now, from_connector);
    edge.welcome(now, EdgeIdentity { instance: 2, core: CoreId(0), cores: 1 });
    let stream = edge.open(&Open { route: "h", call: 7, traffic: Traffic::Plain, peer: None }).unwrap();
    edge.send(stream, b"hi".to_vec()).unwrap();
    edge.finish(stream).unwrap();
    let mut sent = Sent::default();
    edge.poll_transmit(now, 16_384, &mut sent);
    sent.frames.retain(|(header, _)| header.kind != FrameKind::Ping);
    let bytes: Bytes = sent.frames.iter().flat_map(|(header, body)| [&header.encode()[..], body].concat()).collect();
    assert_eq!(bytes, from_edge);
}
