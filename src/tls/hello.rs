//! The name that a client asks for, read from its first message (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! rustls keeps the name to itself on the connections that we use. It checks the same bytes in full; here only the way to
//! the name is walked, and anything odd on it means that there is no name.

use rustls_pki_types::DnsName;

const CLIENT_HELLO: u8 = 1;
const HANDSHAKE: u8 = 22;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

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
    fn what_is_no_name_is_none() {
        assert_eq!(watch(&hello("not a name"), 0), None);
        assert_eq!(watch(&hello("10.0.0.1"), 0), None);
        let message = hello("a.example");
        for len in 0..message.len() {
            assert_eq!(watch(&message[..len], 0), None, "cut at {len}");
        }
    }
}
