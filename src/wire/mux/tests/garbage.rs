use super::*;

fn ready(side: usize) -> Mux<Bytes> {
    let mut pair = Pair::ready(Settings::default());
    pair.open();
    pair.open();
    let [edge, connector] = pair.sides;
    if side == EDGE { edge } else { connector }
}

/// Feeds bytes in random pieces and answers, as a transport would; returns why the link ended, if it did.
fn survive(mut mux: Mux<Bytes>, bytes: &[u8], rng: &mut Rng) -> Option<Fault> {
    let mut rest = bytes;
    let mut closed = None;
    let mut now = start();
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(1 + rng.below(rest.len() as u64) as usize);
        rest = tail;
        mux.receive(now, piece.to_vec());
        now += Duration::from_micros(50);
        while let Some(event) = mux.poll_event() {
            assert!(closed.is_none(), "{event:?} after the end");
            match event {
                Event::Closed { fault, .. } => closed = Some(fault),
                Event::Data { stream, chunk } => mux.consumed(stream, chunk.len()),
                Event::Hello(_) => mux.welcome(now, identity()),
                _ => {}
            }
        }
        if mux.wants_transmit() {
            mux.poll_transmit(now, 16_384, &mut Sent::default());
        }
        check(&mut mux);
    }
    closed
}

#[test]
fn random_bytes_end_in_a_named_fault() {
    let mut rng = Rng::new(0xadf1);
    for round in 0..3_000 {
        let mux = match round % 4 {
            0 => Mux::edge(start(), Settings::default()),
            1 => Mux::connector(start(), Settings::default(), hello()).unwrap(),
            _ => ready(round % 2),
        };
        let bytes: Bytes = (0..200_u64).map(|_| rng.next_u64() as u8).collect();
        let fault = survive(mux, &bytes, &mut rng);
        assert!(fault.is_some_and(|fault| fault.code() >= 0x0100), "round {round}: {fault:?}");
    }
}

/// Random frames, most of them well formed.
fn frames(rng: &mut Rng) -> Bytes {
    let mut bytes = Vec::new();
    for _ in 0..1 + rng.below(40) {
        let kind = FrameKind::ALL[rng.below(FrameKind::ALL.len() as u64) as usize];
        let (min, max) = kind.len_range();
        let len = rng.between(min as u64, max.min(min + 300) as u64) as usize;
        let id = [0, 1, 3, 5, 7, 2, u32::MAX][rng.below(7) as usize];
        let payload: Bytes = match kind {
            FrameKind::Open => {
                let mut out = Vec::new();
                open().encode(&mut out);
                out
            }
            FrameKind::Hosts if rng.chance(0.7) => b"\0\0\0\0\x06a.test\x08*.b.test".to_vec(),
            _ if rng.chance(0.7) => (0..len).map(|_| rng.below(3) as u8).collect(),
            _ => (0..len).map(|_| rng.next_u64() as u8).collect(),
        };
        let mut one = frame(kind, id, &payload);
        if rng.chance(0.1) {
            let at = rng.below(one.len() as u64) as usize;
            one[at] ^= 1 << rng.below(8);
        }
        bytes.extend(one);
    }
    bytes
}

#[test]
fn random_frames_never_panic_and_never_break_the_books() {
    let mut rng = Rng::new(0xadf2);
    for round in 0..6_000 {
        survive(ready(round % 2), &frames(&mut rng), &mut rng);
    }
}

#[test]
fn a_real_conversation_with_flipped_bits_never_panics() {
    let mut rng = Rng::new(0xadf3);
    let mut pair = Pair::new(Settings::default(), 9);
    pair.run_until_idle();
    for _ in 0..10 {
        let [edge, connector] = pair.open();
        pair.sides[EDGE].send(edge, vec![1; 500]).unwrap();
        pair.sides[CONNECTOR].send(connector, vec![2; 900]).unwrap();
        pair.sides[EDGE].finish(edge).unwrap();
        pair.sides[CONNECTOR].finish(connector).unwrap();
        pair.run_until_idle();
    }
    for side in [EDGE, CONNECTOR] {
        let talk: Bytes = pair.sent[side].iter().flat_map(|(h, body)| [&h.encode()[..], body].concat()).collect();
        for _ in 0..1_500 {
            let mut bytes = talk.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            let receiver = match side {
                CONNECTOR => Mux::edge(start(), Settings::default()),
                _ => Mux::connector(start(), Settings::default(), hello()).unwrap(),
            };
            survive(receiver, &bytes, &mut rng);
        }
    }
}
