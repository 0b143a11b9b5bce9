use super::*;
use crate::base::{Rng, Secret};
use crate::wire::RegistrationRefusal;

fn by_tunnel() -> EnrolRequest {
    EnrolRequest {
        credential: Credential::Tunnel { id: "tnl_1".parse().unwrap(), secret: Secret::from("s3cret") },
        software: "adit/0.1.0".to_owned(),
        csr: vec![0x30; 200],
    }
}

fn by_key() -> EnrolRequest {
    let credential = Credential::Provisioning { key: Secret::from("pk-s3cret"), name: "host-7".to_owned() };
    EnrolRequest { credential, ..by_tunnel() }
}

fn granted(secret: Option<&str>) -> EnrolAnswer {
    EnrolAnswer::Granted(Grant {
        edge_time_unix_s: 1_800_000_000,
        lifetime_s: 86_400,
        tunnel: "tnl_1".parse().unwrap(),
        secret: secret.map(Secret::from),
        chain: vec![vec![1; 600], vec![2; 500]],
    })
}

fn refused() -> EnrolAnswer {
    EnrolAnswer::Refused(EnrolRefused {
        edge_time_unix_s: 1_800_000_000,
        retry_after_s: 30,
        refusal: RegistrationRefusal::Overloaded,
        reason: "come back".to_owned(),
    })
}

/// The bytes of a message, including secrets.
fn encoded<M: EnrolMessage>(message: &M) -> Vec<u8> {
    message.encode().unwrap().expose().to_vec()
}

fn receive<M: EnrolMessage>(bytes: &[u8]) -> Result<Option<M>, EnrolFault> {
    EnrolReader::default().receive(bytes)
}

fn round_trip<M: EnrolMessage>(message: &M) {
    let bytes = encoded(message);
    for cut in 0..bytes.len() {
        let mut incoming = EnrolReader::<M>::default();
        assert!(incoming.receive(&bytes[..cut]).unwrap().is_none(), "{cut}");
        let back = incoming.receive(&bytes[cut..]).unwrap().expect("it is complete");
        assert_eq!(encoded(&back), bytes);
        assert_eq!(incoming.receive(b"x").err(), Some(EnrolFault::TrailingBytes));
    }
    assert_eq!(receive::<M>(&[&bytes[..], b"x"].concat()).err(), Some(EnrolFault::TrailingBytes));
}

#[test]
fn both_messages_round_trip_however_they_are_cut() {
    round_trip(&by_tunnel());
    round_trip(&by_key());
    round_trip(&granted(None));
    round_trip(&granted(Some("fresh")));
    round_trip(&refused());
}

#[test]
fn a_short_payload_is_truncated_and_a_long_one_has_trailing_bytes() {
    fn try_lengths<M: EnrolMessage>(message: &M) {
        let bytes = encoded(message);
        let with_len = |payload: &[u8]| {
            let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
            receive::<M>(&[&len[..], &bytes[2..3], payload].concat()).err()
        };
        let payload = &bytes[HEADER_LEN..];
        for len in 0..payload.len() {
            assert_eq!(with_len(&payload[..len]), Some(EnrolFault::Truncated), "{len}");
        }
        assert_eq!(with_len(&[payload, &[0]].concat()), Some(EnrolFault::TrailingBytes));
    }
    try_lengths(&by_tunnel());
    try_lengths(&by_key());
    try_lengths(&granted(Some("fresh")));
    try_lengths(&refused());
}

#[test]
fn a_header_is_judged_before_anything_follows_it() {
    assert_eq!(receive::<EnrolRequest>(&[0, 9, 3]).err(), Some(EnrolFault::UnknownType(3)));
    assert_eq!(receive::<EnrolAnswer>(&[0, 9, 1]).err(), Some(EnrolFault::UnknownType(1)));
    let too_long = EnrolFault::TooLong { len: 0xffff, limit: REQUEST_LEN_MAX };
    assert_eq!(receive::<EnrolRequest>(&[0xff, 0xff, 1]).err(), Some(too_long));
}

