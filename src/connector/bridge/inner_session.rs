//! A session with the server, for calls of agents without.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::bridge::{
    INTERNAL_ERROR, JsonObject, ModernCall, ServerSession, SessionTransport, error_message, initialize_request,
    notification, quoted, request, result_message,
};
use crate::connector::bridge::inner_client::{InnerCall, InnerClient, InnerEnd, InnerHead, InnerRequest, is_response};
use crate::connector::bridge::mail::{BridgeInbox, Mail};
use crate::connector::shared::Counters;
use crate::engine::{Signal, Task};
use crate::wire::jsonrpc::Message;
use crate::wire::mcp::{PROTOCOL_VERSION, SESSION_ID};
use crate::wire::stdio::Envelope;

/// How long opening a session may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a message may take that nobody waits for: a cancellation, an answer, the end of a session.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the stream of a session is awaited. Some servers send its head with its first event.
const STREAM_WAIT: Duration = Duration::from_millis(500);
/// How often the stream of an answer is resumed that the server has ended early (2025-11-25, "Resumability").
const RESUMES_MAX: usize = 32;
/// The pause before that.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// A session of the bridge with the server.
pub(super) struct InnerSession {
    client: Rc<InnerClient>,
    hello: OnceCell<ServerSession>,
    id: OnceCell<Box<str>>,
    target: Vec<u8>,
    /// The fields of the agent that has opened it, with its credentials.
    kept: Vec<u8>,
    transport: SessionTransport,
    next_id: Cell<u64>,
    /// How many calls use it.
    pub(super) users: Cell<usize>,
    pub(super) used: Cell<Time>,
    /// The server does not know it any more.
    pub(super) is_gone: Cell<bool>,
    /// The inboxes of its calls, by the id of their request.
    calls: RefCell<BTreeMap<Vec<u8>, Rc<BridgeInbox>>>,
    /// Who listens to notifications that belong to no call.
    pub(super) listener: RefCell<Option<Rc<BridgeInbox>>>,
    /// Its own stream of events, if it has one.
    stream: RefCell<Option<Task<()>>>,
    /// The endpoint for messages, if the transport is HTTP+SSE; empty if it is not usable.
    endpoint: RefCell<Option<Vec<u8>>>,
    /// Raised when the server has answered the request for the stream, and when it has named the endpoint.
    endpoint_known: Signal,
    /// Whether the server has answered the request for the stream.
    is_stream_known: Cell<bool>,
    /// Whether the stream was asked for and has not ended.
    is_streaming: Cell<bool>,
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The server has refused, with this response.
    Refused(InnerHead, Vec<u8>),
    /// The server gave no answer.
    Failed(String),
    /// There are too many sessions.
    Full,
}

/// A call on a session. Dropping it before its answer cancels it at the server.
pub(super) struct SessionCall {
    session: Rc<InnerSession>,
    pub(super) id: Vec<u8>,
    pub(super) inbox: Rc<BridgeInbox>,
    /// The request, or the one that resumes its stream.
    running: RefCell<Option<InnerCall>>,
    resumed: Cell<usize>,
    is_over: Cell<bool>,
}

impl InnerSession {
    /// Opens a session for an agent.
    pub(super) async fn open(
        client: &Rc<InnerClient>,
        transport: SessionTransport,
        target: &[u8],
        kept: &[u8],
        call: &ModernCall,
    ) -> Result<Rc<InnerSession>, OpenError> {
        let session = Rc::new(InnerSession {
            client: Rc::clone(client),
            hello: OnceCell::new(),
            id: OnceCell::new(),
            target: target.to_vec(),
            kept: kept.to_vec(),
            transport,
            next_id: Cell::new(1),
            users: Cell::new(0),
            used: Cell::new(client.core.turn_time()),
            is_gone: Cell::new(false),
            calls: RefCell::default(),
            listener: RefCell::default(),
            stream: RefCell::default(),
            endpoint: RefCell::default(),
            endpoint_known: Signal::default(),
            is_stream_known: Cell::new(false),
            is_streaming: Cell::new(false),
        });
        let opened = client.core.timeout(OPEN_TIMEOUT, Box::pin(session.begin(call))).await;
        match opened.unwrap_or_else(|_| Err(OpenError::Failed("the server opens no session in time".into()))) {
            Ok(()) => {
                Counters::add(&client.counters().bridge_sessions_opened);
                Ok(session)
            }
            Err(error) => {
                session.end_at_server();
                Err(error)
            }
        }
    }

