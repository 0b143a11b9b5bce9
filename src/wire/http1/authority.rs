use std::net::Ipv6Addr;

/// The longest host name, in bytes (RFC 1035 section 2.3.4, with one for a trailing dot).
const HOST_LEN_MAX: usize = 254;

/// The error for a text that is not a host with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or address with an optional port")]
pub struct AuthorityError;

/// The host and port of a `Host` field, normalised: lower case, no trailing dot, no port `0`.
///
/// It is reused for each request and keeps its capacity.
#[derive(Debug)]
pub(super) struct AuthorityReader {
    host: String,
    port: Option<u16>,
}

impl AuthorityReader {
    pub(super) const EMPTY: AuthorityReader = AuthorityReader { host: String::new(), port: None };

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn clear(&mut self) {
        self.host.clear();
        self.port = None;
    }

    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<(), AuthorityError> {
        self.clear();
        let (host, port) = split(text).ok_or(AuthorityError)?;
        self.port = port;
        self.host.push_str(std::str::from_utf8(host).map_err(|_| AuthorityError)?);
        self.host.make_ascii_lowercase();
        Ok(())
    }

    /// Whether `text` is the same authority. A missing port stands for `default_port`.
    pub(super) fn agrees_with(&self, text: &[u8], default_port: u16) -> bool {
        let own_port = self.port.unwrap_or(default_port);
        split(text).is_some_and(|(host, port)| {
            host.eq_ignore_ascii_case(self.host.as_bytes()) && port.unwrap_or(default_port) == own_port
        })
    }
}

/// Splits an authority into the host, without a trailing dot, and the port.
pub(super) fn split(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port) = match text.first()? {
        b'[' => {
            let end = text.iter().position(|&byte| byte == b']')? + 1;
            let address = std::str::from_utf8(&text[1..end - 1]).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            (&text[..end], &text[end..])
        }
        _ => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            (name(&text[..end])?, &text[end..])
        }
    };
    match port {
        [] | [b':'] => Some((host, None)),
        [b':', digits @ ..] => Some((host, Some(parse_port(digits)?))),
        _ => None,
    }
}

/// A host name without its trailing dot: labels of letters, digits, `-` and `_`.
fn name(text: &[u8]) -> Option<&[u8]> {
    if text.len() > HOST_LEN_MAX {
        return None;
    }
    let name = text.strip_suffix(b".").unwrap_or(text);
    let mut previous = b'.';
    for &byte in name {
        let fits = match byte {
            b'.' => previous != b'.',
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        if !fits {
            return None;
        }
        previous = byte;
    }
    (previous != b'.').then_some(name)
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    let plain = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    let number = digits.iter().fold(0_u32, |sum, digit| sum.wrapping_mul(10).wrapping_add(u32::from(digit & 0xf)));
    u16::try_from(number).ok().filter(|&port| plain && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_normalised() {
        let cases: [(&str, &str, Option<u16>); 7] = [
            ("Example.COM", "example.com", None),
            ("example.com.", "example.com", None),
            ("example.com.:8443", "example.com", Some(8443)),
            ("example.com:", "example.com", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:3000", "[::1]", Some(3000)),
            ("[FE80::A]", "[fe80::a]", None),
        ];
        let mut authority = AuthorityReader::EMPTY;
        for (text, host, port) in cases {
            authority.read(text.as_bytes()).unwrap();
            assert_eq!((authority.host(), authority.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn invalid_authorities_are_refused() {
        let long = "a".repeat(255);
        let bad = [
            "",
            ":80",
            ".",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "a/b",
            "user@a",
            "a:b",
            "a:99999",
            "a:0",
            "a:80:80",
            "a:+80",
            "[::1",
            "::1",
            "[::1]x",
            "[zz]",
            "[]",
            "[::1%eth0]",
            "a\tb",
            "é",
            "a%41",
            &long,
        ];
        for text in bad {
            let mut authority = AuthorityReader::EMPTY;
            assert_eq!(authority.read(text.as_bytes()), Err(AuthorityError), "{text}");
        }
    }
}