#[test]
fn each_bad_field_has_its_fault() {
    let change = |bytes: &[u8], at: usize, to: u8| {
        let mut bytes = bytes.to_vec();
        bytes[HEADER_LEN + at] = to;
        bytes
    };
    let request = encoded(&by_tunnel());
    for (at, to, fault) in [
        (0, 0, EnrolFault::FieldRange),
        (0, 65, EnrolFault::FieldRange),
        (1, b'/', EnrolFault::BadTunnelId),
        (1, 0xff, EnrolFault::BadText),
        (6, 2, EnrolFault::FieldRange),
        (7, 0, EnrolFault::FieldRange),
    ] {
        assert_eq!(receive::<EnrolRequest>(&change(&request, at, to)).err(), Some(fault), "{at}");
    }
    let answer = encoded(&granted(None));
    for (at, to, fault) in [
        (8, 0xff, EnrolFault::FieldRange),
        (13, b' ', EnrolFault::BadTunnelId),
        (18, 9, EnrolFault::FieldRange),
        (20, 0, EnrolFault::FieldRange),
        (20, 5, EnrolFault::FieldRange),
        (21, 0xff, EnrolFault::FieldRange),
    ] {
        assert_eq!(receive::<EnrolAnswer>(&change(&answer, at, to)).err(), Some(fault), "{at}");
    }
}

#[test]
fn overlong_values_are_not_sent_and_texts_are_cut() {
    let long = EnrolRequest { csr: vec![0; CSR_LEN_MAX + 1], ..by_tunnel() };
    assert_eq!(long.encode().err(), Some(EnrolFault::FieldRange));
    let empty = EnrolRequest { csr: Vec::new(), ..by_tunnel() };
    assert_eq!(empty.encode().err(), Some(EnrolFault::FieldRange));
    let most = EnrolRequest { csr: vec![0; CSR_LEN_MAX], software: "é".repeat(90), ..by_tunnel() };
    let back = receive::<EnrolRequest>(&encoded(&most)).unwrap().unwrap();
    assert_eq!(back.software, "é".repeat(SOFTWARE_LEN_MAX / 2));
}

#[test]
fn no_secret_is_shown_to_people() {
    let shown = format!("{:?} {:?} {:?}", by_tunnel(), by_key(), granted(Some("fresh-s3cret")));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn mutations_are_refused_or_read_and_never_more() {
    let mut rng = Rng::new(12);
    let seeds = [encoded(&by_tunnel()), encoded(&by_key()), encoded(&granted(Some("fresh"))), encoded(&refused())];
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..rng.between(1, 8) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, rng.next_u64() as u8),
                _ => bytes[at] ^= 1 << rng.below(8),
            }
        }
        // The decoded message encodes to the same bytes.
        if let Ok(Some(request)) = receive::<EnrolRequest>(&bytes) {
            assert_eq!(encoded(&request), bytes);
        }
        if let Ok(Some(answer)) = receive::<EnrolAnswer>(&bytes) {
            assert_eq!(encoded(&answer), bytes);
        }
    }
}

#[test]
fn the_limits_are_in_the_protocol_page() {
    let page = include_str!("../../../docs/PROTOCOL.md");
    for (what, limit) in
        [("| 1 | ENROL, by tunnel | connector |", REQUEST_LEN_MAX), ("| 3 | GRANTED | edge |", ANSWER_LEN_MAX)]
    {
        let thousands = format!("{},{:03}", limit / 1000, limit % 1000);
        assert!(page.contains(&format!("{what} at most {thousands} |")), "{what} {thousands}");
    }
    for limit in [CSR_LEN_MAX, CERT_LEN_MAX] {
        assert!(page.contains(&format!("1 to {limit}")), "{limit}");
    }
}