    async fn begin(self: &Rc<InnerSession>, agent: &ModernCall) -> Result<(), OpenError> {
        let asked = initialize_request(b"0", &agent.capabilities, &agent.client);
        let answer = match self.transport {
            SessionTransport::Streamable => {
                let request = InnerRequest::post(&self.target, &self.kept, "", &asked);
                let (head, message) = self.client.ask(request).await.map_err(OpenError::Failed)?;
                let message = message.unwrap_or_default();
                if head.status != 200 {
                    return Err(OpenError::Refused(head, message));
                }
                if let Some(id) = head.session {
                    let _ = self.id.set(id);
                }
                message
            }
            SessionTransport::HttpSse => {
                self.open_stream();
                self.wait_for_endpoint().await?;
                let call = self.start(b"0".to_vec(), &asked);
                let answer = call.answer().await;
                answer.ok_or_else(|| OpenError::Failed("the server has closed its stream".into()))?
            }
        };
        let hello = ServerSession::read(&answer);
        let hello = hello.ok_or_else(|| OpenError::Failed("the server opens no session of a known revision".into()))?;
        let may_log = hello.offers("logging", None);
        let _ = self.hello.set(hello);
        self.tell(notification("notifications/initialized", b"{}")).await;
        if let Some(level) = agent.log_level.as_deref().filter(|_| may_log) {
            let params = [b"{\"level\":", &quoted(level)[..], b"}"].concat();
            self.start(b"\"log\"".to_vec(), &request(b"\"log\"", "logging/setLevel", &params)).answer().await;
        }
        if self.transport == SessionTransport::Streamable && answers_questions(agent) {
            // Some servers ask on this stream, and not on that of the call.
            self.open_stream();
            self.wait_for_stream().await;
        }
        Ok(())
    }

    /// What the server has said of itself; none before the session is open.
    pub(super) fn hello(&self) -> Option<&ServerSession> {
        self.hello.get()
    }

