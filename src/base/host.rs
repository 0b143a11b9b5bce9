use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest host, in bytes, without the dot at the end (RFC 1035 section 2.3.4 in text form).
pub const HOST_LEN_MAX: usize = 253;

/// The longest label of a host, in bytes (RFC 1035 section 2.3.4).
const HOST_LABEL_LEN_MAX: usize = 63;

/// Why a text is not a valid host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It looks like an IP address but is not a valid one.
    #[error("a host whose last label is a number must be an IPv4 address, and one in brackets an IPv6 address")]
    BadAddress,
    /// It has a byte that is not allowed in a host.
    #[error("a host is made of letters, digits, '-' and '.'")]
    BadByte,
    /// A label begins or ends with a hyphen.
    #[error("a label of a host must not begin or end with '-'")]
    BadHyphen,
    /// The text after the colon is not a valid port.
    #[error("a port is a number from 0 to 65535")]
    BadPort,
    /// It has a `*` that is not the whole first label.
    #[error("a '*' stands only for the whole first label, as in '*.mcp.example.com'")]
    BadWildcard,
    /// It is empty, or one of its labels is empty.
    #[error("a host, and each of its labels, has at least one character")]
    Empty,
    /// The host or one of its labels is longer than DNS allows.
    #[error("a host is at most 253 characters, each of its labels at most 63")]
    TooLong,
    /// It has characters outside ASCII.
    #[error("write an international host in its ASCII form (xn--…)")]
    NotAscii,
}

/// A host in normal form: lower case, no dot at the end, addresses as their standards print them, IPv6 in brackets.
///
/// The text is stored inline, so that parsing the host of a request does not allocate.
#[derive(Clone, Copy)]
pub struct Hostname {
    bytes: [u8; HOST_LEN_MAX],
    len: u8,
}

impl Hostname {
    /// The host of an authority, `host[:port]`, as it stands in a `Host` header or a target in absolute form (RFC 9110
    /// section 7.2). The port is checked and dropped.
    ///
    /// # Errors
    ///
    /// If the host or the port is malformed.
    pub fn of_authority(authority: &[u8]) -> Result<Hostname, HostError> {
        let text = ascii(authority)?;
        let host_end = if text.starts_with('[') {
            text.find(']').ok_or(HostError::BadAddress)? + 1
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (host, port) = text.split_at(host_end);
        match port.strip_prefix(':') {
            None if port.is_empty() => {}
            Some("") => {}
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok() => {}
            _ => return Err(HostError::BadPort),
        }
        host.parse()
    }

    /// The host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is ever put in")
    }

    /// The part after the first label; `None` if there is only one label or the host is an address.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.as_str().split_once('.').map(|(_, parent)| parent)
    }
}

impl Default for Hostname {
    /// An empty text, which no route has; stands for a host that is not known yet.
    fn default() -> Hostname {
        Hostname { bytes: [0; HOST_LEN_MAX], len: 0 }
    }
}

