//! The PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt section 2.2): the header in which a proxy describes
//! the connection that it forwards.
//!
//! Version 1, the text format, is not supported, because its end must be searched for in untrusted bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is accepted, in bytes. Proxies add certificates and ids in their own fields, which are
/// ignored.
pub const PROXY_HEADER_LEN_MAX: usize = 4_096;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const PREFIX_LEN: usize = 16;
const VERSION: u8 = 2;

/// The content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The length of the header in bytes.
    pub len: usize,
    /// The address of the client; `None` if the proxy connects on its own behalf, as for a health check.
    pub source: Option<SocketAddr>,
    /// Whether the client's connection to the proxy is TLS, if stated.
    pub is_tls: Option<bool>,
}

/// Why bytes are not a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The first bytes are not the signature of PROXY protocol version 2.
    #[error("no PROXY header of version 2: let the proxy send one, or remove it from the list of proxies")]
    NotProxy,
    /// An unsupported version or an unknown command.
    #[error("a PROXY header with an unknown version or command ({0:#04x})")]
    Version(u8),
    /// Datagrams, or an unknown family.
    #[error("a PROXY header for a connection that is not TCP ({0:#04x})")]
    Family(u8),
    /// The header is longer than [`PROXY_HEADER_LEN_MAX`].
    #[error("a PROXY header of {0} bytes, the most is {PROXY_HEADER_LEN_MAX}")]
    TooLong(usize),
    /// The header is too short for its addresses.
    #[error("a PROXY header that is too short for its addresses")]
    Short,
}

impl ProxyHeader {
    /// Parses a header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// If it is not a valid header, as soon as that is certain.
    pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
        let signed = bytes.len().min(SIGNATURE.len());
        if bytes[..signed] != SIGNATURE[..signed] {
            return Err(ProxyHeaderError::NotProxy);
        }
        let [version_command, family] = match bytes.get(SIGNATURE.len()..) {
            Some([version, family, ..]) => [*version, *family],
            Some([version]) => [*version, 0],
            _ => return Ok(None),
        };
        let is_local = match (version_command >> 4, version_command & 0xf) {
            (VERSION, 0) => true,
            (VERSION, 1) => false,
            _ => return Err(ProxyHeaderError::Version(version_command)),
        };
        let Some(&[high, low]) = bytes.get(PREFIX_LEN - 2..PREFIX_LEN) else { return Ok(None) };
        let len = PREFIX_LEN + usize::from(u16::from_be_bytes([high, low]));
        if len > PROXY_HEADER_LEN_MAX {
            return Err(ProxyHeaderError::TooLong(len));
        }
        let Some(fields) = bytes.get(PREFIX_LEN..len) else { return Ok(None) };
        if is_local {
            return Ok(Some(ProxyHeader { len, source: None, is_tls: None }));
        }
        Ok(Some(ProxyHeader { len, source: source(family, fields)?, is_tls: is_tls(family, fields) }))
    }
}

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// The value of the field `PP2_TYPE_SSL`, which follows the addresses. A truncated field ends the search.
fn is_tls(family: u8, fields: &[u8]) -> Option<bool> {
    const TYPE_SSL: u8 = 0x20;
    const CLIENT_SSL: u8 = 0x01;
    let addresses_len = match family {
        TCP4 => 12,
        TCP6 => 36,
        _ => return None,
    };
    let mut rest = fields.get(addresses_len..)?;
    while let [kind, high, low, after @ ..] = rest {
        let value = after.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == TYPE_SSL {
            return value.first().map(|client| client & CLIENT_SSL != 0);
        }
        rest = &after[value.len()..];
    }
    None
}

/// The source address. A Unix socket or an unspecified family counts as a connection of the proxy itself.
fn source(family: u8, fields: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    match family {
        UNSPECIFIED | UNIX => Ok(None),
        TCP4 => {
            let (address, rest) = fields.split_first_chunk::<4>().ok_or(ProxyHeaderError::Short)?;
            port_after::<4>(IpAddr::V4(Ipv4Addr::from(*address)), rest).map(Some)
        }
        TCP6 => {
            let (address, rest) = fields.split_first_chunk::<16>().ok_or(ProxyHeaderError::Short)?;
            port_after::<16>(IpAddr::V6(Ipv6Addr::from(*address)), rest).map(Some)
        }
        other => Err(ProxyHeaderError::Family(other)),
    }
}

