//! One connection of an upstream, which answers one request after another.

use std::future::poll_fn;
use std::io::Write;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use adit::base::{Chunk, Clock, Time};
use adit::engine::{ByteStream, StreamError};
use adit::exchange::{HeadReadError, Intake};
use adit::tls::Connection;
use adit::wire::http1::{Answer, BodyDecoder, BodyError, CONTINUE, Decoded, Framing, Method, RequestHead};
use adit::wire::jsonrpc::{Message, Peek};
use adit::wire::mcp::{FIRST_STATELESS_REVISION, PROTOCOL_VERSION};

use super::outgoing::{Part, send};
use super::ticks::Ticks;
use super::{ANSWER_LEN_MAX, Form, HELD, HOLD, RELEASED, SERVICE_MAX, ServerState, WANTED_SERVICE, answers};
use crate::answer::RECEIVED;
use crate::pattern;

/// How long a client may take to read the last answer of a connection.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Why a connection ends.
enum End {
    /// The client has finished or left.
    Quiet,
    /// The last answer announced the end of the connection.
    Answered,
}

impl From<StreamError> for End {
    fn from(_: StreamError) -> End {
        End::Quiet
    }
}

/// A connection, with memory that is reused for each request.
struct Serving<'a> {
    server: &'a ServerState,
    connection: &'a Connection,
    intake: Intake,
    head: RequestHead,
    decoder: BodyDecoder,
    peek: Peek,
    /// The head of the current answer.
    out: Vec<u8>,
    /// The id of the request.
    id: Vec<u8>,
    /// When the first byte of the request arrived.
    began: Time,
    /// The number of received body bytes.
    received: u64,
    /// Whether the body should be the pattern and differs.
    is_wrong: bool,
}

/// The resource that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// An answer of this many bytes of the pattern.
    Body(u64),
    Bytes(u64),
    Events,
    Mcp,
    Plain,
    Release,
    Stats,
    Ticks(Ticks),
    /// An upload of the pattern, which is checked.
    Upload,
}

