//! The meaning of an HTTP exchange for MCP: its kind, method and tool, for labels, figures and answers. The exchange is
//! not changed.
//!
//! From revision 2026-07-28 on, the head contains them in `Mcp-Method` and `Mcp-Name`, and the server checks both against the
//! body. In earlier revisions those fields have no meaning (the specification tells intermediaries not to trust them), and the
//! body is inspected as it passes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::http1::{Method, RequestHead};
use super::jsonrpc::{Message, MessageMember, NAME_LEN_MAX, Peek, Reading};

/// The header field with the revision that a client uses.
pub const PROTOCOL_VERSION: &str = "MCP-Protocol-Version";
/// The header field with the id of a session (MCP 2025-03-26 to 2025-11-25, section "Session Management").
pub const SESSION_ID: &str = "Mcp-Session-Id";
/// The header field with the JSON-RPC method, from revision 2026-07-28 on.
pub const METHOD: &str = "Mcp-Method";
/// The header field with the tool, prompt, resource or task, from revision 2026-07-28 on.
pub const NAME: &str = "Mcp-Name";
/// The first revision whose head has the method and the name.
pub const FIRST_STATELESS_REVISION: &str = "2026-07-28";

/// The methods of all revisions from 2024-11-05 to 2026-07-28. Any other method is labelled [`OTHER`], so that there
/// are few labels.
pub const METHODS: [&str; 36] = [
    "completion/complete",
    "elicitation/create",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/initialized",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/subscriptions/acknowledged",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
    OTHER,
];

/// The request for an event stream that is not part of a call's answer, from revision 2026-07-28 on.
pub const LISTEN: &str = "subscriptions/listen";

/// The request that begins a session, in revisions before 2026-07-28.
pub const INITIALIZE: &str = "initialize";

/// The label for a method that no revision has.
pub const OTHER: &str = "other";

/// The kind of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// GET: opens a stream from server to client that may stay silent for minutes.
    Stream,
    /// DELETE: ends a session.
    EndSession,
    /// POST of a request, which expects a response.
    Request,
    /// POST of a notification.
    Notification,
    /// POST of the client's answer to a request of the server.
    Response,
    /// POST of a batch of messages.
    Batch,
    /// Not an MCP exchange, or not known yet.
    #[default]
    Unknown,
}

impl CallKind {
    /// A label; there are only a few.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CallKind::Stream => "stream",
            CallKind::EndSession => "end_session",
            CallKind::Request => "request",
            CallKind::Notification => "notification",
            CallKind::Response => "response",
            CallKind::Batch => "batch",
            CallKind::Unknown => "unknown",
        }
    }
}

/// How much of the label a body has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeekOutcome {
    /// The method or its target may still follow.
    TooLittle,
    /// The label, or that it is not a message. A later key may still contradict it.
    Enough,
    /// Servers may interpret it differently: a watched key occurs twice, it is both request and response, or it is a
    /// batch.
    Ambiguous,
    /// It is longer than the inspected part, which does not contain the method or its target.
    TooLong,
}

impl PeekOutcome {
    /// How much of the label the inspected part of a body shows.
    #[must_use]
    pub fn of(peek: &Peek) -> PeekOutcome {
        let method = peek.reading(MessageMember::Method);
        let target = peek.method().and_then(|method| Named::by(method).member()).map(|member| peek.reading(member));
        let is_both = method != Reading::Absent && peek.has_outcome();
        if peek.is_batch() || method == Reading::Doubled || target == Some(Reading::Doubled) || is_both {
            return PeekOutcome::Ambiguous;
        }
        match (method, target) {
            (Reading::Read, None | Some(Reading::Read)) => PeekOutcome::Enough,
            (Reading::Absent, _) if peek.has_outcome() => PeekOutcome::Enough,
            _ if peek.is_cut_off() => PeekOutcome::TooLong,
            _ if peek.is_done() => PeekOutcome::Enough,
            _ => PeekOutcome::TooLittle,
        }
    }
}

/// The method and target of one exchange. One value serves all exchanges of a connection and keeps its memory.
#[derive(Debug, Default)]
pub struct Call {
    kind: CallKind,
    method: Option<&'static str>,
    target: String,
}

impl Call {
    /// Creates an empty state.
    #[must_use]
    #[cfg(test)]
    pub const fn new() -> Call {
        Call { kind: CallKind::Unknown, method: None, target: String::new() }
    }

    /// Reads the head. Returns whether that is enough; if not, [`Call::read_body`] adds the rest.
    pub fn read_head(&mut self, head: &RequestHead) -> bool {
        self.kind = CallKind::Unknown;
        self.method = None;
        self.target.clear();
        match head.method() {
            Method::Get => self.kind = CallKind::Stream,
            Method::Delete => self.kind = CallKind::EndSession,
            Method::Post => return self.read_fields(head),
            _ => {}
        }
        true
    }

