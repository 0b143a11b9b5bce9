//! The responses of the bridge.

use crate::bridge::{BridgeRefusal, INTERNAL_ERROR};
use crate::wire::mcp::SESSION_ID;

/// A response that is complete.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// A JSON-RPC message, or nothing.
    pub(super) body: Vec<u8>,
    /// Further lines of the head, each with its end.
    pub(super) fields: Vec<u8>,
}

impl Reply {
    pub(super) fn new(status: u16, body: Vec<u8>) -> Reply {
        Reply { status, body, fields: Vec::new() }
    }

    /// An error for the request with this id.
    pub(super) fn refusal(refusal: &BridgeRefusal, id: &[u8]) -> Reply {
        Reply::new(refusal.status, refusal.message(id))
    }

    /// An error because the server could not be asked.
    pub(super) fn failed(why: &str, id: &[u8]) -> Reply {
        Reply::refusal(&BridgeRefusal::new(502, INTERNAL_ERROR, why), id)
    }

    /// The same response, which names a session.
    pub(super) fn with_session(mut self, id: &str) -> Reply {
        self.fields.extend_from_slice(format!("{SESSION_ID}: {id}\r\n").as_bytes());
        self
    }

    /// Head and body as they are sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Reply { status, body, fields } = self;
        let has_kind = body.is_empty() || fields.to_ascii_lowercase().starts_with(b"content-type:");
        let kind = if has_kind { "" } else { "Content-Type: application/json\r\n" };
        let reason = reason(*status);
        let head = format!("HTTP/1.1 {status} {reason}\r\n{kind}Content-Length: {}\r\n", body.len());
        [head.as_bytes(), fields, b"\r\n", body].concat()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_name_their_type_once() {
        let text = |reply: &Reply| String::from_utf8(reply.bytes()).unwrap();
        let plain = Reply::new(200, b"{}".to_vec()).with_session("s");
        let wanted =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nMcp-Session-Id: s\r\n\r\n{}";
        assert_eq!(text(&plain), wanted);
        assert_eq!(text(&Reply::new(202, Vec::new())), "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        let own = Reply { status: 401, body: b"no".to_vec(), fields: b"content-type: text/plain\r\n".to_vec() };
        assert!(text(&own).ends_with("Content-Length: 2\r\ncontent-type: text/plain\r\n\r\nno"));
    }
}
