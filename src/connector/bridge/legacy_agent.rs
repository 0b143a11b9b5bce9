//! Requests of agents with sessions for a server of 2026-07-28.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::bridge::{
    AgentHello, BRIDGED_QUERY, BridgeRefusal, CANCELLED, CallerKey, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST,
    JsonObject, LegacyStep, LegacyToModern, ModernRequest, ServerOffer, array_elements, bridged_query, error_message,
    listen_request, notification_for_session, own_discover, result_message,
};
use crate::connector::bridge::agent_session::{AgentSession, AgentSessionUse};
use crate::connector::bridge::agent_side::{AgentSide, ExchangeEnd};
use crate::connector::bridge::inbox::{Inbox, Mail};
use crate::connector::bridge::inner_client::{
    InnerCall, InnerEnd, InnerHead, InnerRequest, kept_fields, modern_fields,
};
use crate::connector::bridge::reply::{Reply, event};
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::wire::http1::Method;
use crate::wire::jsonrpc::Message;
use crate::wire::mcp::{NAME, SESSION_ID};
use crate::wire::stdio::Envelope;

/// The most messages of one batch (2025-03-26).
const BATCH_MAX: usize = 64;
/// The pauses before a stream of notifications is opened again: the first and the longest one.
const LISTEN_PAUSE_MIN: Duration = Duration::from_millis(500);
const LISTEN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the server may take to say what it offers.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(20);

/// The kinds of notifications of a session, with the capability that offers them.
const LISTENED: [(&str, &str); 3] =
    [("toolsListChanged", "tools"), ("promptsListChanged", "prompts"), ("resourcesListChanged", "resources")];

/// What the server gets of the agent's head.
#[derive(Clone)]
struct Caller {
    target: Vec<u8>,
    kept: Vec<u8>,
    key: CallerKey,
}

/// Where messages for the agent go.
enum Output<'a, 'b> {
    /// In the response to its request.
    Response { agent: &'b mut AgentSide<'a>, may_stream: bool, streams: bool, is_batch: bool },
    /// On the stream of its session.
    Session(Rc<AgentSession>),
}

/// A call that is known to its session, until this is dropped.
struct OpenCall<'a> {
    session: &'a AgentSession,
    id: &'a [u8],
    inbox: &'a Rc<Inbox>,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.session.on_call_ended(self.id, self.inbox);
    }
}

/// Answers one request of an agent.
pub(super) async fn run(agent: &mut AgentSide<'_>) -> Result<(), ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let head = &agent.buffers.head;
    let by_query = bridged_query(head).map(<[u8]>::to_vec);
    let id = by_query.clone().or_else(|| head.get_only(SESSION_ID).map(<[u8]>::to_vec));
    let target = own_target(head.path());
    let caller = Caller { target, kept: kept_fields(head), key: CallerKey::of(head, &[]) };
    let known = id.as_ref().map(|id| server.agents.get(id, server.client.core.now()));
    match (head.method(), known) {
        (Method::Get, None) => open_sse(agent, &caller).await,
        (Method::Post, None) => {
            let body = match agent.read_body().await? {
                Ok(body) => body,
                Err(reply) => return agent.send(reply).await,
            };
            open_session(agent, &caller, &body).await
        }
        (_, Some(None)) => {
            // The body may still be on its way.
            if let Err(reply) = agent.read_body().await? {
                return agent.send(reply).await;
            }
            agent.send(Reply::refusal(&BridgeRefusal::new(404, -32_001, "Session not found"), b"null")).await
        }
        (Method::Get, Some(Some(session))) => stream(agent, &caller, &session, false).await,
        (Method::Delete, Some(Some(session))) => {
            server.agents.end(&session);
            agent.send(Reply::new(200, Vec::new())).await
        }
        (_, Some(Some(session))) => {
            let body = match agent.read_body().await? {
                Ok(body) => body,
                Err(reply) => return agent.send(reply).await,
            };
            let used = AgentSessionUse::new(&session);
            match by_query {
                Some(_) => {
                    // Answers go to the stream of the session.
                    agent.send(Reply::new(202, Vec::new())).await?;
                    let own = Rc::clone(&server);
                    let working = async move {
                        let mut output = Output::Session(Rc::clone(&used.0));
                        let _ = post(&own, &caller, &used.0, &body, &mut output).await;
                    };
                    server.client.core.spawn(Box::pin(working));
                    Ok(())
                }
                None => {
                    let may_stream = agent.takes_events();
                    let mut output = Output::Response { agent, may_stream, streams: false, is_batch: false };
                    post(&server, &caller, &used.0, &body, &mut output).await
                }
            }
        }
        (_, None) => agent.send(Reply::refusal(&missing_session(), b"null")).await,
    }
}