    /// Reads the inspected part of the body for what the head did not contain. It can be called again after more was
    /// inspected.
    pub fn read_body(&mut self, peek: &Peek) {
        self.kind = match peek.message() {
            _ if peek.is_batch() => CallKind::Batch,
            Some(Message::Request) => CallKind::Request,
            Some(Message::Notification) => CallKind::Notification,
            Some(Message::Response) => CallKind::Response,
            None => CallKind::Unknown,
        };
        self.method = peek.method().map(label);
        self.target.clear();
        let target = match self.method.map_or(Named::Nothing, Named::by) {
            Named::Name => peek.name(),
            Named::Uri => peek.uri(),
            Named::TaskId => peek.task_id(),
            Named::Nothing => None,
        };
        self.target.push_str(target.unwrap_or_default());
    }

    /// The kind of the exchange.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        self.kind
    }

    /// The method, one of [`METHODS`]; `None` if it is not known yet or there is none.
    #[must_use]
    pub const fn method(&self) -> Option<&'static str> {
        self.method
    }

    /// The tool of a `tools/call`. The caller chooses the text, so limit how many become labels.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        self.target().filter(|_| self.method == Some("tools/call"))
    }

    /// The target of the method: a tool, prompt, resource or task.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        Some(self.target.as_str()).filter(|target| !target.is_empty())
    }

    fn read_fields(&mut self, head: &RequestHead) -> bool {
        if !head.get_only(PROTOCOL_VERSION).is_some_and(has_method_in_head) {
            return false;
        }
        let Some(method) = head.get_only(METHOD).and_then(|method| std::str::from_utf8(method).ok()) else {
            return false;
        };
        let method = label(method);
        self.kind = if method.starts_with("notifications/") { CallKind::Notification } else { CallKind::Request };
        self.method = Some(method);
        let names_something = !matches!(Named::by(method), Named::Nothing);
        match head.get_only(NAME).filter(|_| names_something) {
            Some(name) => read_value(name, &mut self.target),
            None => true,
        }
    }
}

/// The two variants of MCP, which have no revision in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Revisions before [`FIRST_STATELESS_REVISION`]: a session that begins with `initialize`.
    Sessions,
    /// From that revision on: independent requests, the first of which may be `server/discover`.
    Stateless,
}

impl Era {
    /// The era of the agent, if `method` opens a conversation in it.
    #[must_use]
    pub fn of_opening(method: &str) -> Option<Era> {
        match method {
            INITIALIZE => Some(Era::Sessions),
            "server/discover" => Some(Era::Stateless),
            _ => None,
        }
    }

    /// Whether a server answers an opening with this status if it speaks only the other era: it misses the revision or
    /// the session, or does not know the method.
    #[must_use]
    pub const fn is_refusal(status: u16) -> bool {
        matches!(status, 400 | 404 | 405)
    }

    /// The revisions of the era.
    #[must_use]
    pub const fn revisions(self) -> &'static str {
        match self {
            Era::Sessions => "2025-11-25 or earlier",
            Era::Stateless => "2026-07-28 or later",
        }
    }

    /// The other era of the two.
    #[must_use]
    pub const fn other(self) -> Era {
        match self {
            Era::Sessions => Era::Stateless,
            Era::Stateless => Era::Sessions,
        }
    }
}

/// Whether a request asks for an event stream that is not part of a call's answer and lasts for as long as both sides
/// want: a GET, or [`LISTEN`].
#[must_use]
pub fn asks_for_stream(head: &RequestHead) -> bool {
    match head.method() {
        Method::Get => true,
        Method::Post => {
            head.get_only(METHOD) == Some(LISTEN.as_bytes())
                && head.get_only(PROTOCOL_VERSION).is_some_and(has_method_in_head)
        }
        _ => false,
    }
}

/// The parameter that names the target of a method.
enum Named {
    Name,
    Uri,
    TaskId,
    Nothing,
}

impl Named {
    fn by(method: &str) -> Named {
        match method {
            "tools/call" | "prompts/get" => Named::Name,
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Named::Uri,
            "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => Named::TaskId,
            _ => Named::Nothing,
        }
    }

    const fn member(&self) -> Option<MessageMember> {
        match self {
            Named::Name => Some(MessageMember::Name),
            Named::Uri => Some(MessageMember::Uri),
            Named::TaskId => Some(MessageMember::TaskId),
            Named::Nothing => None,
        }
    }
}

/// The method as one of [`METHODS`].
fn label(method: &str) -> &'static str {
    METHODS[..METHODS.len() - 1].binary_search(&method).map_or(OTHER, |at| METHODS[at])
}

