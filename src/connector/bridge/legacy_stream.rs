//! The stream of a session of an agent, and what the server sends for it.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::bridge::{BRIDGED_QUERY, BridgeRefusal, INTERNAL_ERROR, listen_request, notification_for_session};
use crate::connector::bridge::agent_session::{AgentSession, AgentSessionUse};
use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::inner_client::{InnerRequest, modern_fields};
use crate::connector::bridge::legacy_call::Caller;
use crate::connector::bridge::mail::Mail;
use crate::connector::bridge::reply::Reply;
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::exchange::{ExchangeEnd, event_chunk};

/// The pauses before a stream of notifications is opened again: the first and the longest one.
const LISTEN_PAUSE_MIN: Duration = Duration::from_millis(500);
const LISTEN_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The kinds of notifications of a session, with the capability that offers them.
const LISTENED: [(&str, &str); 3] =
    [("toolsListChanged", "tools"), ("promptsListChanged", "prompts"), ("resourcesListChanged", "resources")];

/// Opens the stream of an agent of the transport HTTP+SSE, whose session ends with it.
pub(super) async fn open_sse(agent: &mut AgentSide<'_>, caller: &Caller) -> Result<(), ExchangeEnd> {
    let server = Rc::clone(agent.server);
    let Some(session) = server.agents.begin(server.client.core.now()) else {
        Counters::add(&server.counters().bridge_refused_limits);
        let why = "the bridge has as many sessions as it may have: try again later";
        return agent.send(Reply::refusal(&BridgeRefusal::new(503, INTERNAL_ERROR, why), b"null")).await;
    };
    let ended = run(agent, caller, &session, true).await;
    server.agents.end(&session);
    ended
}

/// Serves the stream of a session.
pub(super) async fn run(
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
        agent.write(&event_chunk("endpoint", None, endpoint.as_bytes())).await?;
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
