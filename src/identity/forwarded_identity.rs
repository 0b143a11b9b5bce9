//! The identity of a caller that an edge has checked, as a signed token for a connector that trusts the edge.
//!
//! The token has a type of its own (`typ`), so that no other token of the edge or of an identity provider is taken for it. Its
//! audience is the URL of the route, and it is sent only within the tunnel of that route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::identity::forwarding_keys::ForwardingKeys;
use crate::identity::identity_signer::{LIFETIME, SENT_FOR, SignedIdentity, caller_claims};
use crate::identity::token_error::TokenError;
use crate::identity::token_issuer::TokenIssuer;
use crate::identity::token_rules::{NAME_LEN_MAX, TokenRules, moment};
use crate::policy::{AgentIdentity, FORWARDED_BY, FORWARDED_PROOF, IdentityProof};

/// The type of the token.
pub const FORWARDED_TYPE: &str = "adit-caller+jwt";
/// The longest token, in bytes. Heads of requests have room for it.
pub(super) const FORWARDED_LEN_MAX: usize = 8 * 1024;
/// The most scopes of a token.
const SCOPES_MAX: usize = 256;

/// How the edge forwards the identities of a route's callers.
#[derive(Clone)]
pub struct IdentityForwarder {
    /// The name of this edge, in the claim `iss`.
    pub issuer: Arc<str>,
    /// The keys that sign the tokens.
    pub keys: Arc<ForwardingKeys>,
    /// The names of the claims that are forwarded besides subject, issuer, client and scopes.
    pub claims: Box<[Box<str>]>,
}

/// Which edges may say who calls a route, and whether one has to.
#[derive(Clone)]
pub struct EdgeTerms {
    /// Whether every call must have a forwarded identity.
    pub is_required: bool,
    /// The edges that may, of which each has another issuer.
    pub edges: Box<[TrustedEdge]>,
}

/// An edge that is trusted to say who calls.
#[derive(Clone)]
pub struct TrustedEdge {
    /// Its keys, and the requirements for its tokens.
    pub issuer: Arc<TokenIssuer>,
    /// The issuers of identities that it may forward; empty for any.
    pub vouches_for: Box<[Box<str>]>,
}

/// The content of a forwarded identity after all checks.
pub(super) struct ForwardedClaims {
    pub(super) identity: AgentIdentity,
    /// The address of the caller, if it is known.
    pub(super) address: Option<IpAddr>,
    /// When the token expires.
    pub(super) until: Duration,
    /// When the proof of the caller expires; the largest value if it does not.
    pub(super) proven_until: Duration,
}

impl IdentityForwarder {
    /// Signs the identity of a caller for this resource. None if the token would be too long.
    pub(super) fn sign(
        &self,
        identity: &AgentIdentity,
        address: Option<IpAddr>,
        resource: &str,
        (now, proven_until): (Duration, Duration),
    ) -> Option<SignedIdentity> {
        let mut claims = caller_claims(identity, &self.issuer, resource, (now, proven_until));
        if proven_until != Duration::MAX {
            claims["proof_exp"] = json!(proven_until.as_secs());
        }
        if let Some(address) = address {
            claims["addr"] = json!(address);
        }
        let forwarded = self.claims.iter().filter_map(|name| identity.claims.get_key_value(&**name));
        let forwarded: Map<String, Value> = forwarded.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !forwarded.is_empty() {
            claims["claims"] = Value::Object(forwarded);
        }
        let text = self.keys.signer().sign_token(FORWARDED_TYPE, &claims);
        let until = (now + SENT_FOR).min(proven_until);
        (text.len() <= FORWARDED_LEN_MAX).then(|| SignedIdentity { text: text.into(), until })
    }
}

impl TrustedEdge {
    /// Checks the claims of a token whose signature was verified.
    pub(super) fn check_claims(
        &self,
        claims: Map<String, Value>,
        resource: &str,
        now: Duration,
    ) -> Result<ForwardedClaims, TokenError> {
        let rules: &TokenRules = &self.issuer.rules;
        let until = rules.check_terms(&claims, resource, now)?.ok_or(TokenError::NoExpiry)?;
        // A list could contain other routes, too.
        let begins = claims.get("iat").ok_or(TokenError::Malformed).and_then(moment)?;
        if !claims["aud"].is_string() {
            return Err(TokenError::Audience);
        }
        if begins > now.saturating_add(rules.leeway) {
            return Err(TokenError::NotYet);
        }
        if until > begins.saturating_add(LIFETIME + rules.leeway) {
            return Err(TokenError::LivesTooLong);
        }
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.len() <= NAME_LEN_MAX => Ok(Some(text.as_str())),
            Some(_) => Err(TokenError::Malformed),
        };
        let subject = text("sub").ok().flatten().ok_or(TokenError::Subject)?;
        let issuer = text("sub_iss")?;
        let proof = text("proof")?.ok_or(TokenError::Malformed)?;
        // Without an issuer, the edge itself vouches for its static keys.
        let vouching = issuer.unwrap_or(&rules.issuer);
        if !self.vouches_for.is_empty() && !self.vouches_for.iter().any(|accepted| **accepted == *vouching) {
            return Err(TokenError::Issuer);
        }
        let proven_until = claims.get("proof_exp").map(moment).transpose()?.unwrap_or(Duration::MAX);
        let address = match text("addr")? {
            Some(address) => Some(address.parse().map_err(|_| TokenError::Malformed)?),
            None => None,
        };
        let scopes = claims.get("scope").map(|scope| scope.as_str().ok_or(TokenError::Malformed)).transpose()?;
        let scopes = scopes.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
        let mut forwarded = match claims.get("claims") {
            None => Map::new(),
            Some(Value::Object(forwarded)) => forwarded.clone(),
            Some(_) => return Err(TokenError::Malformed),
        };
        forwarded.insert(FORWARDED_BY.to_owned(), json!(self.issuer.name));
        forwarded.insert(FORWARDED_PROOF.to_owned(), json!(proof));
        let identity = AgentIdentity {
            subject: subject.into(),
            issuer: Some(vouching.into()),
            client: text("client_id")?.map(Into::into),
            proof: IdentityProof::Forwarded,
            scopes: scopes.take(SCOPES_MAX).map(Into::into).collect(),
            claims: Arc::new(forwarded),
        };
        Ok(ForwardedClaims { identity, address, until, proven_until })
    }
}

/// Forwarders are equal if they sign the same with the same keys.
impl PartialEq for IdentityForwarder {
    fn eq(&self, other: &IdentityForwarder) -> bool {
        self.issuer == other.issuer && self.claims == other.claims && Arc::ptr_eq(&self.keys, &other.keys)
    }
}

/// Terms are equal if their edges are the same objects.
impl PartialEq for EdgeTerms {
    fn eq(&self, other: &EdgeTerms) -> bool {
        let is_same = |(own, other): (&TrustedEdge, &TrustedEdge)| {
            Arc::ptr_eq(&own.issuer, &other.issuer) && own.vouches_for == other.vouches_for
        };
        self.is_required == other.is_required
            && self.edges.len() == other.edges.len()
            && self.edges.iter().zip(&other.edges).all(is_same)
    }
}
