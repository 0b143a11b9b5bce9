//! How streams begin on a connection of QUIC: what each one is for, the request of a call, and the answer to it.
//!
//! The connector opens stream 0, which is the control stream and has no preamble. The edge opens all others. Each begins with six
//! bytes that say whether it carries a call or a remote procedure call. A call continues with two bytes of version and a message
//! of Cap'n Proto, in both directions; then its body follows as it is, up to the end of the stream.

use super::capnp_reader::{CapnpError, Message, StructReader, message_len};
use super::capnp_writer::{MessageWriter, StructAt};

/// How a stream with a call begins, and the answer on it.
const CALL_SIGNATURE: [u8; SIGNATURE_LEN] = [0x0a, 0x36, 0xcd, 0x12, 0xa1, 0x3e];
/// How a stream with a remote procedure call begins.
const RPC_SIGNATURE: [u8; SIGNATURE_LEN] = [0x52, 0xbb, 0x82, 0x5c, 0xdb, 0x65];
const SIGNATURE_LEN: usize = 6;
/// The version of the messages of a call. What another side writes here is not looked at.
const VERSION: [u8; 2] = *b"01";
/// Signature and version.
const CALL_PREAMBLE_LEN: usize = SIGNATURE_LEN + VERSION.len();
/// The longest message of a call, in bytes: a head of HTTP of 64 KiB, with what Cap'n Proto adds to each field.
const MESSAGE_LEN_MAX: usize = 256 * 1024;
/// The words of an entry: two pointers.
const ENTRY_WORDS: usize = 2;

/// What a stream is for that the edge has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicStreamKind {
    /// A call. The request is read from the first byte of the stream.
    Call,
    /// One remote procedure call on the connector. Its messages begin after these many bytes.
    Rpc(usize),
}

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuicStreamFault {
    /// It begins with an unknown signature.
    #[error("the stream begins with an unknown signature")]
    Signature,
    /// The message is malformed.
    #[error("the message at the start of the stream is malformed: {0}")]
    Message(#[from] CapnpError),
    /// The request cannot be one of HTTP.
    #[error("the request at the start of the stream is not one of HTTP")]
    Head,
    /// The request asks for a kind of connection that is not known.
    #[error("the request asks for an unknown kind of connection: {0}")]
    Type(u16),
}

/// What a call connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionType {
    /// One request of HTTP.
    Http,
    /// A connection of WebSocket, whose bytes follow as they are.
    WebSocket,
    /// A connection of TCP to any address.
    Tcp,
}

/// The first message of a call, without its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectRequest<'a> {
    /// What the call connects to.
    pub(super) kind: ConnectionType,
    /// Of HTTP the URL, or its path; of TCP an address with its port.
    pub(super) dest: &'a [u8],
}