/// The source port, which follows the destination address.
fn port_after<const ADDRESS_LEN: usize>(address: IpAddr, rest: &[u8]) -> Result<SocketAddr, ProxyHeaderError> {
    let ports = rest.get(ADDRESS_LEN..ADDRESS_LEN + 4).ok_or(ProxyHeaderError::Short)?;
    Ok(SocketAddr::new(address.to_canonical(), u16::from_be_bytes([ports[0], ports[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn header(command: u8, family: u8, fields: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(fields.len()).unwrap().to_be_bytes());
        bytes.extend(fields);
        bytes
    }

    fn tcp4() -> Vec<u8> {
        header(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0xc0, 0x01, 0x01, 0xbb])
    }

    fn tcp6() -> Vec<u8> {
        let mut fields = [0; 36 + 6];
        fields[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        fields[15] = 9;
        fields[32..36].copy_from_slice(&[0x12, 0x34, 0x01, 0xbb]);
        // A field of the proxy itself, after the addresses.
        fields[36..].copy_from_slice(&[0x04, 0, 3, 1, 2, 3]);
        header(0x21, 0x21, &fields)
    }

    #[test]
    fn headers_are_parsed_at_every_split_with_any_following_bytes() {
        let cases = [
            (tcp4(), Some("192.0.2.7:49153")),
            (tcp6(), Some("[2001:db8::9]:4660")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &[1; 12]), None),
            (header(0x21, 0x00, &[1; 3]), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, source) in cases {
            let want =
                ProxyHeader { len: bytes.len(), source: source.map(|source| source.parse().unwrap()), is_tls: None };
            for end in 0..bytes.len() {
                assert_eq!(ProxyHeader::parse(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
            for rest in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", &SIGNATURE] {
                assert_eq!(ProxyHeader::parse(&[&bytes[..], rest].concat()), Ok(Some(want)));
            }
        }
    }

    #[test]
    fn the_header_shows_whether_the_clients_connection_is_tls() {
        let with = |fields: &[u8]| {
            let mut content = tcp4()[PREFIX_LEN..].to_vec();
            content.extend(fields);
            ProxyHeader::parse(&header(0x21, 0x11, &content)).unwrap().unwrap().is_tls
        };
        let other = [0x04, 0, 2, 9, 9];
        let tls = [0x20, 0, 8, 0x01, 0, 0, 0, 0, 0x21, 0, 0];
        let plain = [0x20, 0, 5, 0x06, 0, 0, 0, 0];
        assert_eq!((with(&[]), with(&other)), (None, None));
        assert_eq!((with(&tls), with(&plain)), (Some(true), Some(false)));
        assert_eq!((with(&[&other[..], &tls].concat()), with(&[&tls[..], &other].concat())), (Some(true), Some(true)));
        for cut in [&[0x20][..], &[0x20, 0], &[0x20, 0, 1], &[0x20, 0, 0], &[0x04, 0, 9, 0x20, 0, 1, 1]] {
            assert_eq!(with(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn invalid_headers_are_refused_as_soon_as_possible() {
        let mut mapped = tcp6();
        mapped[16..32].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
        assert_eq!(ProxyHeader::parse(&mapped).unwrap().unwrap().source.unwrap().ip().to_string(), "192.0.2.1");
        let cases = [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), ProxyHeaderError::NotProxy),
            (b"\x16".to_vec(), ProxyHeaderError::NotProxy),
            (header(0x11, 0x11, &[0; 12]), ProxyHeaderError::Version(0x11)),
            (header(0x22, 0x11, &[0; 12]), ProxyHeaderError::Version(0x22)),
            (header(0x31, 0x11, &[0; 12])[..13].to_vec(), ProxyHeaderError::Version(0x31)),
            (header(0x21, 0x12, &[0; 12]), ProxyHeaderError::Family(0x12)),
            (header(0x21, 0x11, &[0; 11]), ProxyHeaderError::Short),
            (header(0x21, 0x21, &[0; 35]), ProxyHeaderError::Short),
            (header(0x21, 0x11, &[0; 4_081])[..16].to_vec(), ProxyHeaderError::TooLong(4_097)),
        ];
        for (bytes, error) in cases {
            assert_eq!(ProxyHeader::parse(&bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_do_harm() {
        let mut rng = Rng::new(12);
        for _ in 0..50_000 {
            let mut bytes = if rng.chance(0.5) { tcp4() } else { tcp6() };
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            if let Ok(Some(header)) = ProxyHeader::parse(&bytes) {
                assert!(header.len <= bytes.len());
            }
        }
    }
}
