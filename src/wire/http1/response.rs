use std::time::Duration;

use super::facts::{Facts, Framing, parse_length};
use super::method::{Method, Version, VersionText};
use super::names::Known;
use super::section::{LineKind, Section, Span};
use super::{HEAD_LEN_MAX, HEADERS_MAX, HeadError, Progress};

/// The head of a response (RFC 9112). It is parsed as it arrives, and stored.
///
/// One value serves all responses of a connection, one after another; once warm it allocates nothing.
#[derive(Debug)]
pub struct ResponseHead {
    section: Section,
    facts: Facts,
    request_method: Method,
    version: Version,
    status: u16,
    reason: Span,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Fields,
    /// Complete or refused: the next bytes start a new head.
    Over,
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead::new()
    }
}

impl ResponseHead {
    /// Creates an empty head. It allocates nothing until it is fed.
    #[must_use]
    pub const fn new() -> ResponseHead {
        ResponseHead {
            section: Section::new(HEAD_LEN_MAX, HEADERS_MAX),
            facts: Facts::EMPTY,
            request_method: Method::Get,
            version: Version::Http11,
            status: 0,
            reason: Span { start: 0, end: 0 },
            stage: Stage::Start,
        }
    }

    /// Parses the next bytes of the connection, which answer a request with this method. Bytes of the head are copied,
    /// so the input need not be kept; feed each byte once. After a complete head or an error, the next call starts a
    /// new head: a final head may follow an interim one.
    ///
    /// # Errors
    ///
    /// [`HeadError`] as soon as the bytes can only become a head that is refused. The rest of the connection must not
    /// be used then.
    pub fn feed(&mut self, input: &[u8], request_method: Method) -> Result<Progress, HeadError> {
        if self.stage == Stage::Over {
            self.clear();
        }
        self.request_method = request_method;
        let progress = self.advance(input);
        if !matches!(progress, Ok(Progress::Partial)) {
            self.stage = Stage::Over;
        }
        progress
    }