/// An entry of metadata of a request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metadata<'a> {
    /// The method of a request.
    Method(&'a [u8]),
    /// The host that the client has asked.
    Host(&'a [u8]),
    /// The status of an answer.
    Status(u16),
    /// A field of HTTP: its name and value.
    Field(&'a [u8], &'a [u8]),
    /// Anything else: its key and value.
    Other(&'a [u8], &'a [u8]),
}

const METHOD: &[u8] = b"HttpMethod";
const HOST: &[u8] = b"HttpHost";
const STATUS: &[u8] = b"HttpStatus";
/// In front of the name of a field.
const FIELD: &[u8] = b"HttpHeader:";

/// What a stream is for that begins with these bytes; `None` while too few have arrived.
///
/// # Errors
///
/// If its signature is unknown.
pub fn quic_stream_kind(bytes: &[u8]) -> Result<Option<QuicStreamKind>, QuicStreamFault> {
    for (signature, kind) in
        [(CALL_SIGNATURE, QuicStreamKind::Call), (RPC_SIGNATURE, QuicStreamKind::Rpc(SIGNATURE_LEN))]
    {
        let arrived = bytes.len().min(SIGNATURE_LEN);
        if bytes[..arrived] == signature[..arrived] {
            return Ok((arrived == SIGNATURE_LEN).then_some(kind));
        }
    }
    Err(QuicStreamFault::Signature)
}

/// Reads the request of a call from the first bytes of its stream, and passes its metadata to `each`. Returns it with its length,
/// or `None` while it is incomplete.
///
/// # Errors
///
/// If it is malformed, or longer than the limit.
pub(super) fn read_connect_request<'a>(
    bytes: &'a [u8],
    each: impl FnMut(Metadata<'a>),
) -> Result<Option<(ConnectRequest<'a>, usize)>, QuicStreamFault> {
    let Some(len) = message_end(bytes)? else { return Ok(None) };
    let message = Message::new(&bytes[CALL_PREAMBLE_LEN..len])?;
    let root = message.root()?;
    let kind = match root.u16(0) {
        0 => ConnectionType::Http,
        1 => ConnectionType::WebSocket,
        2 => ConnectionType::Tcp,
        other => return Err(QuicStreamFault::Type(other)),
    };
    let dest = root.text_bytes(0)?;
    read_metadata(&root, each)?;
    Ok(Some((ConnectRequest { kind, dest }, len)))
}

#[cfg(test)]
/// Reads the answer to a call from the first bytes of its stream, and passes its metadata to `each`. Returns the connector's error,
/// which is empty if there is none, with the length of the message; or `None` while it is incomplete.
///
/// # Errors
///
/// If it is malformed, or longer than the limit.
pub(super) fn read_connect_response<'a>(
    bytes: &'a [u8],
    each: impl FnMut(Metadata<'a>),
) -> Result<Option<(&'a [u8], usize)>, QuicStreamFault> {
    let Some(len) = message_end(bytes)? else { return Ok(None) };
    let message = Message::new(&bytes[CALL_PREAMBLE_LEN..len])?;
    let root = message.root()?;
    let error = root.text_bytes(0)?;
    read_metadata(&root, each)?;
    Ok(Some((error, len)))
}

#[cfg(test)]
/// Writes the request of a call after `out`, with the preamble of the stream. The stock connector loses a stream whose preamble
/// arrives in two pieces, so it has to be sent in one.
pub(super) fn write_connect_request(out: &mut Vec<u8>, request: &ConnectRequest<'_>, metadata: &[Metadata<'_>]) {
    let (mut writer, root) = MessageWriter::after(preamble(out), 1, 2);
    writer.u16(root, 0, request.kind as u16);
    writer.text_of(root, 0, &[request.dest]);
    write_metadata(&mut writer, root, metadata);
    *out = writer.finish();
}

/// Writes the answer to a call after `out`, with the preamble of the stream. `error` is empty if the server has answered; otherwise
/// there is no status.
pub(super) fn write_connect_response(out: &mut Vec<u8>, error: &str, metadata: &[Metadata<'_>]) {
    let (mut writer, root) = MessageWriter::after(preamble(out), 0, 2);
    writer.text(root, 0, error);
    write_metadata(&mut writer, root, metadata);
    *out = writer.finish();
}

#[cfg(test)]
/// Writes the start of a stream with a remote procedure call.
pub(super) fn write_rpc_preamble(out: &mut Vec<u8>) {
    out.extend_from_slice(&RPC_SIGNATURE);
}

/// Takes the buffer, and adds the preamble of a call to it.
fn preamble(out: &mut Vec<u8>) -> Vec<u8> {
    let mut bytes = std::mem::take(out);
    bytes.extend_from_slice(&CALL_SIGNATURE);
    bytes.extend_from_slice(&VERSION);
    bytes
}

/// Where the message at the start of a call ends; `None` while it is incomplete.
fn message_end(bytes: &[u8]) -> Result<Option<usize>, QuicStreamFault> {
    match quic_stream_kind(bytes)? {
        None => return Ok(None),
        Some(QuicStreamKind::Call) => {}
        Some(QuicStreamKind::Rpc(_)) => return Err(QuicStreamFault::Signature),
    }
    let message = bytes.get(CALL_PREAMBLE_LEN..).unwrap_or_default();
    let len = message_len(message, MESSAGE_LEN_MAX)?.filter(|len| *len <= message.len());
    Ok(len.map(|len| CALL_PREAMBLE_LEN + len))
}

/// Both messages have their metadata in the second pointer.
fn read_metadata<'a>(root: &StructReader<'_, 'a>, mut each: impl FnMut(Metadata<'a>)) -> Result<(), CapnpError> {
    let list = root.structures(1)?;
    let mut nth = 0;
    while let Some(entry) = list.get(nth)? {
        each(Metadata::of(entry.text_bytes(0)?, entry.text_bytes(1)?));
        nth += 1;
    }
    Ok(())
}

