//! One exchange of HTTP with an agent: what it asks becomes a message for the child, what the child sends becomes the response.

use std::rc::Rc;

use futures_lite::future;

use crate::engine::{Socket, StreamError, send_bytes};
use crate::exchange::{BodySource, Http1Source, Intake, Piece};
use crate::stdio::child_pool::{ChildPool, ChildrenUse, NoChildren, RequestPlace, new_id};
use crate::stdio::children::NoChild;
use crate::stdio::event::{LAST_CHUNK, event};
use crate::stdio::inbox::Mail;
use crate::stdio::reply::{Reply, stream_head};
use crate::stdio::running_child::{OpenExchange, RunningChild};
use crate::stdio::session::{EventPlace, GET_STREAM, Session};
use crate::stdio::stats::StdioEvent;
use crate::wire::http1::{BodyDecoder, CONTINUE, Method, RequestHead};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, Era, INITIALIZE, SESSION_ID, is_stateless};
use crate::wire::stdio::{AgentFault, AnswerMeaning, Envelope, EnvelopeError, Heard};

/// The paths at which the server is called. Others do not exist, so that nobody takes this for an authorization server.
const PATHS: [&[u8]; 2] = [b"/mcp", b"/"];
/// The field with which an agent names the last event that it has received.
const LAST_EVENT_ID: &str = "Last-Event-ID";

const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
/// The codes of revision 2026-07-28 for requests that it does not allow: a header that differs from the body, a capability that is
/// missing, an unknown revision.
const REFUSED_BY_REVISION: std::ops::RangeInclusive<i64> = -32_022..=-32_020;
const HEADER_MISMATCH: i64 = -32_020;
const SESSION_NOT_FOUND: i64 = -32_001;
const OVERLOADED: i64 = -32_000;
const UNSUPPORTED_REVISION: i64 = -32_022;
const NO_SESSION: &str = "Mcp-Session-Id is missing: begin with initialize";

/// The state of a connection between its exchanges.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) intake: Intake,
    pub(super) head: RequestHead,
    pub(super) decoder: BodyDecoder,
}

/// Why a connection ends within an exchange.
pub(super) enum ExchangeEnd {
    /// The connection has failed, or the other side has closed it.
    Stream,
    /// The child gives no answer, which cannot be said in the response that has begun.
    NoAnswer,
}

impl From<StreamError> for ExchangeEnd {
    fn from(_: StreamError) -> ExchangeEnd {
        ExchangeEnd::Stream
    }
}

/// An exchange whose head was read.
pub(super) struct HttpExchange<'a> {
    pub(super) pool: &'a Rc<ChildPool>,
    pub(super) socket: &'a Socket,
    pub(super) buffers: &'a mut Buffers,
}

/// A use of a session, which does not count as idle for as long.
struct SessionUse(Rc<Session>);

impl SessionUse {
    fn new(session: Rc<Session>) -> SessionUse {
        session.open.set(session.open.get() + 1);
        SessionUse(session)
    }
}

impl Drop for SessionUse {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

impl HttpExchange<'_> {
    /// Carries it to its end.
    pub(super) async fn run(&mut self) -> Result<(), ExchangeEnd> {
        let head = &self.buffers.head;
        if !PATHS.contains(&head.path()) {
            return self
                .refuse(Reply::error(404, INVALID_REQUEST, "there is no MCP server at this path: use /mcp"))
                .await;
        }
        match head.method() {
            Method::Post => self.post().await,
            Method::Get if !is_stateless(head) => self.get().await,
            Method::Delete if !is_stateless(head) => self.delete().await,
            _ => {
                let why = "this revision of MCP has no such method of HTTP";
                self.refuse(Reply { field: "Allow: POST\r\n", ..Reply::error(405, INVALID_REQUEST, why) }).await
            }
        }
    }

