//! Authenticates callers on routes that require it.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::edge::agent_request::AgentRequest;
use crate::edge::call_answers::{leave_unsent, refuse_unlabelled};
use crate::edge::call_work::{CallWork, Leave};
use crate::edge::edge_core::EdgeCore;
use crate::identity::{RouteAuth, TokenRefusal};
use crate::route::Route;
use crate::serve::{CallerStop, LabelError, Next, Request, caller_denied, issuer_heard};

/// Identifies the caller of a request.
///
/// # Errors
///
/// If the request has to be [settled] first.
///
/// [settled]: settle
pub(super) fn identify(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    auth: &Arc<RouteAuth>,
) -> Result<(), CallerStop> {
    let now = Duration::from_secs(core.edge.settings.clock.now().as_secs());
    request.identify(&core.tokens, auth, route.own.policy.as_deref(), now)
}

/// Waits for the issuer if the request needs its keys or answer; otherwise answers the request.
///
/// # Errors
///
/// What to do with the connection, if the request was answered.
pub(super) async fn settle<'r>(
    core: &EdgeCore,
    request: &mut impl AgentRequest<'r>,
    route: &Route,
    auth: &Arc<RouteAuth>,
    work: &CallWork,
    mut stop: CallerStop,
) -> Result<(), Next<Leave>> {
    if let CallerStop::Refused(TokenRefusal::Awaits { issuer, awaited }) = stop {
        let until = work.guard.deadline.answer_by();
        let checked = async {
            issuer_heard(&core.core, auth, issuer, awaited, until).await;
            true
        };
        let left = async {
            request.caller_left().await;
            false
        };
        if !future::or(checked, left).await {
            return Err(leave_unsent(core, request, route, work));
        }
        match identify(core, request, route, auth) {
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
            let denied = LabelError::Denied(Box::new(caller_denied(auth, refusal)));
            refuse_unlabelled(core, request, route, work, denied).await
        }
    })
}
