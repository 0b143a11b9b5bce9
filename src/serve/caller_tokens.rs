//! Authenticates callers by the token of their request, on routes that require one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::Time;
use crate::engine::Core;
use crate::exchange::{CallerRefused, ToolDenied};
use crate::identity::{Awaited, RouteAuth, ShownToken, TokenCheck, TokenRefusal, VerifiedTokens};
use crate::policy::{AgentIdentity, ToolPolicy};
use crate::serve::session_owners::{SessionOwner, SessionOwners};
use crate::wire::http1::{Method, RequestHead, ResponseHead};
use crate::wire::oauth::is_metadata_path;

/// How long a call waits for an issuer's keys or answer. Each fetch has its own limit, which is shorter.
const ISSUER_WAIT_MAX: Duration = Duration::from_secs(8);

/// The tokens that a core has verified, and the owners of sessions.
pub struct CallerTokens {
    verified: RefCell<VerifiedTokens>,
    owners: SessionOwners,
}

/// The authenticated caller of a request.
#[derive(Clone)]
pub struct ProvenCaller {
    /// The caller's identity; none if it presented a static key of the route's policy.
    pub(super) identity: Option<Arc<AgentIdentity>>,
    /// The authentication settings of its route.
    pub(super) auth: Arc<RouteAuth>,
    /// The caller's identity, signed for the server, if the route is configured to send it.
    signed: Option<Arc<str>>,
    /// The caller as an owner of sessions.
    owner: SessionOwner,
    /// When the authentication expires.
    pub(super) until: Time,
}

/// Why a request is not forwarded, or not yet.
pub enum CallerStop {
    /// It requests the metadata of the protected resource, which adit answers.
    Metadata,
    /// Its caller is refused.
    Refused(TokenRefusal),
}

impl CallerTokens {
    /// The tokens of one core, with the sessions that all cores share.
    #[must_use]
    pub fn new(owners: &SessionOwners) -> CallerTokens {
        CallerTokens { verified: RefCell::default(), owners: owners.clone() }
    }

    /// Identifies the caller of a request with this head. `now` is the time since 1970, and `at` the core's time.
    ///
    /// # Errors
    ///
    /// If the request is not forwarded, or not yet.
    pub fn identify(
        &self,
        head: &RequestHead,
        auth: &Arc<RouteAuth>,
        policy: Option<&ToolPolicy>,
        (now, at): (Duration, Time),
    ) -> Result<ProvenCaller, CallerStop> {
        let is_read = matches!(head.method(), Method::Get | Method::Head);
        if is_read && is_metadata_path(head.path()) {
            return Err(CallerStop::Metadata);
        }
        let Some(token) = bearer(head) else { return Err(CallerStop::Refused(TokenRefusal::NoToken)) };
        let terms = auth.terms();
        let (identity, owner, until, signed) = match policy.and_then(|policy| policy.key_of(token)) {
            Some(of_key) => {
                let signed = terms.identity_header.as_ref().map(|header| header.sign(of_key, &terms.resource, now));
                (None, self.owners.owner(of_key), Time::NEVER, signed)
            }
            None => {
                let found = self.verified.borrow_mut().identify(auth, token, now);
                let ShownToken { identity, until, signed } = found.map_err(CallerStop::Refused)?;
                let owner = self.owners.owner(&identity);
                (Some(identity), owner, at + until.saturating_sub(now), signed)
            }
        };
        if !owner.may_send(&terms.resource, head, at) {
            return Err(CallerStop::Refused(TokenRefusal::OtherSession));
        }
        Ok(ProvenCaller { identity, auth: Arc::clone(auth), signed, owner, until })
    }
}

impl ProvenCaller {
    /// The header field that names the caller for the server, if it is configured: name and value.
    pub(super) fn told(&self) -> Option<(&str, &str)> {
        let header = self.auth.terms().identity_header.as_ref()?;
        Some((&header.name, self.signed.as_deref()?))
    }

    /// Learns from the head of an answer which session was created, used or ended.
    pub(super) fn on_answer(&self, request: &RequestHead, answer: &ResponseHead, now: Time) {
        self.owner.on_answer(&self.auth.terms().resource, request, answer, now);
    }
}

/// Waits until the issuer's keys or answer arrive or the request for them fails, at most until the caller has to be
/// answered.
pub async fn issuer_heard(core: &Core, auth: &RouteAuth, issuer: usize, awaited: Awaited, until: Time) {
    let Some(issuer) = auth.issuers().get(issuer) else { return };
    let wait = ISSUER_WAIT_MAX.min(until - core.turn_time());
    let heard = poll_fn(|cx| match (awaited, &issuer.check) {
        (Awaited::Keys(check), TokenCheck::Keys(keys)) => keys.poll_checked(check, cx),
        (Awaited::Introspection(asked), TokenCheck::Introspection(answers)) => answers.poll_answered(asked, cx),
        _ => Poll::Ready(()),
    });
    // The result is not used: the caller checks again.
    let _ = core.timeout(wait, heard).await;
}

/// The answer for a refused caller that no longer waits for its issuer.
#[must_use]
pub fn caller_denied(auth: &RouteAuth, refusal: TokenRefusal) -> ToolDenied {
    let refused = match refusal {
        TokenRefusal::NoToken => CallerRefused::NoToken,
        TokenRefusal::Invalid(_) => CallerRefused::InvalidToken,
        TokenRefusal::Scope => CallerRefused::Scope,
        // The keys of the issuer could not be fetched, so another token would not help.
        TokenRefusal::Awaits { awaited: Awaited::Keys(_), .. } | TokenRefusal::NoKeys => CallerRefused::KeysUnavailable,
        TokenRefusal::Awaits { awaited: Awaited::Introspection(_), .. } | TokenRefusal::NoIntrospection => {
            CallerRefused::IntrospectionUnavailable
        }
        TokenRefusal::OtherSession => CallerRefused::OtherSession,
    };
    ToolDenied::of_caller(refused, auth.challenge(refusal))
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1), if the field occurs once. Tokens in the target or in a
/// form are ignored, because they end up in logs.
pub(super) fn bearer(head: &RequestHead) -> Option<&[u8]> {
    let (scheme, token) = head.get_only("Authorization")?.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