    async fn post(&mut self) -> Result<(), ExchangeEnd> {
        let is_json = self.buffers.head.get("Content-Type").is_some_and(is_json);
        if !is_json {
            return self
                .refuse(Reply::error(415, INVALID_REQUEST, "send the message with Content-Type: application/json"))
                .await;
        }
        let is_without_session = is_stateless(&self.buffers.head);
        let mut share = self.pool.messages.share();
        let body = match self.read_body(|len| share.set(len)).await? {
            Ok(body) => body,
            Err(reply) => {
                self.pool.stats.add(StdioEvent::LengthRefused);
                return self.refuse(reply).await;
            }
        };
        let (opens, id) = match Envelope::read(&body) {
            Ok(envelope) => {
                let method = envelope.method(&body).unwrap_or_default();
                if is_without_session && differs(&self.buffers.head, &body, &method) {
                    let why = "Mcp-Method or Mcp-Name differs from the message";
                    return self.send(Reply::error(400, HEADER_MISMATCH, why)).await;
                }
                (method == INITIALIZE, envelope.id.clone())
            }
            Err(error) => return self.send(refusal(AgentFault::Message(error))).await,
        };
        let mut used = match self.children(opens) {
            Ok(used) => used,
            Err(NoChildren::Stateless) => return self.send(unsupported_revision(id.map(|id| &body[id]))).await,
            Err(why) => return self.send(self.no_children(why)).await,
        };
        let child = match self.child_of(&used).await? {
            Ok(child) => child,
            Err(reply) => return self.send(reply).await,
        };
        let session = match self.session_for(&child, is_without_session || opens) {
            Ok(session) => session,
            Err(reply) => return self.send(reply).await,
        };
        if !self.while_connected(child.has_room()).await {
            return Err(ExchangeEnd::Stream);
        }
        if child.is_over() {
            return Err(ExchangeEnd::NoAnswer);
        }
        let open = child.open(session.as_ref().map(|session| session.0.key));
        match child.on_agent(open.asker, &body) {
            Ok(Heard::Awaits) => {}
            Ok(Heard::Accepted) => {
                open.finish();
                return self.send(Reply::empty(202)).await;
            }
            Err(fault) => {
                open.finish();
                return self.send(refusal(fault)).await;
            }
        }
        drop((body, share));
        self.answer(&child, &mut used, open, session).await
    }

    /// The children for the request.
    fn children(&self, opens: bool) -> Result<ChildrenUse, NoChildren> {
        let head = &self.buffers.head;
        // The connector writes this field, and removes it from what agents send.
        let caller = head.edge_identity().ok().flatten();
        let request = match (opens, is_stateless(head)) {
            (_, true) => RequestPlace::Stateless,
            (true, false) => RequestPlace::Opens,
            (false, false) => RequestPlace::Session(head.get_only(SESSION_ID)),
        };
        self.pool.children_for(caller, request)
    }

    fn no_children(&self, why: NoChildren) -> Reply {
        match why {
            NoChildren::NoSession => Reply::error(400, INVALID_REQUEST, NO_SESSION),
            NoChildren::UnknownSession => Reply::error(404, SESSION_NOT_FOUND, "Session not found"),
            NoChildren::Stateless => unsupported_revision(None),
            NoChildren::Full => self.full(),
        }
    }

    fn full(&self) -> Reply {
        self.pool.stats.add(StdioEvent::ChildRefused);
        let why = "as many processes of the MCP server run as are allowed, and all are in use: try again later";
        Reply { field: "Retry-After: 1\r\n", ..Reply::error(503, OVERLOADED, why) }
    }

    /// The child for the request. Waits until one was started.
    async fn child_of(&mut self, used: &ChildrenUse) -> Result<Result<Rc<RunningChild>, Reply>, ExchangeEnd> {
        let era = if is_stateless(&self.buffers.head) { Era::Stateless } else { Era::Sessions };
        let (intake, socket) = (&mut self.buffers.intake, self.socket);
        let left = async {
            intake.ended(socket).await;
            None
        };
        match future::or(async { Some(used.children.child_for(era).await) }, left).await {
            Some(Ok(child)) => Ok(Ok(child)),
            // The reason may name files and folders, and is for the operator.
            Some(Err(NoChild::Down)) => {
                self.pool.stats.add(StdioEvent::DownRefused);
                let why = "the MCP server is not running: the log of the connector says why";
                Ok(Err(Reply::error(503, OVERLOADED, why)))
            }
            Some(Err(NoChild::Full)) => Ok(Err(self.full())),
            None => Err(ExchangeEnd::Stream),
        }
    }

