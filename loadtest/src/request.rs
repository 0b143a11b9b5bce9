//! Requests, which are encoded once; only the id changes from call to call.

use std::fmt::Write;

use adit::engine::{ByteStream, Class, Pool, StreamError};
use adit::wire::http1::Method;
use serde_json::{Value, json};

use crate::load::{Call, CallKind, Reuse, Target};

/// All ids have the same number of digits, so that all requests have the same length.
const ID_FIRST: u64 = 1_000_000_000;
/// Digits of an id.
pub(crate) const ID_LEN: usize = 10;
/// Marks the place of the id while a request is encoded.
const ID_MARK: u64 = 7_777_777_777;
/// Bodies up to this length are kept in memory; longer ones are generated while they are sent.
const KEPT_LEN_MAX: u64 = 48 * 1024;
/// The content of long bodies.
const FILLER: [u8; 4096] = [b'x'; 4096];

/// The number of ids.
const ID_COUNT: u64 = 10_000_000_000 - ID_FIRST;

/// The id of call `i`.
pub(crate) fn id_of(i: u64) -> u64 {
    ID_FIRST + i % ID_COUNT
}

/// The number of the call that tests connection `place`. No planned call has the same id.
pub(crate) fn proof_of(place: usize) -> u64 {
    ID_COUNT - 1 - place as u64 % ID_COUNT
}

/// A request that is sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Head and body, or the head alone when the body is too long to be kept.
    bytes: Vec<u8>,
    /// The position of the id's digits in these bytes.
    id_at: Option<usize>,
    /// The number of filler bytes that follow.
    filler: u64,
    /// The length of the body as decimal digits.
    body_len: String,
    pub(crate) method: Method,
    /// Whether the answer is a JSON-RPC message with a result.
    pub(crate) is_rpc: bool,
    /// The status of a good answer, if not any 2xx status.
    status: Option<u16>,
    /// Whether no request follows on the connection.
    pub(crate) closes: bool,
}

impl Request {
    /// The request of this call, in a session if one is given.
    pub(crate) fn of_call(target: &Target, call: &Call, reuse: Reuse, session: Option<&str>) -> Request {
        let body = match call.kind {
            CallKind::McpSession | CallKind::McpStateless => Some(tool_call(call)),
            CallKind::Post | CallKind::Get | CallKind::Sse => None,
        };
        let method = if matches!(call.kind, CallKind::Get | CallKind::Sse) { Method::Get } else { Method::Post };
        let mut fields = Fields::new(target, method);
        match call.kind {
            CallKind::McpSession => fields.mcp_session(session),
            CallKind::McpStateless => fields.mcp(STATELESS).add("Mcp-Method", "tools/call").add("Mcp-Name", &call.tool),
            CallKind::Get => fields.add("Accept", "*/*"),
            CallKind::Post => fields.add("Accept", "*/*").add("Content-Type", "application/octet-stream"),
            CallKind::Sse => fields.add("Accept", "text/event-stream"),
        };
        fields.add_call(call, reuse);
        let filler = if body.is_none() && method == Method::Post { call.payload } else { 0 };
        let request = fields.request(body.as_deref(), filler);
        Request { is_rpc: request.is_rpc && call.status.is_none(), status: call.status, ..request }
    }

    /// The request `initialize` of revision 2025-11-25.
    pub(crate) fn initialize(target: &Target, call: &Call) -> Request {
        let body = json!({
            "jsonrpc": "2.0",
            "id": ID_MARK,
            "method": "initialize",
            "params": { "protocolVersion": SESSION, "capabilities": {}, "clientInfo": client_info() },
        });
        let mut fields = Fields::new(target, Method::Post);
        fields.add("Content-Type", JSON).add("Accept", JSON_OR_EVENTS).add_call(call, Reuse::KeepAlive);
        fields.request(Some(&body.to_string()), 0)
    }

    /// The notification that ends the opening of a session.
    pub(crate) fn initialized(target: &Target, call: &Call, session: Option<&str>) -> Request {
        let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let mut fields = Fields::new(target, Method::Post);
        fields.mcp_session(session).add_call(call, Reuse::KeepAlive);
        Request { is_rpc: false, ..fields.request(Some(&body.to_string()), 0) }
    }

