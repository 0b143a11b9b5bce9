use super::HeadError;

/// The meaning of a field name for an intermediary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    /// Hop-by-hop, whether or not `Connection` names it.
    HopByHop,
    /// Says where a request came from, or what it asked for before a proxy changed it; trusted only from a proxy.
    Forwarded,
    /// Says which web origin a browser's page calls from. End-to-end.
    Origin,
    /// A URL that refers to the answering server itself, or elsewhere: `Location`, `Content-Location`. End-to-end.
    Reference,
    /// The field `WWW-Authenticate`, which is passed on.
    Challenge,
    /// End-to-end, even if `Connection` names it.
    EndToEnd,
    /// End-to-end unless `Connection` names it.
    Other,
}

/// The fields that are always hop-by-hop.
///
/// RFC 9110 section 7.6.1 lists `Proxy-Connection`, `Keep-Alive`, `TE`, `Transfer-Encoding` and `Upgrade`. The
/// credentials of a proxy are included because the tunnel is a gateway: a proxy's password is not for the private
/// server, and a private server's proxy challenge is not for the agent. `HTTP2-Settings` belongs to an offer of h2c
/// (RFC 7540 section 3.2.1), which is not passed on.
const HOP_BY_HOP: [&str; 7] = [
    "te",
    "keep-alive",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
];

/// The fields for all recipients, which `Connection` must not name (RFC 9110 section 7.6.1). Otherwise a malicious
/// `Connection: authorization` would remove what the server decides by. The `Mcp-…` fields belong to them too.
const END_TO_END: [&str; 14] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "cookie",
    "date",
    "dpop",
    "last-event-id",
    "retry-after",
    "set-cookie",
    "traceparent",
    "vary",
];

/// What proxies say of a request besides `Forwarded` and `X-Forwarded-…`. Some frameworks take the URL of a request from the
/// last four (Symfony, IIS URL Rewrite, ASP.NET), so that from a stranger they would call another path than the one checked.
const FORWARDED: [&str; 5] = ["x-real-ip", "x-original-url", "x-rewrite-url", "x-original-host", "x-host"];

const LONGEST: usize = "proxy-authentication-info".len();

impl Known {
    /// The meaning of `name`. A name that imitates a framing or routing field with underscores is refused, because
    /// servers that convert both `-` and `_` to `_` (WSGI, CGI) would mistake it for that field.
    pub(super) fn of(name: &[u8]) -> Result<Known, HeadError> {
        let mut lower = [0_u8; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else { return Ok(Known::of_long(name)) };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"host" => Ok(Known::Host),
            b"content-length" => Ok(Known::ContentLength),
            b"transfer-encoding" => Ok(Known::TransferEncoding),
            b"connection" => Ok(Known::Connection),
            b"expect" => Ok(Known::Expect),
            b"upgrade" => Ok(Known::Upgrade),
            b"origin" => Ok(Known::Origin),
            b"location" | b"content-location" => Ok(Known::Reference),
            b"www-authenticate" => Ok(Known::Challenge),
            b"content_length" | b"transfer_encoding" => Err(HeadError::DisguisedField),
            plain => Ok(Known::of_lower(plain)),
        }
    }

    fn of_lower(lower: &[u8]) -> Known {
        let one_of = |list: &[&str]| list.iter().any(|name| name.as_bytes() == lower);
        if is_forwarded(lower) {
            Known::Forwarded
        } else if one_of(&HOP_BY_HOP) {
            Known::HopByHop
        } else if lower.starts_with(b"mcp-") || one_of(&END_TO_END) {
            Known::EndToEnd
        } else {
            Known::Other
        }
    }

    fn of_long(name: &[u8]) -> Known {
        if is_forwarded(name) {
            Known::Forwarded
        } else if name[..4].eq_ignore_ascii_case(b"mcp-") {
            Known::EndToEnd
        } else {
            Known::Other
        }
    }

    /// Whether a field with this meaning is forwarded even if `Connection` names it.
    pub(super) fn is_end_to_end(self) -> bool {
        matches!(self, Known::EndToEnd | Known::Origin | Known::Reference | Known::Challenge)
    }

    /// Whether a trailer with this meaning must be refused (RFC 9110 section 6.5.1): framing, routing, credentials, and
    /// the fields that the tunnel itself uses.
    pub(super) fn is_forbidden_in_trailers(self) -> bool {
        !matches!(self, Known::Other)
    }
}

/// `Forwarded`, `X-Forwarded-…` and the others of [`FORWARDED`], also when written with underscores.
fn is_forwarded(name: &[u8]) -> bool {
    let alike = |name: &[u8], with: &[u8]| {
        name.iter().zip(with).all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-'))
    };
    if name.eq_ignore_ascii_case(b"forwarded") {
        return true;
    }
    let [b'x' | b'X', b'-' | b'_', ..] = name else { return false };
    let prefix = b"x-forwarded-";
    (name.len() >= prefix.len() && alike(name, prefix))
        || FORWARDED.iter().any(|known| known.len() == name.len() && alike(name, known.as_bytes()))
}

/// Whether a byte is allowed in a token (RFC 9110 section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 128 {
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric();
        at += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        let cases: [(&str, Known); 19] = [
            ("HOST", Known::Host),
            ("Content-length", Known::ContentLength),
            ("TE", Known::HopByHop),
            ("Proxy-Authentication-Info", Known::HopByHop),
            ("X-Forwarded-For", Known::Forwarded),
            ("X_Forwarded_Proto", Known::Forwarded),
            ("X-Forwarded-Something-Long-Enough-To-Be-Long", Known::Forwarded),
            ("forwarded", Known::Forwarded),
            ("x-real-ip", Known::Forwarded),
            ("X-Original-URL", Known::Forwarded),
            ("X-Rewrite-URL", Known::Forwarded),
            ("x_original_host", Known::Forwarded),
            ("X-HOST", Known::Forwarded),
            ("X-Hosts", Known::Other),
            ("X-Original", Known::Other),
            ("X", Known::Other),
            ("MCP-Protocol-Version", Known::EndToEnd),
            ("Mcp-Param-Something-Long-Enough-To-Be-Long", Known::EndToEnd),
            ("X-Forwarded", Known::Other),
        ];
        for (name, known) in cases {
            assert_eq!(Known::of(name.as_bytes()), Ok(known), "{name}");
        }
        assert_eq!(Known::of(b"Transfer_Encoding"), Err(HeadError::DisguisedField));
    }
}