impl ServerState {
    pub(super) async fn serve(self: Rc<ServerState>, connection: Connection) {
        self.stats.borrow_mut().connections += 1;
        let mut serving = Serving {
            server: &self,
            connection: &connection,
            intake: Intake::default(),
            head: RequestHead::new(),
            decoder: BodyDecoder::default(),
            peek: Peek::new(),
            out: Vec::new(),
            id: Vec::new(),
            began: Time::ZERO,
            received: 0,
            is_wrong: false,
        };
        let end = loop {
            match serving.serve_one().await {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        drop(serving);
        self.stats.borrow_mut().connections -= 1;
        if let End::Answered = end {
            connection.close_gracefully(CLOSE_PATIENCE).await;
        }
    }
}

impl Serving<'_> {
    async fn serve_one(&mut self) -> Result<(), End> {
        let read = self.intake.request_head(self.connection, &mut self.head, &self.server.core).await;
        self.began = match read {
            Ok(Some(began)) => began,
            Ok(None) | Err(HeadReadError::Stream(_)) => return Err(End::Quiet),
            Err(HeadReadError::Head(error)) => return self.refuse_with(|out| error.write_answer(None, &[], out)).await,
            Err(HeadReadError::Timeout) => return Err(End::Quiet),
        };
        if self.head.expects_continue() {
            send(self.connection, self.server.core.pool(), &[Part::Text(CONTINUE)]).await?;
        }
        let wanted = wanted(self.head.path());
        if let Err(error) = self.read_body(wanted).await? {
            return self.refuse_with(|out| error.write_answer(None, None, &[], out)).await;
        }
        match (self.head.method(), wanted) {
            (Method::Post, Wanted::Mcp) => self.answer_mcp().await?,
            (Method::Get, Wanted::Mcp) => self.refuse(405, "no event stream is offered").await?,
            (Method::Delete, Wanted::Mcp) => self.answer_empty(204).await?,
            (Method::Get, Wanted::Stats) => self.answer_stats().await?,
            (Method::Delete, Wanted::Stats) => {
                self.server.stats.borrow_mut().reset();
                self.answer_empty(204).await?;
            }
            (Method::Post, Wanted::Release) => self.answer_release().await?,
            (Method::Get, Wanted::Events) => self.answer_plain_events().await?,
            (Method::Get, Wanted::Bytes(len)) if len <= ANSWER_LEN_MAX => self.answer_plain(len).await?,
            (Method::Get | Method::Post, Wanted::Plain) => self.answer_plain(self.server.answers.plain_len()).await?,
            (Method::Get, Wanted::Body(len)) if len <= ANSWER_LEN_MAX => self.answer_body(len).await?,
            (Method::Get, Wanted::Ticks(ticks)) => self.answer_ticks(ticks).await?,
            (Method::Post, Wanted::Upload) if self.is_wrong => {
                self.refuse(400, "the body differs from the pattern").await?
            }
            (Method::Post, Wanted::Upload) => self.answer_body(0).await?,
            _ => self.refuse(404, "no such resource for this method").await?,
        }
        if self.head.keep_alive() { Ok(()) } else { Err(End::Answered) }
    }

    /// Reads the body, and inspects it if it is an MCP message or the pattern.
    async fn read_body(&mut self, wanted: Wanted) -> Result<Result<(), BodyError>, End> {
        self.peek.clear();
        (self.received, self.is_wrong) = (0, false);
        self.decoder.restart(self.head.framing());
        if self.head.framing() == Framing::None {
            return Ok(Ok(()));
        }
        while !self.decoder.is_done() {
            let Some(input) = self.intake.rest() else {
                if !self.intake.fill(self.connection).await? {
                    return Err(End::Quiet);
                }
                continue;
            };
            match self.decoder.next(input) {
                Ok(Decoded::Data(data)) => {
                    match wanted {
                        Wanted::Mcp => self.peek.feed(&data),
                        Wanted::Upload => self.is_wrong |= !pattern::is_at(self.received, &data),
                        _ => {}
                    }
                    self.received += data.len() as u64;
                }
                Ok(Decoded::More) => *self.intake.rest() = None,
                Ok(Decoded::End) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let rest = self.intake.rest();
        if rest.as_ref().is_some_and(Chunk::is_empty) {
            *rest = None;
        }
        Ok(Ok(()))
    }

    async fn answer_mcp(&mut self) -> Result<(), End> {
        let Some(message) = self.peek.message() else {
            return self.refuse(400, "the body is not a JSON-RPC message").await;
        };
        if message != Message::Request {
            return self.answer_empty(202).await;
        }
        self.id.clear();
        match self.peek.id() {
            Some(id) => self.id.extend_from_slice(id.as_bytes()),
            None => return self.refuse(400, "the id is neither a number nor a text").await,
        }
        if self.peek.method() == Some("tools/call") {
            self.server.stats.borrow_mut().call(std::str::from_utf8(&self.id).unwrap_or_default());
            return self.answer_tool().await;
        }
        self.answer_rpc().await
    }

    async fn answer_tool(&mut self) -> Result<(), End> {
        // Revisions are dates, which sort as text.
        let is_stateless = |version: &[u8]| version >= FIRST_STATELESS_REVISION.as_bytes();
        let stateless = self.head.get(PROTOCOL_VERSION).is_some_and(is_stateless);
        self.work().await;
        self.hold().await?;
        match self.server.answers.form() {
            Form::Json => {
                let len = self.server.answers.tool_len(stateless, &self.id);
                self.begin_head("application/json", Some(len));
                self.out.extend_from_slice(b"\r\n");
                let [a, b, c, d, e] = self.server.answers.tool(stateless, &self.id);
                Ok(self.send(&[Part::Text(&self.out), a, b, c, d, e]).await?)
            }
            Form::Events { count, gap } => {
                self.begin_head("text/event-stream", None);
                self.out.extend_from_slice(b"\r\n");
                for _ in 1..count {
                    self.send_event(&[Part::Text(answers::note())], answers::note().len() as u64, false).await?;
                    self.server.core.sleep(gap).await;
                }
                let len = self.server.answers.tool_len(stateless, &self.id);
                let id = std::mem::take(&mut self.id);
                let sent = self.send_event(&self.server.answers.tool(stateless, &id), len, true).await;
                self.id = id;
                sent
            }
        }
    }

    /// Answers a method other than `tools/call`.
    async fn answer_rpc(&mut self) -> Result<(), End> {
        let id = String::from_utf8_lossy(&self.id).into_owned();
        let method = self.peek.method().unwrap_or_default();
        let opens = method == "initialize";
        let body = match answers::result(method) {
            Some(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
            None => {
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"unknown method"}}}}"#)
            }
        };
        self.begin_head("application/json", Some(body.len() as u64));
        if opens && self.server.settings.sessions {
            let _ = write!(self.out, "Mcp-Session-Id: {:016x}\r\n", self.server.rng.borrow_mut().next_u64());
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(self.send(&[Part::Text(&self.out), Part::Text(body.as_bytes())]).await?)
    }

    async fn answer_plain(&mut self, len: u64) -> Result<(), End> {
        self.work().await;
        self.begin_head("application/octet-stream", Some(len));
        let _ = write!(self.out, "{RECEIVED}: {}\r\n\r\n", self.received);
        Ok(self.send(&[Part::Text(&self.out), Part::Filler(len)]).await?)
    }

    async fn answer_body(&mut self, len: u64) -> Result<(), End> {
        self.begin_head("application/octet-stream", Some(len));
        let _ = write!(self.out, "{RECEIVED}: {}\r\n\r\n", self.received);
        Ok(self.send(&[Part::Text(&self.out), Part::Pattern(len)]).await?)
    }

    async fn answer_ticks(&mut self, ticks: Ticks) -> Result<(), End> {
        self.begin_head("text/event-stream", None);
        self.out.extend_from_slice(b"\r\n");
        let mut event = Vec::new();
        for n in 0..ticks.count {
            if n > 0 && n >= ticks.at_once && !ticks.gap.is_zero() {
                self.server.core.sleep(ticks.gap).await;
            }
            // If the client does not read, the queue must not grow.
            self.connection.ready().await?;
            ticks.write(n, &mut event);
            answers::chunk_size(&mut self.out, event.len() as u64);
            let end: &[u8] = if n + 1 == ticks.count { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            self.send(&[Part::Text(&self.out), Part::Text(&event), Part::Text(end)]).await?;
            self.out.clear();
        }
        Ok(())
    }

    async fn answer_plain_events(&mut self) -> Result<(), End> {
        self.work().await;
        let (count, gap) = match self.server.answers.form() {
            Form::Events { count, gap } => (count, gap),
            Form::Json => (1, Duration::ZERO),
        };
        self.begin_head("text/event-stream", None);
        self.out.extend_from_slice(b"\r\n");
        if self.is_to_hold() {
            self.send(&[Part::Text(&self.out)]).await?;
            self.out.clear();
            self.hold().await?;
        }
        let len = self.server.answers.plain_len();
        for n in 1..=count {
            if n > 1 {
                self.server.core.sleep(gap).await;
            }
            self.send_event(&[Part::Filler(len)], len, n == count).await?;
        }
        Ok(())
    }

    async fn answer_stats(&mut self) -> Result<(), End> {
        let (body, held) = (self.server.stats.borrow().to_json().to_string(), self.server.stats.borrow().held);
        self.begin_head("application/json", Some(body.len() as u64));
        let _ = write!(self.out, "{HELD}: {held}\r\n\r\n");
        Ok(self.send(&[Part::Text(&self.out), Part::Text(body.as_bytes())]).await?)
    }

    async fn answer_empty(&mut self, status: u16) -> Result<(), End> {
        let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
        self.out.clear();
        let _ = write!(self.out, "HTTP/1.1 {status} OK\r\n{length}\r\n");
        Ok(self.send(&[Part::Text(&self.out)]).await?)
    }

    /// Answers with an error, and keeps the connection.
    async fn refuse(&mut self, status: u16, why: &str) -> Result<(), End> {
        self.out.clear();
        let close = !self.head.keep_alive();
        Answer { close, ..Answer::new(status, "refused", why) }.write(&mut self.out);
        Ok(self.send(&[Part::Text(&self.out)]).await?)
    }

    /// Answers with an error, and ends the connection.
    async fn refuse_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), End> {
        self.out.clear();
        write(&mut self.out);
        self.send(&[Part::Text(&self.out)]).await?;
        Err(End::Answered)
    }

    /// Waits for the service time of this call, counted from its first byte.
    async fn work(&mut self) {
        let wanted = self.head.get(WANTED_SERVICE).and_then(|us| std::str::from_utf8(us).ok()?.trim().parse().ok());
        let service = match wanted {
            Some(us) => Duration::from_micros(us).min(SERVICE_MAX),
            None => self.server.settings.service.draw(&mut self.server.rng.borrow_mut()),
        };
        if !service.is_zero() {
            self.server.core.sleep_until(self.began + service).await;
        }
    }

    fn is_to_hold(&self) -> bool {
        self.head.get(HOLD).is_some()
    }

    /// Holds a call that asks for it, until it is released or its client leaves.
    async fn hold(&mut self) -> Result<(), End> {
        if !self.is_to_hold() {
            return Ok(());
        }
        let server = self.server;
        let mut released = pin!(server.release.after(server.release.count()));
        let mut news = pin!(self.intake.fill(self.connection));
        let mut is_listening = true;
        server.stats.borrow_mut().held += 1;
        let ended = poll_fn(|cx| {
            if released.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            match is_listening.then(|| news.as_mut().poll(cx)) {
                // The next request has arrived early.
                Some(Poll::Ready(Ok(true))) => is_listening = false,
                Some(Poll::Ready(Ok(false) | Err(_))) => return Poll::Ready(Err(End::Quiet)),
                Some(Poll::Pending) | None => {}
            }
            Poll::Pending
        })
        .await;
        server.stats.borrow_mut().held -= 1;
        ended
    }

    /// Releases all held calls.
    async fn answer_release(&mut self) -> Result<(), End> {
        let held = self.server.stats.borrow().held;
        self.server.release.raise();
        self.out.clear();
        let _ = write!(self.out, "HTTP/1.1 204 OK\r\n{RELEASED}: {held}\r\n\r\n");
        Ok(self.send(&[Part::Text(&self.out)]).await?)
    }

    /// Starts the head of an answer with a good status, including the time it took so far.
    fn begin_head(&mut self, kind: &str, len: Option<u64>) {
        self.out.clear();
        let service = self.server.core.now() - self.began;
        answers::head(&mut self.out, kind, len, service, !self.head.keep_alive());
    }

    /// Sends an event as one chunk, in the same write as the pending bytes, and with the end of the body if it is the
    /// last.
    async fn send_event(&mut self, data: &[Part<'_>], data_len: u64, last: bool) -> Result<(), End> {
        let (before, after) = answers::event();
        answers::chunk_size(&mut self.out, before.len() as u64 + data_len + after.len() as u64);
        let mut parts = vec![Part::Text(&self.out), Part::Text(before)];
        parts.extend_from_slice(data);
        parts.extend([Part::Text(after), Part::Text(if last { b"\r\n0\r\n\r\n" } else { b"\r\n" })]);
        let sent = send(self.connection, self.server.core.pool(), &parts).await;
        self.out.clear();
        Ok(sent?)
    }

    async fn send(&self, parts: &[Part<'_>]) -> Result<(), StreamError> {
        send(self.connection, self.server.core.pool(), parts).await
    }
}

fn wanted(path: &[u8]) -> Wanted {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or(path);
    let bytes = path.strip_prefix(b"/bytes/").and_then(|len| std::str::from_utf8(len).ok()?.parse().ok());
    let body = path.strip_prefix(b"/body/").and_then(|len| std::str::from_utf8(len).ok()?.parse().ok());
    if let Some(ticks) = Ticks::of_path(path) {
        return Wanted::Ticks(ticks);
    }
    match (path, bytes.map(Wanted::Bytes).or(body.map(Wanted::Body))) {
        (_, Some(wanted)) => wanted,
        (b"/body", _) => Wanted::Upload,
        (b"/mcp", _) => Wanted::Mcp,
        (b"/events", _) => Wanted::Events,
        (b"/release", _) => Wanted::Release,
        (b"/stats", _) => Wanted::Stats,
        _ => Wanted::Plain,
    }
}