    /// Whether an answer with this status is a good one.
    pub(crate) fn is_good(&self, status: u16) -> bool {
        self.status.map_or((200..300).contains(&status), |good| good == status)
    }

    /// The length of the whole request in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64 + self.filler
    }

    /// Whether these decimal digits are the length of the body.
    pub(crate) fn is_of_len(&self, digits: &[u8]) -> bool {
        self.body_len.as_bytes() == digits
    }

    /// Queues the whole request, waiting for room and for buffers.
    pub(crate) async fn send(&self, id: u64, to: &impl ByteStream, pool: &Pool) -> Result<(), StreamError> {
        let around = to.headroom() + to.tailroom();
        let mut at = 0;
        while at < self.bytes.len() {
            if at > 0 {
                to.ready().await?;
            }
            let left = self.bytes.len() - at;
            let class = if left + around <= Class::Small.bytes() { Class::Small } else { Class::Large };
            let mut lease = match pool.take(class) {
                Some(lease) => lease,
                None => pool.lease(class).await,
            };
            lease.reserve_headroom(to.headroom());
            let n = left.min(lease.tailroom() - to.tailroom());
            lease.append(&self.bytes[at..at + n]);
            if let Some(id_at) = self.id_at.filter(|id_at| (at..at + n).contains(id_at)) {
                write_id(&mut lease[id_at - at..id_at - at + ID_LEN], id);
            }
            to.send(lease)?;
            at += n;
        }
        self.send_filler(to, pool).await
    }

    async fn send_filler(&self, to: &impl ByteStream, pool: &Pool) -> Result<(), StreamError> {
        let mut left = self.filler;
        while left > 0 {
            to.ready().await?;
            let mut lease = pool.lease(Class::Large).await;
            lease.reserve_headroom(to.headroom());
            while left > 0 && lease.tailroom() > to.tailroom() {
                let room = (lease.tailroom() - to.tailroom()).min(FILLER.len());
                let n = room.min(usize::try_from(left).unwrap_or(usize::MAX));
                lease.append(&FILLER[..n]);
                left -= n as u64;
            }
            to.send(lease)?;
        }
        Ok(())
    }
}

const SESSION: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";
const JSON: &str = "application/json";
const JSON_OR_EVENTS: &str = "application/json, text/event-stream";

/// A request head that is being written.
struct Fields {
    text: String,
    method: Method,
    is_rpc: bool,
    closes: bool,
}

impl Fields {
    fn new(target: &Target, method: Method) -> Fields {
        let name = if method == Method::Get { "GET" } else { "POST" };
        let mut text = format!("{name} {} HTTP/1.1\r\n", target.path());
        push(&mut text, "Host", &target.authority());
        Fields { text, method, is_rpc: false, closes: false }
    }

    fn add(&mut self, name: &str, value: &str) -> &mut Fields {
        push(&mut self.text, name, value);
        self
    }

    fn mcp(&mut self, revision: &str) -> &mut Fields {
        self.is_rpc = true;
        self.add("Content-Type", JSON).add("Accept", JSON_OR_EVENTS).add("MCP-Protocol-Version", revision)
    }

    fn mcp_session(&mut self, session: Option<&str>) -> &mut Fields {
        self.mcp(SESSION);
        if let Some(session) = session {
            self.add("Mcp-Session-Id", session);
        }
        self
    }

    fn add_call(&mut self, call: &Call, reuse: Reuse) -> &mut Fields {
        for (name, value) in &call.headers {
            self.add(name, value);
        }
        self.closes = reuse == Reuse::PerCall;
        if self.closes {
            // The server closes first, so that no local port is in TIME_WAIT.
            self.add("Connection", "close");
        }
        self
    }

