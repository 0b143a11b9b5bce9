//! Requests of agents of 2026-07-28 for a server with sessions.

use std::rc::Rc;

use crate::base::Clock;
use crate::bridge::{
    BridgeRefusal, CallStep, CallerKey, INTERNAL_ERROR, INVALID_PARAMS, JsonObject, Listening, METHOD_NOT_FOUND,
    ModernCall, ModernMessage, ModernToLegacy, START_AGAIN, SessionTransport, is_common_method, result_message,
};
use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::inner_client::{InnerEnd, InnerHead, kept_fields};
use crate::connector::bridge::inner_session::{InnerSession, OpenError, SessionCall};
use crate::connector::bridge::mail::{BridgeInbox, Mail};
use crate::connector::bridge::parked::RunningCall;
use crate::connector::bridge::reply::Reply;
use crate::connector::bridge::session_pool::SessionUse;
use crate::connector::shared::Counters;
use crate::exchange::ExchangeEnd;
use crate::wire::http1::Method;

/// What the server gets of the agent's head.
struct Caller {
    target: Vec<u8>,
    kept: Vec<u8>,
    key: CallerKey,
    transport: SessionTransport,
}

/// Answers one request of an agent.
pub(super) async fn run(agent: &mut AgentSide<'_>, transport: SessionTransport) -> Result<(), ExchangeEnd> {
    if agent.buffers.head.method() != Method::Post {
        return Err(ExchangeEnd::NoAnswer);
    }
    let body = match agent.read_body().await? {
        Ok(body) => body,
        Err(reply) => return agent.send(reply).await,
    };
    let call = match ModernCall::read(&agent.buffers.head, &body) {
        Ok(ModernMessage::Call(call)) => call,
        Ok(ModernMessage::Notification) => return agent.send(Reply::new(202, Vec::new())).await,
        Err((refusal, id)) => {
            Counters::add(&agent.server.counters().bridge_refused_messages);
            return agent.send(Reply::refusal(&refusal, &id)).await;
        }
    };
    drop(body);
    let head = &agent.buffers.head;
    let level = call.log_level.as_deref().unwrap_or_default();
    let key = CallerKey::of(head, &[&call.capabilities, &call.client, level.as_bytes()]);
    let caller = Caller { target: head.path().to_vec(), kept: kept_fields(head), key, transport };
    match call.method.as_str() {
        "server/discover" => discover(agent, &caller, &call).await,
        "subscriptions/listen" => listen(agent, &caller, &call).await,
        method if is_common_method(method) => answer(agent, &caller, &call).await,
        method => {
            Counters::add(&agent.server.counters().bridge_refused_messages);
            let why = format!("the server speaks a revision of MCP with sessions, which has no equivalent of {method}");
            agent.send(Reply::refusal(&BridgeRefusal::new(404, METHOD_NOT_FOUND, &why), &call.id)).await
        }
    }
}

async fn discover(agent: &mut AgentSide<'_>, caller: &Caller, call: &ModernCall) -> Result<(), ExchangeEnd> {
    match take_session(agent, caller, call).await? {
        Ok(used) => {
            let result = used.session.hello().map(crate::bridge::ServerSession::discover_result).unwrap_or_default();
            agent.send(Reply::new(200, result_message(&call.id, &result))).await
        }
        Err(error) => agent.send(not_opened(agent, error, &call.id)).await,
    }
}

async fn take_session(
    agent: &mut AgentSide<'_>,
    caller: &Caller,
    call: &ModernCall,
) -> Result<Result<SessionUse, OpenError>, ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let Caller { target, kept, key, transport } = caller;
    let taking = server.pool.take(*transport, target, kept, *key, call);
    agent.while_connected(Box::pin(taking)).await.ok_or(ExchangeEnd::Stream)
}

/// The response if no session could be opened. What the server has said of credentials reaches the agent.
fn not_opened(agent: &AgentSide<'_>, error: OpenError, id: &[u8]) -> Reply {
    match error {
        OpenError::Refused(head, body) => refused(agent, head, body, id),
        OpenError::Failed(why) => Reply::failed(&why, id),
        OpenError::Full => {
            let why = "the bridge has as many sessions with the server as it may have: try again later";
            Reply::refusal(&BridgeRefusal::new(503, INTERNAL_ERROR, why), id)
        }
    }
}

