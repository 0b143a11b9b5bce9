//! Requests of agents with sessions for a server of 2026-07-28.

use std::rc::Rc;
use std::time::Duration;

use crate::base::Clock;
use crate::bridge::{
    AgentHello, BRIDGED_QUERY, BridgeRefusal, CallerKey, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, JsonObject,
    ServerOffer, array_elements, bridged_query, error_message, own_discover, result_message,
};
use crate::connector::bridge::agent_session::{AgentSession, AgentSessionUse};
use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::inner_client::{InnerRequest, kept_fields, modern_fields};
use crate::connector::bridge::legacy_call::{self, Caller, refused};
use crate::connector::bridge::legacy_output::Output;
use crate::connector::bridge::legacy_stream;
use crate::connector::bridge::reply::Reply;
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::exchange::ExchangeEnd;
use crate::wire::http1::Method;
use crate::wire::jsonrpc::Message;
use crate::wire::mcp::SESSION_ID;
use crate::wire::stdio::Envelope;

/// The most messages of one batch (2025-03-26).
const BATCH_MAX: usize = 64;
/// How long the server may take to say what it offers.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(20);

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
        (Method::Get, None) => legacy_stream::open_sse(agent, &caller).await,
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
        (Method::Get, Some(Some(session))) => legacy_stream::run(agent, &caller, &session, false).await,
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
        method => return legacy_call::run(server, caller, session, text, (&id, method), output).await,
    };
    output.answer(answer).await
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
