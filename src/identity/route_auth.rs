//! The authentication of callers on a route.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::{BearerChallenge, Secret};
use crate::identity::client_authority::{CertificateRefusal, CertificateTerms, ClientAuthority, ShownCertificates};
use crate::identity::forwarded_identity::{EdgeTerms, FORWARDED_LEN_MAX, ForwardedClaims, IdentityForwarder};
use crate::identity::identity_signer::IdentityHeader;
use crate::identity::introspection::Introspection;
use crate::identity::key_store::KeyStore;
use crate::identity::token::{ReadToken, TOKEN_LEN_MAX};
use crate::identity::token_answers::{Looked, TokenAnswer};
use crate::identity::token_error::TokenError;
use crate::identity::token_exchange::{ExchangedToken, TokenExchange};
use crate::identity::token_issuer::{Awaited, TokenCheck, TokenIssuer};
use crate::identity::token_rules::CheckedClaims;
use crate::policy::AgentIdentity;

/// How long a verified certificate is trusted, before its revocation is checked again.
const CERTIFICATE_CHECKED_FOR: Duration = Duration::from_secs(60);

/// The path prefix of protected resource metadata (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The configuration of a route for its callers.
#[derive(Clone)]
pub struct AuthTerms {
    /// The expected audience of tokens: the URL by which agents call the route.
    pub resource: Box<str>,
    /// The scopes that every caller needs.
    pub scopes: Box<[Box<str>]>,
    /// Whether the token is removed before the call is sent to the server.
    pub is_terminated: bool,
    /// The `Authorization` value that replaces the token.
    pub authorization: Option<Secret>,
    /// The header with the identity of the caller, if the server gets one.
    pub identity_header: Option<IdentityHeader>,
}

/// The authentication that a route requires: a token of one of its issuers, a certificate, or both.
pub struct RouteAuth {
    terms: AuthTerms,
    asks_for_token: bool,
    certificates: Option<CertificateTerms>,
    /// The authorities of edges, if the edge must show a certificate in the inner TLS session.
    edge_certificates: Option<CertificateTerms>,
    exchange: Option<Arc<TokenExchange>>,
    forwarder: Option<IdentityForwarder>,
    edges: Option<EdgeTerms>,
    /// The issuers of tokens of callers, and after them the trusted edges.
    issuers: Box<[Arc<TokenIssuer>]>,
    /// How many of them are issuers of tokens of callers.
    token_issuers: usize,
    metadata_url: Box<str>,
    metadata: Box<str>,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// The request has no token.
    NoToken,
    /// The token is not valid.
    Invalid(TokenError),
    /// The token cannot be verified until a request to its issuer, which is in flight, has ended.
    Awaits(Awaited),
    /// The keys of its issuer are not available.
    NoKeys,
    /// Its issuer did not answer the introspection request.
    NoIntrospection,
    /// The token lacks a required scope.
    Scope,
    /// The request names a session of another caller.
    OtherSession,
    /// The caller presented no certificate.
    NoCertificate,
    /// The certificate is refused.
    Certificate(CertificateRefusal),
    /// The caller was not asked for a certificate: its connection was made for another host.
    CertificateNotAsked,
    /// The token endpoint refused to exchange the token.
    ExchangeRefused,
    /// The token endpoint gave no answer.
    NoExchange,
    /// The edge has not said who calls.
    NoForwarded,
    /// The identity that the edge has forwarded is not valid.
    Forwarded(TokenError),
    /// The identity of the caller is too long to be forwarded.
    Unforwardable,
    /// The edge has shown no certificate, because the call has come without an inner TLS session.
    NoEdgeCertificate,
    /// The certificate of the edge is refused.
    EdgeCertificate(CertificateRefusal),
}

/// The result of verifying a token or certificate.
#[derive(Clone)]
pub(super) struct Verified {
    pub(super) identity: Arc<AgentIdentity>,
    /// The times from which it is valid, and at which it must be verified again.
    pub(super) since: Duration,
    pub(super) until: Duration,
    /// When the token or certificate expires, as far as is known.
    pub(super) ends: Duration,
    /// The issuer whose keys verified it, and the version of those keys.
    pub(super) keys: Option<(usize, u64)>,
    /// The digest of the certificate that the token is bound to.
    pub(super) bound_to: Option<[u8; 32]>,
    /// The address of the caller, if an edge has said it.
    pub(super) address: Option<IpAddr>,
}