    fn request(self, body: Option<&str>, filler: u64) -> Request {
        let Fields { mut text, method, is_rpc, closes } = self;
        let body = body.unwrap_or_default();
        let body_len = (body.len() as u64 + filler).to_string();
        if method == Method::Post {
            push(&mut text, "Content-Length", &body_len);
        }
        text.push_str("\r\n");
        let mark = format!("\"id\":{ID_MARK}");
        let id_at = body.find(&mark).map(|at| text.len() + at + "\"id\":".len());
        text.push_str(body);
        let (mut bytes, mut left) = (text.into_bytes(), filler);
        if filler <= KEPT_LEN_MAX {
            bytes.resize(bytes.len() + filler as usize, FILLER[0]);
            left = 0;
        }
        Request {
            bytes,
            id_at,
            filler: left,
            body_len,
            method,
            is_rpc: is_rpc || id_at.is_some(),
            status: None,
            closes,
        }
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    let _ = write!(text, "{name}: {value}\r\n");
}

fn client_info() -> Value {
    json!({ "name": "adit-loadtest", "version": env!("CARGO_PKG_VERSION") })
}

/// The body of a tool call: as long as the payload, if the envelope leaves room.
fn tool_call(call: &Call) -> String {
    let body = |text: &str| {
        let mut params = json!({ "name": call.tool, "arguments": { "text": text } });
        if call.kind == CallKind::McpStateless {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientInfo": client_info(),
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        // The members in the order in which clients write them.
        format!(r#"{{"jsonrpc":"2.0","id":{ID_MARK},"method":"tools/call","params":{params}}}"#)
    };
    let envelope = body("").len();
    let text = usize::try_from(call.payload).unwrap_or(usize::MAX).saturating_sub(envelope);
    body(&"x".repeat(text))
}

fn write_id(digits: &mut [u8], id: u64) {
    let mut rest = id;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::wire::http1::{Framing, Progress, RequestHead};
    use adit::wire::jsonrpc::Peek;

    fn call(kind: CallKind, payload: u64) -> Call {
        Call { kind, payload, ..Call::default() }
    }

    fn read(request: &Request) -> (RequestHead, Vec<u8>) {
        let mut head = RequestHead::new();
        let Ok(Progress::Complete { len }) = head.feed(&request.bytes) else { panic!("a complete head") };
        (head, request.bytes[len..].to_vec())
    }

    #[test]
    fn tool_calls_have_the_asked_length_and_their_id_in_its_place() {
        let target: Target = "https://mcp.example:1/mcp".parse().unwrap();
        for kind in [CallKind::McpSession, CallKind::McpStateless] {
            for payload in [0, 1024, 40_000] {
                let mut request = Request::of_call(&target, &call(kind, payload), Reuse::KeepAlive, Some("s-1"));
                let at = request.id_at.unwrap();
                write_id(&mut request.bytes[at..at + ID_LEN], id_of(42));
                let (head, body) = read(&request);
                assert_eq!(head.framing(), Framing::Length(body.len() as u64));
                assert!(body.len() as u64 == payload || payload == 0, "{payload}: {}", body.len());
                let mut peek = Peek::new();
                peek.feed(&body);
                assert_eq!(
                    (peek.id(), peek.method(), peek.name()),
                    (Some("1000000042"), Some("tools/call"), Some("echo"))
                );
                let revision = head.get("MCP-Protocol-Version").unwrap();
                let stateless = kind == CallKind::McpStateless;
                assert_eq!(revision, if stateless { b"2026-07-28" } else { b"2025-11-25" });
                assert_eq!(head.get("Mcp-Name").is_some(), stateless);
                assert_eq!(head.get("Mcp-Session-Id").is_some(), !stateless);
            }
        }
    }

    #[test]
    fn long_bodies_are_not_kept() {
        let target: Target = "http://a/upload".parse().unwrap();
        let request = Request::of_call(&target, &call(CallKind::Post, 1 << 30), Reuse::PerCall, None);
        let (head, body) = read(&request);
        assert_eq!((head.framing(), body.len(), request.filler), (Framing::Length(1 << 30), 0, 1 << 30));
        assert!(!head.keep_alive() && request.closes);
        let short = Request::of_call(&target, &call(CallKind::Post, 100), Reuse::KeepAlive, None);
        assert_eq!((read(&short).1.len(), short.filler, short.closes), (100, 0, false));
    }

    #[test]
    fn ids_have_as_many_digits_for_ever() {
        for i in [0, 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(id_of(i).to_string().len(), ID_LEN);
        }
        assert_eq!((id_of(proof_of(0)), id_of(proof_of(1))), (9_999_999_999, 9_999_999_998));
        let mut digits = [0; ID_LEN];
        write_id(&mut digits, id_of(9));
        assert_eq!(&digits, b"1000000009");
    }
}
