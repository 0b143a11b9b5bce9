//! The server name that a client asks for, and the application protocols that it offers, read from its first message (RFC 8446
//! section 4.1.2, RFC 6066 section 3, RFC 7301 section 3.1).
//!
//! rustls does not expose them on the connections used here. It checks the same bytes completely; this module only finds the
//! two, and treats anything unusual as neither.

use rustls_pki_types::DnsName;

use super::record::{HEADER_LEN, record_len};
use super::steps::extend_by_steps;

const CLIENT_HELLO: u8 = 1;
const HANDSHAKE: u8 = 22;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;
const MESSAGE_HEADER_LEN: usize = 4;

/// The longest first message of a client, in bytes on the wire. Those of browsers are below 2 KiB; with long tickets of
/// other servers, 8 KiB have been seen.
pub const CLIENT_HELLO_LEN_MAX: usize = 16 * 1024;

/// Finds the server name in a connection's first bytes, and keeps the bytes for the handshake.
#[derive(Default)]
pub struct ServerNamePeek {
    received: Vec<u8>,
    scan: HelloScan,
}

/// The result of reading the first bytes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// The first message is not complete yet.
    More,
    /// The server name that the client asks for, in lower case.
    Name(String),
    /// There is no name: the client sent none, or the bytes are not a first message of TLS.
    Nameless,
}

impl ServerNamePeek {
    /// Adds received bytes and reads on.
    pub fn feed(&mut self, bytes: &[u8]) -> Peeked {
        extend_by_steps(&mut self.received, bytes);
        match self.scan.advance(&self.received) {
            Scanned::More if self.received.len() <= CLIENT_HELLO_LEN_MAX => Peeked::More,
            Scanned::Whole => self.scan.name(&self.received).map_or(Peeked::Nameless, Peeked::Name),
            Scanned::More | Scanned::TooLong | Scanned::Other => Peeked::Nameless,
        }
    }

    /// Whether the client offers this application protocol; false until its first message is complete.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.scan.offers(&self.received, protocol)
    }

    /// The number of bytes received.
    #[must_use]
    pub fn received_len(&self) -> usize {
        self.received.len()
    }

    /// All bytes that were received, for the handshake.
    #[must_use]
    pub fn into_received(self) -> Vec<u8> {
        self.received
    }
}

/// Finds the end of a client's first message in consecutive records, without moving them.
#[derive(Default)]
pub(super) struct HelloScan {
    /// The position of the next record.
    at: usize,
    /// The header of the message, as far as it was received.
    header: [u8; MESSAGE_HEADER_LEN],
    /// The bytes of the message so far.
    len: usize,
}

/// What the records so far contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// A part of a first message.
    More,
    /// A complete first message.
    Whole,
    /// A part of a message whose length exceeds [`CLIENT_HELLO_LEN_MAX`].
    TooLong,
    /// Something other than a client's first message.
    Other,
}

impl HelloScan {
    /// Continues over `bytes`, which are all bytes from the first one on.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Scanned {
        loop {
            let rest = &bytes[self.at..];
            if rest.first().is_some_and(|first| *first != HANDSHAKE) {
                return Scanned::Other;
            }
            let len = match record_len(rest) {
                Ok(Some(len)) if len == HEADER_LEN => return Scanned::Other,
                Ok(Some(len)) if len <= rest.len() => len,
                Ok(_) => return Scanned::More,
                Err(_) => return Scanned::Other,
            };
            let part = &rest[HEADER_LEN..len];
            let missing = self.header.iter_mut().skip(self.len);
            missing.zip(part).for_each(|(to, from)| *to = *from);
            self.at += len;
            self.len += part.len();
            let [kind, high, middle, low] = self.header;
            if kind != CLIENT_HELLO {
                return Scanned::Other;
            }
            if self.len >= MESSAGE_HEADER_LEN {
                let wanted = MESSAGE_HEADER_LEN + u32::from_be_bytes([0, high, middle, low]) as usize;
                if wanted > CLIENT_HELLO_LEN_MAX {
                    return Scanned::TooLong;
                }
                if self.len >= wanted {
                    return Scanned::Whole;
                }
            }
        }
    }

    /// The server name in a complete message, in lower case; `None` if the client sent none.
    pub(super) fn name(&self, bytes: &[u8]) -> Option<String> {
        self.with_extension(bytes, SERVER_NAME, |body| host_name(Reader(Reader(body).vector()?)))
    }

    fn offers(&self, bytes: &[u8], protocol: &[u8]) -> bool {
        let offered = self.with_extension(bytes, APPLICATION_PROTOCOLS, |body| {
            let mut offered = Reader(Reader(body).vector()?);
            while offered.short_vector()? != protocol {}
            Some(())
        });
        offered.is_some()
    }

    /// Passes an extension of a complete message to `read`; `None` if the message has no such extension.
    fn with_extension<T>(&self, bytes: &[u8], kind: u16, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut records = &bytes[..self.at];
        if record_len(records) == Ok(Some(records.len())) {
            return read(extension(Reader(&records[HEADER_LEN..]).message()?, kind)?);
        }
        let mut message = Vec::with_capacity(self.len);
        while let Ok(Some(len)) = record_len(records) {
            let (record, rest) = records.split_at_checked(len)?;
            message.extend_from_slice(&record[HEADER_LEN..]);
            records = rest;
        }
        read(extension(Reader(&message).message()?, kind)?)
    }
}