impl RouteAuth {
    /// A route with these terms that accepts tokens of these issuers.
    #[must_use]
    pub fn new(terms: AuthTerms, issuers: Vec<Arc<TokenIssuer>>) -> RouteAuth {
        let servers: Vec<&str> = issuers.iter().map(|issuer| &*issuer.rules.issuer).collect();
        // An issuer that is not a URL cannot be discovered as an authorization server.
        let servers: Vec<&str> = servers.into_iter().filter(|issuer| issuer.starts_with("http")).collect();
        let mut metadata = json!({
            "resource": terms.resource,
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        });
        if !terms.scopes.is_empty() {
            metadata["scopes_supported"] = terms.scopes.iter().map(|scope| json!(scope)).collect();
        }
        let origin_len = origin_len(&terms.resource);
        let (origin, path) = terms.resource.split_at(origin_len);
        let metadata_url = format!("{origin}{WELL_KNOWN}{}", path.trim_end_matches('/'));
        let (servers_len, issuers) = (issuers.len(), issuers.into());
        RouteAuth {
            terms,
            asks_for_token: true,
            certificates: None,
            edge_certificates: None,
            exchange: None,
            forwarder: None,
            edges: None,
            issuers,
            token_issuers: servers_len,
            metadata_url: metadata_url.into(),
            metadata: metadata.to_string().into(),
        }
    }

    /// Leaves the verification of tokens to the server.
    #[must_use]
    pub fn without_tokens(self) -> RouteAuth {
        RouteAuth { asks_for_token: false, ..self }
    }

