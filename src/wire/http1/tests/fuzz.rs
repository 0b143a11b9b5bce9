use super::*;

const ROUNDS: u64 = 3000;

fn token(rng: &mut Rng) -> Vec<u8> {
    let alphabet = b"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^`|~";
    let len = rng.between(1, 40);
    let name: Vec<u8> = (0..len).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
    // The prefix prevents a name with a meaning.
    [b"zz-", &name[..]].concat()
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let inner = |rng: &mut Rng| [b' ', b'\t', rng.between(0x21, 0x7e) as u8, rng.between(0x80, 0xff) as u8];
    let len = rng.below(60);
    let text: Vec<u8> = (0..len).map(|_| inner(rng)[rng.below(4) as usize]).collect();
    text.trim_ascii().to_vec()
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(rng: &mut Rng, max: u64) -> Fields {
    (0..rng.below(max)).map(|_| (token(rng), value(rng))).collect()
}

fn push(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields {
        out.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
}

/// Cuts bytes into random pieces.
fn pieces<'a>(rng: &mut Rng, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let longest = rng.between(1, 64);
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.between(1, longest).min(bytes.len() as u64) as usize);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn random_request(rng: &mut Rng) -> (Vec<u8>, Fields, Framing) {
    let framing = [Framing::None, Framing::Chunked, Framing::Length(rng.next_u64() >> 10)][rng.below(3) as usize];
    let fields = fields(rng, 20);
    let method = pick(rng, &["GET", "POST", "DELETE", "QUERY"]);
    let mut bytes = format!("{method} /{:x} HTTP/1.1\r\nHost: h{}\r\n", rng.next_u64(), rng.below(9)).into_bytes();
    push(&mut bytes, &fields);
    match framing {
        Framing::Length(length) => bytes.extend(format!("Content-Length: {length}\r\n").bytes()),
        Framing::Chunked => bytes.extend(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    bytes.extend(b"\r\n");
    (bytes, fields, framing)
}

/// Changes, drops, doubles or inserts a few bytes, preferably significant ones.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let telling = b"\r\n :;,\t\0\x7f\xff0aF-_chunked";
    for _ in 0..rng.between(1, 4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let byte = match rng.chance(0.7) {
            true => telling[rng.below(telling.len() as u64) as usize],
            false => rng.next_u64() as u8,
        };
        match rng.below(4) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let end = (at + rng.below(30) as usize).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {}
        }
    }
}

#[test]
fn written_requests_are_read_back() {
    let mut rng = Rng::new(1);
    let mut head = RequestHead::new();
    for _ in 0..ROUNDS {
        let (bytes, fields, framing) = random_request(&mut rng);
        let progress = feed_request(&mut head, &pieces(&mut rng, &bytes));
        assert_eq!(progress, Ok(Progress::Complete { len: bytes.len() }), "{}", bytes.escape_ascii());
        let mut out = Vec::new();
        write_request(&head, &RequestEdits { framing, ..Default::default() }, &mut out);
        let again = request(&out).unwrap();
        assert_eq!((again.framing(), again.path(), again.host()), (framing, head.path(), head.host()));
        let kept = again.headers().filter(|(name, _)| name.starts_with(b"zz-"));
        assert!(kept.eq(fields.iter().map(|(name, value)| (&name[..], &value[..]))), "{}", bytes.escape_ascii());
    }
}

#[test]
fn mutated_requests_have_one_verdict_in_all_cuts_and_httparse_agrees() {
    let mut rng = Rng::new(2);
    let (mut whole, mut cut) = (RequestHead::new(), RequestHead::new());
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let (mut bytes, ..) = random_request(&mut rng);
        mutate(&mut rng, &mut bytes);
        whole.clear();
        cut.clear();
        let verdict = whole.feed(&bytes);
        assert_eq!(verdict, feed_request(&mut cut, &pieces(&mut rng, &bytes)), "{}", bytes.escape_ascii());
        let Ok(Progress::Complete { len }) = verdict else { continue };
        accepted += 1;
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut oracle = httparse::Request::new(&mut slots);
        assert_eq!(oracle.parse(&bytes), Ok(httparse::Status::Complete(len)), "{}", bytes.escape_ascii());
        assert_eq!(oracle.method.map(str::as_bytes), Some(whole.method_text()));
        assert_eq!(oracle.path.map(str::as_bytes), Some(whole.target()));
        let headers = oracle.headers.iter().map(|header| (header.name.as_bytes(), header.value));
        assert!(whole.headers().eq(headers), "{}", bytes.escape_ascii());

        let mut out = Vec::new();
        write_request(&whole, &RequestEdits { framing: whole.framing(), ..Default::default() }, &mut out);
        let again = request(&out).unwrap_or_else(|why| panic!("{why}: {}", out.escape_ascii()));
        assert_eq!((again.framing(), again.host()), (whole.framing(), whole.host()));
    }
    assert!((ROUNDS / 20..ROUNDS * 19 / 20).contains(&accepted), "{accepted} accepted: the mutations are too weak");
}