    /// Drops what was read and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.section.clear();
        self.facts = Facts::EMPTY;
        self.status = 0;
        self.reason = Span::default();
        self.stage = Stage::Start;
    }

    /// Whether no byte of the next head has arrived.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Over || self.section.is_empty()
    }

    /// The status, `100` to `999`.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The reason, which may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.of(self.section.bytes())
    }

    /// The HTTP version of the status line.
    #[must_use]
    #[cfg(feature = "internals")]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether another head follows: true for any 1xx except `101 Switching Protocols`, after which no HTTP follows.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The framing of the body (RFC 9112 section 6.3).
    #[must_use]
    pub const fn framing(&self) -> Framing {
        match (self.has_body(), self.facts.chunked, self.facts.content_length) {
            (false, ..) => Framing::None,
            (true, true, _) => Framing::Chunked,
            (true, false, Some(length)) => Framing::Length(length),
            (true, false, None) => Framing::UntilClose,
        }
    }

    /// The value of `Content-Length`, in bytes; for HEAD and 304 that of a body that is not sent.
    #[must_use]
    #[cfg(test)]
    pub const fn content_length(&self) -> Option<u64> {
        self.facts.content_length
    }

    /// Whether the connection can carry another response after this one. Never if the end of the body is uncertain: a
    /// body that ends with the connection, or a 1xx or 204 that announces a body which it cannot have.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        let bodiless = self.status < 200 || self.status == 204;
        let doubtful = bodiless && (self.facts.chunked || self.facts.content_length.is_some_and(|length| length > 0));
        self.facts.persists(self.version) && self.framing() != Framing::UntilClose && !doubtful && self.status != 101
    }

    /// How long the server keeps an idle connection, if stated: `Keep-Alive: timeout=N`, in seconds (RFC 2068 section
    /// 19.7.1.1).
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        let value = self.section.get("Keep-Alive")?;
        value.split(|&byte| byte == b',').find_map(|parameter| {
            let at = parameter.iter().position(|&byte| byte == b'=')?;
            let (name, number) = (parameter[..at].trim_ascii(), parameter[at + 1..].trim_ascii());
            let seconds = parse_length(number).filter(|_| name.eq_ignore_ascii_case(b"timeout"));
            seconds.map(Duration::from_secs)
        })
    }

    /// Whether the body is a plain event stream (WHATWG HTML, section 9.2), neither encoded nor of a given length.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        // Most answers have a length, and their fields need not be checked.
        if self.status != 200 || !matches!(self.framing(), Framing::Chunked | Framing::UntilClose) {
            return false;
        }
        let is_named = |name: &str, field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
        let is_plain = |(name, value): (&[u8], &[u8])| {
            !is_named("Content-Encoding", name) || value.eq_ignore_ascii_case(b"identity")
        };
        let media_type = self.get("Content-Type").unwrap_or_default().split(|&byte| byte == b';').next();
        let is_events = media_type.is_some_and(|name| is_named("text/event-stream", name.trim_ascii()));
        is_events && self.section.iter().all(is_plain)
    }

    /// Whether a client may take the body for an event stream, for any status and framing.
    #[must_use]
    pub fn names_event_stream(&self) -> bool {
        const EVENTS: &[u8] = b"text/event-stream";
        let is_type = |name: &[u8]| name.eq_ignore_ascii_case(b"Content-Type");
        let has_events = |value: &[u8]| value.windows(EVENTS.len()).any(|part| part.eq_ignore_ascii_case(EVENTS));
        self.section.iter().any(|(name, value)| is_type(name) && has_events(value))
    }

    /// The values of `Proxy-Authenticate` (RFC 9110 section 11.7.1), which a proxy sends to its client.
    pub fn proxy_challenges(&self) -> impl Iterator<Item = &[u8]> {
        let wanted = |(name, _): &(&[u8], &[u8])| name.eq_ignore_ascii_case(b"Proxy-Authenticate");
        self.section.iter().filter(wanted).map(|(_, value)| value)
    }

    /// Whether a field may contain the server's own address: `Location`, `Content-Location` or `WWW-Authenticate`.
    #[must_use]
    pub fn may_name_itself(&self) -> bool {
        self.section.fields().iter().any(|field| matches!(field.known, Known::Reference | Known::Challenge))
    }

    /// The value of the first field with this name; case is ignored.
    #[must_use]
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.section.get(name)
    }

    /// All fields in order: name and value, without the white space around the value.
    #[cfg(feature = "internals")]
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.section.iter()
    }

    pub(super) fn section(&self) -> &Section {
        &self.section
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    const fn has_body(&self) -> bool {
        !matches!(self.request_method, Method::Head) && !matches!(self.status, 0..200 | 204 | 304)
    }

    fn advance(&mut self, input: &[u8]) -> Result<Progress, HeadError> {
        let mut len = 0;
        loop {
            if self.stage == Stage::Fields {
                len += self.section.take_plain_fields(&input[len..])?;
                if let Some(end) = self.section.take_end(&input[len..]) {
                    self.facts = Facts::gather(&self.section, self.version)?;
                    return Ok(Progress::Complete { len: len + end });
                }
            }
            let kind = if self.stage == Stage::Fields { LineKind::Field } else { LineKind::Status };
            let (taken, line) = self.section.take_line(&input[len..], kind)?;
            len += taken;
            match (line, self.stage) {
                (None, _) => return Ok(Progress::Partial),
                (Some(line), Stage::Fields) if line.is_empty() => {
                    self.facts = Facts::gather(&self.section, self.version)?;
                    return Ok(Progress::Complete { len });
                }
                (Some(line), Stage::Fields) => self.section.push_field(line)?,
                (Some(line), _) => {
                    self.read_status_line(line)?;
                    self.stage = Stage::Fields;
                }
            }
        }
    }

    fn read_status_line(&mut self, line: Span) -> Result<(), HeadError> {
        let text = line.of(self.section.bytes());
        let (version, rest) = text.split_at(text.iter().position(|&b| b == b' ').unwrap_or(text.len()));
        self.version = match VersionText::of(version) {
            VersionText::Spoken(version) => version,
            VersionText::Foreign => return Err(HeadError::UnsupportedVersion),
            VersionText::Malformed => return Err(HeadError::BadStatusLine),
        };
        // Some servers omit the space before an empty reason.
        let (digits, reason) = match rest {
            [b' ', a, b, c] => ([a, b, c], &[][..]),
            [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
            _ => return Err(HeadError::BadStatusLine),
        };
        if !digits.iter().all(|digit| digit.is_ascii_digit()) || *digits[0] == b'0' {
            return Err(HeadError::BadStatusLine);
        }
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
        self.reason = Span::new(line.end as usize - reason.len(), line.end as usize);
        Ok(())
    }
}