impl Write for Hostname {
    /// Appends in lower case; fails only if there is no room.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let room = self.bytes.get_mut(start..start + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        room.make_ascii_lowercase();
        self.len += u8::try_from(text.len()).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

impl FromStr for Hostname {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Hostname, HostError> {
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        let mut host = Hostname::default();
        if let Some(inside) = text.strip_prefix('[') {
            let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
            let address = address.ok_or(HostError::BadAddress)?;
            write!(host, "[{address}]").map_err(|fmt::Error| HostError::TooLong)?;
            return Ok(host);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > HOST_LEN_MAX {
            return Err(HostError::TooLong);
        }
        let last = check_labels(text)?;
        if last.iter().all(u8::is_ascii_digit) && text.parse::<Ipv4Addr>().is_err() {
            return Err(HostError::BadAddress);
        }
        host.write_str(text).map_err(|fmt::Error| HostError::TooLong)?;
        Ok(host)
    }
}

impl PartialEq for Hostname {
    fn eq(&self, other: &Hostname) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Hostname {}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The hosts that a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this host name.
    Exact(Hostname),
    /// Any host with exactly one more label than this one: `*.example.com`.
    Wildcard(Hostname),
}

impl HostPattern {
    /// Whether one of the two is the wildcard that covers the other. Calls for the covered host go to the other one,
    /// which is exact.
    #[must_use]
    pub fn overlaps(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Wildcard(parent), HostPattern::Exact(host))
            | (HostPattern::Exact(host), HostPattern::Wildcard(parent)) => host.parent() == Some(parent.as_str()),
            _ => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<HostPattern, HostError> {
        match text.strip_prefix("*.") {
            _ if text.matches('*').count() > 1 => Err(HostError::BadWildcard),
            Some(parent) if parent.starts_with('[') => Err(HostError::BadWildcard),
            Some(parent) => parent.parse().map(HostPattern::Wildcard),
            None if text.contains('*') => Err(HostError::BadWildcard),
            None => text.parse().map(HostPattern::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => write!(f, "{host}"),
            HostPattern::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

fn ascii(bytes: &[u8]) -> Result<&str, HostError> {
    if !bytes.is_ascii() {
        return Err(HostError::NotAscii);
    }
    std::str::from_utf8(bytes).map_err(|_| HostError::NotAscii)
}

/// Checks all labels, and returns the last.
fn check_labels(text: &str) -> Result<&[u8], HostError> {
    // Every call passes here, and almost always with a valid host.
    if let Some(last) = last_of_valid_labels(text.as_bytes()) {
        return Ok(last);
    }
    text.split('.').try_fold(&[][..], |_, label| check_label(label).map(|()| label.as_bytes()))
}

/// The last label, if all are valid.
fn last_of_valid_labels(text: &[u8]) -> Option<&[u8]> {
    let (mut label_start, mut previous) = (0, b'.');
    for (at, &byte) in text.iter().enumerate() {
        let fits = match byte {
            b'.' => !matches!(previous, b'.' | b'-') && at - label_start <= HOST_LABEL_LEN_MAX,
            b'-' => previous != b'.',
            _ => byte.is_ascii_alphanumeric(),
        };
        if !fits {
            return None;
        }
        if byte == b'.' {
            label_start = at + 1;
        }
        previous = byte;
    }
    let last = &text[label_start..];
    (!matches!(previous, b'.' | b'-') && last.len() <= HOST_LABEL_LEN_MAX).then_some(last)
}

fn check_label(label: &str) -> Result<(), HostError> {
    match label.as_bytes() {
        [] => Err(HostError::Empty),
        long if long.len() > HOST_LABEL_LEN_MAX => Err(HostError::TooLong),
        bytes if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') => Err(HostError::BadByte),
        [b'-', ..] | [.., b'-'] => Err(HostError::BadHyphen),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn hosts_are_brought_to_normal_form() {
        let cases = [
            ("MCP.Example.COM", "mcp.example.com"),
            ("mcp.example.com.", "mcp.example.com"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Hostname>().unwrap().as_str(), want);
        }
    }

    #[test]
    fn invalid_hosts_are_refused_with_their_fault() {
        let (label, long) = ("x".repeat(64), ["x".repeat(63).as_str(); 4].join("."));
        let cases = [
            ("", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::Empty),
            (".a", HostError::Empty),
            ("a_b.example", HostError::BadByte),
            ("a b", HostError::BadByte),
            ("a/b", HostError::BadByte),
            ("user@a", HostError::BadByte),
            ("-a.example", HostError::BadHyphen),
            ("a-.example", HostError::BadHyphen),
            ("1.2.3", HostError::BadAddress),
            ("1.2.3.256", HostError::BadAddress),
            ("[::1", HostError::BadAddress),
            ("[1.2.3.4]", HostError::BadAddress),
            ("[fe80::1%25eth0]", HostError::BadAddress),
            ("bücher.example", HostError::NotAscii),
            (&label, HostError::TooLong),
            (&long, HostError::TooLong),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Hostname>(), Err(want), "{text:?}");
        }
        assert!(long[..253].parse::<Hostname>().is_ok());
    }

    #[test]
    fn the_port_of_an_authority_is_checked_and_left_out() {
        for (text, want) in
            [("a:80", "a"), ("a:", "a"), ("A", "a"), ("[::1]:8443", "[::1]"), ("10.0.0.1:1", "10.0.0.1")]
        {
            assert_eq!(Hostname::of_authority(text.as_bytes()).unwrap().as_str(), want);
        }
        for bad in ["a:x", "a:65536", "a:+1", "a:1:2", "[::1]x", "[::1]:x", "a:000001234567"] {
            assert_eq!(Hostname::of_authority(bad.as_bytes()), Err(HostError::BadPort), "{bad}");
        }
        assert_eq!(Hostname::of_authority(b"::1"), Err(HostError::BadPort));
        assert_eq!(Hostname::of_authority(b":80"), Err(HostError::Empty));
        assert_eq!(Hostname::of_authority(b"\xff"), Err(HostError::NotAscii));
    }

    #[test]
    fn a_star_is_the_whole_first_label_or_nothing() {
        assert_eq!("*.a.example".parse(), "A.example".parse().map(HostPattern::Wildcard));
        for bad in ["*", "a.*.b", "*a.b", "a.*", "*.*.b", "**.b", "*.[::1]"] {
            assert_eq!(bad.parse::<HostPattern>(), Err(HostError::BadWildcard), "{bad}");
        }
        assert_eq!("*.0.0.1".parse::<HostPattern>(), Err(HostError::BadAddress));
    }

    #[test]
    fn a_wildcard_covers_hosts_of_one_label_more() {
        for (one, other, want) in [
            ("*.a.test", "x.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "y.x.a.test", false),
            ("*.a.test", "x.b.test", false),
            ("*.a.test", "*.a.test", false),
            ("*.test", "*.a.test", false),
            ("x.a.test", "x.a.test", false),
            ("*.test", "test", false),
        ] {
            let (one, other): (HostPattern, HostPattern) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (want, want), "{one} {other}");
        }
    }

    #[test]
    fn no_bytes_do_harm_and_the_normal_form_is_its_own() {
        let mut rng = Rng::new(21);
        let mut hosts = 0;
        for _ in 0..50_000 {
            let letters = b"aZ09-..:[]*_\xc3\x00xnf";
            let text: Vec<u8> = (0..rng.below(24)).map(|_| letters[rng.below(letters.len() as u64) as usize]).collect();
            let labels = String::from_utf8_lossy(&text);
            let all_valid = labels.split('.').all(|label| check_label(label).is_ok());
            assert_eq!(last_of_valid_labels(labels.as_bytes()).is_some(), all_valid, "{labels:?}");
            if let Ok(host) = Hostname::of_authority(&text) {
                hosts += 1;
                assert_eq!(host.as_str().parse(), Ok(host));
                assert_eq!(Hostname::of_authority(host.as_str().as_bytes()), Ok(host));
            }
        }
        assert!(hosts > 100);
    }
}
