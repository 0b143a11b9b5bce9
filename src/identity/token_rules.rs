//! The checks of a token's header and claims.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::identity::algorithm::TokenAlgorithm;
use crate::identity::token::ReadToken;
use crate::identity::token_error::TokenError;
use crate::policy::{AgentIdentity, IdentityProof};

/// The most audiences, and the most scopes, that are read from one token.
const LISTED_MAX: usize = 256;
/// The longest accepted name of a subject or client, in bytes.
pub(super) const NAME_LEN_MAX: usize = 1_024;
/// Claims that name the client; the first that is present counts: OpenID Connect, RFC 9068, Okta, Entra ID before
/// version 2.
const CLIENT_CLAIMS: [&str; 4] = ["azp", "client_id", "cid", "appid"];

/// The requirements for the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// The issuer, compared with `iss`.
    pub issuer: Arc<str>,
    /// The accepted values of `aud`; if empty, the resource of the route.
    pub audiences: Box<[Box<str>]>,
    /// The accepted signature algorithms.
    pub algorithms: Box<[TokenAlgorithm]>,
    /// The accepted values of `typ`, in lower case and without `application/`. A token without a type counts as `jwt`.
    pub types: Box<[Box<str>]>,
    /// The tolerated difference between the clocks of issuer and tunnel.
    pub leeway: Duration,
}

/// The claims of a token after all checks.
pub(super) struct CheckedClaims {
    pub(super) identity: AgentIdentity,
    /// When the token expires, if it has an expiry.
    pub(super) until: Option<Duration>,
    /// The SHA-256 digest of the certificate that the token is bound to, if any (RFC 8705 section 3.1).
    pub(super) bound_to: Option<[u8; 32]>,
}

impl TokenRules {
    /// Checks the header of a token.
    pub(super) fn check_header(&self, token: &ReadToken<'_>) -> Result<(), TokenError> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        let kind = token.kind.as_deref().unwrap_or("jwt");
        if self.types.iter().any(|accepted| **accepted == *kind) { Ok(()) } else { Err(TokenError::Type) }
    }

    /// Checks the claims, after the signature was verified.
    pub(super) fn check_claims(
        &self,
        claims: Arc<Map<String, Value>>,
        resource: &str,
        now: Duration,
    ) -> Result<CheckedClaims, TokenError> {
        let until = Some(self.check_terms(&claims, resource, now)?.ok_or(TokenError::NoExpiry)?);
        let bound_to = binding(&claims)?;
        Ok(CheckedClaims { identity: self.identity(claims, IdentityProof::Jwt)?, until, bound_to })
    }

    /// Checks the introspection answer about an active token (RFC 7662 section 2.2).
    pub(super) fn check_introspected(
        &self,
        claims: Arc<Map<String, Value>>,
        resource: &str,
        now: Duration,
    ) -> Result<CheckedClaims, TokenError> {
        if claims.get("iss").is_some_and(|issuer| issuer.as_str() != Some(&*self.issuer)) {
            return Err(TokenError::Issuer);
        }
        // Refresh tokens are reported as active, too.
        if claims.get("token_use").is_some_and(|purpose| purpose != "access_token") {
            return Err(TokenError::Type);
        }
        let until = self.check_terms(&claims, resource, now)?;
        let bound_to = binding(&claims)?;
        Ok(CheckedClaims { identity: self.identity(claims, IdentityProof::Introspection)?, until, bound_to })
    }

    /// Checks the audience and validity period of a token. Returns when it expires, if it has an expiry.
    pub(super) fn check_terms(
        &self,
        claims: &Map<String, Value>,
        resource: &str,
        now: Duration,
    ) -> Result<Option<Duration>, TokenError> {
        let is_accepted = |audience: &str| match self.audiences.is_empty() {
            true => audience == resource,
            false => self.audiences.iter().any(|accepted| **accepted == *audience),
        };
        if !listed(claims.get("aud")).ok_or(TokenError::Audience)?.into_iter().any(is_accepted) {
            return Err(TokenError::Audience);
        }
        let until = claims.get("exp").map(|expiry| Ok(moment(expiry)?.saturating_add(self.leeway))).transpose()?;
        if until.is_some_and(|until| now >= until) {
            return Err(TokenError::Expired);
        }
        if let Some(begins) = claims.get("nbf")
            && moment(begins)? > now.saturating_add(self.leeway)
        {
            return Err(TokenError::NotYet);
        }
        Ok(until)
    }

    fn identity(&self, claims: Arc<Map<String, Value>>, proof: IdentityProof) -> Result<AgentIdentity, TokenError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let client: Option<Arc<str>> = CLIENT_CLAIMS.iter().find_map(|name| text(name)).map(Into::into);
        if client.as_ref().is_some_and(|client| client.len() > NAME_LEN_MAX) {
            return Err(TokenError::Client);
        }
        // A client that acts for itself is its own subject.
        let subject: Arc<str> = match claims.get("sub") {
            Some(_) => text("sub").ok_or(TokenError::Subject)?.into(),
            None => client.clone().ok_or(TokenError::Subject)?,
        };
        if subject.len() > NAME_LEN_MAX {
            return Err(TokenError::Subject);
        }
        let scopes = ["scope", "scp"].iter().filter_map(|name| listed(claims.get(*name))).flatten();
        let scopes = scopes.flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty());
        let scopes: Arc<[Box<str>]> = scopes.take(LISTED_MAX).map(Into::into).collect();
        Ok(AgentIdentity { subject, issuer: Some(Arc::clone(&self.issuer)), client, proof, scopes, claims })
    }
}

/// The digest of the certificate that a token is bound to, if any: the token alone is useless to a thief. Bindings to
/// other keys, such as DPoP (RFC 9449), cannot be verified.
fn binding(claims: &Map<String, Value>) -> Result<Option<[u8; 32]>, TokenError> {
    let Some(key) = claims.get("cnf") else { return Ok(None) };
    let digest = key.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("x5t#S256"));
    let digest = digest.and_then(Value::as_str).and_then(|digest| URL_SAFE_NO_PAD.decode(digest).ok());
    digest.and_then(|digest| digest.try_into().ok()).map(Some).ok_or(TokenError::Bound)
}

/// The texts of a claim that is a text or a list of texts; `None` for other types or too many.
fn listed(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim? {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) if list.len() <= LISTED_MAX => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Parses a time in seconds since 1970, with an optional fraction (RFC 7519 section 2).
pub(super) fn moment(claim: &Value) -> Result<Duration, TokenError> {
    let seconds = claim.as_f64().ok_or(TokenError::Malformed)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| TokenError::Malformed)
}
