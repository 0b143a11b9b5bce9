use rustls::AlertDescription;

use super::*;
use crate::tls::record::ContentType;

/// Feeds raw bytes to an open client of ours, and returns the error.
fn refused(client: &mut Ours, bytes: &[u8]) -> TlsError {
    client.read(bytes);
    client.take_all().unwrap_err()
}

/// The error with which the server reports the client's alert.
fn alert_at(server: &mut Ours, client: &mut Ours) -> TlsError {
    let bytes = client.outgoing();
    server.feed(&bytes, &mut Rng::new(1)).unwrap_err()
}

fn record(server: &mut Ours, content: ContentType, bytes: &[u8]) -> Vec<u8> {
    server.session.state_mut().send_record(content, bytes);
    server.outgoing()
}

#[test]
fn an_altered_record_is_refused_with_an_alert() {
    for suite in suites() {
        let (mut client, mut server) = World::of_suite(suite).open();
        server.write(b"good", &mut Rng::new(1));
        server.write(b"altered", &mut Rng::new(1));
        let mut bytes = server.outgoing();
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(refused(&mut client, &bytes), TlsError::Decrypt);
        assert_eq!(client.plain, b"good", "what came before is given");
        assert_eq!(alert_at(&mut server, &mut client), TlsError::AlertReceived(AlertDescription::BadRecordMac));
        assert_eq!(client.seal(b"more", &mut Rng::new(1)), Err(TlsError::Decrypt), "a failed session stays failed");
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_by_its_header() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    let error = refused(&mut client, &[23, 3, 3, 0x41, 1]);
    assert_eq!(error, TlsError::RecordTooLarge { len: RECORD_LEN_MAX + 1 });
    assert_eq!(alert_at(&mut server, &mut client), TlsError::AlertReceived(AlertDescription::RecordOverflow));
}

#[test]
fn plaintext_over_the_limit_is_refused() {
    for suite in suites() {
        let (mut client, mut server) = World::of_suite(suite).open();
        let bytes = record(&mut server, ContentType::Data, &[1; PLAIN_LEN_MAX + 1]);
        assert_eq!(refused(&mut client, &bytes), TlsError::RecordTooLarge { len: PLAIN_LEN_MAX + 1 });
    }
}

#[test]
fn records_of_other_types_are_refused() {
    // ChangeCipherSpec, an alert and a handshake message in the clear, after the handshake.
    for kind in [20, 21, 22, 99] {
        let (mut client, _) = World::new(Versions::Tls13).open();
        assert_eq!(refused(&mut client, &[kind, 3, 3, 0, 1, 1]), TlsError::UnexpectedRecord(kind));
    }
    let (mut client, _) = World::new(Versions::Tls13).open();
    assert!(matches!(refused(&mut client, b"GET / HTTP/1.1\r\n"), TlsError::Malformed(_)));
}

#[test]
fn padding_is_dropped() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    // Data, its type and zeros. The sealer appends the outer type, and a zero byte is not a valid one, so the type is
    // written into the plaintext and the sealer's own becomes padding.
    let bytes = server.session.state_mut().padded_record(b"padded", 100);
    client.read(&bytes);
    client.take_all().unwrap();
    assert_eq!(client.plain, b"padded");
}

#[test]
fn a_flood_of_records_without_data_is_refused() {
    for content in [ContentType::Data, ContentType::Alert] {
        let (mut client, mut server) = World::of_suite(suites().nth(3).unwrap()).open();
        let warning: &[u8] = if content == ContentType::Alert { &[1, 90] } else { &[] };
        for _ in 0..IDLE_RECORDS_MAX {
            let bytes = record(&mut server, content, warning);
            client.read(&bytes);
            client.take_all().unwrap();
        }
        let bytes = record(&mut server, content, warning);
        assert_eq!(refused(&mut client, &bytes), TlsError::Flood("records without data"));
    }
}