/// Whether a request is of a revision that has no sessions, from [`FIRST_STATELESS_REVISION`] on.
#[must_use]
pub fn is_stateless(head: &RequestHead) -> bool {
    head.get_only(PROTOCOL_VERSION).is_some_and(has_method_in_head)
}

/// Whether the head contains the method in this revision, which is a date.
fn has_method_in_head(revision: &[u8]) -> bool {
    let is_date = revision.len() == 10
        && revision.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_date && revision >= FIRST_STATELESS_REVISION.as_bytes()
}

/// Decodes a field value that may be wrapped as `=?base64?…?=` (revision 2026-07-28, "Header value encoding"). Returns
/// whether it is text within the length limit.
fn read_value(value: &[u8], out: &mut String) -> bool {
    let mut decoded = [0; NAME_LEN_MAX];
    let wrapped = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let plain = match wrapped {
        Some(text) => STANDARD.decode_slice(text, &mut decoded).ok().map(|len| &decoded[..len]),
        None => Some(value).filter(|value| value.len() <= NAME_LEN_MAX),
    };
    match plain.and_then(|plain| std::str::from_utf8(plain).ok()) {
        Some(text) => {
            out.push_str(text);
            true
        }
        None => false,
    }
}

/// The same for a value of any length.
#[must_use]
pub fn read_long_value(value: &[u8]) -> Option<String> {
    let wrapped = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let plain = match wrapped {
        Some(text) => STANDARD.decode(text).ok()?,
        None => value.to_vec(),
    };
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, fields: &str) -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(format!("{method} /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        head
    }

    fn peek(body: &str) -> Peek {
        let mut peek = Peek::new();
        peek.feed(body.as_bytes());
        peek
    }

    const NEW: &str = "MCP-Protocol-Version: 2026-07-28\r\n";

    #[test]
    fn labels_are_in_order_and_few() {
        assert!(METHODS[..METHODS.len() - 1].is_sorted());
        for method in METHODS {
            assert_eq!(label(method), method);
        }
        for method in ["", "Tools/call", "tools/call ", "zzz"] {
            assert_eq!(label(method), OTHER);
        }
    }

    #[test]
    fn a_stateless_call_is_known_by_its_head() {
        let mut call = Call::new();
        assert!(call.read_head(&head("POST", &format!("{NEW}Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"))));
        assert_eq!((call.kind(), call.method(), call.tool()), (CallKind::Request, Some("tools/call"), Some("echo")));
        assert!(call.read_head(&head("POST", &format!("{NEW}Mcp-Method: notifications/cancelled\r\n"))));
        assert_eq!((call.kind(), call.tool()), (CallKind::Notification, None));
        assert!(call.read_head(&head("POST", &format!("{NEW}Mcp-Method: tasks/get\r\nMcp-Name: t-1\r\n"))));
        assert_eq!((call.tool(), call.target()), (None, Some("t-1")), "a task is not a tool");
        assert!(call.read_head(&head("POST", &format!("{NEW}Mcp-Method: x/y\r\nMcp-Name: z\r\n"))));
        assert_eq!((call.method(), call.target()), (Some(OTHER), None));
    }

    #[test]
    fn fields_are_not_trusted_where_the_server_does_not_check_them() {
        let fields = "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n";
        let doubled = format!("{NEW}{fields}Mcp-Method: tools/list\r\n");
        for before in ["", "MCP-Protocol-Version: 2025-11-25\r\n", "MCP-Protocol-Version: 9\r\n", &doubled] {
            let mut call = Call::new();
            assert!(!call.read_head(&head("POST", &format!("{before}{fields}"))), "{before}");
            assert_eq!((call.kind(), call.method(), call.tool()), (CallKind::Unknown, None, None), "{before}");
        }
    }

    #[test]
    fn an_older_call_is_known_by_its_body() {
        let mut call = Call::new();
        assert!(!call.read_head(&head("POST", "")));
        call.read_body(&peek(r#"{"id":1,"method":"tools/call","params":{"name":"echo","uri":"u"}}"#));
        assert_eq!((call.kind(), call.method(), call.tool()), (CallKind::Request, Some("tools/call"), Some("echo")));
        call.read_body(&peek(r#"{"id":1,"method":"resources/read","params":{"name":"echo","uri":"u"}}"#));
        assert_eq!((call.tool(), call.target()), (None, Some("u")));
        call.read_body(&peek(r#"{"id":1,"result":{}}"#));
        assert_eq!((call.kind(), call.method(), call.target()), (CallKind::Response, None, None));
        call.read_body(&peek(r#"[{"id":1,"method":"tools/call"}]"#));
        assert_eq!((call.kind(), call.method()), (CallKind::Batch, None));
        call.read_body(&peek(r#"{"id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#));
        assert_eq!((call.method(), call.tool()), (Some("tools/call"), None), "which one is not certain");
    }

    #[test]
    fn a_body_shows_enough_once_its_method_and_target_were_read() {
        let long = "x".repeat(70_000);
        let cases = [
            ("", PeekOutcome::TooLittle),
            (r#"{"id":1,"method":"tools/list""#, PeekOutcome::Enough),
            (r#"{"id":1,"method":"tools/li"#, PeekOutcome::TooLittle),
            (r#"{"id":1,"method":"tools/call""#, PeekOutcome::TooLittle),
            (r#"{"id":1,"method":"tools/call","params":{"name":"a""#, PeekOutcome::Enough),
            (r#"{"params":{"name":"a"},"id":1"#, PeekOutcome::TooLittle),
            (r#"{"params":{"name":"a"},"method":"prompts/get""#, PeekOutcome::Enough),
            (r#"{"method":"tools/call","params":{"uri":"a"}}"#, PeekOutcome::Enough),
            (r#"{"method":"#, PeekOutcome::TooLittle),
            (r#"{"method":7"#, PeekOutcome::Enough),
            (r#"{"id":1,"result":{"#, PeekOutcome::Enough),
            (r#"{"id":1,"result":{},"method":"ping""#, PeekOutcome::Ambiguous),
            (r#"{"method":"ping","error":1"#, PeekOutcome::Ambiguous),
            (r#"{"method":"ping","method":"ping""#, PeekOutcome::Ambiguous),
            (r#"{"METHOD":"ping""#, PeekOutcome::Ambiguous),
            (r#"{"method":"tools/call","params":{"name":"a","name":"a""#, PeekOutcome::Ambiguous),
            (r#"{"method":"tools/call","params":{"name":"a"},"params":{}"#, PeekOutcome::Ambiguous),
            (r#"{"method":"tools/list","params":{"name":"a","name":"a""#, PeekOutcome::Enough),
            ("[", PeekOutcome::Ambiguous),
            ("grant_type=x", PeekOutcome::Enough),
            ("{}", PeekOutcome::Enough),
            (&format!(r#"{{"more":"{long}","method":"ping"}}"#), PeekOutcome::TooLong),
            (&format!(r#"{{"method":"tools/call","more":"{long}"}}"#), PeekOutcome::TooLong),
            (&format!(r#"{{"method":"ping","more":"{long}"}}"#), PeekOutcome::Enough),
            (&format!(r#"{{"result":"{long}"}}"#), PeekOutcome::Enough),
        ];
        for (body, expected) in cases {
            assert_eq!(PeekOutcome::of(&peek(body)), expected, "{}", &body[..body.len().min(80)]);
        }
    }

    #[test]
    fn streams_and_ends_of_sessions_need_no_body() {
        let mut call = Call::new();
        for (method, kind) in
            [("GET", CallKind::Stream), ("DELETE", CallKind::EndSession), ("OPTIONS", CallKind::Unknown)]
        {
            assert!(call.read_head(&head(method, "Mcp-Method: ping\r\n")));
            assert_eq!((call.kind(), call.method()), (kind, None));
        }
    }

    #[test]
    fn wrapped_names_are_decoded_strictly() {
        let mut out = String::new();
        let good = [
            ("=?base64?w6ljaG8=?=", "écho"),
            ("=?base64?YQ==?=", "a"),
            ("=?base64?YWI=?=", "ab"),
            ("=?base64?YWJj?=", "abc"),
            ("=?base64??=", ""),
            ("=?BASE64?YQ==?=", "=?BASE64?YQ==?="),
            ("plain", "plain"),
            ("=?base64?YQ==", "=?base64?YQ=="),
        ];
        for (value, text) in good {
            out.clear();
            assert!(read_value(value.as_bytes(), &mut out), "{value}");
            assert_eq!(out, text);
        }
        let longest = "x".repeat(NAME_LEN_MAX);
        out.clear();
        assert!(read_value(format!("=?base64?{}?=", STANDARD.encode(&longest)).as_bytes(), &mut out));
        assert_eq!(out, longest);
        let long = format!("=?base64?{}?=", STANDARD.encode(format!("{longest}x")));
        let plain = "x".repeat(NAME_LEN_MAX + 1);
        let bad = ["YQ", "YQ=", "Y===", "YR==", "Y Q=", "YQ==YQ==", "_-__", "====", "/w=="];
        let wrapped = bad.map(|text| format!("=?base64?{text}?="));
        for value in wrapped.iter().chain([&long, &plain]) {
            out.clear();
            assert!(!read_value(value.as_bytes(), &mut out), "{value}");
            assert!(out.is_empty());
        }
    }
}