    /// Also asks callers for client certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: CertificateTerms) -> RouteAuth {
        RouteAuth { certificates: Some(certificates), ..self }
    }

    /// Also asks the edge for a certificate of these authorities in the inner TLS session.
    #[must_use]
    pub fn with_edge_certificates(self, authorities: Box<[Arc<ClientAuthority>]>) -> RouteAuth {
        RouteAuth { edge_certificates: Some(CertificateTerms { is_required: true, authorities }), ..self }
    }

    /// Whether the edge must show a certificate in the inner TLS session.
    #[must_use]
    pub fn asks_for_edge_certificate(&self) -> bool {
        self.edge_certificates.is_some()
    }

    /// Exchanges the tokens of callers for tokens of the server.
    #[must_use]
    pub fn with_exchange(self, exchange: Arc<TokenExchange>) -> RouteAuth {
        RouteAuth { exchange: Some(exchange), ..self }
    }

    /// Forwards the identities of callers to the connector.
    #[must_use]
    pub fn with_forwarder(self, forwarder: IdentityForwarder) -> RouteAuth {
        RouteAuth { forwarder: Some(forwarder), ..self }
    }

    /// Also accepts identities that trusted edges forward.
    #[must_use]
    pub fn with_edges(self, terms: EdgeTerms) -> RouteAuth {
        let own = self.issuers[..self.token_issuers].iter();
        let issuers = own.chain(terms.edges.iter().map(|edge| &edge.issuer)).map(Arc::clone).collect();
        RouteAuth { edges: Some(terms), issuers, ..self }
    }

    /// How identities of callers are forwarded to the connector, if they are.
    #[must_use]
    pub fn forwarder(&self) -> Option<&IdentityForwarder> {
        self.forwarder.as_ref()
    }

    /// Which edges may say who calls, if any.
    #[must_use]
    pub fn edges(&self) -> Option<&EdgeTerms> {
        self.edges.as_ref()
    }

    /// The token exchange of the route, if it has one.
    #[must_use]
    pub fn exchange(&self) -> Option<&TokenExchange> {
        self.exchange.as_deref()
    }

    /// The token for the server in exchange for this verified token of a caller; `None` if the route exchanges no
    /// tokens.
    ///
    /// # Errors
    ///
    /// If the exchange was refused, failed, or is in flight.
    pub fn exchanged(&self, token: &[u8], now: Duration) -> Result<Option<ExchangedToken>, TokenRefusal> {
        let Some(exchange) = &self.exchange else { return Ok(None) };
        match exchange.answers.look(token, now) {
            Looked::Answered(TokenAnswer::Good(exchanged), ..) => Ok(Some(exchanged)),
            Looked::Answered(TokenAnswer::Refused, ..) => Err(TokenRefusal::ExchangeRefused),
            Looked::Answered(TokenAnswer::Failed, ..) | Looked::Busy => Err(TokenRefusal::NoExchange),
            Looked::Asked(asked) => Err(TokenRefusal::Awaits(Awaited::Exchange(asked))),
        }
    }

    /// Whether callers need a token, unless another proof is accepted instead.
    #[must_use]
    pub fn asks_for_token(&self) -> bool {
        self.asks_for_token
    }

    /// The terms for client certificates, if callers are asked for one.
    #[must_use]
    pub fn certificates(&self) -> Option<&CertificateTerms> {
        self.certificates.as_ref()
    }

    /// The configuration of the route.
    #[must_use]
    pub fn terms(&self) -> &AuthTerms {
        &self.terms
    }

    /// The issuers of accepted tokens: those of callers' own, and after them the trusted edges.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<TokenIssuer>] {
        &self.issuers
    }

    /// The metadata of the resource (RFC 9728 section 2), as JSON.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// The path of the resource metadata.
    #[must_use]
    pub fn metadata_url(&self) -> &str {
        &self.metadata_url
    }

    /// The value of `WWW-Authenticate` for a refused caller (RFC 6750 section 3, RFC 9728 section 5.1).
    #[must_use]
    pub fn challenge(&self, refusal: TokenRefusal) -> String {
        let scopes = self.terms.scopes.join(" ");
        let asked = BearerChallenge {
            metadata_url: Some(&self.metadata_url),
            scope: Some(&*scopes).filter(|scopes| !scopes.is_empty()),
            ..BearerChallenge::default()
        };
        match refusal {
            TokenRefusal::NoToken
            | TokenRefusal::NoKeys
            | TokenRefusal::NoIntrospection
            | TokenRefusal::Awaits(_)
            | TokenRefusal::OtherSession
            | TokenRefusal::NoCertificate
            | TokenRefusal::Certificate(_)
            | TokenRefusal::CertificateNotAsked
            | TokenRefusal::ExchangeRefused
            | TokenRefusal::NoExchange
            | TokenRefusal::NoForwarded
            | TokenRefusal::Forwarded(_)
            | TokenRefusal::NoEdgeCertificate
            | TokenRefusal::EdgeCertificate(_)
            | TokenRefusal::Unforwardable => asked.to_string(),
            TokenRefusal::Invalid(error) => {
                let (error, description) = (Some(BearerChallenge::INVALID_TOKEN), error.to_string());
                BearerChallenge { error, description: Some(&description), ..asked }.to_string()
            }
            TokenRefusal::Scope => {
                let (error, description) = (Some(BearerChallenge::INSUFFICIENT_SCOPE), Some("the token lacks a scope"));
                BearerChallenge { error, description, ..asked }.to_string()
            }
        }
    }

    /// Verifies a token, and identifies its caller.
    ///
    /// # Errors
    ///
    /// Why the token is refused.
    pub(super) fn verify(&self, token: &[u8], now: Duration) -> Result<Verified, TokenRefusal> {
        let read = ReadToken::parse(token);
        let named = read.as_ref().ok().and_then(|token| token.claims.get("iss")).and_then(|issuer| issuer.as_str());
        let mut issuers = self.issuers[..self.token_issuers].iter().enumerate();
        let found = match named {
            Some(named) => issuers.find(|(_, issuer)| named == &*issuer.rules.issuer),
            // A token without an issuer can only belong to the issuer with introspection. Tokens of other issuers are
            // never sent to it.
            None if matches!(read, Ok(_) | Err(TokenError::Malformed)) => {
                issuers.find(|(_, issuer)| issuer.introspection().is_some())
            }
            None => None,
        };
        let Some((index, issuer)) = found else {
            return Err(TokenRefusal::Invalid(read.err().unwrap_or(TokenError::Issuer)));
        };
        match &issuer.check {
            TokenCheck::Keys(keys) => {
                let read = read.map_err(TokenRefusal::Invalid)?;
                self.verify_signed(read, (index, issuer, keys), now)
            }
            TokenCheck::Introspection(answers) => self.introspected(token, (index, issuer, answers), now),
        }
    }

    fn verify_signed(
        &self,
        token: ReadToken<'_>,
        (index, issuer, store): (usize, &TokenIssuer, &KeyStore),
        now: Duration,
    ) -> Result<Verified, TokenRefusal> {
        let version = check_signature(&token, (index, issuer, store), now)?;
        let checked = issuer.rules.check_claims(Arc::new(token.claims), &self.terms.resource, now);
        let CheckedClaims { identity, until, bound_to } = checked.map_err(TokenRefusal::Invalid)?;
        let (identity, until) = (Arc::new(identity), until.unwrap_or_default());
        let keys = Some((index, version));
        Ok(Verified { identity, since: Duration::ZERO, until, ends: until, keys, bound_to, address: None })
    }

    /// Verifies an identity that an edge has forwarded.
    ///
    /// # Errors
    ///
    /// Why the identity is refused.
    pub(super) fn verify_forwarded(&self, token: &[u8], now: Duration) -> Result<Verified, TokenRefusal> {
        let terms = self.edges.as_ref().ok_or(TokenRefusal::NoForwarded)?;
        if token.len() > FORWARDED_LEN_MAX {
            return Err(TokenRefusal::Forwarded(TokenError::TooLong));
        }
        let read = ReadToken::parse(token).map_err(TokenRefusal::Forwarded)?;
        let named = read.claims.get("iss").and_then(|issuer| issuer.as_str());
        let mut edges = terms.edges.iter().enumerate();
        let found = edges.find(|(_, edge)| named == Some(&*edge.issuer.rules.issuer));
        let (nth, edge) = found.ok_or(TokenRefusal::Forwarded(TokenError::Issuer))?;
        let index = self.token_issuers + nth;
        let store = edge.issuer.keys().ok_or(TokenRefusal::NoKeys)?;
        let of_edge = |refusal| match refusal {
            TokenRefusal::Invalid(error) => TokenRefusal::Forwarded(error),
            other => other,
        };
        let version = check_signature(&read, (index, &edge.issuer, store), now).map_err(of_edge)?;
        let checked = edge.check_claims(read.claims, &self.terms.resource, now).map_err(TokenRefusal::Forwarded)?;
        let ForwardedClaims { identity, address, until, proven_until } = checked;
        let (identity, keys) = (Arc::new(identity), Some((index, version)));
        Ok(Verified { identity, since: Duration::ZERO, until, ends: proven_until, keys, bound_to: None, address })
    }

    fn introspected(
        &self,
        token: &[u8],
        (index, issuer, answers): (usize, &TokenIssuer, &Introspection),
        now: Duration,
    ) -> Result<Verified, TokenRefusal> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenRefusal::Invalid(TokenError::TooLong));
        }
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenRefusal::Invalid(TokenError::Malformed));
        }
        match answers.look(token, now) {
            Looked::Answered(TokenAnswer::Good(claims), since, until) => {
                let checked = issuer.rules.check_introspected(claims, &self.terms.resource, now);
                let CheckedClaims { identity, until: ends, bound_to } = checked.map_err(TokenRefusal::Invalid)?;
                // A token without an expiry is valid until the next introspection.
                let (identity, ends) = (Arc::new(identity), ends.unwrap_or(until));
                Ok(Verified { identity, since, until: until.min(ends), ends, keys: None, bound_to, address: None })
            }
            Looked::Answered(TokenAnswer::Refused, ..) => Err(TokenRefusal::Invalid(TokenError::Inactive)),
            Looked::Answered(TokenAnswer::Failed, ..) | Looked::Busy => Err(TokenRefusal::NoIntrospection),
            Looked::Asked(asked) => Err(TokenRefusal::Awaits(Awaited::Introspection { issuer: index, asked })),
        }
    }

    /// Identifies the caller that presented these certificates.
    ///
    /// # Errors
    ///
    /// Why the certificates are refused.
    pub(super) fn verify_certificate(
        &self,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<Verified, TokenRefusal> {
        let terms = self.certificates.as_ref().ok_or(TokenRefusal::NoCertificate)?;
        let (identity, ends) = terms.identify(shown, now).map_err(TokenRefusal::Certificate)?;
        let until = ends.min(now.saturating_add(CERTIFICATE_CHECKED_FOR));
        Ok(Verified::by_certificate(identity, (now, until), ends))
    }

    /// Identifies the edge that presented these certificates when its session began, at `shown_at`. A session outlives its
    /// certificate, as a link does.
    ///
    /// # Errors
    ///
    /// Why the certificates are refused.
    pub(super) fn verify_edge(
        &self,
        shown: &ShownCertificates,
        (shown_at, now): (Duration, Duration),
    ) -> Result<Verified, TokenRefusal> {
        let terms = self.edge_certificates.as_ref().ok_or(TokenRefusal::NoEdgeCertificate)?;
        let (identity, ends) = terms.identify(shown, shown_at).map_err(TokenRefusal::EdgeCertificate)?;
        Ok(Verified::by_certificate(identity, (now, now.saturating_add(CERTIFICATE_CHECKED_FOR)), ends))
    }

    /// Whether a caller has the scopes that every caller needs.
    #[must_use]
    pub fn has_scopes(&self, identity: &AgentIdentity) -> bool {
        self.terms.scopes.iter().all(|scope| identity.scopes.contains(scope))
    }
}