#[test]
fn a_peer_that_asks_for_keys_and_never_reads_makes_nothing_grow() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    for _ in 0..200 {
        let bytes = record(&mut server, ContentType::Handshake, &[24, 0, 0, 1, 1]);
        server.session.state_mut().change_sealing_key();
        client.read(&bytes);
        server.write(b"x", &mut Rng::new(1));
        let bytes = server.outgoing();
        client.read(&bytes);
        client.take_all().unwrap();
        assert!(!client.session.has_outgoing());
    }
    client.write(b"answer", &mut Rng::new(1));
    exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
    assert_eq!(server.plain, b"answer");
}

#[test]
fn messages_out_of_place_are_refused() {
    let cases: [(&[u8], TlsError); 6] = [
        (&[24, 0, 0, 1, 7], TlsError::Malformed("a key update")),
        (&[24, 0, 0, 0], TlsError::Malformed("a key update")),
        (&[24, 0, 0, 1, 0, 4], TlsError::Malformed("a message that spans a change of keys")),
        (&[20, 0, 0, 1, 0], TlsError::UnexpectedMessage(20)),
        (&[4, 1, 0, 1], TlsError::Malformed("a message over 64 KiB after the handshake")),
        (&[], TlsError::Malformed("an empty part of a message")),
    ];
    for (message, error) in cases {
        let (mut client, mut server) = World::new(Versions::Tls13).open();
        let bytes = record(&mut server, ContentType::Handshake, message);
        assert_eq!(refused(&mut client, &bytes), error);
        assert!(matches!(alert_at(&mut server, &mut client), TlsError::AlertReceived(_)));
    }
    // A server never receives tickets.
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    client.session.state_mut().send_record(ContentType::Handshake, &[4, 0, 0, 1, 0]);
    let bytes = client.outgoing();
    assert_eq!(refused(&mut server, &bytes), TlsError::UnexpectedMessage(4));
}

#[test]
fn a_message_may_come_in_parts_but_not_be_broken_off() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    for part in [&[24, 0][..], &[0, 1], &[0]] {
        let bytes = record(&mut server, ContentType::Handshake, part);
        client.read(&bytes);
        client.take_all().unwrap();
    }
    server.session.state_mut().change_sealing_key();
    server.write(b"under new keys", &mut Rng::new(1));
    let bytes = server.outgoing();
    client.read(&bytes);
    client.take_all().unwrap();
    assert_eq!(client.plain, b"under new keys");

    let mut bytes = record(&mut server, ContentType::Handshake, &[24, 0]);
    bytes.extend(record(&mut server, ContentType::Data, b"data"));
    assert!(matches!(refused(&mut client, &bytes), TlsError::Malformed(_)));
}

#[test]
fn alerts_are_typed() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    let bytes = record(&mut server, ContentType::Alert, &[1, 90]); // user_canceled
    client.read(&bytes);
    client.take_all().unwrap();
    let bytes = record(&mut server, ContentType::Alert, &[2, 49]);
    assert_eq!(refused(&mut client, &bytes), TlsError::AlertReceived(AlertDescription::AccessDenied));
    assert!(!client.session.has_outgoing(), "an alert is not answered");

    let (mut client, mut server) = World::new(Versions::Tls13).open();
    let bytes = record(&mut server, ContentType::Alert, &[2, 49, 0]);
    assert!(matches!(refused(&mut client, &bytes), TlsError::Malformed(_)));
}

#[test]
fn renegotiation_is_refused_at_once() {
    let world = World::of_suite(suites().nth(3).unwrap());
    // The server or client starts a renegotiation, as often as fits one record.
    let (mut client, mut server) = world.open();
    let hellos = [0, 0, 0, 0].repeat(PLAIN_LEN_MAX / 4);
    let bytes = record(&mut server, ContentType::Handshake, &hellos);
    assert_eq!(refused(&mut client, &bytes), TlsError::Renegotiation);
    assert_eq!(alert_at(&mut server, &mut client), TlsError::AlertReceived(AlertDescription::NoRenegotiation));

    let (mut client, mut server) = world.open();
    let hellos = [1, 0, 0, 0].repeat(PLAIN_LEN_MAX / 4);
    let bytes = record(&mut client, ContentType::Handshake, &hellos);
    assert_eq!(refused(&mut server, &bytes), TlsError::Renegotiation);
    assert!(server.outgoing().len() < 64, "one alert");
    let bytes = record(&mut client, ContentType::Handshake, &hellos);
    assert_eq!(refused(&mut server, &bytes), TlsError::Renegotiation);
    assert!(server.outgoing().is_empty(), "it was told once");
}

