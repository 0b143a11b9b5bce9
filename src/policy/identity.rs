use std::sync::Arc;

use serde_json::{Map, Value};

/// The proven identity of a caller. An unauthenticated caller has none.
///
/// A clone shares the strings and does not allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The name of the caller, unique with its issuer.
    pub subject: Arc<str>,
    /// The authority that vouches for the subject, such as the issuer of a token.
    pub issuer: Option<Arc<str>>,
    /// The program that acts for the subject, such as the client of a token.
    pub client: Option<Arc<str>>,
    /// How the identity was proven.
    pub proof: IdentityProof,
    /// The scopes granted to the caller (OAuth 2.0, RFC 6749 section 3.3).
    pub scopes: Arc<[Box<str>]>,
    /// Further claims of the issuer about the subject.
    pub claims: Arc<Map<String, Value>>,
}

/// How an identity was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityProof {
    /// By a static key.
    Key,
    /// By a signed token.
    Jwt,
    /// By introspection of a token at its issuer.
    Introspection,
    /// By a client certificate.
    Certificate,
    /// By the word of an edge that is trusted. It has checked one of the others.
    Forwarded,
}

/// The claim of a forwarded identity with the name of the edge that vouches for it.
pub const FORWARDED_BY: &str = "adit_edge";
/// The claim of a forwarded identity with the proof that the edge has checked.
pub const FORWARDED_PROOF: &str = "adit_proof";

impl AgentIdentity {
    /// The name of the edge that vouches for a forwarded identity.
    #[must_use]
    pub fn forwarded_by(&self) -> Option<&str> {
        self.claims.get(FORWARDED_BY).and_then(Value::as_str).filter(|_| self.proof == IdentityProof::Forwarded)
    }

    /// The proof that this edge has checked.
    #[must_use]
    pub fn forwarded_proof(&self) -> Option<&str> {
        self.claims.get(FORWARDED_PROOF).and_then(Value::as_str).filter(|_| self.proof == IdentityProof::Forwarded)
    }
}

impl IdentityProof {
    /// Every proof, in the order of the declaration.
    pub const ALL: [IdentityProof; 5] = [
        IdentityProof::Key,
        IdentityProof::Jwt,
        IdentityProof::Introspection,
        IdentityProof::Certificate,
        IdentityProof::Forwarded,
    ];

    /// The name in files and records. It is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IdentityProof::Key => "key",
            IdentityProof::Jwt => "jwt",
            IdentityProof::Introspection => "introspection",
            IdentityProof::Certificate => "certificate",
            IdentityProof::Forwarded => "forwarded",
        }
    }
}
