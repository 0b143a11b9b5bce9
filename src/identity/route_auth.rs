//! What a route asks of its callers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::{BearerChallenge, Secret};
use crate::identity::client_authority::{CertificateRefusal, CertificateTerms, ShownCertificates};
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

/// How long a certificate is not verified again, in case its authority revokes it.
const CERTIFICATE_CHECKED_FOR: Duration = Duration::from_secs(60);

/// Where the metadata of a protected resource is found (RFC 9728 section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What the configuration of a route says of its callers.
#[derive(Clone)]
pub struct AuthTerms {
    /// The resource that tokens are for: the URL by which agents call the route.
    pub resource: Box<str>,
    /// What every caller must have been granted.
    pub scopes: Box<[Box<str>]>,
    /// Whether the token stays here and does not go on to the server.
    pub is_terminated: bool,
    /// What the server gets as `Authorization` in its place.
    pub authorization: Option<Secret>,
    /// How the server is told who calls, if it is.
    pub identity_header: Option<IdentityHeader>,
}

/// What a route asks of its callers: a token of one of its issuers, a certificate, or both.
pub struct RouteAuth {
    terms: AuthTerms,
    asks_for_token: bool,
    certificates: Option<CertificateTerms>,
    exchange: Option<Arc<TokenExchange>>,
    issuers: Box<[Arc<TokenIssuer>]>,
    metadata_url: Box<str>,
    metadata: Box<str>,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// It shows no token.
    NoToken,
    /// Its token proves nobody.
    Invalid(TokenError),
    /// Its token may be good once more is known of its issuer, which is under way.
    Awaits(Awaited),
    /// The keys of its issuer are not known.
    NoKeys,
    /// Its issuer, who is asked about tokens, gave no answer.
    NoIntrospection,
    /// It was granted too little.
    Scope,
    /// It names a session that was begun for another caller.
    OtherSession,
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate proves nobody.
    Certificate(CertificateRefusal),
    /// It was not asked for a certificate, as its connection was made for another host.
    CertificateNotAsked,
    /// There is no token of the server for that of the caller.
    ExchangeRefused,
    /// Whoever exchanges tokens gave no answer.
    NoExchange,
}

/// What a token or a certificate has proven.
#[derive(Clone)]
pub(super) struct Verified {
    pub(super) identity: Arc<AgentIdentity>,
    /// Since when it holds, and until when it is not checked again.
    pub(super) since: Duration,
    pub(super) until: Duration,
    /// Until when the token or certificate holds, as far as is known.
    pub(super) ends: Duration,
    /// The issuer by whose keys it was verified, and their version.
    pub(super) keys: Option<(usize, u64)>,
    /// The digest of the certificate that its caller must have.
    pub(super) bound_to: Option<[u8; 32]>,
}

impl RouteAuth {
    /// A route with these terms that accepts tokens of these issuers.
    #[must_use]
    pub fn new(terms: AuthTerms, issuers: Vec<Arc<TokenIssuer>>) -> RouteAuth {
        let servers: Vec<&str> = issuers.iter().map(|issuer| &*issuer.rules.issuer).collect();
        // What is no URL is no authorization server that a client could find.
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
        let issuers = issuers.into();
        RouteAuth {
            terms,
            asks_for_token: true,
            certificates: None,
            exchange: None,
            issuers,
            metadata_url: metadata_url.into(),
            metadata: metadata.to_string().into(),
        }
    }

    /// The same, which leaves tokens to the server.
    #[must_use]
    pub fn without_tokens(self) -> RouteAuth {
        RouteAuth { asks_for_token: false, ..self }
    }

