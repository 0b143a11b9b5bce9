//! Authenticates callers by the token of their request or the certificate of their connection, on routes that require one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::base::{Secret, Time};
use crate::engine::Core;
use crate::exchange::{CallerRefused, ToolDenied};
use crate::identity::{
    Awaited, CallerCertificate, ExchangedToken, RouteAuth, ShownCertificates, ShownCredential, ShownToken, TokenCheck,
    TokenError, TokenRefusal, VerifiedTokens,
};
use crate::policy::{AgentIdentity, ToolPolicy};
use crate::serve::session_owners::{SessionOwner, SessionOwners};
use crate::wire::http1::{AmbiguousIdentity, Method, RequestHead, ResponseHead};
use crate::wire::oauth::is_metadata_path;

/// The status with which a server refuses a token.
const UNAUTHORIZED: u16 = 401;
/// How long a call waits for an issuer's keys or answer. Each fetch has its own limit, which is shorter.
const ISSUER_WAIT_MAX: Duration = Duration::from_secs(8);

/// The tokens and certificates that a core has verified, and the owners of sessions.
pub struct CallerTokens {
    verified: RefCell<VerifiedTokens>,
    owners: SessionOwners,
}

/// The authenticated caller of a request.
#[derive(Clone)]
pub struct ProvenCaller {
    /// The caller's identity; none if it presented a static key of the route's policy, or nothing on a route that requires nothing.
    pub(super) identity: Option<Arc<AgentIdentity>>,
    /// The identity of the edge, if its route asks for the edge's certificate.
    pub(super) edge: Option<Arc<AgentIdentity>>,
    /// The authentication settings of its route.
    pub(super) auth: Arc<RouteAuth>,
    /// The caller's identity, signed for the server, if the route is configured to send it.
    signed: Option<Arc<str>>,
    /// The `Authorization` value for the server, if the route exchanges tokens, and when it was looked up, since 1970.
    exchanged: Option<(ExchangedToken, Duration)>,
    /// The caller's identity, signed for the connector, if the route forwards it.
    forwarded: Option<Arc<str>>,
    /// The caller's address, if an edge has signed it.
    pub(super) address: Option<IpAddr>,
    /// The caller as an owner of sessions.
    owner: SessionOwner,
    /// When the authentication expires.
    pub(super) until: Time,
}