#[test]
fn no_record_after_the_handshake_makes_more_output_than_input() {
    // Messages and alerts of every type, alone and as often as fits one record.
    let messages = (0..=26).map(|kind| (ContentType::Handshake, vec![kind, 0, 0, 0]));
    let updates = (0..=1).map(|asked| (ContentType::Handshake, vec![24, 0, 0, 1, asked]));
    let alerts = (0..=2).flat_map(|level| [0, 10, 90, 100].map(|code| (ContentType::Alert, vec![level, code])));
    let kinds: Vec<_> = messages.chain(updates).chain(alerts).chain([(ContentType::Data, Vec::new())]).collect();
    for world in [World::new(Versions::Tls13), World::of_suite(suites().nth(3).unwrap())] {
        for (content, message) in &kinds {
            for times in [1, PLAIN_LEN_MAX / message.len().max(1)] {
                let (mut client, mut server) = world.open();
                let bytes = record(&mut client, *content, &message.repeat(times));
                server.read(&bytes);
                // Most are refused, which does not matter here.
                let _ = server.take_all();
                assert!(server.outgoing().len() <= bytes.len(), "{content:?} {message:?} {times}");
            }
        }
    }
}

#[test]
fn a_message_is_refused_by_its_header() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    // A server never receives tickets, nor keeps the beginning of one.
    let bytes = record(&mut client, ContentType::Handshake, &[4, 0, 0xff, 0]);
    assert_eq!(refused(&mut server, &bytes), TlsError::UnexpectedMessage(4));
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    server.write(b"half of", &mut Rng::new(1));
    let bytes = server.outgoing();
    client.read(&bytes);
    client.take_all().unwrap();
    assert_eq!(client.session.read_end(), Err(TlsError::Truncated));
    assert_eq!(client.plain, b"half of");
    assert_eq!(client.take_all(), Err(TlsError::Truncated));

    let mut handshaking = World::new(Versions::Tls13).our_client();
    assert_eq!(handshaking.session.read_end(), Err(TlsError::Truncated));
}

#[test]
fn bytes_after_close_notify_are_dropped() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    server.session.close();
    let mut bytes = server.outgoing();
    bytes.extend_from_slice(b"anything");
    client.read(&bytes);
    client.take_all().unwrap();
    assert!(client.session.is_peer_closed() && client.plain.is_empty());
}

#[test]
fn peers_that_do_not_speak_tls_are_recognised() {
    let world = World::new(Versions::Tls13);
    for (bytes, error) in [
        (&b"POST /mcp HTTP/1.1\r\nHost: a\r\n\r\n"[..], TlsError::PlainHttp),
        (b"SSH-2.0-OpenSSH_9.9\r\n", TlsError::NotTls),
    ] {
        let mut server = world.our_server();
        assert_eq!(refused(&mut server, bytes), error);
        assert!(!server.session.has_outgoing());
    }
    let mut client = world.our_client();
    assert_eq!(refused(&mut client, b"HTTP/1.1 400 Bad Request\r\n"), TlsError::PlainHttp);
}

