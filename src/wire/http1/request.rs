use super::authority::AuthorityReader;
use super::cors::is_preflight;
use super::facts::{Facts, Framing};
use super::method::{Method, Version, VersionText};
use super::names::Known;
use super::section::{Field, LineKind, Section, Span};
use super::{HEAD_LEN_MAX, HEADERS_MAX, HeadError, Progress};

/// The head of a request (RFC 9112). It is parsed as it arrives, and stored.
///
/// One value serves all requests of a connection, one after another; once warm it allocates nothing.
#[derive(Debug)]
pub struct RequestHead {
    section: Section,
    facts: Facts,
    method: Span,
    target: Span,
    path: Span,
    version: Version,
    authority: AuthorityReader,
    expects_continue: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the request line; one empty line may precede it (RFC 9112 section 2.2).
    Start {
        skipped_line: bool,
    },
    Fields,
    /// Complete or refused: the next bytes start a new head.
    Over,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead::new()
    }
}

impl RequestHead {
    /// Creates an empty head. It allocates nothing until it is fed.
    #[must_use]
    pub const fn new() -> RequestHead {
        const NOWHERE: Span = Span { start: 0, end: 0 };
        RequestHead {
            section: Section::new(HEAD_LEN_MAX, HEADERS_MAX),
            facts: Facts::EMPTY,
            method: NOWHERE,
            target: NOWHERE,
            path: NOWHERE,
            version: Version::Http11,
            authority: AuthorityReader::EMPTY,
            expects_continue: false,
            stage: Stage::Start { skipped_line: false },
        }
    }

    /// Parses the next bytes of the connection. Bytes of the head are copied, so the input need not be kept; feed each
    /// byte once. After a complete head or an error, the next call starts a new head.
    ///
    /// # Errors
    ///
    /// [`HeadError`] as soon as the bytes can only become a head that is refused. The rest of the connection must not
    /// be used then.
    pub fn feed(&mut self, input: &[u8]) -> Result<Progress, HeadError> {
        if self.stage == Stage::Over {
            self.clear();
        }
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
        (self.method, self.target, self.path) = Default::default();
        self.authority.clear();
        self.expects_continue = false;
        self.stage = Stage::Start { skipped_line: false };
    }

