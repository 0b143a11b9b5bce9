use std::fmt;
use std::time::Duration;

use super::caller_timeout::{is_time_left, push_time_left, push_timeout};
use super::cors::{Cors, is_cors, varies_by_origin};
use super::edge_identity::push_edge_identity;
use super::facts::{Framing, options};
use super::method::Version;
use super::names::Known;
use super::public_address::PublicAddress;
use super::section::{Field, Section};
use super::text::push_field;
use super::{CONNECTION_OPTIONS_MAX, RequestHead, ResponseHead};
use crate::base::push_decimal;

/// The status of a response that requires another protocol.
const UPGRADE_REQUIRED: u16 = 426;

/// The changes to a request's head when it is forwarded.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// The `Host` for the next hop; `None` keeps the original.
    pub host: Option<&'a str>,
    /// The change to `Origin`, if the request has it.
    pub origin: OriginEdit<'a>,
    /// The framing of the forwarded body.
    pub framing: Framing,
    /// Drop `Forwarded`, `X-Forwarded-…`, `X-Real-IP`, `X-Original-URL` and the like, which an untrusted client may
    /// have set.
    pub drop_forwarded: bool,
    /// Drop `Expect`, because 100 (Continue) was already sent.
    pub drop_expect: bool,
    /// The changes that the policy of its route requires.
    pub policy: PolicyEdit<'a>,
    /// Tell the next hop that no other request follows on this connection.
    pub close: bool,
    /// The time limit to send instead of the one in the request.
    pub timeout: Option<Duration>,
    /// The identity of the caller for a connector, signed by this edge. The field is dropped from every request.
    pub edge_identity: Option<&'a str>,
    /// The change to the field with the rest of the caller's time.
    pub time_left: TimeLeftEdit,
    /// The fields to add at the end.
    pub append: &'a [(&'a str, &'a [u8])],
}

/// The changes to a request whose route has a policy or requires tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyEdit<'a> {
    /// Drop `Authorization`, because it is a key of the policy or a token for the tunnel, and not meant for the server.
    pub drop_authorization: bool,
    /// The value that replaces the dropped `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// Request an uncompressed answer, so that it can be parsed.
    pub identity_only: bool,
    /// The field that identifies the caller to the server: its name, and its value if the caller is identified. The caller's own
    /// field of this name is dropped in any case.
    pub identity: Option<(&'a str, Option<&'a str>)>,
}

/// Omits the secret.
impl fmt::Debug for PolicyEdit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PolicyEdit { drop_authorization, identity_only, .. } = self;
        f.debug_tuple("PolicyEdit").field(drop_authorization).field(identity_only).finish()
    }
}

impl PolicyEdit<'_> {
    /// No changes to the request.
    pub const NONE: PolicyEdit<'static> =
        PolicyEdit { drop_authorization: false, authorization: None, identity_only: false, identity: None };

    fn drops(self, name: &[u8]) -> bool {
        (self.drop_authorization && name.eq_ignore_ascii_case(b"authorization"))
            || (self.identity_only && name.eq_ignore_ascii_case(b"accept-encoding"))
            || self.identity.is_some_and(|(own, _)| is_read_as(name, own.as_bytes()))
    }
}

/// Whether a server may take one name for the other: some treat `_` as `-`, as in CGI variables.
fn is_read_as(name: &[u8], own: &[u8]) -> bool {
    let read = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == own.len() && name.iter().map(read).eq(own.iter().map(read))
}

/// The change to [the field with the rest of the caller's time](RequestHead::time_left).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeLeftEdit {
    /// The field is forwarded like any other, because it has no meaning on this hop.
    #[default]
    Keep,
    /// The field is removed from the request.
    Drop,
    /// The field is replaced by this time.
    Replace(Duration),
}

/// The change to the `Origin` of a forwarded request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginEdit<'a> {
    /// The field is forwarded unchanged.
    #[default]
    Keep,
    /// The field is removed from the request.
    Drop,
    /// The field is replaced by this value.
    Replace(&'a str),
}