fn missing_session() -> BridgeRefusal {
    BridgeRefusal::new(400, INVALID_REQUEST, "Mcp-Session-Id is missing: begin with initialize")
}

/// The target without the parameter that names a session of the bridge.
fn own_target(target: &[u8]) -> Vec<u8> {
    let Some(question) = memchr::memchr(b'?', target) else { return target.to_vec() };
    let query = target[question + 1..].split(|byte| *byte == b'&');
    let left: Vec<&[u8]> = query.filter(|pair| !pair.starts_with(BRIDGED_QUERY.as_bytes())).collect();
    let query = left.join(&b'&');
    if query.is_empty() { target[..question].to_vec() } else { [&target[..=question], &query].concat() }
}

/// Opens a session with the answer to `initialize`.
async fn open_session(agent: &mut AgentSide<'_>, caller: &Caller, body: &[u8]) -> Result<(), ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let envelope = match Envelope::read(body) {
        Ok(envelope) => envelope,
        Err(error) => return agent.send(Reply::refusal(&BridgeRefusal::unreadable(error), b"null")).await,
    };
    let id = envelope.id.clone().map_or_else(|| b"null".to_vec(), |range| body[range].to_vec());
    let method = envelope.method(body).unwrap_or_default();
    if method != crate::wire::mcp::INITIALIZE {
        return agent.send(Reply::refusal(&missing_session(), &id)).await;
    }
    let opening = initialize(&server, caller, body, &id);
    match agent.while_connected(Box::pin(opening)).await.ok_or(ExchangeEnd::Stream)? {
        Err(reply) => agent.send(reply).await,
        Ok((hello, result, revision)) => {
            let Some(session) = server.agents.begin(server.client.core.now()) else {
                Counters::add(&server.counters().bridge_refused_limits);
                let why = "the bridge has as many sessions as it may have: try again later";
                return agent.send(Reply::refusal(&BridgeRefusal::new(503, INTERNAL_ERROR, why), &id)).await;
            };
            let _ = session.hello.set(hello);
            session.revision.set(revision);
            agent.send(Reply::new(200, result_message(&id, &result)).with_session(&session.id)).await
        }
    }
}

/// The answer to `initialize`, made from what the server offers.
async fn initialize(
    server: &Rc<BridgeState>,
    caller: &Caller,
    message: &[u8],
    id: &[u8],
) -> Result<(AgentHello, Vec<u8>, &'static str), Reply> {
    let unreadable = BridgeRefusal::new(200, INVALID_PARAMS, "the parameters of initialize cannot be read");
    let hello = AgentHello::read(message).ok_or_else(|| Reply::refusal(&unreadable, id))?;
    let request = InnerRequest::post(&caller.target, &caller.kept, &modern_fields("server/discover"), &own_discover());
    let asked = server.client.core.timeout(DISCOVER_TIMEOUT, server.client.ask(request)).await;
    let asked = asked.unwrap_or_else(|_| Err("the server does not say in time what it offers".to_owned()));
    let (head, answer) = asked.map_err(|why| Reply::failed(&why, id))?;
    let answer = answer.unwrap_or_default();
    match ServerOffer::read(&answer).filter(|_| head.status == 200) {
        Some(offer) => {
            let (result, revision) = offer.initialize_result(&hello.revision);
            *server.probe.offer.borrow_mut() = Some(offer);
            Ok((hello, result, revision))
        }
        None => Err(refused(head, answer, id)),
    }
}