    /// The id of the next request.
    pub(super) fn next_id(&self) -> Vec<u8> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id.to_string().into_bytes()
    }

    /// Sends a request with this id. Its answer arrives in the inbox of the call.
    pub(super) fn start(self: &Rc<InnerSession>, id: Vec<u8>, message: &[u8]) -> SessionCall {
        let inbox = Rc::<BridgeInbox>::default();
        self.calls.borrow_mut().insert(id.clone(), Rc::clone(&inbox));
        self.used.set(self.client.core.turn_time());
        let post = self.post(message);
        let running = match self.transport {
            SessionTransport::Streamable => self.client.start(post, Rc::clone(&inbox)),
            SessionTransport::HttpSse => {
                // The answer comes on the stream of the session; that of the request only says that it was accepted.
                let (client, to) = (Rc::clone(&self.client), Rc::clone(&inbox));
                let sending = async move {
                    match client.ask(post).await {
                        Ok((head, _)) if (200..300).contains(&head.status) => {}
                        Ok((head, body)) => {
                            to.put(Mail::Head(head));
                            to.put(Mail::Body(body.unwrap_or_default()));
                            to.put(Mail::End(InnerEnd::Complete(None)));
                        }
                        Err(why) => to.put(Mail::End(InnerEnd::Failed(why))),
                    }
                };
                InnerCall::new(Rc::clone(&inbox), self.client.core.spawn_held(sending))
            }
        };
        let (running, resumed) = (RefCell::new(Some(running)), Cell::new(0));
        SessionCall { session: Rc::clone(self), id, inbox, running, resumed, is_over: Cell::new(false) }
    }

    /// Sends a message that is not answered.
    pub(super) async fn tell(&self, message: Vec<u8>) {
        let _ = self.client.core.timeout(ASIDE_TIMEOUT, self.client.ask(self.post(&message))).await;
    }

    /// Sends a message that is not answered, later.
    pub(super) fn tell_aside(&self, message: &[u8]) {
        let (client, post) = (Rc::clone(&self.client), self.post(message));
        self.client.core.spawn(async move {
            let _ = client.core.timeout(ASIDE_TIMEOUT, client.ask(post)).await;
        });
    }

    /// Ends the session, also at the server.
    pub(super) fn end(&self) {
        Counters::add(&self.client.counters().bridge_sessions_ended);
        self.end_at_server();
    }

    fn end_at_server(&self) {
        self.stream.borrow_mut().take();
        if self.id.get().is_none() || self.is_gone.get() {
            return;
        }
        let delete = InnerRequest::delete(&self.target, &self.kept, &self.own_fields());
        let client = Rc::clone(&self.client);
        self.client.core.spawn(async move {
            let _ = client.core.timeout(ASIDE_TIMEOUT, client.ask(delete)).await;
        });
    }

    /// Opens the stream on which the server sends what belongs to no request, unless it is open: servers refuse a second one.
    pub(super) fn open_stream(self: &Rc<InnerSession>) {
        if self.is_streaming.replace(true) {
            return;
        }
        let get = InnerRequest::get(&self.target, &self.kept, &self.own_fields());
        let (session, client) = (Rc::downgrade(self), Rc::clone(&self.client));
        *self.stream.borrow_mut() = Some(self.client.core.spawn_held(read_stream(session, client, get)));
    }

    /// The fields that name the session, as lines of a head.
    fn own_fields(&self) -> String {
        let revision = self.hello.get().map(|hello| format!("{PROTOCOL_VERSION}: {}\r\n", hello.revision));
        let session = self.id.get().map(|id| format!("{SESSION_ID}: {id}\r\n"));
        [revision, session].into_iter().flatten().collect()
    }

    fn post(&self, message: &[u8]) -> InnerRequest {
        let endpoint = self.endpoint.borrow();
        InnerRequest::post(endpoint.as_deref().unwrap_or(&self.target), &self.kept, &self.own_fields(), message)
    }

    async fn wait_for_endpoint(&self) -> Result<(), OpenError> {
        loop {
            let seen = self.endpoint_known.count();
            match self.endpoint.borrow().as_deref() {
                Some([]) => return Err(OpenError::Failed("the server names no endpoint for messages".into())),
                Some(_) => return Ok(()),
                None => {}
            }
            self.endpoint_known.after(seen).await;
        }
    }

    /// Waits until the session has its own stream, or the server has refused it. A server drops what it sends before that.
    pub(super) async fn wait_for_stream(&self) {
        let known = async {
            loop {
                let seen = self.endpoint_known.count();
                if self.is_stream_known.get() {
                    return;
                }
                self.endpoint_known.after(seen).await;
            }
        };
        let _ = self.client.core.timeout(STREAM_WAIT, known).await;
    }

    fn set_endpoint(&self, endpoint: Vec<u8>) {
        *self.endpoint.borrow_mut() = Some(endpoint);
        self.endpoint_known.raise();
    }

    /// Gives a message of the session's own stream to the call that it belongs to.
    fn route(&self, message: Vec<u8>) {
        let Ok(envelope) = Envelope::read(&message) else { return };
        let calls = self.calls.borrow();
        let by = |range: &Option<std::ops::Range<usize>>| calls.get(&message[range.clone()?]).cloned();
        let only = || calls.values().next().filter(|_| calls.len() == 1).cloned();
        let inbox = match envelope.kind(&message) {
            Some(Message::Response) => by(&envelope.id),
            Some(Message::Notification) if envelope.progress.is_some() => by(&envelope.progress),
            Some(Message::Notification) => {
                if let Some(listener) = &*self.listener.borrow() {
                    let _ = listener.offer(Mail::Message(message.clone()));
                }
                only()
            }
            Some(Message::Request) => only(),
            None => None,
        };
        match inbox {
            Some(inbox) => _ = inbox.offer(Mail::Message(message)),
            // Nobody can answer it, as it is not known whom it is for.
            None if envelope.kind(&message) == Some(Message::Request) => {
                let id = envelope.id.clone().map(|range| message[range].to_vec()).unwrap_or_default();
                let is_ping = envelope.method(&message).as_deref() == Some("ping");
                let answer = match is_ping {
                    true => result_message(&id, b"{}"),
                    false => error_message(&id, INTERNAL_ERROR, "the request belongs to no call of an agent"),
                };
                self.tell_aside(&answer);
            }
            None => {}
        }
    }
}

/// Reads the session's own stream until it ends. The session then has none, and its listeners and calls are told.
async fn read_stream(session: Weak<InnerSession>, client: Rc<InnerClient>, get: InnerRequest) {
    let call = client.start(get, Rc::default());
    let mut is_stream = false;
    loop {
        let mail = call.inbox.next().await;
        let Some(session) = session.upgrade() else { return };
        match mail {
            Mail::Head(head) => {
                is_stream = head.is_events;
                session.is_stream_known.set(true);
                session.endpoint_known.raise();
            }
            Mail::Message(message) if is_stream => session.route(message),
            Mail::Event(kind, data) if is_stream && kind == "endpoint" => {
                session.set_endpoint(endpoint_of(&session.target, &data));
            }
            Mail::End(_) => {
                session.is_streaming.set(false);
                if session.transport == SessionTransport::HttpSse {
                    session.is_gone.set(true);
                    session.set_endpoint(Vec::new());
                    for inbox in session.calls.borrow().values() {
                        inbox.put(Mail::End(InnerEnd::Failed("the server has closed its stream".into())));
                    }
                }
                if let Some(listener) = &*session.listener.borrow() {
                    listener.put(Mail::End(InnerEnd::Complete(None)));
                }
                return;
            }
            _ => {}
        }
    }
}