/// The changes to a response's head when it is forwarded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseEdits<'a> {
    /// The framing of the forwarded body.
    pub framing: Framing,
    /// Tell the agent that no other response follows on this connection.
    pub close: bool,
    /// Replace the CORS fields of the response by these.
    pub cors: Option<Cors<'a>>,
    /// Replace the server's own address by its public one.
    pub public: Option<PublicAddress<'a>>,
    /// Drop the server's challenge `WWW-Authenticate`.
    pub drop_challenge: bool,
    /// The fields to add at the end.
    pub append: &'a [(&'a str, &'a [u8])],
}

/// Appends the head of the forwarded request: HTTP/1.1, with the path as target, without hop-by-hop fields but for
/// `TE: trailers`, with the new framing. All other fields are copied byte for byte and in order.
pub fn write_request(head: &RequestHead, edits: &RequestEdits<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method_text());
    out.push(b' ');
    out.extend_from_slice(head.path());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = edits.host {
        push_field(out, b"Host", host.as_bytes());
    }
    let named = Named::of(head.section(), head.facts().connection_options);
    let is_named = |field: &Field| named.as_ref().is_some_and(|named| named.contains(field));
    if let OriginEdit::Replace(origin) = edits.origin
        && head.section().fields().iter().any(|field| field.known == Known::Origin)
    {
        push_field(out, b"Origin", origin.as_bytes());
    }
    copy_fields(head.section(), out, |field| match field.known {
        Known::Host => edits.host.is_none(),
        Known::Origin => edits.origin == OriginEdit::Keep,
        Known::Forwarded => !edits.drop_forwarded,
        Known::Expect => !edits.drop_expect,
        Known::CallerTimeout if edits.timeout.is_some() => false,
        Known::Other if edits.time_left != TimeLeftEdit::Keep && is_time_left(head.section().name(field)) => false,
        known => {
            goes_on(known)
                && !is_named(field)
                && (edits.policy == PolicyEdit::NONE || !edits.policy.drops(head.section().name(field)))
        }
    });
    if let TimeLeftEdit::Replace(left) = edits.time_left {
        push_time_left(out, left);
    }
    if let Some(identity) = edits.edge_identity {
        push_edge_identity(out, identity);
    }
    if let Some(timeout) = edits.timeout {
        push_timeout(out, timeout);
    }
    if let Some(authorization) = edits.policy.authorization {
        push_field(out, b"Authorization", authorization);
    }
    if let Some((name, Some(value))) = edits.policy.identity {
        push_field(out, name.as_bytes(), value.as_bytes());
    }
    if edits.policy.identity_only {
        push_field(out, b"Accept-Encoding", b"identity");
    }
    // Trailers of the response can be forwarded unless the caller does not support chunks.
    let takes_trailers = head.facts().takes_trailers && head.version() == Version::Http11;
    if takes_trailers {
        push_field(out, b"TE", b"trailers");
    }
    push_end(out, edits.framing, Connection { close: edits.close, te: takes_trailers }, edits.append);
}

