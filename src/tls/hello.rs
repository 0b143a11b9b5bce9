//! The name that a client asks for, read from its first message (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! rustls keeps the name to itself on the connections that we use. It checks the same bytes in full; here only the way to
//! the name is walked, and anything odd on it means that there is no name.

use rustls_pki_types::DnsName;

const CLIENT_HELLO: u8 = 1;
const HANDSHAKE: u8 = 22;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The longest first message that is waited for, in bytes as they stand on the wire.
pub const HELLO_LEN_MAX: usize = 64 * 1024;

/// Looks for the name in a connection's first bytes, which stay as they are for whoever makes the handshake.
#[derive(Default)]
pub struct ServerNamePeek {
    watch: HelloWatch,
    /// The record that is not whole yet.
    record: Vec<u8>,
    len: usize,
}

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// Not yet all.
    More,
    /// The name that the client asks for, in lower case.
    Name(String),
    /// That there is no name: none was sent, or the bytes are no first message of TLS.
    Nameless,
}

impl ServerNamePeek {
    /// Takes in what was received next.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Peeked {
        self.len += bytes.len();
        loop {
            let wanted = match super::record::record_len(&self.record) {
                Ok(Some(len)) if self.record.len() == len => {
                    self.watch.record(&std::mem::take(&mut self.record));
                    let other = self.watch.message.first().is_some_and(|kind| *kind != CLIENT_HELLO);
                    if self.watch.done || other {
                        return self.watch.name.take().map_or(Peeked::Nameless, Peeked::Name);
                    }
                    continue;
                }
                Ok(Some(len)) => len,
                Ok(None) => super::record::HEADER_LEN,
                Err(_) => return Peeked::Nameless,
            };
            if self.record.first().is_some_and(|first| *first != HANDSHAKE) || self.len > HELLO_LEN_MAX {
                return Peeked::Nameless;
            }
            if bytes.is_empty() {
                return Peeked::More;
            }
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.record.len()));
            self.record.extend_from_slice(now);
            bytes = later;
        }
    }
}

/// Collects a client's first message out of its records.
#[derive(Default)]
pub(super) struct HelloWatch {
    message: Vec<u8>,
    done: bool,
    name: Option<String>,
}

impl HelloWatch {
    /// Takes in the next record, header included, of the handshake.
    pub(super) fn record(&mut self, record: &[u8]) {
        if self.done || record.first() != Some(&HANDSHAKE) {
            return;
        }
        self.message.extend_from_slice(&record[super::record::HEADER_LEN.min(record.len())..]);
        if let Some(body) = Reader(&self.message).message() {
            self.name = server_name(body);
            self.done = true;
            self.message = Vec::new();
        }
    }

    /// The name, in lower case; none when the client sent none.
    pub(super) fn into_name(self) -> Option<String> {
        self.name
    }
}

fn server_name(hello: &[u8]) -> Option<String> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?; // version and random
    hello.short_vector()?; // session id
    hello.vector()?; // cipher suites
    hello.short_vector()?; // compression methods
    let mut extensions = Reader(hello.vector()?);
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.number()?, extensions.vector()?);
        if kind == SERVER_NAME {
            return host_name(Reader(Reader(body).vector()?));
        }
    }
    None
}

fn host_name(mut names: Reader<'_>) -> Option<String> {
    let kind = names.take(1)?[0];
    let name = std::str::from_utf8(names.vector()?).ok()?;
    let name = DnsName::try_from(name).ok()?;
    (kind == HOST_NAME).then(|| name.as_ref().to_ascii_lowercase())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(usize::from(len))
    }

    fn vector(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::from(len))
    }

    /// The body of a whole ClientHello.
    fn message(&mut self) -> Option<&'a [u8]> {
        let head = self.take(4)?;
        let len = u32::from_be_bytes([0, head[1], head[2], head[3]]);
        if head[0] == CLIENT_HELLO { self.take(len as usize) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: &[u8]) -> Vec<u8> {
        let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
        out.extend_from_slice(bytes);
        out
    }

    fn hello(name: &str) -> Vec<u8> {
        let mut entry = vec![HOST_NAME];
        entry.extend(vector(name.as_bytes()));
        let mut extensions = vec![0, 43, 0, 1, 9, 0, 0];
        extensions.extend(vector(&vector(&entry)));
        let mut body = vec![3; 34];
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(vector(&extensions));
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend(vector(&body));
        message
    }

    fn watch(message: &[u8], split: usize) -> Option<String> {
        let mut watch = HelloWatch::default();
        for part in [&message[..split], &message[split..]] {
            watch.record(&[&[HANDSHAKE, 3, 1][..], &vector(part)].concat());
        }
        watch.into_name()
    }

    #[test]
    fn the_name_is_found_however_the_message_is_cut() {
        let message = hello("Adit.Example.com");
        for split in 0..message.len() {
            assert_eq!(watch(&message, split).as_deref(), Some("adit.example.com"));
        }
    }

    #[test]
    fn a_peek_finds_the_name_however_records_and_pieces_are_cut() {
        let message = hello("adit.example.com");
        for split in 0..=message.len() {
            let parts = [&message[..split], &message[split..]];
            let wire: Vec<u8> =
                parts.iter().flat_map(|part| [&[HANDSHAKE, 3, 1][..], &vector(part)].concat()).collect();
            for cut in 0..=wire.len() {
                let mut peek = ServerNamePeek::default();
                let first = peek.feed(&wire[..cut]);
                let found = if first == Peeked::More { peek.feed(&wire[cut..]) } else { first };
                assert_eq!(found, Peeked::Name("adit.example.com".to_owned()), "{split} {cut}");
            }
        }
        let mut peek = ServerNamePeek::default();
        let record = [&[HANDSHAKE, 3, 1][..], &vector(&message)].concat();
        let (last, before) = record.split_last().unwrap();
        assert!(before.iter().all(|byte| peek.feed(&[*byte]) == Peeked::More));
        assert_eq!(peek.feed(&[*last]), Peeked::Name("adit.example.com".to_owned()));
    }

    #[test]
    fn a_peek_at_something_else_ends_and_keeps_within_its_bound() {
        let mut rng = crate::base::Rng::new(71);
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..rng.below(300)).map(|_| rng.below(256) as u8).collect();
            let peeked = ServerNamePeek::default().feed(&bytes);
            assert!(bytes.first().is_none_or(|first| *first == HANDSHAKE) || peeked == Peeked::Nameless);
        }
        for plain in ["GET / HTTP/1.1\r\n\r\n", "\u{16}GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(ServerNamePeek::default().feed(plain.as_bytes()), Peeked::Nameless);
        }
        // A message that says it is 16 MiB long, in records that are in order.
        let part = [&[HANDSHAKE, 3, 1][..], &vector(&[1, 0xff, 0xff, 0xff].repeat(1_000))].concat();
        let mut peek = ServerNamePeek::default();
        let pieces = (0..100).find(|_| peek.feed(&part) == Peeked::Nameless);
        assert_eq!(pieces, Some(HELLO_LEN_MAX / part.len()));
        assert!(peek.watch.message.len() <= HELLO_LEN_MAX);
    }

    #[test]
    fn what_is_no_name_is_none() {
        assert_eq!(watch(&hello("not a name"), 0), None);
        assert_eq!(watch(&hello("10.0.0.1"), 0), None);
        let message = hello("a.example");
        for len in 0..message.len() {
            assert_eq!(watch(&message[..len], 0), None, "cut at {len}");
        }
    }
}
