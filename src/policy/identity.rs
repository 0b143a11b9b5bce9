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
}

impl IdentityProof {
    /// Every proof, in the order of the declaration.
    pub const ALL: [IdentityProof; 4] =
        [IdentityProof::Key, IdentityProof::Jwt, IdentityProof::Introspection, IdentityProof::Certificate];

    /// The name in files and records. It is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IdentityProof::Key => "key",
            IdentityProof::Jwt => "jwt",
            IdentityProof::Introspection => "introspection",
            IdentityProof::Certificate => "certificate",
        }
    }
}
