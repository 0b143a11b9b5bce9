use super::facts::Framing;
use super::forward::{Connection, push_end};
use super::text::push_field;
use super::{BodyError, Cors, HeadError};
use crate::base::push_decimal;

/// The interim response after which an agent sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer by adit itself: a status and a JSON body that describes the error.
///
/// With the id of a JSON-RPC request the body is a JSON-RPC error, which an MCP client understands; without one it is
/// `{"error":{"code":…,"message":…}}`.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status of the response.
    pub status: u16,
    /// The code of a JSON-RPC error.
    pub rpc_code: i32,
    /// A name for programs.
    pub code: &'a str,
    /// The error and the remedy, for people.
    pub message: &'a str,
    /// The id of the request as JSON text, when it is known.
    pub rpc_id: Option<&'a str>,
    /// Whether the MCP server may have acted on the request, if known. It is part of the data of the JSON-RPC error, so
    /// that a client knows whether a retry is safe.
    pub may_have_acted: Option<bool>,
    /// More members of that data as JSON text, each after a comma.
    pub data: &'a str,
    /// The result of JSON-RPC, as JSON text, in place of the error.
    pub result: Option<&'a str>,
    /// Whether a JSON-RPC error has no data, like one of the MCP server itself.
    pub is_bare: bool,
    /// The value of `Retry-After`, in seconds. The data of a JSON-RPC error contains it too. Without it, if the server
    /// may have acted on the request, the data contains `terminal`, so that a client does not retry by itself.
    pub retry_after_s: Option<u32>,
    /// Whether the connection closes after it.
    pub close: bool,
    /// Whether it answers HEAD, so that the body is omitted.
    pub to_head: bool,
    /// The CORS fields, if adit handles CORS.
    pub cors: Option<Cors<'a>>,
    /// Fields to add at the end.
    pub append: &'a [(&'a str, &'a [u8])],
}

/// The JSON-RPC code for errors of HTTP itself, without a known id.
const RPC_CODE_HTTP: i32 = -31_000;
/// The JSON-RPC code of MCP for header fields that contradict the message.
const RPC_CODE_HEADER_MISMATCH: i32 = -32_020;

impl<'a> Answer<'a> {
    /// An answer with this status, code name and message that closes the connection.
    #[must_use]
    pub const fn new(status: u16, code: &'a str, message: &'a str) -> Answer<'a> {
        Answer {
            status,
            rpc_code: RPC_CODE_HTTP,
            code,
            message,
            rpc_id: None,
            may_have_acted: None,
            data: "",
            result: None,
            is_bare: false,
            retry_after_s: None,
            close: true,
            to_head: false,
            cors: None,
            append: &[],
        }
    }

    /// Appends the whole response.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n");
        if let Some(seconds) = self.retry_after_s {
            out.extend_from_slice(b"Retry-After: ");
            push_decimal(out, u64::from(seconds));
            out.extend_from_slice(b"\r\n");
        }
        if let Some(cors) = self.cors {
            cors.push(false, out);
        }
        self.append.iter().for_each(|(name, value)| push_field(out, name.as_bytes(), value));
        let body = self.body();
        push_end(out, Framing::Length(body.len() as u64), Connection { close: self.close, te: false }, &[]);
        if !self.to_head {
            out.extend_from_slice(body.as_bytes());
        }
    }

    /// The body of the response, without its head.
    #[must_use]
    pub fn body(&self) -> String {
        let code = serde_json::Value::from(self.code);
        let message = serde_json::Value::from(self.message);
        if let (Some(id), Some(result)) = (self.rpc_id, self.result) {
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        }
        match self.rpc_id {
            None => format!(r#"{{"error":{{"code":{code},"message":{message}}}}}"#),
            Some(id) if self.is_bare => {
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{message}}}}}"#, self.rpc_code)
            }
            Some(id) => {
                let acted =
                    self.may_have_acted.map(|acted| format!(r#","may_have_acted":{acted}"#)).unwrap_or_default();
                let again = match (self.retry_after_s, self.may_have_acted) {
                    (Some(seconds), _) => format!(r#","retry_after_ms":{}"#, u64::from(seconds) * 1_000),
                    (None, Some(true)) => r#","terminal":true"#.to_owned(),
                    (None, _) => String::new(),
                };
                let data = self.data;
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{message},"data":{{"reason":{code}{acted}{again}{data}}}}}}}"#,
                    self.rpc_code
                )
            }
        }
    }
}

