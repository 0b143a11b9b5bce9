//! Carries a call over the stream that was opened for it.

use std::task::Context;

use crate::edge::agent_request::AgentRequest;
use crate::edge::call_hooks::EdgeHooks;
use crate::edge::call_work::CallWork;
use crate::edge::caller::Caller;
use crate::edge::hedge::time_left;
use crate::edge::hedged::Tries;
use crate::engine::ByteStream;
use crate::exchange::{ExchangeState, TimeoutStream, forwarded};
use crate::route::Route;
use crate::serve::{NextHop, NextHopWork, Relayed, Replay, relay};
use crate::wire::http1::{Method, PolicyEdit, RequestEdits, TimeLeftEdit};

/// A call in flight and its stream.
pub(super) struct Carried<'e, 'h> {
    pub(super) caller: &'e Caller,
    pub(super) route: &'e Route,
    pub(super) tries: &'e Tries<'h>,
    pub(super) next_hop: &'e mut NextHopWork,
    pub(super) replay: Option<&'e mut Replay>,
    pub(super) work: &'e mut CallWork,
}

/// Carries request and response over `to`, which is the stream of the call, or both tries. `hooks` is filled and
/// borrowed for as long.
///
/// The arguments are not kept: the returned future is that of the relay.
pub(super) fn carry<'e, 'h, 'r, T: ByteStream, R, C>(
    carried: Carried<'e, 'h>,
    to: &'e T,
    request: &'e mut R,
    to_agent: &'e TimeoutStream<'e, R::Carrier, C>,
    hooks: &'e mut Option<EdgeHooks<'e, 'h>>,
) -> impl Future<Output = Relayed> + use<'e, 'h, 'r, T, R, C>
where
    R: AgentRequest<'r>,
    C: Fn(u64, &mut Context<'_>) -> ExchangeState,
{
    let Carried { caller, route, tries, next_hop, replay, work } = carried;
    let (core, is_sealed) = (tries.core, tries.first.stream.is_sealed());
    let Caller { peer, front, is_tls, .. } = caller;
    let incoming = request.incoming(to_agent);
    let head = incoming.head;
    (work.is_refused, work.sent_failure) = (false, None);
    let public = route.own.public.as_ref().or(core.edge.settings.public.as_ref());
    let called = front.called(public, *is_tls, head);
    let append = forwarded(peer.as_bytes(), called);
    // A GET waits for events for as long as the agent wants.
    let waits_for_events = head.method() == Method::Get;
    let drop_expect = incoming.label.as_ref().is_some_and(|label| label.has_continued());
    let deadline = &work.guard.deadline;
    let time_left = match is_sealed {
        true => time_left(core, tries.first, deadline.answer_by()),
        false => TimeLeftEdit::Keep,
    };
    let policy = incoming.label.as_ref().map_or(PolicyEdit::NONE, |label| label.policy_edit());
    let edge_identity = incoming.label.as_ref().and_then(|label| label.forwarded_identity());
    let edits = RequestEdits {
        edge_identity,
        drop_forwarded: true,
        drop_expect,
        time_left,
        policy,
        append: &append,
        ..RequestEdits::default()
    };
    let mut next_hop = NextHop::new(to, to, next_hop, head, edits);
    // A second try needs the end of the request.
    next_hop.finish = !is_sealed || tries.hedged.is_some();
    next_hop.replay = replay;
    next_hop.first_byte_timeout = (!waits_for_events).then(|| deadline.first_byte_timeout());
    next_hop.caller = deadline.caller_limits();
    let hooks = hooks.insert(EdgeHooks { tries, request: head, work });
    relay(incoming, next_hop, &core.core, hooks)
}
