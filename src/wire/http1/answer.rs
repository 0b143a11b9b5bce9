use super::facts::Framing;
use super::forward::{push_decimal, push_end, push_field};
use super::{BodyError, HeadError};

/// The interim response that lets an agent send its body.
#[cfg(feature = "internals")]
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a call got no answer from its upstream. Each has a status, a JSON-RPC code and a name.
///
/// The codes lie outside -32768…-32000, which JSON-RPC reserves, and so never among -32020…-32099, which MCP reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connector of the route is linked.
    ConnectorOffline,
    /// The upstream took no connection.
    UpstreamRefused,
    /// The upstream broke off, or answered what is no HTTP.
    UpstreamBroken,
    /// A limit of the tunnel is reached.
    Overloaded,
    /// A deadline passed.
    TimedOut,
    /// The link broke while the call was under way.
    LinkLost,
    /// The link was ended under the call because its credential is no longer good.
    Revoked,
    /// Edge and connector do not agree on how the route is sealed, or one does not believe the other.
    SealRefused,
}

impl Fault {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Fault::ConnectorOffline | Fault::Overloaded | Fault::Revoked => 503,
            Fault::UpstreamRefused | Fault::UpstreamBroken | Fault::LinkLost | Fault::SealRefused => 502,
            Fault::TimedOut => 504,
        }
    }

    /// The code of the JSON-RPC error.
    #[must_use]
    pub const fn rpc_code(self) -> i32 {
        match self {
            Fault::ConnectorOffline => -31_001,
            Fault::UpstreamRefused => -31_002,
            Fault::UpstreamBroken => -31_003,
            Fault::Overloaded => -31_004,
            Fault::TimedOut => -31_005,
            Fault::LinkLost => -31_006,
            Fault::Revoked => -31_007,
            Fault::SealRefused => -31_008,
        }
    }

    /// The name in `error.code` or `error.data.reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::ConnectorOffline => "connector_offline",
            Fault::UpstreamRefused => "upstream_refused",
            Fault::UpstreamBroken => "upstream_broken",
            Fault::Overloaded => "overloaded",
            Fault::TimedOut => "timed_out",
            Fault::LinkLost => "link_lost",
            Fault::Revoked => "revoked",
            Fault::SealRefused => "seal_refused",
        }
    }

    /// What happened and what to do, for a person.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Fault::ConnectorOffline => "no connector is linked for this host: start `adit connect`, or try again soon",
            Fault::UpstreamRefused => {
                "the MCP server behind the tunnel refused the connection: check that it is running"
            }
            Fault::UpstreamBroken => "the MCP server behind the tunnel broke off: it may have acted on the request",
            Fault::Overloaded => "the tunnel is at its limit: try again after a pause",
            Fault::TimedOut => "the MCP server did not answer in time: it may have acted on the request",
            Fault::LinkLost => "the link to the private network broke: the server may have acted on the request",
            Fault::Revoked => {
                "the tunnel's credential was withdrawn while the call was under way: the server may have acted on the request"
            }
            Fault::SealRefused => {
                "edge and connector could not seal the call: its operator finds the reason in the logs of both"
            }
        }
    }
}

/// An answer of our own: a status and a JSON body that says what was wrong.
///
/// With the id of a JSON-RPC request the body is a JSON-RPC error, which an MCP client understands; without one it is
/// `{"error":{"code":…,"message":…}}`.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The code of a JSON-RPC error.
    pub rpc_code: i32,
    /// A name for programs.
    pub code: &'a str,
    /// What was wrong and what to do, for a person.
    pub message: &'a str,
    /// The id of the request as JSON text, when it is known.
    pub rpc_id: Option<&'a str>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// Whether the connection closes after it.
    pub close: bool,
    /// Whether it answers HEAD, so that the body stays away.
    pub to_head: bool,
    /// Fields to add at the end.
    pub append: &'a [(&'a str, &'a [u8])],
}

/// The JSON-RPC code where HTTP itself is at fault and no id is known.
const RPC_CODE_HTTP: i32 = -31_000;

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
            retry_after_s: None,
            close: true,
            to_head: false,
            append: &[],
        }
    }

    /// The answer to a call that failed so; the connection stays open.
    #[must_use]
    pub const fn to_fault(fault: Fault, rpc_id: Option<&'a str>) -> Answer<'a> {
        let plain = Answer::new(fault.status(), fault.name(), fault.message());
        Answer { rpc_code: fault.rpc_code(), rpc_id, close: false, ..plain }
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
        self.append.iter().for_each(|(name, value)| push_field(out, name.as_bytes(), value));
        let body = self.body();
        push_end(out, Framing::Length(body.len() as u64), self.close, &[]);
        if !self.to_head {
            out.extend_from_slice(body.as_bytes());
        }
    }

    fn body(&self) -> String {
        let code = serde_json::Value::from(self.code);
        let message = serde_json::Value::from(self.message);
        match self.rpc_id {
            None => format!(r#"{{"error":{{"code":{code},"message":{message}}}}}"#),
            Some(id) => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{message},"data":{{"reason":{code}}}}}}}"#,
                self.rpc_code
            ),
        }
    }
}

impl HeadError {
    /// Appends the answer to a request whose head is refused so.
    pub fn write_answer(self, out: &mut Vec<u8>) {
        Answer::new(self.status(), "bad_request_head", &self.to_string()).write(out);
    }
}

impl BodyError {
    /// Appends the answer to a request whose body is refused so.
    pub fn write_answer(self, out: &mut Vec<u8>) {
        Answer::new(self.status(), "bad_request_body", &self.to_string()).write(out);
    }
}

/// The reason of the statuses that the tunnel itself answers with.
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
    fn a_fault_is_a_json_rpc_error_when_the_id_is_known() {
        let mut answer = Answer::to_fault(Fault::ConnectorOffline, Some("\"a\""));
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
    fn a_refused_head_closes_and_says_why() {
        let mut out = Vec::new();
        HeadError::TooLong.write_answer(&mut out);
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

    #[test]
    fn codes_stay_out_of_the_reserved_ranges() {
        use Fault::*;
        let faults =
            [ConnectorOffline, UpstreamRefused, UpstreamBroken, Overloaded, TimedOut, LinkLost, Revoked, SealRefused];
        let codes: std::collections::BTreeSet<i32> = faults.iter().map(|fault| fault.rpc_code()).collect();
        assert_eq!(codes.len(), faults.len());
        assert!(codes.iter().all(|code| !(-32_768..=-32_000).contains(code)));
    }
}