    /// The same, which also asks for certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: CertificateTerms) -> RouteAuth {
        RouteAuth { certificates: Some(certificates), ..self }
    }

    /// The same, whose server gets another token for that of its caller.
    #[must_use]
    pub fn with_exchange(self, exchange: Arc<TokenExchange>) -> RouteAuth {
        RouteAuth { exchange: Some(exchange), ..self }
    }

    /// Where the tokens of callers are exchanged for those of the server, if they are.
    #[must_use]
    pub fn exchange(&self) -> Option<&TokenExchange> {
        self.exchange.as_deref()
    }

    /// What the server gets in place of this token, which has proven its caller; none if tokens are not exchanged.
    ///
    /// # Errors
    ///
    /// If there is none, or not yet.
    pub fn exchanged(&self, token: &[u8], now: Duration) -> Result<Option<ExchangedToken>, TokenRefusal> {
        let Some(exchange) = &self.exchange else { return Ok(None) };
        match exchange.answers.look(token, now) {
            Looked::Answered(TokenAnswer::Good(exchanged), ..) => Ok(Some(exchanged)),
            Looked::Answered(TokenAnswer::Refused, ..) => Err(TokenRefusal::ExchangeRefused),
            Looked::Answered(TokenAnswer::Failed, ..) | Looked::Busy => Err(TokenRefusal::NoExchange),
            Looked::Asked(asked) => Err(TokenRefusal::Awaits(Awaited::Exchange(asked))),
        }
    }

    /// Whether callers need a token, unless something else is accepted in its place.
    #[must_use]
    pub fn asks_for_token(&self) -> bool {
        self.asks_for_token
    }

    /// What it asks of certificates, if callers are asked for one.
    #[must_use]
    pub fn certificates(&self) -> Option<&CertificateTerms> {
        self.certificates.as_ref()
    }

    /// What the configuration says.
    #[must_use]
    pub fn terms(&self) -> &AuthTerms {
        &self.terms
    }

    /// The issuers whose tokens it accepts.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<TokenIssuer>] {
        &self.issuers
    }

    /// The metadata of the resource (RFC 9728 section 2), as JSON.
    #[must_use]
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Where that metadata is found.
    #[must_use]
    pub fn metadata_url(&self) -> &str {
        &self.metadata_url
    }

    /// The value of `WWW-Authenticate` for a caller that is refused (RFC 6750 section 3, RFC 9728 section 5.1).
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
            | TokenRefusal::NoExchange => asked.to_string(),
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

    /// Who shows this token.
    ///
    /// # Errors
    ///
    /// Why it proves nobody who may call.
    pub(super) fn verify(&self, token: &[u8], now: Duration) -> Result<Verified, TokenRefusal> {
        let read = ReadToken::parse(token);
        let named = read.as_ref().ok().and_then(|token| token.claims.get("iss")).and_then(|issuer| issuer.as_str());
        let mut issuers = self.issuers.iter().enumerate();
        let found = match named {
            Some(named) => issuers.find(|(_, issuer)| named == &*issuer.rules.issuer),
            // What does not say whose it is can only be a token of the one who is asked. No token of another issuer is shown to it.
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
        issuer.rules.check_header(&token).map_err(TokenRefusal::Invalid)?;
        let (keys, version) = store.keys();
        let awaits = || {
            let check = store.ask(now)?;
            Some(TokenRefusal::Awaits(Awaited::Keys { issuer: index, check }))
        };
        let Some(keys) = keys else { return Err(awaits().unwrap_or(TokenRefusal::NoKeys)) };
        match keys.verify(&token) {
            Ok(()) => {}
            Err(TokenError::UnknownKey) => {
                let settled = match store.has_failed() {
                    true => TokenRefusal::NoKeys,
                    false => TokenRefusal::Invalid(TokenError::UnknownKey),
                };
                return Err(awaits().unwrap_or(settled));
            }
            Err(error) => return Err(TokenRefusal::Invalid(error)),
        }
        let checked = issuer.rules.check_claims(Arc::new(token.claims), &self.terms.resource, now);
        let CheckedClaims { identity, until, bound_to } = checked.map_err(TokenRefusal::Invalid)?;
        let (identity, until) = (Arc::new(identity), until.unwrap_or_default());
        let keys = Some((index, version));
        Ok(Verified { identity, since: Duration::ZERO, until, ends: until, keys, bound_to })
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
            Looked::Answered(TokenAnswer::Good(said), since, until) => {
                let checked = issuer.rules.check_introspected(said, &self.terms.resource, now);
                let CheckedClaims { identity, until: ends, bound_to } = checked.map_err(TokenRefusal::Invalid)?;
                // Without an end of its own it is only known to hold until it is asked about again.
                let (identity, ends) = (Arc::new(identity), ends.unwrap_or(until));
                Ok(Verified { identity, since, until: until.min(ends), ends, keys: None, bound_to })
            }
            Looked::Answered(TokenAnswer::Refused, ..) => Err(TokenRefusal::Invalid(TokenError::Inactive)),
            Looked::Answered(TokenAnswer::Failed, ..) | Looked::Busy => Err(TokenRefusal::NoIntrospection),
            Looked::Asked(asked) => Err(TokenRefusal::Awaits(Awaited::Introspection { issuer: index, asked })),
        }
    }

    /// Who has shown these certificates.
    ///
    /// # Errors
    ///
    /// Why they prove nobody who may call.
    pub(super) fn verify_certificate(
        &self,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<Verified, TokenRefusal> {
        let terms = self.certificates.as_ref().ok_or(TokenRefusal::NoCertificate)?;
        let (identity, ends) = terms.identify(shown, now).map_err(TokenRefusal::Certificate)?;
        let until = ends.min(now.saturating_add(CERTIFICATE_CHECKED_FOR));
        Ok(Verified { identity: Arc::new(identity), since: now, until, ends, keys: None, bound_to: None })
    }

    /// Whether a caller was granted what every caller needs.
    #[must_use]
    pub fn has_scopes(&self, identity: &AgentIdentity) -> bool {
        self.terms.scopes.iter().all(|scope| identity.scopes.contains(scope))
    }
}

/// Routes are the same if their terms are and their issuers are the same objects.
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
            && self.exchange.as_ref().map(Arc::as_ptr) == other.exchange.as_ref().map(Arc::as_ptr)
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

/// How long scheme and authority of a URL are together.
fn origin_len(url: &str) -> usize {
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    url[authority..].find('/').map_or(url.len(), |at| authority + at)
}
