use rustls::ProtocolVersion;

use super::*;

fn both_ways(a: &mut dyn Side, b: &mut dyn Side, total: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    exchange(a, b, &mut rng).unwrap();
    let (from_a, from_b) = (random_bytes(total, &mut rng), random_bytes(total, &mut rng));
    let (mut sent_a, mut sent_b) = (0, 0);
    while sent_a < total || sent_b < total {
        let longest = *[40, 5_000, 70_000].get(rng.below(3) as usize).unwrap();
        let n = (rng.between(1, longest) as usize).min(total - sent_a);
        a.write(&from_a[sent_a..sent_a + n], &mut rng);
        sent_a += n;
        let n = (rng.between(1, longest) as usize).min(total - sent_b);
        b.write(&from_b[sent_b..sent_b + n], &mut rng);
        sent_b += n;
        exchange(a, b, &mut rng).unwrap();
    }
    assert!(b.plain() == from_a, "what a sent, seed {seed}");
    assert!(a.plain() == from_b, "what b sent, seed {seed}");
}

#[test]
fn every_suite_carries_data_between_all_pairs_of_sides() {
    for suite in suites() {
        let world = World::of_suite(suite);
        both_ways(&mut world.our_client(), &mut world.our_server(), 300_000, 1);
        both_ways(&mut world.our_client(), &mut world.their_server(), 300_000, 2);
        both_ways(&mut world.their_client(), &mut world.our_server(), 300_000, 3);
    }
}

#[test]
fn megabytes_in_pieces_of_random_size() {
    let world = World::new(Versions::Tls13);
    for seed in 10..13 {
        both_ways(&mut world.our_client(), &mut world.our_server(), 3_000_000, seed);
    }
    both_ways(&mut world.their_client(), &mut world.our_server(), 3_000_000, 13);
    both_ways(&mut world.our_client(), &mut world.their_server(), 3_000_000, 14);
}

#[test]
fn the_negotiated_parameters_are_reported() {
    let (client, server) = World::new(Versions::Tls13).open();
    for side in [&client, &server] {
        assert_eq!(side.session.alpn(), Some(ALPN_HTTP1));
        assert_eq!(side.session.version(), Some(ProtocolVersion::TLSv1_3));
        assert!(!side.session.resumed());
    }
    assert_eq!(client.session.peer_certificates().len(), 1);
    assert!(server.session.peer_certificates().is_empty());
}

#[test]
fn every_cut_of_the_stream_gives_the_same_plaintext() {
    for suite in [suites().next(), suites().nth(3)].map(Option::unwrap) {
        let world = World::of_suite(suite);
        let mut rng = Rng::new(5);
        let mut at = 0;
        loop {
            let (mut client, mut server) = world.open();
            server.write(b"one", &mut rng);
            server.write(b"and two", &mut rng);
            server.session.close();
            let bytes = server.outgoing();
            if at > bytes.len() {
                break;
            }
            for part in [&bytes[..at], &bytes[at..]] {
                client.read(part);
                client.take_all().unwrap();
            }
            assert_eq!(client.plain, b"oneand two", "cut at {at}");
            assert!(client.session.is_peer_closed());
            at += 1;
        }
    }
}

#[test]
fn a_handshake_comes_byte_by_byte() {
    for versions in [Versions::Tls13, Versions::Tls12And13] {
        let world = World::new(versions);
        let (mut client, mut server) = (world.our_client(), world.our_server());
        for _ in 0..4 {
            for byte in client.outgoing() {
                server.read(&[byte]);
                server.take_all().unwrap();
            }
            for byte in server.outgoing() {
                client.read(&[byte]);
                client.take_all().unwrap();
            }
        }
        assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
    }
}

#[test]
fn the_second_connection_resumes_the_first() {
    for suite in suites() {
        let world = World::of_suite(suite);
        world.open();
        let (mut client, mut server) = world.open();
        assert!(client.session.resumed() && server.session.resumed(), "{suite:?}");
        both_ways(&mut client, &mut server, 50_000, 7);
        // A ticket of theirs, used by us, and the other way round.
        let (mut client, mut server) = (world.our_client(), world.their_server());
        exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
        assert!(client.session.resumed(), "{suite:?}");
        let (mut client, mut server) = (world.their_client(), world.our_server());
        exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
        assert!(server.session.resumed(), "{suite:?}");
    }
}