/// The response of a server that has refused a request. A status that would end the agent's session is not passed on.
fn refused(head: InnerHead, body: Vec<u8>, id: &[u8]) -> Reply {
    match head.status {
        200..300 | 404 | 405 => Reply::failed(&format!("the server has answered with status {}", head.status), id),
        status => Reply { status, body, fields: head.fields },
    }
}

/// Takes what the agent sends within its session.
async fn post(
    server: &Rc<BridgeState>,
    caller: &Caller,
    session: &Rc<AgentSession>,
    body: &[u8],
    output: &mut Output<'_, '_>,
) -> Result<(), ExchangeEnd> {
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_batch {
        return message(server, caller, session, body, output).await;
    }
    let is_valid = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let messages = array_elements(body).filter(|all| is_valid && !all.is_empty() && all.len() <= BATCH_MAX);
    let Some(messages) = messages.filter(|_| session.revision.get() == "2025-03-26") else {
        Counters::add(&server.counters().bridge_refused_messages);
        let why = format!("batches are part of revision 2025-03-26 alone, of at most {BATCH_MAX} messages here");
        return output.reply(Reply::refusal(&BridgeRefusal::new(400, INVALID_REQUEST, &why), b"null")).await;
    };
    let has_requests = messages
        .iter()
        .any(|text| Envelope::read(text).map_or(true, |envelope| envelope.kind(text) == Some(Message::Request)));
    if !has_requests {
        for text in messages {
            accept(caller, session, text);
        }
        return output.reply(Reply::new(202, Vec::new())).await;
    }
    output.begin_batch().await?;
    for text in messages {
        Box::pin(message(server, caller, session, text, output)).await?;
    }
    output.end_batch().await
}

/// Takes a notification or a response of the agent.
fn accept(caller: &Caller, session: &AgentSession, text: &[u8]) -> bool {
    let Ok(envelope) = Envelope::read(text) else { return false };
    match envelope.kind(text) {
        Some(Message::Notification) => {
            if envelope.method(text).as_deref() == Some("notifications/cancelled")
                && let Some(id) = envelope.request_id
            {
                session.cancel(&text[id]);
            }
            true
        }
        Some(Message::Response) => {
            let id = envelope.id.and_then(|range| std::str::from_utf8(&text[range]).ok()?.parse().ok());
            id.is_some_and(|id| session.on_answer(id, caller.key, text.to_vec()))
        }
        _ => false,
    }
}

async fn message(
    server: &Rc<BridgeState>,
    caller: &Caller,
    session: &Rc<AgentSession>,
    text: &[u8],
    output: &mut Output<'_, '_>,
) -> Result<(), ExchangeEnd> {
    let envelope = match Envelope::read(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            Counters::add(&server.counters().bridge_refused_messages);
            return output.reply(Reply::refusal(&BridgeRefusal::unreadable(error), b"null")).await;
        }
    };
    let id = match envelope.kind(text) {
        Some(Message::Request) => envelope.id.clone().map(|range| text[range].to_vec()).unwrap_or_default(),
        _ if accept(caller, session, text) => return output.reply(Reply::new(202, Vec::new())).await,
        _ => {
            let why = "nobody waits for this response";
            return output.reply(Reply::refusal(&BridgeRefusal::new(400, INVALID_REQUEST, why), b"null")).await;
        }
    };
    let method = envelope.method(text).unwrap_or_default();
    let params = JsonObject::read(text).and_then(|message| message.get_object("params"));
    let text_of = |key: &str| params.as_ref().and_then(|params| params.get_text(key));
    let done = || result_message(&id, b"{}");
    let answer = match &*method {
        "ping" => done(),
        "initialize" if session.hello.get().is_none() => {
            let answer = match initialize(server, caller, text, &id).await {
                Ok((hello, result, revision)) => {
                    let _ = session.hello.set(hello);
                    session.revision.set(revision);
                    result_message(&id, &result)
                }
                Err(reply) if reply.body.starts_with(b"{") => reply.body,
                Err(_) => error_message(&id, INTERNAL_ERROR, "the server has refused to say what it offers"),
            };
            return output.answer(answer).await;
        }
        "initialize" => error_message(&id, INVALID_REQUEST, "the session has been initialized"),
        "logging/setLevel" => match text_of("level") {
            Some(level) => {
                *session.log_level.borrow_mut() = Some(level);
                done()
            }
            None => error_message(&id, INVALID_PARAMS, "level is missing"),
        },
        "resources/subscribe" => match text_of("uri") {
            Some(uri) if session.subscribe(&uri) => done(),
            Some(_) => error_message(&id, INTERNAL_ERROR, "the session subscribes to as many resources as it may"),
            None => error_message(&id, INVALID_PARAMS, "uri is missing"),
        },
        "resources/unsubscribe" => match text_of("uri") {
            Some(uri) => {
                session.unsubscribe(&uri);
                done()
            }
            None => error_message(&id, INVALID_PARAMS, "uri is missing"),
        },
        method => return call(server, caller, session, text, (&id, method), output).await,
    };
    output.answer(answer).await
}

