//! The responses of the server of HTTP in front of a child.

use serde_json::{Value, json};

use crate::wire::mcp::SESSION_ID;
use crate::wire::stdio::outcome;

/// The response to a request without a stream.
pub(super) struct Reply {
    pub(super) status: u16,
    /// A JSON-RPC message, or nothing.
    pub(super) body: Vec<u8>,
    /// The error in the message, if it was made here.
    pub(super) error: Option<String>,
    /// The session that begins with it.
    pub(super) session: Option<Box<str>>,
    /// A further line of the head, with its end.
    pub(super) field: &'static str,
}

impl Reply {
    /// A response without a body.
    pub(super) fn empty(status: u16) -> Reply {
        Reply { status, body: Vec::new(), error: None, session: None, field: "" }
    }

    /// A response with an answer of the child.
    pub(super) fn answer(status: u16, body: Vec<u8>) -> Reply {
        Reply { body, ..Reply::empty(status) }
    }

    /// A response with an error of JSON-RPC, for a request whose id is not known.
    pub(super) fn error(status: u16, code: i64, why: &str) -> Reply {
        Reply::of_error(status, &json!({"code": code, "message": why}))
    }

    /// The same, with an error that has more to say.
    pub(super) fn of_error(status: u16, error: &Value) -> Reply {
        let error = error.to_string();
        let body = outcome(b"null", "error", error.as_bytes());
        Reply { body, error: Some(error), ..Reply::empty(status) }
    }

    /// The same response for the request with this id, if it has one.
    pub(super) fn for_request(mut self, id: Option<&[u8]>) -> Reply {
        if let (Some(error), Some(id)) = (&self.error, id) {
            self.body = outcome(id, "error", error.as_bytes());
        }
        self
    }

    /// Head and body as they are sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Reply { status, body, session, field, .. } = self;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let session = session.as_ref().map(|id| format!("{SESSION_ID}: {id}\r\n")).unwrap_or_default();
        let (reason, len) = (reason(*status), body.len());
        let head = format!("HTTP/1.1 {status} {reason}\r\n{kind}{session}{field}Content-Length: {len}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_request_if_its_id_is_known() {
        let text = |reply: Reply| String::from_utf8(reply.body).unwrap();
        let error = || Reply::error(400, -32_600, "why \"so\"");
        let rest = r#","error":{"code":-32600,"message":"why \"so\""}}"#;
        assert_eq!(text(error()), format!(r#"{{"jsonrpc":"2.0","id":null{rest}"#));
        assert_eq!(text(error().for_request(Some(b"\"7\""))), format!(r#"{{"jsonrpc":"2.0","id":"7"{rest}"#));
        assert_eq!(text(error().for_request(None)), text(error()));
        assert_eq!(text(Reply::answer(200, b"{}".to_vec()).for_request(Some(b"7"))), "{}");
    }
}
