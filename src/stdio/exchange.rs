//! One exchange of HTTP with an agent: what it asks becomes a message for the child, what the child sends becomes the response.

use std::rc::Rc;

use serde_json::json;

use crate::base::Share;
use crate::engine::{Socket, StreamError, send_bytes};
use crate::exchange::{BodyRefusal, ExchangeBuffers, ExchangeEnd, LAST_CHUNK, event_stream_head};
use crate::stdio::child_pool::{ChildPool, ChildrenUse, NoChildren, RequestPlace, new_id};
use crate::stdio::children::NoChild;
use crate::stdio::mail::{HeldBytes, Mail, event};
use crate::stdio::reply::Reply;
use crate::stdio::running_child::{OpenExchange, RunningChild};
use crate::stdio::session::Session;
use crate::stdio::session_stream::keep_for_later;
use crate::stdio::stats::StdioEvent;
use crate::wire::http1::{Method, RequestHead};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, Era, FIRST_STATELESS_REVISION, INITIALIZE, PROTOCOL_VERSION, SESSION_ID, is_stateless};
use crate::wire::stdio::{AgentFault, AnswerMeaning, Envelope, EnvelopeError, Heard};

/// The methods whose target the head has to name (2026-07-28, "Standard request headers").
const NAMED_IN_HEAD: [&str; 3] = [TOOLS_CALL, "prompts/get", "resources/read"];
const TOOLS_CALL: &str = "tools/call";
/// The paths at which the server is called. Others do not exist, so that nobody takes this for an authorization server.
const PATHS: [&[u8]; 2] = [b"/mcp", b"/"];

const PARSE_ERROR: i64 = -32_700;
pub(super) const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
/// The codes of revision 2026-07-28 for requests that it does not allow: a header that differs from the body, a capability that is
/// missing, an unknown revision.
const REFUSED_BY_REVISION: std::ops::RangeInclusive<i64> = -32_022..=-32_020;
const HEADER_MISMATCH: i64 = -32_020;
const SESSION_NOT_FOUND: i64 = -32_001;
const OVERLOADED: i64 = -32_000;
const UNSUPPORTED_REVISION: i64 = -32_022;
const NO_SESSION: &str = "Mcp-Session-Id is missing: begin with initialize";

/// An exchange whose head was read.
pub(super) struct HttpExchange<'a> {
    pub(super) pool: &'a Rc<ChildPool>,
    pub(super) socket: &'a Socket,
    pub(super) buffers: &'a mut ExchangeBuffers,
    /// The revision of the request has no sessions.
    is_without_session: bool,
}

/// A request that was passed on to a child.
struct PassedRequest {
    child: Rc<RunningChild>,
    used: ChildrenUse,
    open: OpenExchange,
    session: Option<SessionUse>,
}

/// A use of a session, which does not count as idle for as long.
pub(super) struct SessionUse(pub(super) Rc<Session>);

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