#[test]
fn mutated_responses_have_one_verdict_in_all_cuts() {
    let mut rng = Rng::new(3);
    let (mut whole, mut cut) = (ResponseHead::new(), ResponseHead::new());
    for _ in 0..ROUNDS {
        let mut bytes = format!("HTTP/1.1 {} Reason\r\n", rng.between(100, 599)).into_bytes();
        push(&mut bytes, &fields(&mut rng, 10));
        bytes.extend(b"Content-Length: 10\r\n\r\n");
        mutate(&mut rng, &mut bytes);
        let method = [Method::Post, Method::Head][rng.below(2) as usize];
        whole.clear();
        cut.clear();
        let verdict = whole.feed(&bytes, method);
        assert_eq!(verdict, feed_response(&mut cut, &pieces(&mut rng, &bytes), method), "{}", bytes.escape_ascii());
        if let Ok(Progress::Complete { .. }) = verdict {
            let mut out = Vec::new();
            write_response(&whole, &ResponseEdits { framing: whole.framing(), ..Default::default() }, &mut out);
            assert_eq!(response(&out, method).unwrap().framing(), whole.framing(), "{}", bytes.escape_ascii());
        }
    }
}

/// Encodes random data in random pieces; returns the data and the encoded bytes.
fn random_body(rng: &mut Rng, framing: fn(u64) -> Framing) -> (Framing, Vec<u8>, Fields, Vec<u8>) {
    let mut data = vec![0; rng.below(2000) as usize];
    data.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
    let framing = framing(data.len() as u64);
    let mut encoder = BodyEncoder::new(framing);
    let mut out = Vec::new();
    let parts = pieces(rng, &data);
    let joined_end = rng.chance(0.5);
    let trailers = if joined_end || framing != Framing::Chunked { Vec::new() } else { fields(rng, 5) };
    for (at, part) in parts.iter().enumerate() {
        let is_last = joined_end && at + 1 == parts.len();
        let wrap = if is_last { encoder.last(part.len()) } else { encoder.data(part.len()) }.unwrap();
        out.extend([wrap.before.as_ref(), part, wrap.after].concat());
    }
    if !joined_end {
        encoder.end(trailers.iter().map(|(name, value)| (&name[..], &value[..])), &mut out).unwrap();
    } else if parts.is_empty() {
        out.extend(encoder.last(0).unwrap().after);
    }
    (framing, data, trailers, out)
}

#[test]
fn bodies_are_returned_unchanged() {
    let mut rng = Rng::new(4);
    for round in 0..ROUNDS {
        let kind = [(|_| Framing::Chunked) as fn(u64) -> Framing, Framing::Length, |_| Framing::UntilClose];
        let (framing, data, trailers, mut out) = random_body(&mut rng, kind[round as usize % 3]);
        let behind = if framing == Framing::UntilClose { 0 } else { rng.below(50) as usize };
        out.resize(out.len() + behind, b'Z');
        assert_eq!(decode(framing, &pieces(&mut rng, &out)), Ok((data, trailers, behind)));
    }
}

#[test]
fn mutated_bodies_have_one_verdict_in_all_cuts() {
    let mut rng = Rng::new(5);
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let (framing, _, _, mut out) = random_body(&mut rng, |_| Framing::Chunked);
        mutate(&mut rng, &mut out);
        let verdict = decode(framing, &[&out]);
        assert_eq!(verdict, decode(framing, &pieces(&mut rng, &out)), "{}", out.escape_ascii());
        refused += u64::from(verdict.is_err());
    }
    assert!(refused > ROUNDS / 4, "{refused} refused: the mutations are too weak");
}

#[test]
fn noise_never_panics() {
    let mut rng = Rng::new(6);
    let (mut request, mut response) = (RequestHead::new(), ResponseHead::new());
    for _ in 0..ROUNDS {
        let noise: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
        request.clear();
        let _ = request.feed(&noise);
        response.clear();
        let _ = response.feed(&noise, Method::Get);
        let _ = decode(Framing::Chunked, &pieces(&mut rng, &noise));
    }
}