/// The body of an extension of a ClientHello.
fn extension(hello: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?; // version and random
    hello.short_vector()?; // session id
    hello.vector()?; // cipher suites
    hello.short_vector()?; // compression methods
    let mut extensions = Reader(hello.vector()?);
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.number()?, extensions.vector()?);
        if kind == wanted {
            return Some(body);
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

    fn wire(parts: &[&[u8]]) -> Vec<u8> {
        let records = parts.iter().filter(|part| !part.is_empty());
        records.flat_map(|part| [&[HANDSHAKE, 3, 1][..], &vector(part)].concat()).collect()
    }

    fn watch(message: &[u8], split: usize) -> Option<String> {
        let wire = wire(&[&message[..split], &message[split..]]);
        let mut scan = HelloScan::default();
        (scan.advance(&wire) == Scanned::Whole).then(|| scan.name(&wire)).flatten()
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
            let wire = wire(&[&message[..split], &message[split..]]);
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
    fn the_protocols_that_a_client_offers_are_found_and_no_others() {
        let offering = |protocols: &[&str]| {
            let list: Vec<u8> =
                protocols.iter().flat_map(|name| [&[name.len() as u8][..], name.as_bytes()].concat()).collect();
            let mut extensions = vec![0, 43, 0, 1, 9, 0, 16];
            extensions.extend(vector(&vector(&list)));
            let mut body = vec![3; 34];
            body.extend([0, 0, 2, 0x13, 1, 1, 0]);
            body.extend(vector(&extensions));
            let message = [&[CLIENT_HELLO, 0][..], &vector(&body)].concat();
            let mut peek = ServerNamePeek::default();
            assert_eq!(peek.feed(&wire(&[&message[..20], &message[20..]])), Peeked::Nameless);
            ["adit/1", "http/1.1"].map(|protocol| peek.offers(protocol.as_bytes()))
        };
        assert_eq!(offering(&["adit/1"]), [true, false]);
        assert_eq!(offering(&["h2", "http/1.1"]), [false, true]);
        assert_eq!(offering(&["adit/10", "http/1.1", "adit/1"]), [true, true]);
        assert_eq!(offering(&[]), [false; 2]);
        let mut peek = ServerNamePeek::default();
        assert_eq!(peek.feed(&wire(&[&hello("a.example")[..30]])), Peeked::More);
        assert!(!peek.offers(b"adit/1"));
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
        // A message whose length field is too large, and an incomplete header with as many bytes.
        let long = (CLIENT_HELLO_LEN_MAX as u32).to_be_bytes();
        assert_eq!(ServerNamePeek::default().feed(&wire(&[&[1, long[1], long[2], long[3]]])), Peeked::Nameless);
        let longest = (CLIENT_HELLO_LEN_MAX as u32 - 4).to_be_bytes();
        let start = wire(&[&[1, longest[1], longest[2], longest[3]]]);
        let mut peek = ServerNamePeek::default();
        assert_eq!(peek.feed(&start), Peeked::More);
        let part = wire(&[&[0]]);
        let pieces = (0..10_000).find(|_| peek.feed(&part) == Peeked::Nameless);
        assert_eq!(pieces, Some((CLIENT_HELLO_LEN_MAX - start.len()) / part.len()));
        assert!(peek.received.capacity() <= CLIENT_HELLO_LEN_MAX + 4 * 1024);
    }

    #[test]
    fn an_invalid_name_is_none() {
        assert_eq!(watch(&hello("not a name"), 0), None);
        assert_eq!(watch(&hello("10.0.0.1"), 0), None);
        let message = hello("a.example");
        for len in 0..message.len() {
            assert_eq!(watch(&message[..len], 0), None, "cut at {len}");
        }
    }
}