/// What is known of a caller from its connection.
#[derive(Clone, Copy)]
pub struct CallerConnection<'a> {
    /// The client certificate, as far as it is known.
    pub certificate: &'a CallerCertificate,
    /// The address of the agent.
    pub address: Option<IpAddr>,
    /// Whether it is the connection of an edge, which may say who calls.
    pub is_edges: bool,
    /// The certificates that this edge has shown in its inner TLS session, and when, since 1970.
    pub edge: Option<(&'a ShownCertificates, Duration)>,
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

    /// Identifies the caller of a request with this head, on this connection. `now` is the time since 1970, and `at` the core's time.
    ///
    /// A static key of the policy takes precedence over a token, a token over what an edge says, and that over a certificate. All that
    /// is presented must be valid.
    ///
    /// # Errors
    ///
    /// If the request is not forwarded, or not yet.
    pub fn identify(
        &self,
        head: &RequestHead,
        auth: &Arc<RouteAuth>,
        policy: Option<&ToolPolicy>,
        connection: CallerConnection<'_>,
        (now, at): (Duration, Time),
    ) -> Result<ProvenCaller, CallerStop> {
        let is_read = matches!(head.method(), Method::Get | Method::Head);
        if is_read && auth.asks_for_token() && is_metadata_path(head.path()) {
            return Err(CallerStop::Metadata);
        }
        let terms = auth.terms();
        let verified = &mut *self.verified.borrow_mut();
        let edge = auth.asks_for_edge_certificate().then(|| {
            let (shown, at) = connection.edge.ok_or(TokenRefusal::NoEdgeCertificate)?;
            verified.identify_edge(auth, shown, (at, now))
        });
        let edge = edge.transpose().map_err(CallerStop::Refused)?;
        let shown = certificate_for(auth, connection.certificate).map_err(CallerStop::Refused)?;
        let of_certificate = shown.map(|shown| verified.identify_by_certificate(auth, shown, now)).transpose();
        let of_certificate = of_certificate.map_err(CallerStop::Refused)?;
        // A certificate that ends takes with it whatever else was shown beside it.
        let certified_until = of_certificate.as_ref().map(|shown| shown.until);
        let of_edge = forwarded_for(auth, head, connection.is_edges).map_err(CallerStop::Refused)?;
        let of_edge = of_edge.map(|token| verified.identify_forwarded(auth, token, now)).transpose();
        let of_edge = of_edge.map_err(CallerStop::Refused)?;
        let address = of_edge.as_ref().and_then(|shown| shown.address);
        let bearer = bearer(head);
        let key = bearer.and_then(|token| Some((token, policy?.key_of(token)?)));
        let (identity, owner, until, signed, credential) = match key {
            // Only tokens can be exchanged.
            Some(_) if auth.exchange().is_some() => return Err(CallerStop::Refused(TokenRefusal::NoToken)),
            Some((token, of_key)) => {
                let signed = terms.identity_header.as_ref().map(|header| header.sign(of_key, &terms.resource, now));
                (None, self.owners.owner(of_key), certified_until, signed, Some(ShownCredential::Key(token)))
            }
            None => {
                let token = bearer.filter(|_| auth.asks_for_token());
                let of_token = token.map(|token| verified.identify(auth, token, shown, now)).transpose();
                let of_token = of_token.map_err(CallerStop::Refused)?;
                let has_authorization = head.get("Authorization").is_some();
                let found = match of_token {
                    Some(of_token) => Some(of_token),
                    None => in_place_of_token(auth, of_edge, of_certificate, has_authorization)?,
                };
                match found {
                    Some(ShownToken { identity, until, signed, .. }) => {
                        let until = certified_until.map_or(until, |certified| certified.min(until));
                        let owner = self.owners.owner(&identity);
                        let credential = token.map(ShownCredential::Token).or(shown.map(ShownCredential::Certificates));
                        (Some(identity), owner, Some(until).filter(|until| *until != Duration::MAX), signed, credential)
                    }
                    None if matches!(connection.certificate, CallerCertificate::NotAsked)
                        && auth.certificates().is_some() =>
                    {
                        return Err(CallerStop::Refused(TokenRefusal::CertificateNotAsked));
                    }
                    None => (None, self.owners.anonymous_owner(), None, None, None),
                }
            }
        };
        let forwarded = match (credential, identity.as_deref().or(key.map(|(_, of_key)| of_key))) {
            (Some(credential), Some(identity)) => {
                let times = (now, until.unwrap_or(Duration::MAX));
                verified
                    .forward(auth, (credential, connection.address), identity, times)
                    .map_err(CallerStop::Refused)?
            }
            _ => None,
        };
        let until = until.map_or(Time::NEVER, |until| at + until.saturating_sub(now));
        if !owner.may_send(&terms.resource, head, at) {
            return Err(CallerStop::Refused(TokenRefusal::OtherSession));
        }
        let (auth, exchanged) = (Arc::clone(auth), None);
        Ok(ProvenCaller { identity, edge, auth, signed, exchanged, forwarded, address, owner, until })
    }
}

impl ProvenCaller {
    /// Exchanges the token of a request with this head, if the route exchanges tokens. `now` is the time since 1970. Called once
    /// nothing else stands against the request, because the authorization server takes part in it.
    ///
    /// # Errors
    ///
    /// If the exchange was refused, failed, or is in flight.
    pub(super) fn exchange(&mut self, head: &RequestHead, now: Duration) -> Result<(), TokenRefusal> {
        if let Some(token) = bearer(head).filter(|_| self.auth.asks_for_token()) {
            self.exchanged = self.auth.exchanged(token, now)?.map(|exchanged| (exchanged, now));
        }
        Ok(())
    }

    /// The header field that names the caller for the server, if it is configured: its name, and its value if there is an identity.
    pub(super) fn identity_field(&self) -> Option<(&str, Option<&str>)> {
        let header = self.auth.terms().identity_header.as_ref()?;
        Some((&header.name, self.signed.as_deref()))
    }

    /// A number that stands for the identity in this process. All callers without an identity have the same.
    pub(super) fn number(&self) -> u64 {
        self.owner.number()
    }

    /// The caller's identity for the connector, if the route forwards it.
    pub(super) fn forwarded(&self) -> Option<&str> {
        self.forwarded.as_deref()
    }

