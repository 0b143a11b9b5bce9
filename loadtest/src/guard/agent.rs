//! An agent of one task: a connection, and calls with a timeout.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::compare::site::HOST;
use crate::serve::WANTED_SERVICE;

/// The longest answer that is read, in bytes.
const ANSWER_LEN_MAX: usize = 1 << 20;
/// How long the server may take to report its counts.
const STATS_TIMEOUT: Duration = Duration::from_secs(10);
/// The header field with the time that an agent waits, in seconds.
const REQUEST_TIMEOUT: &str = "X-Request-Timeout";
/// The name of the called tool.
const TOOL: &str = "book";

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallEnd {
    /// The answer was a good one.
    Answered { bytes: u64 },
    /// The answer was an error.
    Refused(RefusedCall),
    /// No answer arrived in time.
    TimedOut,
    /// The connection failed.
    Broken,
}

/// The content of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefusedCall {
    pub(super) bytes: u64,
    /// Whether it must not be retried.
    pub(super) is_terminal: bool,
    /// When it may be retried.
    pub(super) retry_after: Option<Duration>,
    /// Whether the tool may have run.
    pub(super) may_have_run: bool,
}

/// An agent, and its connection while that is usable.
pub(super) struct Agent {
    to: SocketAddr,
    timeout: Duration,
    /// The field with the time that it waits, including the line end; empty if it sends none.
    field: String,
    connection: Option<TcpStream>,
}

impl Agent {
    /// An agent that waits `timeout` for an answer, and sends that time to the tunnel if `tells`.
    pub(super) fn new(to: SocketAddr, timeout: Duration, tells: bool) -> Agent {
        let field = format!("{REQUEST_TIMEOUT}: {:.3}\r\n", timeout.as_secs_f64());
        Agent { to, timeout, field: if tells { field } else { String::new() }, connection: None }
    }

    /// Calls the tool for the task with this number, with this service time at the server. Without an answer in time
    /// the connection is closed, which is how agents cancel calls.
    pub(super) fn call(&mut self, task: u64, service: Duration) -> CallEnd {
        let until = Instant::now() + self.timeout;
        match self.ask(task, service, until) {
            Ok(answer) => answer.end(),
            Err(error) => {
                self.connection = None;
                match error.kind() {
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => CallEnd::TimedOut,
                    _ => CallEnd::Broken,
                }
            }
        }
    }

    fn ask(&mut self, task: u64, service: Duration, until: Instant) -> io::Result<Answer> {
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect_timeout(&self.to, left(until)?)?,
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{task},"method":"tools/call","params":{{"name":"{TOOL}","arguments":{{"q":{task}}}}}}}"#
        );
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
             MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {TOOL}\r\n{WANTED_SERVICE}: {}\r\n{}\
             Content-Length: {}\r\n\r\n{body}",
            service.as_micros(),
            self.field,
            body.len()
        );
        stream.set_write_timeout(Some(left(until)?))?;
        stream.write_all(request.as_bytes())?;
        let answer = Answer::read(&mut stream, until)?;
        if answer.keeps {
            self.connection = Some(stream);
        }
        Ok(answer)
    }
}

/// The time that is left until then.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A received answer.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
    keeps: bool,
}

impl Answer {
    fn read(stream: &mut TcpStream, until: Instant) -> io::Result<Answer> {
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(answer) = Answer::of(&bytes)? {
                return Ok(answer);
            }
            stream.set_read_timeout(Some(left(until)?))?;
            match stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n if bytes.len() + n > ANSWER_LEN_MAX => return Err(io::ErrorKind::InvalidData.into()),
                n => bytes.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// The answer, once it is complete.
    fn of(bytes: &[u8]) -> io::Result<Option<Answer>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad())?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
        let field = |name: &str| {
            let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let length: usize = field("content-length").and_then(|length| length.parse().ok()).ok_or_else(bad)?;
        let body = &bytes[end + 4..];
        let retry_after = field("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let keeps = !field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok((body.len() >= length).then(|| Answer { status, retry_after, body: body[..length].to_vec(), keeps }))
    }

    fn end(&self) -> CallEnd {
        let bytes = self.body.len() as u64;
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if self.status == 200 && json.get("result").is_some() {
            return CallEnd::Answered { bytes };
        }
        let data = &json["error"]["data"];
        CallEnd::Refused(RefusedCall {
            bytes,
            is_terminal: data["terminal"] == Value::Bool(true),
            retry_after: self.retry_after,
            may_have_run: data["may_have_acted"] != Value::Bool(false),
        })
    }
}

/// The calls on which a server has begun to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerCalls {
    pub(super) all: u64,
    /// The calls with an id that an earlier call had.
    pub(super) repeated: u64,
}

/// The number of tool calls on which the server has begun to work.
pub(super) fn count_calls(upstream: SocketAddr) -> io::Result<ServerCalls> {
    let answer = ask_server(upstream, "GET")?;
    let json: Value = serde_json::from_slice(&answer.body)?;
    let count = |name: &str| json[name].as_u64().ok_or(io::ErrorKind::InvalidData);
    Ok(ServerCalls { all: count("calls")?, repeated: count("doubled")? })
}

/// Resets the server's counts to zero.
pub(super) fn forget_calls(upstream: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&upstream, STATS_TIMEOUT)?;
    stream.set_read_timeout(Some(STATS_TIMEOUT))?;
    stream.write_all(format!("DELETE /stats HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if head == *b"HTTP/1.1 204" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn ask_server(upstream: SocketAddr, method: &str) -> io::Result<Answer> {
    let until = Instant::now() + STATS_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&upstream, STATS_TIMEOUT)?;
    stream
        .write_all(format!("{method} /stats HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\n\r\n").as_bytes())?;
    Answer::read(&mut stream, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Option<CallEnd> {
        Answer::of(text.as_bytes()).unwrap().map(|answer| answer.end())
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_shows_whether_to_retry() {
        let good = answer("200 OK", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        assert_eq!(end(&good), Some(CallEnd::Answered { bytes: 36 }));
        assert_eq!(end(&good[..good.len() - 1]), None);
        assert_eq!(end("HTTP/1.1 200 OK\r\n"), None);
        let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31019,"message":"","data":{"terminal":true}}}"#;
        let refused =
            RefusedCall { bytes: body.len() as u64, is_terminal: true, retry_after: None, may_have_run: true };
        assert_eq!(end(&answer("504 Gateway Timeout", body)), Some(CallEnd::Refused(refused)));
        let other = body.replace(r#""terminal":true"#, r#""may_have_acted":false"#);
        let (bytes, retry_after) = (other.len() as u64, Some(Duration::from_secs(2)));
        let refused = RefusedCall { bytes, is_terminal: false, retry_after, may_have_run: false };
        assert_eq!(end(&answer("503 No\r\nRetry-After: 2", &other)), Some(CallEnd::Refused(refused)));
        assert!(Answer::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "its length is unknown");
    }
}