    /// Sends what the child sends for a request.
    async fn answer(
        &mut self,
        child: &Rc<RunningChild>,
        used: &mut ChildrenUse,
        open: OpenExchange,
        session: Option<SessionUse>,
    ) -> Result<(), ExchangeEnd> {
        let head = &self.buffers.head;
        let is_without_session = is_stateless(head);
        // The head of the response to `initialize` names the session, which begins with its result.
        let has_place = session.is_some() || is_without_session;
        let (mut streams, may_stream) = (false, has_place && accepts(head, b"text/event-stream"));
        let stream = open.asker.exchange;
        loop {
            let inbox = Rc::clone(&open.inbox);
            let Some(mail) = self.next_mail(async { inbox.next(|| false).await }).await else {
                if let Some(session) = session.filter(|_| streams) {
                    keep_for_later(child, open, session);
                }
                return Err(ExchangeEnd::Stream);
            };
            match mail {
                Mail::Message(message) if may_stream => {
                    if !streams {
                        self.write(&stream_head(None)).await?;
                        streams = true;
                    }
                    let at = session.as_ref().map(|session| session.0.keep(stream, &message, false));
                    self.write(&event(&message, at)).await?;
                }
                Mail::Message(message) => {
                    if let Some(session) = &session {
                        session.0.inbox.message(message);
                    }
                }
                Mail::Answer(message, _, _held) if streams => {
                    open.finish();
                    let at = session.as_ref().map(|session| session.0.keep(stream, &message, true));
                    self.write(&event(&message, at)).await?;
                    return Ok(self.write(LAST_CHUNK).await?);
                }
                Mail::Answer(message, note, _held) => {
                    open.finish();
                    return self.send(self.reply((child, used), message, note, is_without_session)).await;
                }
                Mail::End => {
                    open.finish();
                    return Err(ExchangeEnd::NoAnswer);
                }
            }
        }
    }

    /// The response with an answer of the child. A session begins with the result of `initialize`.
    fn reply(
        &self,
        (child, used): (&Rc<RunningChild>, &mut ChildrenUse),
        message: Vec<u8>,
        AnswerMeaning { code, opens }: AnswerMeaning,
        is_without_session: bool,
    ) -> Reply {
        let asks_for_era = self.buffers.head.get(crate::wire::mcp::METHOD) == Some(b"server/discover");
        if is_without_session && asks_for_era && code.is_some() {
            used.children.on_refused(child);
        }
        let status = match code {
            Some(METHOD_NOT_FOUND) if is_without_session => 404,
            // The agent asks whether the server speaks this revision.
            Some(_) if is_without_session && asks_for_era => 400,
            Some(code) if is_without_session && (code == INVALID_REQUEST || REFUSED_BY_REVISION.contains(&code)) => 400,
            _ => 200,
        };
        let session = if opens && code.is_none() {
            let begun = used.opens.clone().or_else(new_id).and_then(|id| child.begin_session(id));
            let Some(session) = begun else {
                return Reply::error(503, OVERLOADED, "too many sessions are open: try again later");
            };
            used.keep();
            Some(session.id.clone())
        } else {
            None
        };
        Reply { body: message, session, ..Reply::empty(status) }
    }

    async fn get(&mut self) -> Result<(), ExchangeEnd> {
        if !accepts(&self.buffers.head, b"text/event-stream") {
            return self
                .refuse(Reply::error(406, INVALID_REQUEST, "a GET gets an event stream: accept text/event-stream"))
                .await;
        }
        let used = match self.children(false) {
            Ok(used) => used,
            Err(why) => return self.refuse(self.no_children(why)).await,
        };
        let child = match self.child_of(&used).await? {
            Ok(child) => child,
            Err(reply) => return self.refuse(reply).await,
        };
        let session = match self.session_for(&child, false) {
            Ok(Some(session)) => session,
            Ok(None) => return Err(ExchangeEnd::NoAnswer),
            Err(reply) => return self.refuse(reply).await,
        };
        let last = self.buffers.head.get_only(LAST_EVENT_ID).and_then(EventPlace::parse);
        self.write(&stream_head(Some(&session.0.id))).await?;
        if let Some(last) = last
            && self.send_kept(&child, &session.0, last).await?
        {
            return Ok(self.write(LAST_CHUNK).await?);
        }
        let session = &session.0;
        let this = session.streams.get() + 1;
        session.streams.set(this);
        // The one before ends.
        session.inbox.wake();
        let is_over = || session.is_over.get() || session.streams.get() != this;
        loop {
            let Some(mail) = self.next_mail(session.inbox.next(is_over)).await else {
                if !is_over() {
                    return Err(ExchangeEnd::Stream);
                }
                return Ok(self.write(LAST_CHUNK).await?);
            };
            if let Mail::Message(message) = mail {
                let at = session.keep(GET_STREAM, &message, false);
                self.write(&event(&message, Some(at))).await?;
            }
        }
    }

