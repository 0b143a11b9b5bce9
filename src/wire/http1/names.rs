use super::HeadError;
use crate::wire::scan::has_byte;

/// The meaning of a field name for an intermediary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    /// Hop-by-hop, except that `trailers` in it is repeated to the next hop.
    Te,
    /// Hop-by-hop, whether or not `Connection` names it.
    HopByHop,
    /// The origin of a request, or its target before a proxy changed it; trusted only from a proxy.
    Forwarded,
    /// The web origin of a browser's page. End-to-end.
    Origin,
    /// A URL that refers to the answering server itself, or elsewhere: `Location`, `Content-Location`. End-to-end.
    Reference,
    /// The field `WWW-Authenticate`. End-to-end.
    Challenge,
    /// The caller's time limit. For a proxy it is an ordinary field.
    CallerTimeout,
    /// The identity of the caller that an edge forwards to a connector. It is never copied from a request.
    EdgeIdentity,
    /// End-to-end, even if `Connection` names it.
    EndToEnd,
    /// End-to-end unless `Connection` names it.
    Other,
}

/// The names with a meaning, and a few frequent names without one.
///
/// Always hop-by-hop: RFC 9110 section 7.6.1 lists `Proxy-Connection`, `Keep-Alive`, `TE`, `Transfer-Encoding` and
/// `Upgrade`. The credentials of a proxy are included because adit is a gateway: a proxy's password must not reach the
/// private server, nor a private server's proxy challenge the agent. `HTTP2-Settings` belongs to an offer of h2c (RFC
/// 7540 section 3.2.1), which is not forwarded.
///
/// End-to-end: the fields for all recipients, which `Connection` must not name (RFC 9110 section 7.6.1). Otherwise a
/// malicious `Connection: authorization` would remove the server's basis for its decisions. All `Mcp-…` fields are
/// end-to-end too.
const NAMES: [(&str, Known); 42] = [
    ("host", Known::Host),
    ("content-length", Known::ContentLength),
    ("transfer-encoding", Known::TransferEncoding),
    ("connection", Known::Connection),
    ("expect", Known::Expect),
    ("upgrade", Known::Upgrade),
    ("origin", Known::Origin),
    ("location", Known::Reference),
    ("content-location", Known::Reference),
    ("www-authenticate", Known::Challenge),
    ("grpc-timeout", Known::CallerTimeout),
    (REQUEST_TIMEOUT, Known::CallerTimeout),
    ("te", Known::Te),
    ("keep-alive", Known::HopByHop),
    ("http2-settings", Known::HopByHop),
    ("proxy-connection", Known::HopByHop),
    ("proxy-authorization", Known::HopByHop),
    ("proxy-authenticate", Known::HopByHop),
    ("proxy-authentication-info", Known::HopByHop),
    ("accept", Known::EndToEnd),
    ("age", Known::EndToEnd),
    ("authorization", Known::EndToEnd),
    ("cache-control", Known::EndToEnd),
    ("content-encoding", Known::EndToEnd),
    ("content-type", Known::EndToEnd),
    ("cookie", Known::EndToEnd),
    ("date", Known::EndToEnd),
    ("dpop", Known::EndToEnd),
    ("last-event-id", Known::EndToEnd),
    ("mcp-method", Known::EndToEnd),
    ("mcp-name", Known::EndToEnd),
    ("mcp-session-id", Known::EndToEnd),
    ("retry-after", Known::EndToEnd),
    ("set-cookie", Known::EndToEnd),
    ("traceparent", Known::EndToEnd),
    ("vary", Known::EndToEnd),
    ("accept-encoding", Known::Other),
    ("accept-language", Known::Other),
    ("server", Known::Other),
    ("server-timing", Known::Other),
    ("user-agent", Known::Other),
    (EDGE_IDENTITY, Known::EdgeIdentity),
];

/// The name of [`Known::EdgeIdentity`].
pub(in crate::wire) const EDGE_IDENTITY: &str = "adit-caller";

/// A frequent name that is longer than those of [`OF_LENGTH`].
const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// Fields of proxies besides `Forwarded` and `X-Forwarded-…`. Some frameworks (Symfony, IIS URL Rewrite, ASP.NET) take
/// the URL of a request from the last four, so that an untrusted client could reach another path than the one that was
/// checked.
const FORWARDED: [&str; 5] = ["x-real-ip", "x-original-url", "x-rewrite-url", "x-original-host", "x-host"];

/// Names that imitate a framing field.
const DISGUISED: [&[u8]; 2] = [b"content_length", b"transfer_encoding"];

impl Known {
    /// The meaning of `name`, a token. A name that imitates a framing or routing field with underscores is refused, because
    /// servers that convert both `-` and `_` to `_` (WSGI, CGI) would mistake it for that field.
    #[cfg(test)]
    fn of(name: &[u8]) -> Result<Known, HeadError> {
        Known::of_short(name).map_or_else(|| Known::of_other(name), Ok)
    }

