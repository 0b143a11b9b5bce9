//! A client with one connection at a time.

use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{ByteStream, Core, StreamError, send_bytes};
use adit::tls::Connection;

use crate::bodies::{read_head, send};
use crate::roles::AGENTS_AT;
use crate::sealed::Door;

/// The message of a client that lists tools.
pub(super) const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// What every message that calls a tool has.
pub(super) const TOOL_CALL: &str = r#""method":"tools/call""#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
/// Bytes of a field that makes a head long.
const LONG_FIELD_LEN: usize = 62_000;
/// Between the pieces of a request.
const PAUSE: Duration = Duration::from_millis(50);

/// A client, with a connection that it keeps for as long as it can.
pub(crate) struct Client {
    core: Core,
    door: Door,
    wire: Option<(Connection, Vec<u8>)>,
    connections: usize,
}

/// The answer to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 when none came.
    pub(crate) status: u16,
    /// The server that answered; empty when it was adit itself.
    pub(crate) server: String,
    /// The session that the answer names.
    pub(crate) session: Option<String>,
    /// Its body.
    pub(crate) body: String,
    /// Which of the client's connections it came on.
    pub(crate) connection: usize,
}

impl Client {
    /// A client behind this door, without a connection.
    pub(super) fn new(core: Core, door: Door) -> Client {
        Client { core, door, wire: None, connections: 0 }
    }

    /// Begins a session.
    pub(crate) async fn initialize(&mut self, host: &str) -> Answer {
        self.exchange("POST", host, None, INITIALIZE).await
    }

    /// Makes the next request on a new connection.
    pub(crate) fn reconnect(&mut self) {
        self.wire = None;
    }

    /// Makes one request, in a session or without one.
    pub(crate) async fn call(&mut self, method: &str, host: &str, session: Option<&str>) -> Answer {
        let body = if method == "POST" { BODY } else { "" };
        self.exchange(method, host, session, body).await
    }

    /// Calls a tool, in a session or without one, with so many bytes of arguments.
    pub(crate) async fn tool(&mut self, host: &str, tool: &str, session: Option<&str>, len: usize) -> Answer {
        self.exchange("POST", host, session, &tool_call(tool, len)).await
    }

    /// Makes one request, and waits so many seconds for its answer.
    pub(crate) async fn call_within(&mut self, host: &str, timeout_s: u64) -> Answer {
        self.post_within(host, BODY, timeout_s).await
    }

    /// Calls a tool, and waits so many seconds for its answer.
    pub(crate) async fn tool_within(&mut self, host: &str, tool: &str, timeout_s: u64) -> Answer {
        self.post_within(host, &tool_call(tool, 0), timeout_s).await
    }

    async fn post_within(&mut self, host: &str, body: &str, timeout_s: u64) -> Answer {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nX-Request-Timeout: {timeout_s}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.answer(&[request.as_bytes()]).await.unwrap_or_default()
    }

    /// Calls a tool, and leaves after so long.
    pub(crate) async fn leave(&mut self, host: &str, tool: &str, after: Duration) {
        let core = self.core.clone();
        let _ = core.timeout(after, self.tool_text(host, tool)).await;
    }

    /// Calls a tool on a connection that ends with the answer, and returns all that comes.
    pub(crate) async fn tool_text(&mut self, host: &str, tool: &str) -> String {
        let body = tool_call(tool, 0);
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let to = Address::Tcp(AGENTS_AT);
        let socket = self.core.connect(&to, SocketOptions::default()).await.expect("the edge listens");
        send(&socket, request.as_bytes()).await.expect("the edge reads");
        let mut text = String::new();
        while let Ok(Some(lease)) = socket.recv().await {
            text.push_str(&String::from_utf8_lossy(&lease));
        }
        text
    }

    pub(crate) fn now(&self) -> Time {
        self.core.now()
    }

    /// Does nothing for so long.
    pub(crate) async fn pause(&self, time: Duration) {
        self.core.sleep(time).await;
    }

    async fn exchange(&mut self, method: &str, host: &str, session: Option<&str>, body: &str) -> Answer {
        let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        let request =
            format!("{method} /mcp HTTP/1.1\r\nHost: {host}\r\n{session}Content-Length: {}\r\n\r\n{body}", body.len());
        self.answer(&[request.as_bytes()]).await.unwrap_or_default()
    }

    /// Makes a request with a long head and so long a body, and a pause before the end of the head.
    pub(crate) async fn upload(&mut self, host: &str, len: usize) -> Answer {
        let long = "x".repeat(LONG_FIELD_LEN);
        let head = format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\nX-Long: {long}\r\nContent-Length: {len}\r\n\r\n");
        let request = [head.as_bytes(), &vec![b'x'; len]].concat();
        let (first, rest) = request.split_at(LONG_FIELD_LEN);
        self.answer(&[first, rest]).await.unwrap_or_default()
    }

    /// Sends a request, with a pause between its pieces, and reads its answer.
    async fn answer(&mut self, request: &[&[u8]]) -> Result<Answer, StreamError> {
        let (socket, mut received) = match self.wire.take() {
            Some(wire) => wire,
            None => {
                self.connections += 1;
                let connected = self.door.connect(&self.core).await;
                (connected.map_err(|_| StreamError::Closed)?, Vec::new())
            }
        };
        for (nth, piece) in request.iter().enumerate() {
            if nth > 0 {
                self.core.sleep(PAUSE).await;
            }
            send_bytes(&socket, self.core.pool(), piece).await?;
        }
        let head = read_head(&socket, &mut received).await?;
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while received.len() < length {
            received.extend_from_slice(&socket.recv().await?.ok_or(StreamError::Truncated)?);
        }
        let rest = received.split_off(length);
        let body = std::mem::replace(&mut received, rest);
        if field(&head, "connection").is_none_or(|value| value != "close") {
            self.wire = Some((socket, received));
        }
        Ok(Answer {
            status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0),
            server: field(&head, "x-server").unwrap_or_default(),
            session: field(&head, "mcp-session-id"),
            body: String::from_utf8_lossy(&body).into_owned(),
            connection: self.connections - 1,
        })
    }
}

/// The message that calls a tool, with so many bytes of arguments.
pub(crate) fn tool_call(tool: &str, len: usize) -> String {
    let text = "x".repeat(len);
    format!(r#"{{"jsonrpc":"2.0","id":1,{TOOL_CALL},"params":{{"name":"{tool}","arguments":{{"text":"{text}"}}}}}}"#)
}

/// The value of this field of a head.
pub(super) fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}