/// The response of a server that has refused a request of the bridge.
fn refused(agent: &AgentSide<'_>, head: InnerHead, body: Vec<u8>, id: &[u8]) -> Reply {
    if crate::wire::mcp::Era::is_refusal(head.status) {
        // It may speak another era by now.
        let path = crate::bridge::path_of(&agent.buffers.head);
        agent.server.probe.eras.lock().on_refused(path, crate::wire::mcp::Era::Stateless);
        return Reply::failed(&format!("the server has refused a session with status {}", head.status), id);
    }
    Reply { status: head.status, body, fields: head.fields }
}

/// What is called, without what differs between the requests of one call.
fn params_of(call: &ModernCall) -> Vec<u8> {
    let params = JsonObject::read(&call.message).and_then(|message| message.get_object("params"));
    let edits = [("_meta", None), ("inputResponses", None), ("requestState", None)];
    params.map(|params| params.edited(&edits)).unwrap_or_default()
}

async fn answer(agent: &mut AgentSide<'_>, caller: &Caller, call: &ModernCall) -> Result<(), ExchangeEnd> {
    let params = params_of(call);
    let mut steps = Vec::new();
    let mut running = match call.request_state.as_deref().filter(|state| *state != START_AGAIN) {
        Some(state) => match agent.server.parked.take(state, caller.key, &call.method, &params) {
            Some(mut running) => {
                running.machine.on_retry(call, &mut steps);
                running
            }
            None => {
                Counters::add(&agent.server.counters().bridge_refused_messages);
                let why = "requestState is not known, or not any more: call again without it";
                let refusal = BridgeRefusal::new(400, INVALID_PARAMS, why);
                return agent.send(Reply::refusal(&refusal, &call.id)).await;
            }
        },
        None => match begin(agent, caller, call, params).await? {
            Ok(running) => running,
            Err(reply) => return agent.send(reply).await,
        },
    };
    let may_stream = agent.takes_events();
    let (mut streams, mut is_first) = (false, true);
    loop {
        for step in std::mem::take(&mut steps) {
            match step {
                CallStep::ToServer(message) => running.call.session().tell_aside(&message),
                CallStep::ToAgent(message) if may_stream => {
                    if !streams {
                        agent.begin_events().await?;
                        streams = true;
                    }
                    agent.event(&message).await?;
                }
                CallStep::ToAgent(_) => {}
                CallStep::Ask => {}
                CallStep::Answer(status, message) => {
                    running.call.finish();
                    return finish(agent, streams, status, message).await;
                }
            }
        }
        // Questions that have arrived together are asked together.
        if running.machine.has_questions() && !running.call.inbox.is_next(|mail| matches!(mail, Mail::Message(_))) {
            return ask(agent, running, streams).await;
        }
        let inbox = Rc::clone(&running.call.inbox);
        let Some(mail) = agent.while_connected(inbox.next()).await else { return Err(ExchangeEnd::Stream) };
        match mail {
            Mail::Message(message) => {
                is_first = false;
                running.machine.on_server(&message, &mut steps);
                let is_answered = steps.iter().any(|step| matches!(step, CallStep::Answer(..)));
                if let Some(head) = running.refusal.take().filter(|_| !is_answered) {
                    running.call.finish();
                    return agent.send(refused(agent, head, message, &call.id)).await;
                }
            }
            Mail::Body(body) => {
                running.call.finish();
                let Some(head) = running.refusal.take() else { return finish_failed(agent, &running, streams).await };
                return agent.send(refused(agent, head, body, &call.id)).await;
            }
            Mail::Head(head) if head.status == 404 && is_first && !running.is_again => {
                // The server does not know the session any more, and has not run the call.
                running.call.session().is_gone.set(true);
                running.call.finish();
                drop(running);
                match begin(agent, caller, call, params_of(call)).await? {
                    Ok(next) => running = RunningCall { is_again: true, ..next },
                    Err(reply) => return agent.send(reply).await,
                }
            }
            Mail::Head(head) if head.status >= 300 => running.refusal = Some(head),
            Mail::Head(_) => {}
            Mail::End(InnerEnd::Complete(Some(last_id))) => {
                let resumed = agent.while_connected(running.call.resume(&last_id)).await;
                if !resumed.ok_or(ExchangeEnd::Stream)? {
                    return finish_failed(agent, &running, streams).await;
                }
            }
            Mail::End(_) => {
                running.call.finish();
                if let Some(head) = running.refusal.take() {
                    return agent.send(refused(agent, head, Vec::new(), &call.id)).await;
                }
                return finish_failed(agent, &running, streams).await;
            }
            Mail::Event(..) | Mail::FromAgent(..) | Mail::Cancelled => {}
        }
    }
}

