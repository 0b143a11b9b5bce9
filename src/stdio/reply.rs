//! The responses of the server of HTTP in front of a child.

use serde_json::json;

use crate::wire::mcp::SESSION_ID;

/// The response to a request without a stream.
pub(super) struct Reply {
    pub(super) status: u16,
    /// A JSON-RPC message, or nothing.
    pub(super) body: Vec<u8>,
    /// The session that begins with it.
    pub(super) session: Option<Box<str>>,
    /// A further line of the head, with its end.
    pub(super) field: &'static str,
}

impl Reply {
    /// A response without a body.
    pub(super) fn empty(status: u16) -> Reply {
        Reply { status, body: Vec::new(), session: None, field: "" }
    }

    /// A response with an error of JSON-RPC, without an id: the message was not passed on.
    pub(super) fn error(status: u16, code: i64, why: &str) -> Reply {
        let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": why}});
        Reply { body: body.to_string().into_bytes(), ..Reply::empty(status) }
    }

    /// Head and body as they are sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Reply { status, body, session, field } = self;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let session = session.as_ref().map(|id| format!("{SESSION_ID}: {id}\r\n")).unwrap_or_default();
        let (reason, len) = (reason(*status), body.len());
        let head = format!("HTTP/1.1 {status} {reason}\r\n{kind}{session}{field}Content-Length: {len}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }
}

/// The head of a response that is a stream of events.
pub(super) fn stream_head(session: Option<&str>) -> Vec<u8> {
    let session = session.map(|id| format!("{SESSION_ID}: {id}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n{session}\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        _ => "Service Unavailable",
    }
}