    /// Sends the events of a stream after this one. Returns whether the stream has ended; that of a GET goes on.
    async fn send_kept(
        &mut self,
        child: &RunningChild,
        session: &Session,
        mut last: EventPlace,
    ) -> Result<bool, ExchangeEnd> {
        loop {
            let seen = session.kept_more.count();
            while let Some(kept) = session.kept_after(last) {
                last = kept.at;
                self.write(&event(&kept.message, Some(kept.at))).await?;
                if kept.is_last {
                    return Ok(true);
                }
            }
            if last.stream == GET_STREAM || session.is_over.get() {
                return Ok(false);
            }
            if !child.is_open(last.stream) {
                return Ok(true);
            }
            if !self.while_connected(session.kept_more.after(seen)).await {
                return Err(ExchangeEnd::Stream);
            }
        }
    }

    async fn delete(&mut self) -> Result<(), ExchangeEnd> {
        let used = match self.children(false) {
            Ok(used) => used,
            Err(why) => return self.refuse(self.no_children(why)).await,
        };
        let child = match self.child_of(&used).await? {
            Ok(child) => child,
            Err(reply) => return self.refuse(reply).await,
        };
        let reply = match self.session_for(&child, false) {
            Ok(session) => {
                if let Some(session) = session {
                    child.end_session(&session.0);
                }
                if self.pool.is_per_session() {
                    self.pool.remove(&used.children.key, StdioEvent::Closed);
                }
                Reply::empty(200)
            }
            Err(reply) => reply,
        };
        self.refuse(reply).await
    }

    /// The session that the request names; none if it needs none.
    fn session_for(&self, child: &RunningChild, needs_none: bool) -> Result<Option<SessionUse>, Reply> {
        if needs_none {
            return Ok(None);
        }
        match self.buffers.head.get_only(SESSION_ID) {
            None => Err(Reply::error(400, INVALID_REQUEST, NO_SESSION)),
            Some(id) => match child.session(id) {
                Some(session) => Ok(Some(SessionUse::new(session))),
                None => Err(Reply::error(404, SESSION_NOT_FOUND, "Session not found")),
            },
        }
    }

    /// Reads the body, while `may_hold` allows that many bytes.
    async fn read_body(
        &mut self,
        mut may_hold: impl FnMut(usize) -> bool,
    ) -> Result<Result<Vec<u8>, Reply>, ExchangeEnd> {
        if self.buffers.head.expects_continue() {
            self.write(CONTINUE).await?;
        }
        let len_max = self.pool.settings.limits.line_len_max;
        let Buffers { intake, decoder, .. } = &mut *self.buffers;
        let (mut source, mut body) = (Http1Source::new(self.socket, intake, decoder), Vec::new());
        loop {
            match source.next().map_err(|_| ExchangeEnd::Stream)? {
                Piece::Data(data) => {
                    let len = body.len() + data.len();
                    if len > len_max {
                        let why = format!("the message is longer than {len_max} bytes");
                        return Ok(Err(Reply::error(413, INVALID_REQUEST, &why)));
                    }
                    if !may_hold(len) {
                        return Ok(Err(Reply::error(
                            503,
                            OVERLOADED,
                            "too many long messages arrive: try again later",
                        )));
                    }
                    body.extend_from_slice(&data);
                }
                Piece::Wait => source.more().await?,
                Piece::End => return Ok(Ok(body)),
            }
        }
    }