/// Appends the answer with the metadata of a protected resource (RFC 9728 section 3.2). Unless CORS rules are given,
/// any web page may read it, because it is public.
pub fn write_metadata(
    metadata: &str,
    (close, to_head): (bool, bool),
    cors: Option<Cors<'_>>,
    timing: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-cache\r\n");
    match cors {
        Some(cors) => cors.push(false, out),
        None => push_field(out, b"Access-Control-Allow-Origin", b"*"),
    }
    push_field(out, b"Server-Timing", timing);
    push_end(out, Framing::Length(metadata.len() as u64), Connection { close, te: false }, &[]);
    if !to_head {
        out.extend_from_slice(metadata.as_bytes());
    }
}

impl HeadError {
    /// Appends the answer to a request whose head has this error, with these fields added.
    pub fn write_answer(self, cors: Option<Cors<'_>>, append: &[(&str, &[u8])], out: &mut Vec<u8>) {
        Answer { cors, append, ..Answer::new(self.status(), HeadError::CODE, &self.to_string()) }.write(out);
    }
}

impl BodyError {
    /// Appends the answer to a request whose body has this error, with these fields added. `rpc_id` is the id of its message, for an
    /// error of MCP itself.
    pub fn write_answer(
        self,
        rpc_id: Option<&str>,
        cors: Option<Cors<'_>>,
        append: &[(&str, &[u8])],
        out: &mut Vec<u8>,
    ) {
        let (rpc_id, rpc_code) = match self.rpc_code() {
            Some(code) => (rpc_id, code),
            None => (None, RPC_CODE_HTTP),
        };
        let (may_have_acted, text) = (Some(false), self.to_string());
        let answer = Answer::new(self.status(), BodyError::CODE, &text);
        Answer { rpc_id, rpc_code, may_have_acted, cors, append, ..answer }.write(out);
    }

    /// The JSON-RPC code that MCP defines for this error (revision 2026-07-28, "Server Validation").
    #[must_use]
    pub const fn rpc_code(self) -> Option<i32> {
        match self {
            BodyError::HeadContradicts => Some(RPC_CODE_HEADER_MISMATCH),
            _ => None,
        }
    }
}

/// The reason phrases of the statuses of adit's own answers.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(answer: &Answer<'_>) -> (String, String) {
        let mut out = Vec::new();
        answer.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn header_fields_that_contradict_the_message_have_the_code_of_mcp() {
        let answer = |error: BodyError, id: Option<&str>| {
            let mut out = Vec::new();
            error.write_answer(id, None, &[], &mut out);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            serde_json::from_str::<serde_json::Value>(body).unwrap()
        };
        let text = answer(BodyError::HeadContradicts, Some("7"));
        assert_eq!((&text["id"], &text["error"]["code"]), (&7.into(), &(-32_020).into()), "{text}");
        for text in [answer(BodyError::HeadContradicts, None), answer(BodyError::AmbiguousMessage, Some("7"))] {
            assert_eq!((text.get("id"), &text["error"]["code"]), (None, &BodyError::CODE.into()), "{text}");
        }
    }

    #[test]
    fn an_answer_is_a_json_rpc_error_when_the_id_is_known() {
        let mut answer = Answer {
            rpc_code: -31_001,
            rpc_id: Some("\"a\""),
            close: false,
            ..Answer::new(503, "connector_offline", "no connector")
        };
        answer.retry_after_s = Some(1);
        let (head, body) = split(&answer);
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains("\r\nRetry-After: 1\r\n") && !head.contains("Connection:"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&json["id"], &json["error"]["code"]), (&"a".into(), &(-31_001).into()));
        assert_eq!(json["error"]["data"]["reason"], "connector_offline");
    }

    #[test]
    fn a_refused_head_is_answered_and_closes_the_connection() {
        let mut out = Vec::new();
        HeadError::TooLong.write_answer(None, &[], &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n") && text.contains("too long"), "{text}");
    }

    #[test]
    fn quotes_cannot_leave_the_message_and_head_gets_no_body() {
        let (_, body) = split(&Answer::new(400, "x", "say \"no\"\r\n"));
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        let (head, body) = split(&Answer { to_head: true, ..Answer::new(400, "x", "y") });
        assert!(body.is_empty() && !head.contains("Content-Length: 0"));
    }
}
