//! Authenticates callers on routes that require it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::connector::call_context::CallContext;
use crate::connector::shared::Counters;
use crate::identity::{Awaited, RouteAuth};
use crate::policy::ToolPolicy;
use crate::serve::{
    CallerConnection, CallerStop, IssuerWaits, LabelError, Request, caller_denied, is_edge_identity_refused,
    is_unexchanged, issuer_heard,
};

/// A request whose caller is not identified yet.
pub(super) struct UnknownCaller {
    auth: Arc<RouteAuth>,
    policy: Option<Arc<ToolPolicy>>,
    stop: CallerStop,
}

/// The result for a request whose caller was not identified at once.
pub(super) enum Settled {
    /// The caller is identified now. The policy of its route, if any, has still to decide.
    Known(Option<Arc<ToolPolicy>>),
    /// The request was answered. True if the connection can carry another one.
    Answered(bool),
    /// The request must be refused.
    Denied(LabelError),
}

/// Identifies the caller of a request, if its route requires that. Returns the policy of the route, if it has one.
///
/// # Errors
///
/// If the request has to be [settled] first.
///
/// [settled]: settle
pub(super) fn identify(
    context: CallContext<'_>,
    request: &mut impl Request,
    auth: Option<Arc<RouteAuth>>,
    policy: Option<Arc<ToolPolicy>>,
) -> Result<Option<Arc<ToolPolicy>>, UnknownCaller> {
    let Some(auth) = auth else { return Ok(policy) };
    let core = context.core;
    let now = Duration::from_secs(core.connector.settings.clock.now().as_secs());
    let address = context.agent_address(request.head());
    let (certificate, edge) = (context.certificate(), context.edge_certificate());
    let connection = CallerConnection { certificate, address, is_edges: !context.is_agents(), edge };
    match request.identify(&core.tokens, &auth, policy.as_deref(), connection, now) {
        Ok(()) => Ok(policy),
        Err(stop) => Err(UnknownCaller { auth, policy, stop }),
    }
}

/// Exchanges the token of a request that may be forwarded, if its route does that.
///
/// # Errors
///
/// If the request has to be [settled] first.
///
/// [settled]: settle
pub(super) fn exchange(context: CallContext<'_>, request: &mut impl Request) -> Result<(), UnknownCaller> {
    let clock = &context.core.connector.settings.clock;
    let exchanged = request.exchange_token(|| Duration::from_secs(clock.now().as_secs()));
    exchanged.map_err(|(auth, refusal)| UnknownCaller { auth, policy: None, stop: CallerStop::Refused(refusal) })
}

/// Waits for the issuer if the request needs its keys or answer, at most until the caller has to be answered. Otherwise
/// answers the request, or returns how to refuse it.
pub(super) async fn settle(
    context: CallContext<'_>,
    request: &mut impl Request,
    unknown: UnknownCaller,
    until: Time,
) -> Settled {
    let core = context.core;
    let UnknownCaller { mut auth, mut policy, mut stop } = unknown;
    let mut waits = IssuerWaits::default();
    while let Some(awaited) = waits.next(&stop) {
        issuer_heard(&core.core, &auth, awaited, until).await;
        // A request that waits for an exchange is identified already, and its policy has decided.
        let again = match awaited {
            Awaited::Exchange(_) => exchange(context, request).map(|()| None),
            _ => identify(context, request, Some(auth), policy),
        };
        match again {
            Ok(policy) => return Settled::Known(policy),
            Err(still) => (auth, policy, stop) = (still.auth, still.policy, still.stop),
        }
    }
    match stop {
        CallerStop::Metadata => {
            let may_keep = context.stream.is_sealed() && !core.is_draining();
            let keep = request.answer_metadata(&auth, may_keep).await;
            context.stream.finish_message();
            Settled::Answered(keep)
        }
        CallerStop::Refused(refusal) => {
            if is_unexchanged(refusal) {
                Counters::add(&core.connector.counters.tokens_unexchanged);
            }
            if is_edge_identity_refused(refusal) {
                Counters::add(&core.connector.counters.edge_identities_refused);
            }
            Settled::Denied(LabelError::Denied(Box::new(caller_denied(&auth, refusal))))
        }
    }
}