    /// The next mail; none if the other side closes the connection first.
    async fn next_mail(&mut self, mail: impl Future<Output = Option<Mail>>) -> Option<Mail> {
        let (intake, socket) = (&mut self.buffers.intake, self.socket);
        let left = async {
            intake.ended(socket).await;
            None
        };
        future::or(mail, left).await
    }

    /// Waits for `what`. Returns false if the other side closes the connection first.
    async fn while_connected(&mut self, what: impl Future<Output = ()>) -> bool {
        let (intake, socket) = (&mut self.buffers.intake, self.socket);
        let left = async {
            intake.ended(socket).await;
            false
        };
        let done = async {
            what.await;
            true
        };
        future::or(done, left).await
    }

    /// Sends a response after the body was read.
    async fn send(&self, reply: Reply) -> Result<(), ExchangeEnd> {
        Ok(self.write(&reply.bytes()).await?)
    }

    /// Sends a response to a request whose body was not read. The connection ends, unless there is none.
    async fn refuse(&mut self, reply: Reply) -> Result<(), ExchangeEnd> {
        self.send(reply).await?;
        if self.buffers.decoder.is_done() { Ok(()) } else { Err(ExchangeEnd::Stream) }
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        send_bytes(self.socket, self.pool.core.pool(), bytes).await
    }
}

/// Keeps what follows on a stream that has broken off, for the agent that comes back with the id of its last event.
fn keep_for_later(child: &Rc<RunningChild>, open: OpenExchange, session: SessionUse) {
    let core = child.core.clone();
    core.spawn(async move {
        let (stream, inbox) = (open.asker.exchange, Rc::clone(&open.inbox));
        while let Some(mail) = inbox.next(|| session.0.is_over.get()).await {
            match mail {
                Mail::Message(message) => {
                    session.0.keep(stream, &message, false);
                }
                Mail::Answer(message, ..) => {
                    open.finish();
                    session.0.keep(stream, &message, true);
                    return;
                }
                Mail::End => {
                    open.finish();
                    // Who waits for more learns that nothing follows.
                    return session.0.kept_more.raise();
                }
            }
        }
    });
}

/// Whether the head names another method or target than the message.
fn differs(head: &RequestHead, body: &[u8], method: &str) -> bool {
    let header = head.get_only(crate::wire::mcp::METHOD);
    let (mut by_head, mut by_body, mut peek) = (Call::default(), Call::default(), Peek::new());
    peek.feed(body);
    by_body.read_body(&peek);
    let is_whole = by_head.read_head(head);
    let names = head.get(crate::wire::mcp::NAME).is_some();
    header != Some(method.as_bytes()) || (is_whole && names && by_head.target() != by_body.target())
}

fn refusal(fault: AgentFault) -> Reply {
    let why = fault.to_string();
    match fault {
        AgentFault::Message(EnvelopeError::NotJson) => Reply::error(400, PARSE_ERROR, &why),
        AgentFault::Message(_) | AgentFault::NotAsked => Reply::error(400, INVALID_REQUEST, &why),
        AgentFault::Busy => Reply { field: "Retry-After: 1\r\n", ..Reply::error(503, OVERLOADED, &why) },
    }
}

/// The answer to a request of a revision without sessions, where each session has a child. The agent may begin a session instead.
fn unsupported_revision(id: Option<&[u8]>) -> Reply {
    let id = String::from_utf8_lossy(id.unwrap_or(b"null"));
    let data = r#"{"supported":["2025-11-25","2025-06-18","2025-03-26"],"requested":"2026-07-28"}"#;
    let message =
        "this server has a process for each session, and this revision has no sessions: begin with initialize";
    let error = format!(r#"{{"code":{UNSUPPORTED_REVISION},"message":"{message}","data":{data}}}"#);
    Reply { body: format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into_bytes(), ..Reply::empty(400) }
}

fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json")
}

/// Whether a request accepts this media type.
fn accepts(head: &RequestHead, kind: &[u8]) -> bool {
    let fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept"));
    fields.flat_map(|(_, value)| value.split(|byte| *byte == b',')).any(|range| {
        let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        range.eq_ignore_ascii_case(kind) || range == b"*/*"
    })
}
