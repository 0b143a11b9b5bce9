//! Sends the identity of a caller to an MCP server, as a signed token that the server can verify.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::base::{hex, sha256};
use crate::policy::AgentIdentity;

/// The lifetime of a signed identity.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);
/// How long a signed identity is reused. The rest of its lifetime is left for the server.
pub(super) const SENT_FOR: Duration = Duration::from_secs(30);
/// The issuer, in the claim `iss`.
const ISSUER: &str = "adit";
/// The length of a key id: hexadecimal digits of the hash of the key.
const KEY_ID_LEN: usize = 16;

/// The length of the seed of a key, in bytes.
pub const IDENTITY_SEED_LEN: usize = 32;

/// Signs identities as JWTs (RFC 7519) with Ed25519 (RFC 8037). The key has no other use.
pub struct IdentitySigner {
    pair: Ed25519KeyPair,
    key_id: Box<str>,
}

/// The header field that carries the identity of the caller to a server.
#[derive(Clone)]
pub struct IdentityHeader {
    /// The name of the field.
    pub name: Box<str>,
    /// The signer of its value.
    pub signer: Arc<IdentitySigner>,
}

/// An identity, signed for one resource.
#[derive(Clone)]
pub(super) struct SignedIdentity {
    pub(super) text: Arc<str>,
    /// The time until which it is sent.
    pub(super) until: Duration,
}

impl IdentitySigner {
    /// Creates a signer whose key is derived from these random bytes.
    #[must_use]
    pub fn new(seed: &[u8; IDENTITY_SEED_LEN]) -> IdentitySigner {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every seed of this length makes a key");
        let hash = sha256(pair.public_key().as_ref());
        let key_id = hex(&hash);
        IdentitySigner { pair, key_id: key_id[..KEY_ID_LEN].into() }
    }

    /// The public key as a JWK (RFC 7517).
    #[must_use]
    pub fn public_key(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id, "x": x})
    }

    /// Signs the identity of a caller for this resource. It expires after a minute, or earlier with its proof.
    pub(super) fn sign(
        &self,
        identity: &AgentIdentity,
        resource: &str,
        (now, proven_until): (Duration, Duration),
    ) -> SignedIdentity {
        let mut claims = caller_claims(identity, ISSUER, resource, (now, proven_until));
        if let Some(edge) = identity.forwarded_by() {
            claims["forwarded_by"] = json!(edge);
        }
        SignedIdentity { text: self.sign_token("JWT", &claims).into(), until: (now + SENT_FOR).min(proven_until) }
    }

    /// Signs these claims as a token of this type (`typ`).
    pub(super) fn sign_token(&self, kind: &str, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": kind, "kid": self.key_id});
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

impl IdentityHeader {
    /// The value for a caller with a static key, for this resource.
    #[must_use]
    pub fn sign(&self, identity: &AgentIdentity, resource: &str, now: Duration) -> Arc<str> {
        self.signer.sign(identity, resource, (now, Duration::MAX)).text
    }
}

/// Headers are equal if their names are equal and their signers are the same object.
impl PartialEq for IdentityHeader {
    fn eq(&self, other: &IdentityHeader) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.signer, &other.signer)
    }
}

/// The claims about a caller, for this resource, from this issuer. They expire after a minute, or earlier with the proof of the caller.
pub(super) fn caller_claims(
    identity: &AgentIdentity,
    issuer: &str,
    resource: &str,
    (now, proven_until): (Duration, Duration),
) -> Value {
    let mut claims = json!({
        "iss": issuer,
        "aud": resource,
        "sub": identity.subject,
        "iat": now.as_secs(),
        "exp": (now + LIFETIME).min(proven_until).as_secs(),
        "proof": identity.proof.name(),
    });
    if let Some(issuer) = &identity.issuer {
        claims["sub_iss"] = json!(issuer);
    }
    if let Some(client) = &identity.client {
        claims["client_id"] = json!(client);
    }
    if !identity.scopes.is_empty() {
        claims["scope"] = json!(identity.scopes.join(" "));
    }
    claims
}
