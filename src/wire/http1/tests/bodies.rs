use super::*;

const GOOD: &[(&str, &[u8], &[u8], usize)] = &[
    ("empty", b"0\r\n\r\n", b"", 0),
    ("one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
    ("two chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", 0),
    ("hexadecimal in both cases", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", 0),
    ("zeros before", b"0005\r\nhello\r\n000\r\n\r\n", b"hello", 0),
    ("extension", b"5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n", b"hello", 0),
    ("line ends in data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", 0),
    ("next request behind", b"1\r\nx\r\n0\r\n\r\nGET", b"x", 3),
];

const BAD: &[(&str, &[u8], BodyError)] = &[
    ("no size", b"\r\nhello\r\n", BodyError::BadChunkSize),
    ("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", BodyError::BadChunkSize),
    ("size with plus", b"+5\r\nhello\r\n0\r\n\r\n", BodyError::BadChunkSize),
    ("size with minus", b"-5\r\n", BodyError::BadChunkSize),
    ("size with underscore", b"1_0\r\n", BodyError::BadChunkSize),
    ("space before the size", b" 5\r\nhello\r\n", BodyError::BadChunkSize),
    ("space after the size", b"5 \r\nhello\r\n", BodyError::BadChunkSize),
    ("size of 17 digits", b"00000000000000005\r\nhello\r\n", BodyError::BadChunkSize),
    ("size that overflows", b"10000000000000005\r\nhello\r\n", BodyError::BadChunkSize),
    ("extension without size", b";a\r\n", BodyError::BadChunkSize),
    ("bare LF after the size", b"5\nhello\r\n0\r\n\r\n", BodyError::BadLineEnd),
    ("bare CR after the size", b"5\rhello\r\n0\r\n\r\n", BodyError::BadLineEnd),
    ("bare LF in an extension (TERM.EXT)", b"5;\nhello\r\n0\r\n\r\n", BodyError::BadLineEnd),
    ("bare CR in an extension", b"5;a\rb\r\nhello\r\n", BodyError::BadLineEnd),
    ("NUL in an extension", b"5;a\0\r\nhello\r\n", BodyError::BadExtension),
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n", BodyError::ChunkOverrun),
    ("bare LF after data (TERM.SPILL)", b"5\r\nhello\n0\r\n\r\n", BodyError::ChunkOverrun),
    ("two bytes of spill after data", b"5\r\nhelloXX0\r\n\r\n", BodyError::ChunkOverrun),
    ("bare CR after data", b"5\r\nhello\r0\r\n\r\n", BodyError::BadLineEnd),
    ("bare LF ends the trailers", b"0\r\n\n", BodyError::BadTrailers(HeadError::BareLf)),
    ("folded trailer", b"0\r\nX: a\r\n b\r\n\r\n", BodyError::BadTrailers(HeadError::ObsFold)),
    (
        "request in place of trailers",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
        BodyError::BadTrailers(HeadError::SpaceBeforeColon),
    ),
    ("length as trailer", b"0\r\nContent-Length: 5\r\n\r\n", BodyError::ForbiddenTrailer),
    ("encoding as trailer", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", BodyError::ForbiddenTrailer),
    ("host as trailer", b"0\r\nHost: a\r\n\r\n", BodyError::ForbiddenTrailer),
    ("credentials as trailer", b"0\r\nAuthorization: x\r\n\r\n", BodyError::ForbiddenTrailer),
    ("tool name as trailer", b"0\r\nMcp-Name: x\r\n\r\n", BodyError::ForbiddenTrailer),
    ("ends in the size", b"5", BodyError::Truncated),
    ("ends in the data", b"5\r\nhell", BodyError::Truncated),
    ("ends before the last chunk", b"5\r\nhello\r\n", BodyError::Truncated),
    ("ends before the empty line", b"0\r\n", BodyError::Truncated),
    ("ends in the trailers", b"0\r\nX: y\r\n", BodyError::Truncated),
    ("nothing at all", b"", BodyError::Truncated),
];

#[test]
fn chunks_are_decoded_in_every_cut() {
    for (name, bytes, data, rest) in GOOD {
        for pieces in cuts(bytes) {
            let decoded = decode(Framing::Chunked, &pieces);
            assert_eq!(decoded, Ok((data.to_vec(), Vec::new(), *rest)), "{name}, cut at {}", pieces[0].len());
        }
    }
}

#[test]
fn broken_chunks_are_refused_in_every_cut() {
    for (name, bytes, why) in BAD {
        for pieces in cuts(bytes) {
            let cut = pieces.first().map_or(0, |piece| piece.len());
            assert_eq!(decode(Framing::Chunked, &pieces), Err(*why), "{name}, cut at {cut}");
        }
        assert!(why.to_string().contains(':'), "{name}");
    }
}

#[test]
fn trailers_are_kept_in_order() {
    let bytes = b"1\r\nx\r\n0\r\nDigest: a\r\nServer-Timing: b \r\nDigest: c\r\n\r\nrest";
    for pieces in cuts(bytes) {
        let (data, trailers, rest) = decode(Framing::Chunked, &pieces).unwrap();
        let expected: [(&[u8], &[u8]); 3] = [(b"Digest", b"a"), (b"Server-Timing", b"b"), (b"Digest", b"c")];
        assert_eq!((data, rest), (b"x".to_vec(), 4));
        assert!(trailers.iter().map(|(name, value)| (&name[..], &value[..])).eq(expected));
    }
}

#[test]
fn a_length_and_an_open_end_are_decoded_in_every_cut() {
    for pieces in cuts(b"hello, next") {
        assert_eq!(decode(Framing::Length(5), &pieces), Ok((b"hello".to_vec(), Vec::new(), 6)));
        assert_eq!(decode(Framing::Length(0), &pieces), Ok((Vec::new(), Vec::new(), 11)));
        assert_eq!(decode(Framing::None, &pieces), Ok((Vec::new(), Vec::new(), 11)));
        assert_eq!(decode(Framing::UntilClose, &pieces), Ok((b"hello, next".to_vec(), Vec::new(), 0)));
        assert_eq!(decode(Framing::Length(12), &pieces), Err(BodyError::Truncated));
    }
}

#[test]
fn framing_overhead_is_bounded() {
    let extension = |len: usize| [b"1;", &vec![b'e'; len - 1][..], b"\r\nx\r\n"].concat();
    let body = |chunks: &[u8]| decode(Framing::Chunked, &[chunks, b"0\r\n\r\n"]);
    assert!(body(&extension(CHUNK_EXTENSION_LEN_MAX)).is_ok());
    assert_eq!(body(&extension(CHUNK_EXTENSION_LEN_MAX + 1)), Err(BodyError::ExtensionTooLong));
    let whole = CHUNK_EXTENSIONS_LEN_MAX / 128;
    assert!(body(&extension(128).repeat(whole)).is_ok());
    assert_eq!(body(&extension(128).repeat(whole + 1)), Err(BodyError::ExtensionTooLong));

    let trailers = |count: usize| decode(Framing::Chunked, &[b"0\r\n", &b"X: y\r\n".repeat(count), b"\r\n"]);
    assert!(trailers(TRAILERS_MAX).is_ok());
    assert_eq!(trailers(TRAILERS_MAX + 1), Err(BodyError::BadTrailers(HeadError::TooManyFields)));
    let long = [b"0\r\nX: ", &vec![b'y'; TRAILERS_LEN_MAX][..]].concat();
    assert_eq!(decode(Framing::Chunked, &[&long]), Err(BodyError::BadTrailers(HeadError::TooLong)));
}

#[test]
fn data_is_moved_and_not_copied() {
    let mut input = b"whole chunk of data".to_vec();
    let place = input.as_ptr();
    let mut decoder = BodyDecoder::new(Framing::Length(100));
    let Ok(Decoded::Data(data)) = decoder.next(&mut input) else { panic!("there is data") };
    assert_eq!(data.as_ptr(), place);
}

#[test]
fn last_data_and_end_are_seen_in_one_input() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut input = b"2\r\nhi\r\n0\r\n\r\n".to_vec();
    assert_eq!(decoder.next(&mut input), Ok(Decoded::Data(b"hi".to_vec())));
    assert_eq!(decoder.next(&mut input), Ok(Decoded::End));
    assert!(decoder.is_done() && !decoder.has_trailers());
    decoder.restart(Framing::Length(2));
    let mut input = b"hi".to_vec();
    assert_eq!(decoder.next(&mut input), Ok(Decoded::Data(b"hi".to_vec())));
    assert!(decoder.is_done());
}

#[test]
fn a_refused_body_stays_refused() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.next(&mut b"x".to_vec()), Err(BodyError::BadChunkSize));
    assert_eq!(decoder.next(&mut b"0\r\n\r\n".to_vec()), Err(BodyError::BadChunkSize));
    assert_eq!(decoder.finish(), Err(BodyError::BadChunkSize));
}