    /// The meaning of a name that [`Known::of_short`] does not find.
    ///
    /// # Errors
    ///
    /// [`HeadError::DisguisedField`] for a name that imitates a framing field with underscores.
    pub(super) fn of_other(name: &[u8]) -> Result<Known, HeadError> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'c' | b't') if DISGUISED.into_iter().any(is) => return Err(HeadError::DisguisedField),
            Some(b'a') if is_alike(name, EDGE_IDENTITY.as_bytes()) => return Ok(Known::EdgeIdentity),
            Some(b'f' | b'x') if is_forwarded(name) => return Ok(Known::Forwarded),
            Some(b'm') if name.len() >= MCP.len() && name[..MCP.len()].eq_ignore_ascii_case(MCP) => {
                return Ok(Known::EndToEnd);
            }
            _ => {}
        }
        let found = NOT_SHORT.iter().find(|(known, _)| is(known.as_bytes()));
        Ok(found.map_or(Known::Other, |(_, known)| *known))
    }

    /// The meaning of a name of 4 to 16 bytes that is in [`NAMES`], or of [`REQUEST_TIMEOUT`]. `name` must have no control characters but tabs;
    /// if it is found, it is a token.
    pub(super) fn of_short(name: &[u8]) -> Option<Known> {
        debug_assert!(
            !name.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t'),
            "callers look for control characters first"
        );
        let Some(same_length) = OF_LENGTH.get(name.len()) else {
            return is_request_timeout(name).then_some(Known::CallerTimeout);
        };
        let words = words(name)?;
        same_length.iter().find(|entry| entry.words == words).map(|entry| entry.known)
    }

    /// Whether a field with this meaning is forwarded even if `Connection` names it.
    pub(super) fn is_end_to_end(self) -> bool {
        matches!(self, Known::EndToEnd | Known::Origin | Known::Reference | Known::Challenge)
    }

    /// Whether a trailer with this meaning must be refused (RFC 9110 section 6.5.1): framing, routing, credentials, and
    /// the fields that the tunnel itself uses.
    pub(super) fn is_forbidden_in_trailers(self) -> bool {
        !matches!(self, Known::Other | Known::CallerTimeout)
    }
}

/// The prefix of the names that MCP defines.
const MCP: &[u8] = b"mcp-";

/// A name of [`NAMES`] and its meaning.
#[derive(Clone, Copy)]
struct Entry {
    words: [u64; 2],
    known: Known,
}

/// A name to search for among those of a head.
pub(super) struct Wanted<'a> {
    name: &'a [u8],
    words: Option<[u64; 2]>,
}

impl Wanted<'_> {
    /// `name` is a token.
    pub(super) fn new(name: &[u8]) -> Wanted<'_> {
        debug_assert!(name.iter().all(|byte| is_token_byte(*byte)));
        // In words, `^` and `~` are equal. All other tokens differ, apart from the case of their letters.
        let words = words(name).filter(|words| !words.iter().any(|word| has_byte(*word, b'~')));
        Wanted { name, words }
    }

    /// Whether this token of the same length is the name, in any case.
    pub(super) fn is(&self, token: &[u8]) -> bool {
        debug_assert_eq!(token.len(), self.name.len());
        if self.words.is_some() { words(token) == self.words } else { token.eq_ignore_ascii_case(self.name) }
    }
}

/// The longest names of [`OF_LENGTH`], in bytes.
const SHORT_LEN_MAX: usize = 16;
/// The most names of one length. If it is too small, the build fails.
const SAME_LENGTH_MAX: usize = 5;

/// The names of [`NAMES`] that have 4 to 16 bytes, by their length. Unused places hold zeros, which occur in no name.
static OF_LENGTH: [[Entry; SAME_LENGTH_MAX]; SHORT_LEN_MAX + 1] = {
    let mut table = [[Entry { words: [0; 2], known: Known::Other }; SAME_LENGTH_MAX]; SHORT_LEN_MAX + 1];
    let mut counts = [0; SHORT_LEN_MAX + 1];
    let mut at = 0;
    while at < NAMES.len() {
        let (name, known) = NAMES[at];
        if let Some(words) = words(name.as_bytes()) {
            let count = &mut counts[name.len()];
            table[name.len()][*count] = Entry { words, known };
            *count += 1;
        }
        at += 1;
    }
    table
};

/// The number of [`NAMES`] with another length.
const NOT_SHORT_LEN: usize = {
    let (mut count, mut at) = (0, 0);
    while at < NAMES.len() {
        count += words(NAMES[at].0.as_bytes()).is_none() as usize;
        at += 1;
    }
    count
};

/// The names of another length.
static NOT_SHORT: [(&str, Known); NOT_SHORT_LEN] = {
    let mut names = [NAMES[0]; NOT_SHORT_LEN];
    let (mut count, mut at) = (0, 0);
    while at < NAMES.len() {
        if words(NAMES[at].0.as_bytes()).is_none() {
            names[count] = NAMES[at];
            count += 1;
        }
        at += 1;
    }
    names
};

