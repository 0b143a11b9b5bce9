//! Cross-origin resource sharing: allows pages of other origins to call and to read the response (WHATWG Fetch, section
//! 3.2).

use super::facts::options;
use super::text::push_field;
use super::{Method, RequestHead};
use crate::base::push_decimal;

/// The response fields that a page may read in addition to the standard ones: those that MCP clients need, and those of
/// adit.
const EXPOSED: &[u8] = b"Mcp-Session-Id, WWW-Authenticate, Server-Timing, Retry-After, Mcp-Protocol-Version";
/// The methods of MCP's transport, and OPTIONS.
const METHODS: &[u8] = b"GET, POST, DELETE, OPTIONS";
/// How long a browser may keep the answer to a preflight request, in seconds. No browser keeps it for longer than a
/// day, and most for at most two hours. A page whose origin is no longer allowed is refused anyway when it calls.
const MAX_AGE_S: u64 = 7200;
/// The prefix of all CORS fields.
const PREFIX: &[u8] = b"access-control-";

/// The CORS fields of a response: whether a page may read it.
#[derive(Clone, Copy, Debug)]
pub struct Cors<'a> {
    /// The allowed origin; empty if no page may read it.
    origin: &'a [u8],
}

impl<'a> Cors<'a> {
    /// Allows pages of this origin to read the response.
    #[must_use]
    pub fn new(origin: Option<&'a [u8]>) -> Cors<'a> {
        Cors { origin: origin.unwrap_or_default() }
    }

    /// Appends the fields. `varies`: the response already has `Origin` in `Vary`.
    pub(super) fn push(self, varies: bool, out: &mut Vec<u8>) {
        if !self.origin.is_empty() {
            push_field(out, b"Access-Control-Allow-Origin", self.origin);
            push_field(out, b"Access-Control-Expose-Headers", EXPOSED);
        }
        // Also without an origin: a cache must not give this response to a page.
        if !varies {
            push_field(out, b"Vary", b"Origin");
        }
    }

    /// Appends the answer to a preflight request, which allows the page's request. `close` closes the connection.
    pub fn write_preflight(self, request: &RequestHead, close: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n");
        push_field(out, b"Access-Control-Allow-Origin", self.origin);
        push_field(out, b"Access-Control-Allow-Methods", METHODS);
        // The fields of MCP clients differ by version and server (`Mcp-Param-…`), and the origin is allowed to call.
        if let Some(wanted) = request.get("Access-Control-Request-Headers").filter(|wanted| is_list_of_names(wanted)) {
            push_field(out, b"Access-Control-Allow-Headers", wanted);
        }
        out.extend_from_slice(b"Access-Control-Max-Age: ");
        push_decimal(out, MAX_AGE_S);
        out.extend_from_slice(b"\r\nVary: Origin, Access-Control-Request-Headers\r\n");
        if close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether this is a browser's preflight request.
pub(super) fn is_preflight(head: &RequestHead) -> bool {
    head.method() == Method::Options
        && head.get("Origin").is_some()
        && head.get("Access-Control-Request-Method").is_some()
}

/// Whether a field of a response belongs to CORS.
pub(super) fn is_cors(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether a value of `Vary` covers `Origin`.
pub(super) fn varies_by_origin(value: &[u8]) -> bool {
    options(value).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
}

fn is_list_of_names(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).all(|name| options(name).next() == Some(name))
}
