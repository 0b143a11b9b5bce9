//! A call of an agent with sessions, from its request to its answer. The server may ask for input in between.

use std::rc::Rc;

use crate::bridge::{
    CallerKey, INTERNAL_ERROR, INVALID_REQUEST, LegacyStep, LegacyToModern, ModernRequest, error_message,
};
use crate::connector::bridge::agent_session::AgentSession;
use crate::connector::bridge::inner_client::{InnerCall, InnerEnd, InnerHead, InnerRequest, modern_fields};
use crate::connector::bridge::legacy_output::Output;
use crate::connector::bridge::mail::{BridgeInbox, Mail};
use crate::connector::bridge::reply::Reply;
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::exchange::ExchangeEnd;
use crate::wire::mcp::NAME;

/// What the server gets of the agent's head.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) target: Vec<u8>,
    pub(super) kept: Vec<u8>,
    pub(super) key: CallerKey,
}

/// A call that is known to its session, until this is dropped.
struct OpenCall<'a> {
    session: &'a AgentSession,
    id: &'a [u8],
    inbox: &'a Rc<BridgeInbox>,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.session.on_call_ended(self.id, self.inbox);
    }
}

/// Carries a call to its answer.
pub(super) async fn run(
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
    let inbox = Rc::<BridgeInbox>::default();
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

fn send(server: &Rc<BridgeState>, caller: &Caller, request: &ModernRequest, inbox: &Rc<BridgeInbox>) -> InnerCall {
    let name = request.name.as_ref().map(|name| format!("{NAME}: {name}\r\n")).unwrap_or_default();
    let own = modern_fields(&request.method) + &name;
    let post = InnerRequest::post(&caller.target, &caller.kept, &own, &request.message);
    server.client.start(post, Rc::clone(inbox))
}

/// The response of a server that has refused a request. A status that would end the agent's session is not passed on.
pub(super) fn refused(head: InnerHead, body: Vec<u8>, id: &[u8]) -> Reply {
    match head.status {
        200..300 | 404 | 405 => Reply::failed(&format!("the server has answered with status {}", head.status), id),
        status => Reply { status, body, fields: head.fields },
    }
}