/// Carries a call to its answer.
async fn call(
    server: &Rc<BridgeState>,
    caller: &Caller,
    session: &Rc<AgentSession>,
    text: &[u8],
    (id, method): (&[u8], &str),
    output: &mut Output<'_, '_>,
) -> Result<(), ExchangeEnd> {
    let Some(hello) = session.hello.get() else {
        return output.answer(error_message(id, INVALID_REQUEST, "begin with initialize")).await;
    };
    let level = session.log_level.borrow().clone();
    let mut machine = match LegacyToModern::new(text, id, method, hello, level.as_deref()) {
        Ok(machine) => machine,
        Err(refusal) => {
            Counters::add(&server.counters().bridge_refused_messages);
            return output.answer(refusal.message(id)).await;
        }
    };
    let inbox = Rc::<Inbox>::default();
    if !session.on_call(id, &inbox) {
        return output.answer(error_message(id, INVALID_REQUEST, "another request has this id")).await;
    }
    let _open = OpenCall { session, id, inbox: &inbox };
    let mut running = Some(send(server, caller, &machine.request(), &inbox));
    let (mut steps, mut refusal) = (Vec::new(), None::<InnerHead>);
    loop {
        for step in std::mem::take(&mut steps) {
            match step {
                LegacyStep::ToAgent(message) => output.message(message).await?,
                LegacyStep::Question(question, message) => {
                    if !output.can_ask() {
                        let why = "the server asks for input, which needs Accept: text/event-stream";
                        return output.answer(error_message(id, INTERNAL_ERROR, why)).await;
                    }
                    session.on_question(question, caller.key, &inbox);
                    output.message(message).await?;
                }
                LegacyStep::Answer(message) => return output.answer(message).await,
                LegacyStep::Again(pause) => {
                    drop(running.take());
                    output.while_connected(server.client.core.sleep(pause)).await?;
                    running = Some(send(server, caller, &machine.request(), &inbox));
                }
            }
        }
        match output.while_connected(inbox.next()).await? {
            Mail::Head(head) if head.status >= 300 => refusal = Some(head),
            Mail::Message(message) => {
                let mut next = session.next_question.get();
                machine.on_server(&message, &mut next, &mut steps);
                session.next_question.set(next);
                // What follows an answer is of no interest, least of all the end of its response.
                if steps.iter().any(|step| !matches!(step, LegacyStep::ToAgent(_))) {
                    drop(running.take());
                }
            }
            Mail::Body(body) => match refusal.take() {
                Some(head) => return output.refuse(refused(head, body, id), id).await,
                None => return output.answer(unanswered(id)).await,
            },
            // The end of a request whose answer has arrived may follow.
            Mail::End(_) if running.is_none() => {}
            Mail::End(end) => match (refusal.take(), end) {
                (Some(head), _) => return output.refuse(refused(head, Vec::new(), id), id).await,
                (None, InnerEnd::Failed(why)) => {
                    return output.answer(error_message(id, INTERNAL_ERROR, &why)).await;
                }
                (None, InnerEnd::Complete(_)) => return output.answer(unanswered(id)).await,
            },
            Mail::FromAgent(question, answer) => _ = machine.on_agent(question, &answer, &mut steps),
            // Closing the stream cancels the call at the server.
            Mail::Cancelled => return output.cancelled(id).await,
            Mail::Head(_) | Mail::Event(..) => {}
        }
    }
}