/// The endpoint that an event names: an address of the same server, as path and query. Whatever host it names, only the server of the
/// route is called.
fn endpoint_of(target: &[u8], data: &[u8]) -> Vec<u8> {
    let data = data.trim_ascii();
    let is_sane = data.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    if !is_sane || data.is_empty() {
        return Vec::new();
    }
    let after_scheme = memchr::memmem::find(data, b"://").map(|at| &data[at + 3..]);
    if let Some(rest) = after_scheme.or_else(|| data.strip_prefix(b"//")) {
        return memchr::memchr(b'/', rest).map_or_else(|| b"/".to_vec(), |slash| rest[slash..].to_vec());
    }
    if data.starts_with(b"/") {
        return data.to_vec();
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match data.starts_with(b"?") {
        true => [path, data].concat(),
        false => {
            let folder = memchr::memrchr(b'/', path).map_or(&b"/"[..], |slash| &path[..=slash]);
            [folder, data].concat()
        }
    }
}

/// Whether an agent can answer questions of a server.
pub(super) fn answers_questions(agent: &ModernCall) -> bool {
    let capabilities = JsonObject::read(&agent.capabilities);
    let can = |what: &str| capabilities.as_ref().is_some_and(|all| all.get(what).is_some());
    can("elicitation") || can("sampling") || can("roots")
}

impl SessionCall {
    /// The session that it runs on.
    pub(super) fn session(&self) -> &Rc<InnerSession> {
        &self.session
    }

    /// Notes that the answer has arrived, or that there will be none.
    pub(super) fn finish(&self) {
        self.is_over.set(true);
    }

    /// Waits for the answer; none if there is none.
    async fn answer(&self) -> Option<Vec<u8>> {
        loop {
            match self.inbox.next().await {
                Mail::Message(message) if is_response(&message) => {
                    self.finish();
                    return Some(message);
                }
                Mail::End(_) => {
                    self.finish();
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Resumes the stream of the answer after its last event. Returns false if that was done too often.
    pub(super) async fn resume(&self, last_id: &[u8]) -> bool {
        if self.resumed.get() >= RESUMES_MAX || last_id.iter().any(|byte| !matches!(byte, b' '..=b'~')) {
            return false;
        }
        self.resumed.set(self.resumed.get() + 1);
        self.session.client.core.sleep(RESUME_PAUSE).await;
        let InnerSession { client, target, kept, .. } = &*self.session;
        let last = format!("{}Last-Event-ID: {}\r\n", self.session.own_fields(), String::from_utf8_lossy(last_id));
        let get = InnerRequest::get(target, kept, &last);
        *self.running.borrow_mut() = Some(client.start(get, Rc::clone(&self.inbox)));
        true
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        self.session.calls.borrow_mut().remove(&self.id);
        self.session.used.set(self.session.client.core.now());
        // In the eras with sessions, a stream that breaks off is no cancellation.
        if !self.is_over.get() && self.session.hello.get().is_some() && !self.session.is_gone.get() {
            let params = [b"{\"requestId\":", &self.id[..], b",\"reason\":\"the agent has left\"}"].concat();
            self.session.tell_aside(&notification("notifications/cancelled", &params));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_always_one_of_the_same_server() {
        for (target, data, wanted) in [
            ("/sse", "/messages/?session_id=1", "/messages/?session_id=1"),
            ("/a/sse?x=1", "messages?s=1", "/a/messages?s=1"),
            ("/a/sse?x=1", "?s=1", "/a/sse?s=1"),
            ("/sse", "http://10.0.0.1:80/m?s=1", "/m?s=1"),
            ("/sse", "https://other.test", "/"),
            ("/sse", "//other.test/m", "/m"),
            ("/sse", "/m HTTP/1.1\r\nX: y", ""),
            ("/sse", "", ""),
        ] {
            let found = endpoint_of(target.as_bytes(), data.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), wanted, "{data}");
        }
    }
}