/// Appends the head of the forwarded response: HTTP/1.1, with its status and reason, without hop-by-hop fields, with
/// the new framing. All other fields are copied byte for byte and in order.
///
/// The server's own address is replaced by its public one, if that is given.
///
/// The length of a body that is not sent (HEAD, 304) is kept, because it describes the resource and not this message.
pub fn write_response(head: &ResponseHead, edits: &ResponseEdits<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(head.status()));
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let keeps_length = edits.framing == Framing::None && head.status() >= 200 && head.status() != 204;
    let section = head.section();
    // `Upgrade` names the protocol that the server requires (RFC 9110 section 15.5.22), and must be listed in
    // `Connection` (section 7.8).
    let keeps_upgrade = head.status() == UPGRADE_REQUIRED && head.facts().upgrade;
    let named = Named::of(section, head.facts().connection_options);
    let is_named = |field: &Field| named.as_ref().is_some_and(|named| named.contains(field));
    let is_dropped = |field: &Field| edits.drop_challenge && field.known == Known::Challenge;
    let own_part = |field: &Field| {
        let public = edits.public.as_ref().filter(|_| !is_dropped(field))?;
        public.own_part(field.known, section.value(field))
    };
    copy_fields(section, out, |field| match field.known {
        Known::Upgrade => keeps_upgrade,
        Known::ContentLength => keeps_length,
        Known::Reference | Known::Challenge => !is_dropped(field) && own_part(field).is_none(),
        Known::Host | Known::Forwarded | Known::Expect => !is_named(field),
        Known::Other if edits.cors.is_some() && is_cors(section.name(field)) => false,
        known => goes_on(known) && !is_named(field),
    });
    if let Some(public) = &edits.public {
        for field in section.fields() {
            if let Some(own) = own_part(field) {
                public.push_rewritten(out, section.name(field), section.value(field), own);
            }
        }
    }
    if let Some(cors) = edits.cors {
        let varies = |(name, value): (&[u8], &[u8])| name.eq_ignore_ascii_case(b"vary") && varies_by_origin(value);
        cors.push(section.iter().any(varies), out);
    }
    if keeps_upgrade {
        push_field(out, b"Connection", b"Upgrade");
    }
    push_end(out, edits.framing, Connection { close: edits.close, te: false }, edits.append);
}

/// The options to write in `Connection`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) close: bool,
    /// A sender of `TE` must name it (RFC 9110 section 10.1.4).
    pub(super) te: bool,
}

/// Appends framing, `Connection` and added fields, and the empty line.
pub(super) fn push_end(out: &mut Vec<u8>, framing: Framing, connection: Connection, append: &[(&str, &[u8])]) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::None | Framing::UntilClose => {}
    }
    match (connection.close || framing == Framing::UntilClose, connection.te) {
        (false, false) => {}
        (true, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (false, true) => out.extend_from_slice(b"Connection: TE\r\n"),
        (true, true) => out.extend_from_slice(b"Connection: close, TE\r\n"),
    }
    append.iter().for_each(|(name, value)| push_field(out, name.as_bytes(), value));
    out.extend_from_slice(b"\r\n");
}

/// Whether a field with this meaning is forwarded.
fn goes_on(known: Known) -> bool {
    matches!(known, Known::Host | Known::Expect | Known::Forwarded | Known::CallerTimeout | Known::Other)
        || known.is_end_to_end()
}

/// The fields that `Connection` declares hop-by-hop. They are collected once and compared with all fields.
struct Named<'a> {
    section: &'a Section,
    options: [&'a [u8]; CONNECTION_OPTIONS_MAX],
    len: usize,
}

impl<'a> Named<'a> {
    /// None if there are no such fields, as in most heads.
    fn of(section: &'a Section, connection_options: usize) -> Option<Named<'a>> {
        if connection_options == 0 {
            return None;
        }
        let mut named = Named { section, options: [&[]; CONNECTION_OPTIONS_MAX], len: 0 };
        let connections = section.fields().iter().filter(|field| field.known == Known::Connection);
        let found = connections.flat_map(|field| options(section.value(field)));
        for (to, option) in named.options.iter_mut().zip(found) {
            *to = option;
            named.len += 1;
        }
        Some(named)
    }

    fn contains(&self, field: &Field) -> bool {
        if field.known.is_end_to_end() {
            return false;
        }
        let name = self.section.name(field);
        self.options[..self.len].iter().any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// Copies the fields that `keeps` selects, in runs of adjacent lines.
fn copy_fields(section: &Section, out: &mut Vec<u8>, keeps: impl Fn(&Field) -> bool) {
    let bytes = section.bytes();
    let Some(first) = section.fields().first() else { return };
    let mut run = first.name.start as usize;
    let mut fields = section.fields().iter().peekable();
    while let Some(field) = fields.next() {
        // The empty line ends the last field's line.
        let line_end = fields.peek().map_or(bytes.len() - 2, |next| next.name.start as usize);
        if !keeps(field) {
            out.extend_from_slice(&bytes[run..field.name.start as usize]);
            run = line_end;
        }
    }
    out.extend_from_slice(&bytes[run..bytes.len() - 2]);
}