fn unanswered(id: &[u8]) -> Vec<u8> {
    error_message(id, INTERNAL_ERROR, "the server has ended its response without an answer")
}

fn send(server: &Rc<BridgeState>, caller: &Caller, request: &ModernRequest, inbox: &Rc<Inbox>) -> InnerCall {
    let name = request.name.as_ref().map(|name| format!("{NAME}: {name}\r\n")).unwrap_or_default();
    let own = modern_fields(&request.method) + &name;
    let post = InnerRequest::post(&caller.target, &caller.kept, &own, &request.message);
    server.client.start(post, Rc::clone(inbox))
}

/// Opens the stream of an agent of the transport HTTP+SSE, whose session ends with it.
async fn open_sse(agent: &mut AgentSide<'_>, caller: &Caller) -> Result<(), ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let Some(session) = server.agents.begin(server.client.core.now()) else {
        Counters::add(&server.counters().bridge_refused_limits);
        let why = "the bridge has as many sessions as it may have: try again later";
        return agent.send(Reply::refusal(&BridgeRefusal::new(503, INTERNAL_ERROR, why), b"null")).await;
    };
    let ended = stream(agent, caller, &session, true).await;
    server.agents.end(&session);
    ended
}

/// Serves the stream of a session.
async fn stream(
    agent: &mut AgentSide<'_>,
    caller: &Caller,
    session: &Rc<AgentSession>,
    is_sse: bool,
) -> Result<(), ExchangeEnd> {
    let _used = AgentSessionUse::new(session);
    let server = Rc::clone(agent.server);
    let number = session.streams.get() + 1;
    session.streams.set(number);
    agent.begin_events().await?;
    if is_sse {
        let mark = if caller.target.contains(&b'?') { '&' } else { '?' };
        let target = String::from_utf8_lossy(&caller.target);
        let endpoint = format!("{target}{mark}{BRIDGED_QUERY}{}", session.id);
        agent.write(&event("endpoint", endpoint.as_bytes())).await?;
    }
    let outbox = Rc::clone(&session.outbox);
    let listening =
        server.client.core.spawn_held(Box::pin(listen(Rc::clone(&server), caller.clone(), Rc::clone(session))));
    let ended = loop {
        let next = async {
            let ended = async {
                session.ended().await;
                None
            };
            future::or(async { Some(outbox.next().await) }, ended).await
        };
        match agent.while_connected(next).await {
            None => break Err(ExchangeEnd::Stream),
            Some(None) => break agent.end_events().await,
            Some(Some(mail)) => {
                if session.streams.get() != number {
                    // A newer stream gets what follows.
                    outbox.put(mail);
                    break agent.end_events().await;
                }
                if let Mail::Message(message) = mail {
                    agent.event(&message).await?;
                }
            }
        }
    };
    drop(listening);
    ended
}

/// Listens to the server for a session, again whenever its subscriptions change.
async fn listen(server: Rc<BridgeState>, caller: Caller, session: Rc<AgentSession>) {
    let (mut pause, mut number) = (LISTEN_PAUSE_MIN, 0);
    loop {
        let seen = session.subscribed.count();
        let request = {
            let offer = server.probe.offer.borrow();
            let offers =
                |capability: &str, part: &str| offer.as_ref().is_some_and(|offer| offer.offers(capability, Some(part)));
            let kinds: Vec<&str> =
                LISTENED.iter().filter(|(_, of)| offers(of, "listChanged")).map(|(kind, _)| *kind).collect();
            let uris = session.uris();
            number += 1;
            let hello = session.hello.get().filter(|_| !kinds.is_empty() || !uris.is_empty());
            hello.map(|hello| listen_request(number, hello, &kinds, &uris))
        };
        let Some(request) = request else {
            session.subscribed.after(seen).await;
            continue;
        };
        let own = modern_fields("subscriptions/listen");
        let post = InnerRequest::post(&caller.target, &caller.kept, &own, &request);
        let call = server.client.start(post, Rc::default());
        loop {
            let changed = async {
                session.subscribed.after(seen).await;
                None
            };
            match future::or(async { Some(call.inbox.next().await) }, changed).await {
                None => {
                    pause = LISTEN_PAUSE_MIN;
                    break;
                }
                Some(Mail::Message(message)) => {
                    if let Some(message) = notification_for_session(&message) {
                        pause = LISTEN_PAUSE_MIN;
                        let _ = session.outbox.offer(Mail::Message(message));
                    }
                }
                Some(Mail::End(_)) => {
                    drop(call);
                    let changed = session.subscribed.after(seen);
                    future::or(changed, server.client.core.sleep(pause)).await;
                    pause = (pause * 2).min(LISTEN_PAUSE_MAX);
                    break;
                }
                Some(_) => {}
            }
        }
    }
}