#[test]
fn an_endless_handshake_is_refused() {
    // A ClientHello whose length field is over the limit.
    let mut server = World::new(Versions::Tls13).our_server();
    let too_large = TlsError::HandshakeTooLarge { limit: CLIENT_HELLO_LEN_MAX };
    assert_eq!(refused(&mut server, &[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff]), too_large);
    // A ClientHello of an allowed length, in records that exceed it.
    let mut server = World::new(Versions::Tls13).our_server();
    server.read(&[22, 3, 1, 0, 4, 1, 0, 0x3f, 0xfc]);
    server.take_all().unwrap();
    let fed = (0..).find(|_| {
        server.read(&[22, 3, 1, 0, 1, 0]);
        server.take_all().is_err()
    });
    assert_eq!(fed, Some((CLIENT_HELLO_LEN_MAX - 9) / 6));
    assert_eq!(server.session.failure(), Some(too_large));
    // A client receives certificates, which may be longer.
    let mut client = World::new(Versions::Tls13).our_client();
    let mut bytes = vec![22, 3, 3, 0x40, 0, 2, 0, 0xff, 0xff];
    bytes.resize(5 + 0x4000, 0);
    let error = loop {
        client.read(&bytes);
        if let Err(error) = client.take_all() {
            break error;
        }
        bytes[5..9].fill(0);
    };
    assert!(matches!(error, TlsError::HandshakeTooLarge { .. } | TlsError::Misbehaved(_)), "{error:?}");
}

#[test]
fn versions_and_protocols_must_have_something_in_common() {
    let new = World::new(Versions::Tls13);
    let settings =
        ClientSettings { roots: roots_of(&new.authority), alpn: vec![b"h2".to_vec()], ..ClientSettings::default() };
    let mut client = Ours::new(Session::client(client_config(settings).unwrap(), name()).unwrap());
    let mut server = new.our_server();
    assert_eq!(exchange(&mut client, &mut server, &mut Rng::new(1)), Err(TlsError::NoApplicationProtocol));
    let alert = server.outgoing();
    assert_eq!(client.feed(&alert, &mut Rng::new(1)), Err(TlsError::NoApplicationProtocol));

    let old = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = Theirs::new(rustls::ClientConnection::new(Arc::new(old), name()).unwrap().into());
    let mut server = new.our_server();
    assert_eq!(exchange(&mut client, &mut server, &mut Rng::new(1)), Err(TlsError::ProtocolVersion));
    let alert = server.outgoing();
    assert_eq!(client.feed(&alert, &mut Rng::new(1)), Err(TlsError::ProtocolVersion));
}

#[test]
fn without_a_buffer_nothing_is_lost() {
    let (mut client, mut server) = World::new(Versions::Tls13).open();
    server.write(&[7; 10_000], &mut Rng::new(1));
    let bytes = server.outgoing();
    let whole = bytes.len();
    // A lease without room behind the first part of the record: the record must be assembled.
    let mut first = client.pool.take(Class::Large).unwrap();
    first.append(&bytes);
    let rest = first.split_to(4_000);
    let (front, mut back) = (rest, client.pool.take(Class::Large).unwrap());
    back.append(&first);
    drop(first);
    client.session.read(front);
    client.session.read(back);
    let held: Vec<_> = std::iter::from_fn(|| client.pool.take(Class::Large)).collect();
    assert_eq!(client.take_all(), Err(TlsError::NoBuffer(Class::Large)));
    assert_eq!(client.session.seal_from(&[1; 9_000], &client.pool).unwrap_err(), TlsError::NoBuffer(Class::Large));
    drop(held);
    client.take_all().unwrap();
    assert_eq!(client.plain.len(), 10_000, "of {whole}");
    client.write(b"and on", &mut Rng::new(1));
    exchange(&mut client, &mut server, &mut Rng::new(1)).unwrap();
    assert_eq!(server.plain, b"and on");
}

#[test]
fn records_that_rustls_cannot_frame_are_refused_with_one_alert() {
    let world = World::new(Versions::Tls13);
    let mut rng = Rng::new(1);
    // An empty part of a message, an impossible version, a record over the limit.
    for record in [&[22, 3, 1, 0, 0][..], &[22, 9, 9, 0, 1, 1], &[&[22, 3, 1, 0x48, 1][..], &[0; 0x4801]].concat()] {
        let mut server = world.our_server();
        server.feed(record, &mut rng).unwrap_err();
        let alert = server.outgoing();
        assert!(alert.is_empty() || alert[0] == 21, "{alert:?}");
        server.feed(record, &mut rng).unwrap_err();
        assert!(server.outgoing().is_empty(), "it was told once");
        let mut client = world.our_client();
        client.outgoing();
        client.feed(record, &mut rng).unwrap_err();
    }
}
