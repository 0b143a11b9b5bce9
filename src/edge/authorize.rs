//! Authenticates callers on routes that require it.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::edge::agent_request::AgentRequest;
use crate::edge::call_answers::{leave_unsent, refuse_unlabelled};
use crate::edge::call_work::{CallWork, Leave};
use crate::edge::caller::Caller;
use crate::edge::shared::Counters;
use crate::identity::{Awaited, RouteAuth, TokenRefusal};
use crate::route::Route;
use crate::serve::{
    CallerConnection, CallerStop, IssuerWaits, LabelError, Next, Request, caller_denied, is_unexchanged, issuer_heard,
};

/// Identifies the caller of a request.
///
/// # Errors
///
/// If the request has to be [settled] first.
///
/// [settled]: settle
pub(super) fn identify(
    caller: &Caller,
    request: &mut impl Request,
    route: &Route,
    auth: &Arc<RouteAuth>,
) -> Result<(), CallerStop> {
    let core = &*caller.core;
    let now = Duration::from_secs(core.edge.settings.clock.now().as_secs());
    let address = caller.source.address;
    let certificate = caller.certificate();
    let connection = CallerConnection { certificate, address, is_edges: false, edge: None };
    request.identify(&core.tokens, auth, route.own.policy.as_deref(), connection, now)
}

/// Exchanges the token of a request that may be forwarded, if its route does that.
///
/// # Errors
///
/// If the request has to be [settled] first.
///
/// [settled]: settle
pub(super) fn exchange(caller: &Caller, request: &mut impl Request) -> Result<(), CallerStop> {
    let clock = &caller.core.edge.settings.clock;
    let exchanged = request.exchange_token(|| Duration::from_secs(clock.now().as_secs()));
    exchanged.map_err(|(_, refusal)| CallerStop::Refused(refusal))
}

/// Waits for the issuer if the request needs its keys or answer; otherwise answers the request.
///
/// # Errors
///
/// What to do with the connection, if the request was answered.
pub(super) async fn settle<'r>(
    caller: &Caller,
    request: &mut impl AgentRequest<'r>,
    route: &Route,
    auth: &Arc<RouteAuth>,
    work: &CallWork,
    mut stop: CallerStop,
) -> Result<(), Next<Leave>> {
    let core = &*caller.core;
    let mut waits = IssuerWaits::default();
    while let Some(awaited) = waits.next(&stop) {
        let until = work.guard.deadline.answer_by();
        let checked = async {
            issuer_heard(&core.core, auth, awaited, until).await;
            true
        };
        let left = async {
            request.caller_left().await;
            false
        };
        if !future::or(checked, left).await {
            return Err(leave_unsent(core, request, route, work));
        }
        // A request that waits for an exchange is identified already.
        let again = match awaited {
            Awaited::Exchange(_) => exchange(caller, request),
            _ => identify(caller, request, route, auth),
        };
        match again {
            Ok(()) => return Ok(()),
            Err(still) => stop = still,
        }
    }
    Err(match stop {
        CallerStop::Metadata => {
            let keep = request.answer_metadata(auth, !core.is_draining()).await;
            if keep { Next::Keep } else { Next::Close }
        }
        CallerStop::Refused(refusal) => {
            if is_unexchanged(refusal) {
                Counters::add(&core.edge.counters.tokens_unexchanged);
            }
            if refusal == TokenRefusal::Unforwardable {
                Counters::add(&core.edge.counters.identities_unforwarded);
            }
            let denied = LabelError::Denied(Box::new(caller_denied(auth, refusal)));
            refuse_unlabelled(core, request, route, work, denied).await
        }
    })
}