/// The bytes of a name of 4 to 16 bytes in lower case, as its first and its last word, which may overlap.
///
/// Setting bit 0x20 converts capitals to lower case. It also converts ``@[\]^_`` to other marks, none of which is in a
/// name of [`NAMES`], and control characters to digits and hyphens, so callers exclude those first (a tab becomes a
/// bracket).
const fn words(name: &[u8]) -> Option<[u64; 2]> {
    const LOWER: u64 = u64::MAX / 0xff * 0x20;
    let (first, last) = match (name.len(), name.first_chunk(), name.last_chunk()) {
        (8..=SHORT_LEN_MAX, Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        (4..8, ..) => match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64),
            _ => return None,
        },
        _ => return None,
    };
    Some([first | LOWER, last | LOWER])
}

/// Whether a name is [`REQUEST_TIMEOUT`], by the rules of [`words`].
fn is_request_timeout(name: &[u8]) -> bool {
    match name {
        [b'x' | b'X', rest @ ..] if name.len() == REQUEST_TIMEOUT.len() => {
            words(rest) == words(&REQUEST_TIMEOUT.as_bytes()[1..])
        }
        _ => false,
    }
}

/// `Forwarded`, `X-Forwarded-…` and the others of [`FORWARDED`], also when written with underscores. `name` is a token.
fn is_forwarded(name: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(b"forwarded") {
        return true;
    }
    let [b'x' | b'X', b'-' | b'_', ..] = name else { return false };
    let prefix = b"x-forwarded-";
    // The usual spelling.
    if name.get(..prefix.len()).is_some_and(|start| words(start) == words(prefix)) {
        return true;
    }
    (name.len() >= prefix.len() && is_alike(&name[..prefix.len()], prefix))
        || FORWARDED.iter().any(|known| is_alike(name, known.as_bytes()))
}

/// Whether a token is this name, also when written with underscores.
fn is_alike(name: &[u8], known: &[u8]) -> bool {
    let is_same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
    name.len() == known.len() && name.iter().zip(known).all(is_same)
}

/// Whether a text is a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    // Checking all bytes is faster than stopping at the first.
    text.iter().fold(!text.is_empty(), |is_token, &byte| is_token & is_token_byte(byte))
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
        let cases: [(&str, Known); 27] = [
            ("HOST", Known::Host),
            ("Content-length", Known::ContentLength),
            ("TE", Known::Te),
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
            ("hosts", Known::Other),
            ("ate", Known::Other),
            ("DATE", Known::EndToEnd),
            ("mcp-", Known::EndToEnd),
            ("Adit-Caller", Known::EdgeIdentity),
            ("ADIT_CALLER", Known::EdgeIdentity),
            ("adit.caller", Known::Other),
            ("Adit-Caller-", Known::Other),
        ];
        for (name, known) in cases {
            assert_eq!(Known::of(name.as_bytes()), Ok(known), "{name}");
        }
        for (name, known) in NAMES {
            assert_eq!(Known::of(name.as_bytes()), Ok(known), "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), Ok(known), "{name}");
        }
        assert_eq!(Known::of(b"Transfer_Encoding"), Err(HeadError::DisguisedField));
        assert_eq!(Known::of(b"Content_Length"), Err(HeadError::DisguisedField));
    }

    /// The search by `Wanted` distinguishes them too.
    #[test]
    fn no_other_name_is_taken_for_a_wanted_one() {
        let others = ["x_task_id", "x~task~id", "x^task", "~~~~", "a.b!c#d$e", "%&'*+`|0"];
        for name in NAMES.map(|(name, _)| name).into_iter().chain(others) {
            let wanted = Wanted::new(name.as_bytes());
            assert!(wanted.is(name.to_ascii_uppercase().as_bytes()));
            for at in 0..name.len() {
                for byte in (0..=u8::MAX).filter(|byte| is_token_byte(*byte)) {
                    let mut token = name.as_bytes().to_vec();
                    token[at] = byte;
                    assert_eq!(wanted.is(&token), token.eq_ignore_ascii_case(name.as_bytes()), "{name}, {byte}");
                }
            }
        }
    }

    /// A name that differs in one byte from a known one is another name, which is detected without checking each byte.
    #[test]
    fn no_other_name_is_taken_for_a_frequent_one() {
        for (known, _) in NAMES {
            for at in 0..known.len() {
                for byte in (0x20..=u8::MAX).filter(|byte| *byte != 0x7f) {
                    let mut name = known.as_bytes().to_vec();
                    name[at] = byte;
                    let is_short = |known: &str| words(known.as_bytes()).is_some() || known == REQUEST_TIMEOUT;
                    let names = NAMES.iter().filter(|(known, _)| is_short(known));
                    let mut same =
                        names.filter(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, known)| *known);
                    assert_eq!(Known::of_short(&name), same.next(), "{:?}", String::from_utf8_lossy(&name));
                }
            }
        }
    }
}