impl<'a> HttpExchange<'a> {
    pub(super) fn new(
        pool: &'a Rc<ChildPool>,
        socket: &'a Socket,
        buffers: &'a mut ExchangeBuffers,
    ) -> HttpExchange<'a> {
        HttpExchange { pool, socket, is_without_session: is_stateless(&buffers.head), buffers }
    }

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
            Method::Get if !self.is_without_session => self.get().await,
            Method::Delete if !self.is_without_session => self.delete().await,
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
        let mut share = self.pool.messages.share();
        let body = match self.read_body(&mut share).await? {
            Ok(body) => body,
            Err(reply) => return self.send(reply).await,
        };
        let envelope = match Envelope::read(&body) {
            Ok(envelope) => envelope,
            Err(error) => return self.send(refusal(AgentFault::Message(error))).await,
        };
        match self.pass_on(&body, &envelope).await? {
            Ok(Some(passed)) => {
                drop((body, share));
                self.answer(passed).await
            }
            Ok(None) => self.send(Reply::empty(202)).await,
            Err(reply) => self.send(reply.for_request(envelope.id.map(|id| &body[id]))).await,
        }
    }

    /// Passes a message on to a child. Returns the request that was begun, or nothing if the message is not answered.
    async fn pass_on(
        &mut self,
        body: &[u8],
        envelope: &Envelope,
    ) -> Result<Result<Option<PassedRequest>, Reply>, ExchangeEnd> {
        let method = envelope.method(body).unwrap_or_default();
        let opens = method == INITIALIZE;
        let revision = envelope.revision(body);
        if let Some(revision) = &revision {
            let head = &self.buffers.head;
            // Agents of earlier revisions may send anything there.
            self.is_without_session |= !opens && head.get(SESSION_ID).is_none();
            if self.is_without_session && head.get_only(PROTOCOL_VERSION) != Some(revision.as_bytes()) {
                return Ok(Err(Reply::error(400, HEADER_MISMATCH, "MCP-Protocol-Version differs from the message")));
            }
        }
        if self.is_without_session && differs(&self.buffers.head, body, &method) {
            return Ok(Err(Reply::error(400, HEADER_MISMATCH, "Mcp-Method or Mcp-Name differs from the message")));
        }
        let used = match self.children(opens) {
            Ok(used) => used,
            Err(NoChildren::Stateless) => {
                return Ok(Err(unsupported_revision(revision.as_deref().unwrap_or(FIRST_STATELESS_REVISION))));
            }
            Err(why) => return Ok(Err(self.no_children(why))),
        };
        let child = match self.child_of(&used).await? {
            Ok(child) => child,
            Err(reply) => return Ok(Err(reply)),
        };
        let session = match self.session_for(&child, self.is_without_session || opens) {
            Ok(session) => session,
            Err(reply) => return Ok(Err(reply)),
        };
        if self.is_without_session && method == TOOLS_CALL && child.mirrored.borrow().differs(&self.buffers.head, body)
        {
            return Ok(Err(Reply::error(400, HEADER_MISMATCH, "an Mcp-Param field differs from the message")));
        }
        if !child.has_room() {
            let Self { buffers, socket, .. } = self;
            buffers.while_connected(socket, child.room()).await.ok_or(ExchangeEnd::Stream)?;
        }
        if child.is_over() {
            return Err(ExchangeEnd::NoAnswer);
        }
        let open = child.open(session.as_ref().map(|session| session.0.key));
        match child.on_agent(open.asker, body) {
            Ok(Heard::Awaits) => Ok(Ok(Some(PassedRequest { child, used, open, session }))),
            Ok(Heard::Accepted) => {
                open.finish();
                Ok(Ok(None))
            }
            Err(fault) => {
                open.finish();
                Ok(Err(refusal(fault)))
            }
        }
    }

    /// The children for the request.
    pub(super) fn children(&self, opens: bool) -> Result<ChildrenUse, NoChildren> {
        let head = &self.buffers.head;
        // The connector writes this field, and removes it from what agents send.
        let caller = head.edge_identity().ok().flatten();
        let request = match (opens, self.is_without_session) {
            (_, true) => RequestPlace::Stateless,
            (true, false) => RequestPlace::Opens,
            (false, false) => RequestPlace::Session(head.get_only(SESSION_ID)),
        };
        self.pool.children_for(caller, request)
    }

    pub(super) fn no_children(&self, why: NoChildren) -> Reply {
        match why {
            NoChildren::NoSession => Reply::error(400, INVALID_REQUEST, NO_SESSION),
            NoChildren::UnknownSession => Reply::error(404, SESSION_NOT_FOUND, "Session not found"),
            NoChildren::Stateless => unsupported_revision(FIRST_STATELESS_REVISION),
            NoChildren::Full => self.full(),
        }
    }

    fn full(&self) -> Reply {
        self.pool.stats.add(StdioEvent::ChildRefused);
        let why = "as many processes of the MCP server run as are allowed, and all are in use: try again later";
        Reply { field: "Retry-After: 1\r\n", ..Reply::error(503, OVERLOADED, why) }
    }

    /// The child for the request. Waits until one was started.
    pub(super) async fn child_of(
        &mut self,
        used: &ChildrenUse,
    ) -> Result<Result<Rc<RunningChild>, Reply>, ExchangeEnd> {
        let era = if self.is_without_session { Era::Stateless } else { Era::Sessions };
        if let Some(child) = used.children.running_for(era) {
            return Ok(Ok(child));
        }
        let HttpExchange { buffers, socket, .. } = self;
        match buffers.while_connected(socket, used.children.child_for(era)).await {
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
    async fn answer(&mut self, passed: PassedRequest) -> Result<(), ExchangeEnd> {
        let PassedRequest { child, mut used, open, session } = passed;
        let head = &self.buffers.head;
        // The head of the response to `initialize` names the session, which begins with its result.
        let has_place = session.is_some() || self.is_without_session;
        let (mut streams, may_stream) = (false, has_place && accepts(head, b"text/event-stream"));
        let stream = open.asker.exchange;
        loop {
            let Some(mail) = self.buffers.while_connected(self.socket, open.inbox.next()).await else {
                if let Some(session) = session.filter(|_| streams) {
                    keep_for_later(&child, open, session);
                }
                return Err(ExchangeEnd::Stream);
            };
            match mail {
                Mail::Message(message) if may_stream => {
                    if !streams {
                        self.write(&event_stream_head("")).await?;
                        streams = true;
                    }
                    let at = session.as_ref().map(|session| session.0.keep(stream, &message, false));
                    self.write(&event(&message, at)).await?;
                }
                Mail::Message(message) => {
                    if let Some(session) = &session {
                        let _ = session.0.inbox.offer(Mail::Message(message));
                    }
                }
                Mail::Answer(message, _, _held) if streams => {
                    open.finish();
                    let at = session.as_ref().map(|session| session.0.keep(stream, &message, true));
                    self.write(&event(&message, at)).await?;
                    return Ok(self.write(LAST_CHUNK).await?);
                }
                Mail::Answer(message, meaning, held) => {
                    open.finish();
                    return self.send_answer((&child, &mut used), (message, held), meaning).await;
                }
                Mail::End => {
                    open.finish();
                    return Err(ExchangeEnd::NoAnswer);
                }
            }
        }
    }

    /// Sends an answer of the child. A session begins with the result of `initialize`.
    async fn send_answer(
        &self,
        (child, used): (&Rc<RunningChild>, &mut ChildrenUse),
        (message, _held): (Vec<u8>, HeldBytes),
        AnswerMeaning { code, opens }: AnswerMeaning,
    ) -> Result<(), ExchangeEnd> {
        let (head, is_without_session) = (&self.buffers.head, self.is_without_session);
        let asks_for_era = is_without_session && head.get(crate::wire::mcp::METHOD) == Some(b"server/discover");
        if is_without_session && code.is_none() && head.get(crate::wire::mcp::METHOD) == Some(b"tools/list") {
            child.mirrored.borrow_mut().learn(&message);
        }
        let is_first_revision = head.get(PROTOCOL_VERSION) == Some(FIRST_STATELESS_REVISION.as_bytes());
        if asks_for_era && is_first_revision && code.is_some() {
            used.children.on_refused(child);
        }
        let status = match code {
            Some(METHOD_NOT_FOUND) if is_without_session => 404,
            // The agent asks whether the server speaks this revision.
            Some(_) if asks_for_era => 400,
            Some(code) if is_without_session && (code == INVALID_REQUEST || REFUSED_BY_REVISION.contains(&code)) => 400,
            _ => 200,
        };
        let mut reply = Reply::answer(status, message);
        if opens && code.is_none() {
            let begun = used.opens.clone().or_else(new_id).and_then(|id| child.begin_session(id));
            let Some(session) = begun else {
                let why = "too many sessions are open: try again later";
                let id = Envelope::read(&reply.body).ok().and_then(|envelope| envelope.id);
                let refused = Reply::error(503, OVERLOADED, why).for_request(id.map(|id| &reply.body[id]));
                return self.send(refused).await;
            };
            used.keep();
            reply.session = Some(session.id.clone());
        }
        self.send(reply).await
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
    pub(super) fn session_for(&self, child: &RunningChild, needs_none: bool) -> Result<Option<SessionUse>, Reply> {
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

    /// Reads the body, within the limits.
    async fn read_body(&mut self, share: &mut Share) -> Result<Result<Vec<u8>, Reply>, ExchangeEnd> {
        let (pool, len_max) = (self.pool, self.pool.settings.limits.line_len_max);
        let read = self.buffers.read_body(self.socket, &pool.core, (len_max, share)).await?;
        Ok(read.map_err(|refusal| {
            pool.stats.add(StdioEvent::LengthRefused);
            match refusal {
                BodyRefusal::TooLong => {
                    Reply::error(413, INVALID_REQUEST, &format!("the message is longer than {len_max} bytes"))
                }
                BodyRefusal::Crowded => Reply::error(503, OVERLOADED, "too many long messages arrive: try again later"),
            }
        }))
    }

    /// Sends a response after the body was read.
    async fn send(&self, reply: Reply) -> Result<(), ExchangeEnd> {
        Ok(self.write(&reply.bytes()).await?)
    }

    /// Sends a response to a request whose body was not read. The connection ends, unless there is none.
    pub(super) async fn refuse(&mut self, reply: Reply) -> Result<(), ExchangeEnd> {
        self.send(reply).await?;
        if self.buffers.decoder.is_done() { Ok(()) } else { Err(ExchangeEnd::Stream) }
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        send_bytes(self.socket, self.pool.core.pool(), bytes).await
    }
}

/// Whether the head names another method or target than the message, or not the target that it has to name.
fn differs(head: &RequestHead, body: &[u8], method: &str) -> bool {
    if head.get_only(crate::wire::mcp::METHOD) != Some(method.as_bytes()) {
        return true;
    }
    let (mut by_head, mut by_body, mut peek) = (Call::default(), Call::default(), Peek::new());
    peek.feed(body);
    by_body.read_body(&peek);
    let is_whole = by_head.read_head(head);
    match head.get(crate::wire::mcp::NAME) {
        Some(_) => is_whole && by_head.target() != by_body.target(),
        None => NAMED_IN_HEAD.contains(&method) && by_body.target().is_some(),
    }
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
fn unsupported_revision(requested: &str) -> Reply {
    let why = "this server has a process for each session, and this revision has no sessions: begin with initialize";
    let data = json!({"supported": ["2025-11-25", "2025-06-18", "2025-03-26"], "requested": requested});
    Reply::of_error(400, &json!({"code": UNSUPPORTED_REVISION, "message": why, "data": data}))
}

fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json")
}

/// Whether a request accepts this media type.
pub(super) fn accepts(head: &RequestHead, kind: &[u8]) -> bool {
    let fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept"));
    fields.flat_map(|(_, value)| value.split(|byte| *byte == b',')).any(|range| {
        let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        range.eq_ignore_ascii_case(kind) || range == b"*/*"
    })
}
