/// A request method, as far as an intermediary distinguishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET (RFC 9110 section 9.3.1).
    #[default]
    Get,
    /// HEAD, whose response never has a body.
    Head,
    /// POST (RFC 9110 section 9.3.3).
    Post,
    /// DELETE (RFC 9110 section 9.3.5).
    Delete,
    /// OPTIONS (RFC 9110 section 9.3.7).
    Options,
    /// Any other method; it is forwarded.
    Other,
}

impl Method {
    /// Parses a method. Methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// Whether a request that was sent twice has the effect of one (RFC 9110 section 9.2.2). PUT, which MCP does not
    /// use, is not distinguished and does not count.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        match self {
            Method::Get | Method::Head | Method::Delete | Method::Options => true,
            Method::Post | Method::Other => false,
        }
    }
}

/// A supported HTTP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunks, and connections that close unless the client asks to keep them open.
    Http10,
    /// HTTP/1.1 (RFC 9112): chunks, and connections that stay open unless either side says `close`.
    #[default]
    Http11,
}

/// The result of parsing a version.
pub(super) enum VersionText {
    Spoken(Version),
    Foreign,
    Malformed,
}

impl VersionText {
    pub(super) fn of(text: &[u8]) -> VersionText {
        match text {
            b"HTTP/1.1" => VersionText::Spoken(Version::Http11),
            b"HTTP/1.0" => VersionText::Spoken(Version::Http10),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                VersionText::Foreign
            }
            [b'H', b'T', b'T', b'P', b'/', major] if major.is_ascii_digit() => VersionText::Foreign,
            _ => VersionText::Malformed,
        }
    }
}
