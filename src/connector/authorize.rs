//! Who calls, where a route asks for that.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::connector::call::CallContext;
use crate::identity::{RouteAuth, TokenRefusal};
use crate::serve::{CallerStop, LabelError, Request, caller_denied, keys_checked};

/// What became of a request whose caller was not known at once.
pub(super) enum Settled {
    /// Its caller is known now.
    Known,
    /// It was answered. True if the connection can carry another request.
    Answered(bool),
    /// It is to be refused.
    Denied(LabelError),
}

/// Notes who makes a request.
///
/// # Errors
///
/// If that has to be [settled] first.
///
/// [settled]: settle
pub(super) fn identify(
    context: CallContext<'_>,
    request: &mut impl Request,
    auth: &Arc<RouteAuth>,
) -> Result<(), CallerStop> {
    let core = context.core;
    let policy = core.upstreams.policy_of(request.head());
    let now = Duration::from_secs(core.connector.settings.clock.now().as_secs());
    request.identify(&core.tokens, auth, policy.as_deref(), now)
}

/// Waits for the keys of an issuer if that is why a request has stopped, and else answers it or says how. Its caller has to be answered
/// at that time.
pub(super) async fn settle(
    context: CallContext<'_>,
    request: &mut impl Request,
    auth: Arc<RouteAuth>,
    mut stop: CallerStop,
    until: Time,
) -> Settled {
    let core = context.core;
    if let CallerStop::Refused(TokenRefusal::AwaitsKeys { issuer, check }) = stop {
        keys_checked(&core.core, &auth, issuer, check, until).await;
        match identify(context, request, &auth) {
            Ok(()) => return Settled::Known,
            Err(still) => stop = still,
        }
    }
    match stop {
        CallerStop::Metadata => {
            let may_keep = context.stream.is_sealed() && !core.is_draining();
            let keep = request.answer_metadata(&auth, may_keep).await;
            context.stream.finish_message();
            Settled::Answered(keep)
        }
        CallerStop::Refused(refusal) => Settled::Denied(LabelError::Denied(Box::new(caller_denied(&auth, refusal)))),
    }
}