    /// The `Authorization` value that the server gets in place of the caller's token.
    pub(super) fn authorization(&self) -> Option<&[u8]> {
        self.exchanged
            .as_ref()
            .map(|(token, _)| &**token)
            .or(self.auth.terms().authorization.as_ref())
            .map(Secret::expose)
    }

    /// Learns from the head of an answer which session was created, used or ended, and whether the server refuses an exchanged token.
    pub(super) fn on_answer(&self, request: &RequestHead, answer: &ResponseHead, now: Time) {
        self.owner.on_answer(&self.auth.terms().resource, request, answer, now);
        if answer.status() == UNAUTHORIZED
            && let (Some((exchanged, looked_up)), Some(exchange)) = (&self.exchanged, self.auth.exchange())
            && let Some(token) = bearer(request)
        {
            exchange.on_refused(token, exchanged, *looked_up);
        }
    }
}

/// The caller's certificate, on a route that asks for one.
fn certificate_for<'c>(
    auth: &RouteAuth,
    certificate: &'c CallerCertificate,
) -> Result<Option<&'c ShownCertificates>, TokenRefusal> {
    let Some(terms) = auth.certificates() else { return Ok(None) };
    match certificate {
        CallerCertificate::Asked(Some(shown)) => Ok(Some(shown)),
        _ if !terms.is_required => Ok(None),
        CallerCertificate::NotAsked => Err(TokenRefusal::CertificateNotAsked),
        CallerCertificate::Asked(None) | CallerCertificate::Unknown => Err(TokenRefusal::NoCertificate),
    }
}

/// What an edge says about the caller, on a route that trusts edges.
fn forwarded_for<'h>(
    auth: &RouteAuth,
    head: &'h RequestHead,
    is_edges: bool,
) -> Result<Option<&'h [u8]>, TokenRefusal> {
    let Some(terms) = auth.edges() else { return Ok(None) };
    // What an agent sends itself means nothing.
    let identity = if is_edges { head.edge_identity() } else { Ok(None) };
    match identity {
        Ok(None) if terms.is_required => Err(TokenRefusal::NoForwarded),
        Ok(identity) => Ok(identity),
        Err(AmbiguousIdentity) => Err(TokenRefusal::Forwarded(TokenError::Malformed)),
    }
}

/// The identity of a caller without a token, by what an edge says or by certificate; none if it has neither, and the route requires
/// neither.
///
/// # Errors
///
/// If it needs a token.
fn in_place_of_token(
    auth: &RouteAuth,
    of_edge: Option<ShownToken>,
    of_certificate: Option<ShownToken>,
    has_authorization: bool,
) -> Result<Option<ShownToken>, CallerStop> {
    if !auth.asks_for_token() {
        return Ok(of_edge.or(of_certificate));
    }
    // What is required is needed besides a token.
    let of_edge = of_edge.filter(|_| auth.edges().is_some_and(|terms| !terms.is_required));
    let of_certificate = of_certificate.filter(|_| auth.certificates().is_some_and(|terms| !terms.is_required));
    // Only tokens can be exchanged. The server might use other credentials, which were not checked.
    let may_replace = auth.exchange().is_none() && !has_authorization;
    match of_edge.or(of_certificate).filter(|_| may_replace) {
        Some(found) if auth.has_scopes(&found.identity) => Ok(Some(found)),
        Some(_) => Err(CallerStop::Refused(TokenRefusal::Scope)),
        None => Err(CallerStop::Refused(TokenRefusal::NoToken)),
    }
}

/// Limits how often a call waits while its caller is identified: once for its token, and once for the exchange of the token.
#[derive(Default)]
pub struct IssuerWaits {
    has_waited: [bool; 2],
}

impl IssuerWaits {
    /// What to wait for now, if the request was stopped for that and has not waited for it yet.
    pub fn next(&mut self, stop: &CallerStop) -> Option<Awaited> {
        let CallerStop::Refused(TokenRefusal::Awaits(awaited)) = *stop else { return None };
        let is_exchange = matches!(awaited, Awaited::Exchange(_));
        let has_waited = std::mem::replace(&mut self.has_waited[usize::from(is_exchange)], true);
        (!has_waited).then_some(awaited)
    }
}