    /// Whether no byte of the next head has arrived, so that the connection may end here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Over || self.section.is_empty()
    }

    /// The method, as far as an intermediary distinguishes it.
    #[must_use]
    pub fn method(&self) -> Method {
        Method::of(self.method_text())
    }

    /// The method as it was sent.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        self.method.of(self.section.bytes())
    }

    /// The target as it was sent.
    #[must_use]
    #[cfg(test)]
    pub fn target(&self) -> &[u8] {
        self.target.of(self.section.bytes())
    }

    /// The target for the server: path and query without scheme and authority, or `*`.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match (self.path.is_empty(), self.method()) {
            (false, _) => self.path.of(self.section.bytes()),
            (true, Method::Options) => b"*",
            (true, _) => b"/",
        }
    }

    /// The HTTP version of the request line.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The host of the request: lower case, without port and trailing dot; `None` only in HTTP/1.0.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        Some(self.authority.host()).filter(|host| !host.is_empty())
    }

    /// Whether the request is for this authority. A missing port stands for `default_port`.
    #[must_use]
    pub fn is_for(&self, authority: &[u8], default_port: u16) -> bool {
        self.authority.agrees_with(authority, default_port)
    }

    /// Whether this is a browser's preflight request (WHATWG Fetch, section 3.2.2).
    #[must_use]
    pub fn is_preflight(&self) -> bool {
        is_preflight(self)
    }

    /// The port in `Host`.
    #[must_use]
    #[cfg(test)]
    pub fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    /// The framing of the body.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        match (self.facts.chunked, self.facts.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        }
    }

    /// The value of `Content-Length`, in bytes.
    #[must_use]
    #[cfg(test)]
    pub const fn content_length(&self) -> Option<u64> {
        self.facts.content_length
    }

    /// Whether the connection can carry another request after this one.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.facts.persists(self.version)
    }

    /// Whether the agent waits for `100 Continue` before it sends the body.
    #[must_use]
    pub const fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client opens a WebSocket (RFC 6455 section 4.1), which cannot be answered as an HTTP exchange. Any
    /// other offer of a protocol may be ignored (RFC 9110 section 7.8).
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        let offers = || self.fields_known_as(Known::Upgrade).flat_map(|field| protocols(self.section.value(field)));
        self.facts.upgrade
            && self.method() == Method::Get
            && self.get("Sec-WebSocket-Key").is_some()
            && offers().any(|name| name.eq_ignore_ascii_case(b"websocket"))
    }

    /// The value of the first field with this name; case is ignored.
    #[must_use]
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.section.get(name)
    }

    /// The value of a field that occurs exactly once: servers may interpret a repeated one differently. Case is
    /// ignored.
    #[must_use]
    #[inline]
    pub fn get_only(&self, name: &str) -> Option<&[u8]> {
        self.section.get_only(name)
    }

    /// The bytes of the head, for parsing it again elsewhere.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.section.bytes()
    }

    /// All fields in order: name and value, without the white space around the value.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.section.iter()
    }

    pub(super) fn section(&self) -> &Section {
        &self.section
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn advance(&mut self, input: &[u8]) -> Result<Progress, HeadError> {
        let mut len = 0;
        loop {
            if self.stage == Stage::Fields {
                len += self.section.take_plain_fields(&input[len..])?;
                if let Some(end) = self.section.take_end(&input[len..]) {
                    self.conclude()?;
                    return Ok(Progress::Complete { len: len + end });
                }
            }
            let kind = if self.stage == Stage::Fields { LineKind::Field } else { LineKind::Request };
            let (taken, line) = self.section.take_line(&input[len..], kind)?;
            len += taken;
            match (line, self.stage) {
                (None, _) => return Ok(Progress::Partial),
                (Some(line), Stage::Start { skipped_line: false }) if line.is_empty() => {
                    self.section.drop_line();
                    self.stage = Stage::Start { skipped_line: true };
                }
                (Some(line), Stage::Fields) if line.is_empty() => {
                    self.conclude()?;
                    return Ok(Progress::Complete { len });
                }
                (Some(line), Stage::Fields) => self.section.push_field(line)?,
                (Some(line), _) => {
                    self.read_request_line(line)?;
                    self.stage = Stage::Fields;
                }
            }
        }
    }

    fn read_request_line(&mut self, line: Span) -> Result<(), HeadError> {
        let mut parts = line.of(self.section.bytes()).split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::BadRequestLine);
        };
        self.version = match VersionText::of(version) {
            VersionText::Spoken(version) => version,
            VersionText::Foreign => return Err(HeadError::UnsupportedVersion),
            VersionText::Malformed => return Err(HeadError::BadRequestLine),
        };
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(HeadError::UnsupportedMethod);
        }
        let path_len = path_of(target, method).ok_or(HeadError::BadTarget)?.len();
        let start = line.start as usize;
        let target_end = start + method.len() + 1 + target.len();
        self.method = Span::new(start, start + method.len());
        self.target = Span::new(target_end - target.len(), target_end);
        self.path = Span::new(target_end - path_len, target_end);
        Ok(())
    }

    fn conclude(&mut self) -> Result<(), HeadError> {
        self.facts = Facts::gather(&self.section, self.version)?;
        self.read_host()?;
        if self.facts.expects {
            self.read_expectations()?;
        }
        Ok(())
    }

    fn read_expectations(&mut self) -> Result<(), HeadError> {
        if !self
            .fields_known_as(Known::Expect)
            .all(|field| self.section.value(field).eq_ignore_ascii_case(b"100-continue"))
        {
            return Err(HeadError::UnsupportedExpectation);
        }
        // HTTP/1.0 has no interim responses, so the expectation is ignored there (RFC 9110 section 10.1.1).
        self.expects_continue = self.version == Version::Http11;
        Ok(())
    }

    fn read_host(&mut self) -> Result<(), HeadError> {
        let mut hosts = self.section.fields().iter().filter(|field| field.known == Known::Host);
        let host = match (hosts.next(), hosts.next()) {
            (Some(field), None) => Some(self.section.value(field)),
            (Some(_), Some(_)) => return Err(HeadError::RepeatedHost),
            (None, _) if self.version == Version::Http11 => return Err(HeadError::NoHost),
            (None, _) => None,
        };
        if let Some(host) = host {
            self.authority.read(host).map_err(|_| HeadError::BadHost)?;
        }
        match (split_url(self.target.of(self.section.bytes())), host) {
            (None, _) => Ok(()),
            (Some(url), Some(_)) if self.authority.agrees_with(url.authority, url.default_port) => Ok(()),
            (Some(_), Some(_)) => Err(HeadError::HostMismatch),
            (Some(url), None) => self.authority.read(url.authority).map_err(|_| HeadError::BadTarget),
        }
    }

    fn fields_known_as(&self, known: Known) -> impl Iterator<Item = &Field> {
        self.section.fields().iter().filter(move |field| field.known == known)
    }
}

/// The names of the protocols in an `Upgrade` value, without their versions.
fn protocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let name = |protocol: &[u8]| protocol.iter().position(|&byte| byte == b'/').unwrap_or(protocol.len());
    value.split(|&byte| byte == b',').map(move |protocol| protocol[..name(protocol)].trim_ascii())
}

/// A target in absolute form (RFC 9112 section 3.2.2).
struct Url<'a> {
    authority: &'a [u8],
    path: &'a [u8],
    default_port: u16,
}

fn split_url(target: &[u8]) -> Option<Url<'_>> {
    let after = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (rest, default_port) = after(b"http://").map(|rest| (rest, 80)).or(after(b"https://").map(|r| (r, 443)))?;
    let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(Url { authority: &rest[..end], path: &rest[end..], default_port })
}

/// The part of a target that is sent to the server; `None` if the target is malformed.
fn path_of<'a>(target: &'a [u8], method: &[u8]) -> Option<&'a [u8]> {
    if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
    match (target, method) {
        ([b'/', ..], _) | (b"*", b"OPTIONS") => Some(target),
        _ => {
            let url = split_url(target)?;
            let usable = !url.authority.is_empty() && !url.path.starts_with(b"?");
            usable.then_some(url.path)
        }
    }
}