#[test]
fn either_side_may_change_its_keys() {
    let world = World::new(Versions::Tls13);
    let mut rng = Rng::new(3);
    let (mut ours, mut theirs) = (world.our_client(), world.their_server());
    exchange(&mut ours, &mut theirs, &mut rng).unwrap();
    for round in 0..100_u8 {
        // rustls asks for an answer; it comes before our next data, and once only.
        theirs.connection.refresh_traffic_keys().unwrap();
        if round % 3 == 0 {
            theirs.connection.refresh_traffic_keys().unwrap();
        }
        if round % 2 == 0 {
            ours.session.update_key().unwrap();
        }
        theirs.write(&[round], &mut rng);
        exchange(&mut ours, &mut theirs, &mut rng).unwrap();
        ours.write(&[round], &mut rng);
        exchange(&mut ours, &mut theirs, &mut rng).unwrap();
    }
    let all: Vec<u8> = (0..100).collect();
    assert_eq!((ours.plain(), theirs.plain()), (&all[..], &all[..]));
}

#[test]
fn keys_are_changed_before_they_wear_out() {
    let world = World::new(Versions::Tls13);
    let mut rng = Rng::new(4);
    let (mut ours, mut theirs) = (world.our_client(), world.their_server());
    exchange(&mut ours, &mut theirs, &mut rng).unwrap();
    ours.session.state_mut().set_records_per_key_max(3);
    for n in 0..50 {
        ours.write(&[n], &mut rng);
        assert!(ours.session.state_mut().sealed_records() <= 3);
    }
    exchange(&mut ours, &mut theirs, &mut rng).unwrap();
    assert_eq!(theirs.plain(), (0..50).collect::<Vec<u8>>());
}

#[test]
fn keys_that_cannot_be_changed_end_the_connection_when_worn() {
    let world = World::of_suite(suites().nth(3).unwrap());
    let (mut client, _) = world.open();
    assert_eq!(client.session.version(), Some(ProtocolVersion::TLSv1_2));
    client.session.state_mut().set_records_per_key_max(3);
    let mut rng = Rng::new(1);
    // One record of the key was the handshake's last message.
    client.seal(b"1", &mut rng).unwrap();
    client.seal(b"2", &mut rng).unwrap();
    assert_eq!(client.seal(b"3", &mut rng), Err(TlsError::KeysExhausted));
}

#[test]
fn a_close_is_reported_and_the_other_direction_goes_on() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    let mut rng = Rng::new(1);
    client.write(b"last words", &mut rng);
    client.session.close();
    client.session.close();
    exchange(&mut client, &mut server, &mut rng).unwrap();
    assert!(server.session.is_peer_closed());
    assert_eq!(server.plain, b"last words");
    assert_eq!(server.session.read_end(), Ok(()));
    assert_eq!(client.seal(b"more", &mut rng), Err(TlsError::Closed));
    server.write(b"answer", &mut rng);
    exchange(&mut client, &mut server, &mut rng).unwrap();
    assert_eq!(client.plain, b"answer");
}

#[test]
fn a_session_moves_between_cores_in_mid_stream() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new(Versions::Tls13);
    let mut rng = Rng::new(9);
    let (mut client, mut server) = (world.our_client(), world.our_server());
    let mut moves = 0;
    let data = random_bytes(200_000, &mut rng);
    for piece in data.chunks(9_000) {
        exchange(&mut client, &mut server, &mut rng).unwrap();
        if !client.session.is_handshaking() {
            client.write(piece, &mut rng);
        }
        let bytes = client.outgoing();
        let (front, rest) = bytes.split_at(rng.below(bytes.len() as u64 + 1) as usize);
        server.read(front);
        let detached = server.session.detach();
        is_send(&detached);
        server.session = Session::attach(detached, &server.pool).ok().unwrap();
        moves += 1;
        server.read(rest);
        server.take_all().unwrap();
    }
    assert!(moves > 20);
    assert!(data.ends_with(&server.plain) && !server.plain.is_empty());
}

#[test]
fn certificates_are_replaced_while_a_connection_lives() {
    let world = World::new(Versions::Tls13);
    let (mut client, mut server) = world.open();
    let before = client.session.peer_certificates().to_vec();
    world.certs.reload(CertSet::new([issue(&world.authority, &[NAME, "other.example.com"])]).unwrap());
    both_ways(&mut client, &mut server, 10_000, 1);
    // A resumed session reports the certificates of the original one, so this must not be resumed.
    let fresh =
        ClientSettings { roots: roots_of(&world.authority), alpn: vec![ALPN_LINK.to_vec()], ..Default::default() };
    let mut client = Ours::new(Session::client(client_config(fresh).unwrap(), name()).unwrap());
    let mut server = world.our_server();
    exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
    assert_ne!(client.session.peer_certificates(), before);
}