fn write_metadata(writer: &mut MessageWriter, root: StructAt, metadata: &[Metadata<'_>]) {
    let mut entry = writer.structures(root, 1, metadata.len() as u32, 0, ENTRY_WORDS as u16);
    for of in metadata {
        of.write(writer, entry);
        entry = entry.next(ENTRY_WORDS);
    }
}

impl<'a> Metadata<'a> {
    fn of(key: &'a [u8], value: &'a [u8]) -> Metadata<'a> {
        let status = || std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        match key {
            METHOD => Metadata::Method(value),
            HOST => Metadata::Host(value),
            STATUS => status().map_or(Metadata::Other(key, value), Metadata::Status),
            _ => match key.strip_prefix(FIELD) {
                Some(name) => Metadata::Field(name, value),
                None => Metadata::Other(key, value),
            },
        }
    }

    fn write(&self, writer: &mut MessageWriter, entry: StructAt) {
        let digits;
        let (key, value): ([&[u8]; 2], &[u8]) = match *self {
            Metadata::Method(value) => ([METHOD, b""], value),
            Metadata::Host(value) => ([HOST, b""], value),
            Metadata::Status(status) => {
                digits = [status / 100, status / 10, status].map(|digit| b'0' + (digit % 10) as u8);
                ([STATUS, b""], &digits)
            }
            Metadata::Field(name, value) => ([FIELD, name], value),
            Metadata::Other(key, value) => ([key, b""], value),
        };
        writer.text_of(entry, 0, &key);
        writer.text_of(entry, 1, &[value]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{CALL_ANSWERED, CALL_BEGINS, framed};
    use super::*;
    use crate::base::Rng;

    const REQUEST: ConnectRequest<'_> =
        ConnectRequest { kind: ConnectionType::Http, dest: b"http://mcp.example.com/post" };
    const REQUEST_METADATA: [Metadata<'_>; 6] = [
        Metadata::Method(b"POST"),
        Metadata::Host(b"mcp.example.com"),
        Metadata::Field(b"Content-Type", b"application/json"),
        Metadata::Field(b"Accept", b"application/json, text/event-stream"),
        Metadata::Field(b"Content-Length", b"40"),
        Metadata::Field(b"Content-Length", b"40"),
    ];
    const ANSWER_METADATA: [Metadata<'_>; 4] = [
        Metadata::Status(200),
        Metadata::Field(b"Content-Type", b"application/json"),
        Metadata::Field(b"Date", b"Fri, 20 Nov 2026 11:05:04 GMT"),
        Metadata::Field(b"Content-Length", b"8"),
    ];

    /// What was read, the length of its message, and the metadata; `None` if it is incomplete.
    type Read<'a, T> = Result<Option<(T, usize, Vec<Metadata<'a>>)>, QuicStreamFault>;

    fn request_of(bytes: &[u8]) -> Read<'_, ConnectRequest<'_>> {
        let mut metadata = Vec::new();
        let read = read_connect_request(bytes, |of| metadata.push(of))?;
        Ok(read.map(|(request, len)| (request, len, metadata)))
    }

    fn answer_of(bytes: &[u8]) -> Read<'_, &[u8]> {
        let mut metadata = Vec::new();
        let read = read_connect_response(bytes, |of| metadata.push(of))?;
        Ok(read.map(|(error, len)| (error, len, metadata)))
    }

    #[test]
    fn calls_and_answers_are_written_as_the_stock_programs_write_them() {
        let mut out = Vec::new();
        write_connect_request(&mut out, &REQUEST, &REQUEST_METADATA);
        assert_eq!(out, framed(CALL_BEGINS));
        out.clear();
        write_connect_response(&mut out, "", &ANSWER_METADATA);
        assert_eq!(out, framed(CALL_ANSWERED));
        write_rpc_preamble(&mut out);
        assert_eq!(out[out.len() - 6..], [0x52, 0xbb, 0x82, 0x5c, 0xdb, 0x65]);
    }

    #[test]
    fn what_the_stock_programs_write_is_read_and_the_body_left() {
        for body in [&b""[..], b"{\"n\":40}"] {
            let bytes = [&framed(CALL_BEGINS), body].concat();
            let len = bytes.len() - body.len();
            assert_eq!(request_of(&bytes), Ok(Some((REQUEST, len, REQUEST_METADATA.to_vec()))));
            let bytes = [&framed(CALL_ANSWERED), body].concat();
            let len = bytes.len() - body.len();
            assert_eq!(answer_of(&bytes), Ok(Some((&b""[..], len, ANSWER_METADATA.to_vec()))));
        }
    }

    #[test]
    fn a_message_may_arrive_in_any_pieces() {
        let (request, answer) = (framed(CALL_BEGINS), framed(CALL_ANSWERED));
        for cut in 0..request.len() {
            assert_eq!(request_of(&request[..cut]), Ok(None), "{cut}");
        }
        for cut in 0..answer.len() {
            assert_eq!(answer_of(&answer[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_stream_says_what_it_is_for() {
        let rpc = RPC_SIGNATURE;
        assert_eq!(quic_stream_kind(b""), Ok(None));
        assert_eq!(quic_stream_kind(&rpc[..5]), Ok(None));
        assert_eq!(quic_stream_kind(&rpc), Ok(Some(QuicStreamKind::Rpc(6))));
        assert_eq!(quic_stream_kind(&framed(CALL_BEGINS)), Ok(Some(QuicStreamKind::Call)));
        for unknown in [&b"GET / "[..], b"\x0a\x35", b"\x52\xbb\x82\x5c\xdb\x66"] {
            assert_eq!(quic_stream_kind(unknown), Err(QuicStreamFault::Signature));
            assert_eq!(request_of(unknown), Err(QuicStreamFault::Signature));
        }
        assert_eq!(request_of(&rpc), Err(QuicStreamFault::Signature));
        // The version may be any.
        let mut other = framed(CALL_BEGINS);
        other[6..8].copy_from_slice(b"zz");
        assert!(matches!(request_of(&other), Ok(Some(_))));
    }

    #[test]
    fn messages_out_of_the_ordinary_are_refused_or_kept() {
        let mut out = Vec::new();
        write_connect_response(&mut out, "no server", &[]);
        assert_eq!(answer_of(&out), Ok(Some((&b"no server"[..], out.len(), vec![]))));
        // Values need not be UTF-8, and may be empty; a status has to be a number.
        let odd = [
            Metadata::Field(b"X-Odd", b"\xff\xfe"),
            Metadata::Field(b"X-Empty", b""),
            Metadata::Other(b"HttpStatus", b"OK"),
            Metadata::Other(b"FlowID", b"1"),
        ];
        let mut out = Vec::new();
        write_connect_request(&mut out, &ConnectRequest { kind: ConnectionType::Tcp, dest: b"10.0.0.1:22" }, &odd);
        let (request, _, metadata) = request_of(&out).unwrap().unwrap();
        assert_eq!((request.kind, request.dest, metadata), (ConnectionType::Tcp, &b"10.0.0.1:22"[..], odd.to_vec()));
        // The kind is the first word after the header and the root.
        out[CALL_PREAMBLE_LEN + 16] = 3;
        assert_eq!(request_of(&out), Err(QuicStreamFault::Type(3)));
        let long = [&CALL_SIGNATURE[..], &VERSION, &[0; 4], &(MESSAGE_LEN_MAX as u32).to_le_bytes()].concat();
        assert_eq!(request_of(&long), Err(CapnpError::Long(8 + 8 * MESSAGE_LEN_MAX).into()));
    }

    #[test]
    fn any_metadata_is_read_as_it_was_written() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let mut bytes =
                |len_max: u64| -> Vec<u8> { (0..rng.between(0, len_max)).map(|_| rng.between(1, 255) as u8).collect() };
            let dest = bytes(40);
            let fields: Vec<_> = (0..dest.len() % 9).map(|_| (bytes(20), bytes(60))).collect();
            let metadata: Vec<_> = fields.iter().map(|(name, value)| Metadata::Field(name, value)).collect();
            let request = ConnectRequest { kind: ConnectionType::WebSocket, dest: &dest };
            let mut out = Vec::new();
            write_connect_request(&mut out, &request, &metadata);
            assert_eq!(request_of(&out), Ok(Some((request, out.len(), metadata))), "{seed}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_with_a_fault() {
        for seed in 0..2_000 {
            let mut rng = Rng::new(seed);
            let mut bytes = framed(if seed % 2 == 0 { CALL_BEGINS } else { CALL_ANSWERED });
            for _ in 0..rng.between(1, 8) {
                let at = rng.between(8, bytes.len() as u64 - 1) as usize;
                bytes[at] = rng.between(0, 255) as u8;
            }
            bytes.truncate(rng.between(0, bytes.len() as u64 * 2) as usize);
            let _ = (request_of(&bytes), answer_of(&bytes));
        }
    }
}