impl Verified {
    /// The result for a certificate, which is verified again at the end of `valid`.
    fn by_certificate(identity: AgentIdentity, valid: (Duration, Duration), ends: Duration) -> Verified {
        let (identity, (since, until)) = (Arc::new(identity), valid);
        Verified { identity, since, until, ends, keys: None, bound_to: None, address: None }
    }
}

/// Routes are equal if their terms are equal and their issuers are the same objects.
impl PartialEq for RouteAuth {
    fn eq(&self, other: &RouteAuth) -> bool {
        let (own, others) = (&self.terms, &other.terms);
        own.resource == others.resource
            && own.scopes == others.scopes
            && own.is_terminated == others.is_terminated
            && own.authorization.as_ref().map(Secret::expose) == others.authorization.as_ref().map(Secret::expose)
            && own.identity_header == others.identity_header
            && self.asks_for_token == other.asks_for_token
            && self.certificates == other.certificates
            && self.edge_certificates == other.edge_certificates
            && self.exchange.as_ref().map(Arc::as_ptr) == other.exchange.as_ref().map(Arc::as_ptr)
            && self.forwarder == other.forwarder
            && self.edges == other.edges
            && self.token_issuers == other.token_issuers
            && self.issuers.len() == other.issuers.len()
            && self.issuers.iter().zip(&other.issuers).all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

impl Eq for RouteAuth {}

impl fmt::Debug for RouteAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteAuth").field("resource", &self.terms.resource).finish_non_exhaustive()
    }
}

/// Checks the header and the signature of a token. Returns the version of the keys.
fn check_signature(
    token: &ReadToken<'_>,
    (index, issuer, store): (usize, &TokenIssuer, &KeyStore),
    now: Duration,
) -> Result<u64, TokenRefusal> {
    issuer.rules.check_header(token).map_err(TokenRefusal::Invalid)?;
    let (keys, version) = store.keys();
    let awaits = || {
        let check = store.ask(now)?;
        Some(TokenRefusal::Awaits(Awaited::Keys { issuer: index, check }))
    };
    let Some(keys) = keys else { return Err(awaits().unwrap_or(TokenRefusal::NoKeys)) };
    match keys.verify(token) {
        Ok(()) => Ok(version),
        Err(TokenError::UnknownKey) => {
            let settled = match store.has_failed() {
                true => TokenRefusal::NoKeys,
                false => TokenRefusal::Invalid(TokenError::UnknownKey),
            };
            Err(awaits().unwrap_or(settled))
        }
        Err(error) => Err(TokenRefusal::Invalid(error)),
    }
}

/// The length of the scheme and authority of a URL.
fn origin_len(url: &str) -> usize {
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    url[authority..].find('/').map_or(url.len(), |at| authority + at)
}