/// Sends the call to the server.
async fn begin(
    agent: &mut AgentSide<'_>,
    caller: &Caller,
    call: &ModernCall,
    params: Vec<u8>,
) -> Result<Result<RunningCall, Reply>, ExchangeEnd> {
    let used = match take_session(agent, caller, call).await? {
        Ok(used) => used,
        Err(error) => return Ok(Err(not_opened(agent, error, &call.id))),
    };
    let id = used.session.next_id();
    let machine = ModernToLegacy::new(call, &id);
    let message = call.for_session(&id);
    let call = used.session.start(id, &message);
    Ok(Ok(RunningCall { machine, call, _used: used, key: caller.key, params, refusal: None, is_again: false }))
}

async fn finish(agent: &AgentSide<'_>, streams: bool, status: u16, message: Vec<u8>) -> Result<(), ExchangeEnd> {
    if !streams {
        return agent.send(Reply::new(status, message)).await;
    }
    agent.event(&message).await?;
    agent.end_events().await
}

async fn finish_failed(agent: &AgentSide<'_>, running: &RunningCall, streams: bool) -> Result<(), ExchangeEnd> {
    match running.machine.failed("the server has ended its response without an answer") {
        CallStep::Answer(_, message) if streams => finish(agent, streams, 200, message).await,
        CallStep::Answer(_, message) => finish(agent, streams, 502, message).await,
        _ => Err(ExchangeEnd::NoAnswer),
    }
}

/// Asks the agent what the server asks, and keeps the call until the agent comes back.
async fn ask(agent: &AgentSide<'_>, mut running: RunningCall, streams: bool) -> Result<(), ExchangeEnd> {
    let Some(state) = crate::connector::bridge::agent_session::new_id() else { return Err(ExchangeEnd::NoAnswer) };
    let message = running.machine.ask(&state);
    match agent.server.parked.park(state, running, agent.server.client.core.now()) {
        Ok(()) => {
            Counters::add(&agent.server.counters().bridge_calls_parked);
            finish(agent, streams, 200, message).await
        }
        Err(running) => {
            Counters::add(&agent.server.counters().bridge_refused_limits);
            match running.machine.failed("too many calls wait for input of their agents") {
                CallStep::Answer(status, message) => finish(agent, streams, status, message).await,
                _ => Err(ExchangeEnd::NoAnswer),
            }
        }
    }
}

/// Serves a stream of notifications, on a session of its own.
async fn listen(agent: &mut AgentSide<'_>, caller: &Caller, call: &ModernCall) -> Result<(), ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let opening = InnerSession::open(&server.client, caller.transport, &caller.target, &caller.kept, call);
    let session = match agent.while_connected(Box::pin(opening)).await.ok_or(ExchangeEnd::Stream)? {
        Ok(session) => EndedSession(session),
        Err(error) => return agent.send(not_opened(agent, error, &call.id)).await,
    };
    let Some(hello) = session.0.hello() else { return Err(ExchangeEnd::NoAnswer) };
    let listening = Listening::new(call, hello);
    let inbox = Rc::<BridgeInbox>::default();
    *session.0.listener.borrow_mut() = Some(Rc::clone(&inbox));
    if caller.transport == SessionTransport::Streamable {
        session.0.open_stream();
        agent.while_connected(session.0.wait_for_stream()).await.ok_or(ExchangeEnd::Stream)?;
    }
    let subscribed: Vec<SessionCall> =
        listening.subscriptions().map(|(id, message)| session.0.start(id.into_bytes(), &message)).collect();
    agent.begin_events().await?;
    agent.event(&listening.acknowledgement()).await?;
    loop {
        match agent.while_connected(inbox.next()).await {
            None => {
                subscribed.iter().for_each(SessionCall::finish);
                return Err(ExchangeEnd::Stream);
            }
            Some(Mail::Message(message)) => {
                if let Some(message) = listening.on_server(&message) {
                    agent.event(&message).await?;
                }
            }
            Some(Mail::End(_)) => {
                subscribed.iter().for_each(SessionCall::finish);
                agent.event(&listening.end()).await?;
                return agent.end_events().await;
            }
            Some(_) => {}
        }
    }
}

/// A session that ends with its only use.
struct EndedSession(Rc<InnerSession>);

impl Drop for EndedSession {
    fn drop(&mut self) {
        self.0.end();
    }
}