/// Waits until the answer about a token arrives or the request for it fails, at most until the caller has to be answered.
pub async fn issuer_heard(core: &Core, auth: &RouteAuth, awaited: Awaited, until: Time) {
    let wait = ISSUER_WAIT_MAX.min(until - core.turn_time());
    let check = |issuer: usize| auth.issuers().get(issuer).map(|issuer| &issuer.check);
    let heard = poll_fn(|cx| match awaited {
        Awaited::Keys { issuer, check: fetch } => match check(issuer) {
            Some(TokenCheck::Keys(keys)) => keys.poll_checked(fetch, cx),
            _ => Poll::Ready(()),
        },
        Awaited::Introspection { issuer, asked } => match check(issuer) {
            Some(TokenCheck::Introspection(answers)) => answers.poll_answered(asked, cx),
            _ => Poll::Ready(()),
        },
        Awaited::Exchange(asked) => match auth.exchange() {
            Some(exchange) => exchange.answers.poll_answered(asked, cx),
            None => Poll::Ready(()),
        },
    });
    // The result is not used: the caller checks again.
    let _ = core.timeout(wait, heard).await;
}

/// Whether a caller is refused because its token was not exchanged.
#[must_use]
pub fn is_unexchanged(refusal: TokenRefusal) -> bool {
    use TokenRefusal::{Awaits, ExchangeRefused, NoExchange};
    matches!(refusal, Awaits(Awaited::Exchange(_)) | ExchangeRefused | NoExchange)
}

/// Whether a caller is refused because of its edge: for what that says about it or does not say, or for its certificate.
#[must_use]
pub fn is_edge_identity_refused(refusal: TokenRefusal) -> bool {
    matches!(
        refusal,
        TokenRefusal::NoForwarded
            | TokenRefusal::Forwarded(_)
            | TokenRefusal::NoEdgeCertificate
            | TokenRefusal::EdgeCertificate(_)
    )
}

/// The answer for a refused caller that no longer waits for its issuer.
#[must_use]
pub fn caller_denied(auth: &RouteAuth, refusal: TokenRefusal) -> ToolDenied {
    let refused = match refusal {
        TokenRefusal::NoToken => CallerRefused::NoToken,
        TokenRefusal::Invalid(_) => CallerRefused::InvalidToken,
        TokenRefusal::Scope => CallerRefused::Scope,
        // The keys of the issuer could not be fetched, so another token would not help.
        TokenRefusal::Awaits(Awaited::Keys { .. }) | TokenRefusal::NoKeys => CallerRefused::KeysUnavailable,
        TokenRefusal::Awaits(Awaited::Introspection { .. }) | TokenRefusal::NoIntrospection => {
            CallerRefused::IntrospectionUnavailable
        }
        TokenRefusal::Awaits(Awaited::Exchange(_)) | TokenRefusal::NoExchange => CallerRefused::ExchangeUnavailable,
        TokenRefusal::ExchangeRefused => CallerRefused::ExchangeRefused,
        TokenRefusal::OtherSession => CallerRefused::OtherSession,
        TokenRefusal::NoCertificate => CallerRefused::NoCertificate,
        TokenRefusal::Certificate(_) => CallerRefused::Certificate,
        TokenRefusal::CertificateNotAsked => CallerRefused::CertificateNotAsked,
        TokenRefusal::NoForwarded => CallerRefused::NoEdgeIdentity,
        TokenRefusal::Forwarded(_) => CallerRefused::EdgeIdentity,
        TokenRefusal::Unforwardable => CallerRefused::LongIdentity,
        TokenRefusal::NoEdgeCertificate => CallerRefused::NoEdgeCertificate,
        TokenRefusal::EdgeCertificate(_) => CallerRefused::EdgeCertificate,
    };
    let denied = ToolDenied::of_caller(refused, auth.challenge(refusal));
    match refusal {
        TokenRefusal::Certificate(why) | TokenRefusal::EdgeCertificate(why) => denied.because(&why),
        TokenRefusal::Forwarded(why) => denied.because(&why),
        _ => denied,
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1), if the field occurs once. Tokens in the target or in a
/// form are ignored, because they end up in logs.
pub(super) fn bearer(head: &RequestHead) -> Option<&[u8]> {
    let (scheme, token) = head.get_only("Authorization")?.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
