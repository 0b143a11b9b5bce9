//! Keys that are made when a test runs, and tokens that are signed by them.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// A key of an issuer.
pub(crate) struct Signer {
    id: String,
    key: EncodingKey,
}

impl Signer {
    pub(crate) fn new(id: &str) -> Signer {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Signer { id: id.to_owned(), key: EncodingKey::from_ec_der(pair.as_ref()) }
    }

    /// The public key, as a set of keys has it.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), typ: Some("at+jwt".into()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).unwrap()
    }
}

/// A set of these keys.
pub(crate) fn key_set(signers: &[&Signer]) -> Value {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() })
}

/// What a token of an issuer says that is for a resource.
pub(crate) fn claims(issuer: &str, resource: &str) -> Value {
    let expiry = SystemTime::now() + Duration::from_secs(300);
    let expiry = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": issuer, "sub": "alice", "aud": resource, "exp": expiry, "client_id": "agent-7", "scope": "mcp:tools",
        "groups": ["support"],
    })
}