impl Output<'_, '_> {
    /// Whether the agent can be asked.
    fn can_ask(&self) -> bool {
        matches!(self, Output::Session(_) | Output::Response { may_stream: true, .. })
    }

    /// Sends a message that others follow. It is left out if the agent takes no stream.
    async fn message(&mut self, message: Vec<u8>) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(session) => session.outbox.send(Mail::Message(message)).await,
            Output::Response { agent, may_stream: true, streams, .. } => {
                if !*streams {
                    agent.begin_events().await?;
                    *streams = true;
                }
                agent.event(&message).await?;
            }
            Output::Response { .. } => {}
        }
        Ok(())
    }

    /// Sends the answer to a request.
    async fn answer(&mut self, message: Vec<u8>) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(session) => session.outbox.send(Mail::Message(message)).await,
            Output::Response { agent, streams: true, is_batch, .. } => {
                agent.event(&message).await?;
                if !*is_batch {
                    agent.end_events().await?;
                }
            }
            Output::Response { agent, .. } => agent.send(Reply::new(200, message)).await?,
        }
        Ok(())
    }

    /// Ends a request that was cancelled, which is not answered if it need not be.
    async fn cancelled(&mut self, id: &[u8]) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(_) | Output::Response { is_batch: true, .. } => Ok(()),
            Output::Response { agent, may_stream: true, streams, .. } => {
                if !*streams {
                    agent.begin_events().await?;
                }
                agent.end_events().await
            }
            Output::Response { .. } => self.answer(error_message(id, CANCELLED, "the request was cancelled")).await,
        }
    }

    /// Sends a response that is no answer to a request.
    async fn reply(&mut self, reply: Reply) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { agent, streams: false, .. } => agent.send(reply).await,
            _ => Ok(()),
        }
    }

    /// Sends the refusal of the server, as far as the agent can still be told of it.
    async fn refuse(&mut self, reply: Reply, id: &[u8]) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { streams: false, .. } => self.reply(reply).await,
            _ => {
                let why = format!("the server has refused the request with status {}", reply.status);
                self.answer(error_message(id, INTERNAL_ERROR, &why)).await
            }
        }
    }

    /// Begins the answers to a batch, each as an event.
    async fn begin_batch(&mut self) -> Result<(), ExchangeEnd> {
        if let Output::Response { agent, streams, is_batch, .. } = self {
            agent.begin_events().await?;
            (*streams, *is_batch) = (true, true);
        }
        Ok(())
    }

    async fn end_batch(&mut self) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { agent, .. } => agent.end_events().await,
            Output::Session(_) => Ok(()),
        }
    }

    /// Waits for `what`, unless the agent leaves or its session ends.
    async fn while_connected<T>(&mut self, what: impl Future<Output = T>) -> Result<T, ExchangeEnd> {
        let done = match self {
            Output::Response { agent, .. } => agent.while_connected(what).await,
            Output::Session(session) => {
                let ended = async {
                    session.ended().await;
                    None
                };
                future::or(async { Some(what.await) }, ended).await
            }
        };
        done.ok_or(ExchangeEnd::Stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_does_not_see_the_session_of_the_bridge() {
        for (target, wanted) in [
            ("/sse", "/sse"),
            ("/sse?adit_bridge_session=x", "/sse"),
            ("/sse?a=b&adit_bridge_session=x&c", "/sse?a=b&c"),
            ("/sse?a", "/sse?a"),
        ] {
            assert_eq!(own_target(target.as_bytes()), wanted.as_bytes(), "{target}");
        }
    }
}
