use std::sync::Arc;

use serde_json::{Map, Value};

/// Who calls, as far as that was proven. A caller of whom nothing is known has no identity.
///
/// A copy shares its texts with the original, and allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The name of the caller, unique with its issuer.
    pub subject: Arc<str>,
    /// Who vouches for the subject, such as the issuer of a token.
    pub issuer: Option<Arc<str>>,
    /// The program by which the subject calls, such as the client of a token.
    pub client: Option<Arc<str>>,
    /// How it was proven.
    pub proof: IdentityProof,
    /// What the caller was granted (OAuth 2.0, RFC 6749 section 3.3).
    pub scopes: Arc<[Box<str>]>,
    /// What else its issuer says of it.
    pub claims: Arc<Map<String, Value>>,
}

/// How an identity was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityProof {
    /// By a static key.
    Key,
    /// By a signed token.
    Jwt,
    /// By a token that its issuer was asked about.
    Introspection,
    /// By a client certificate.
    Certificate,
}

impl IdentityProof {
    /// Every proof, in the order of the declaration.
    pub const ALL: [IdentityProof; 4] =
        [IdentityProof::Key, IdentityProof::Jwt, IdentityProof::Introspection, IdentityProof::Certificate];

    /// The name in files and records, which does not change.
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
