use std::sync::Arc;
use std::time::Duration;

use crate::identity::introspection::Introspection;
use crate::identity::key_store::{KeyStore, KeysChecked};
use crate::identity::token_answers::TokenAsked;
use crate::identity::token_rules::TokenRules;

/// An issuer whose tokens a route accepts, and how they are verified.
pub struct TokenIssuer {
    /// The name in the configuration and the log.
    pub name: Box<str>,
    /// The requirements for its tokens.
    pub rules: TokenRules,
    /// How its tokens are verified.
    pub check: TokenCheck,
    /// The interval between fetches of the keys.
    pub refresh: Duration,
    /// How long keys stay in use while fetches fail.
    pub grace: Duration,
}

/// How the tokens of an issuer are verified.
pub enum TokenCheck {
    /// By signature, with one of these keys.
    Keys(KeyStore),
    /// By introspection at the issuer (RFC 7662).
    Introspection(Arc<Introspection>),
}

/// The pending request that a call waits for, before its caller is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// A fetch of an issuer's keys.
    Keys {
        /// The index of the issuer.
        issuer: usize,
        /// The fetch in flight.
        check: KeysChecked,
    },
    /// An introspection of the token by its issuer.
    Introspection {
        /// The index of the issuer.
        issuer: usize,
        /// The pending question about the token.
        asked: TokenAsked,
    },
    /// The exchange of the caller's token for one of the server.
    Exchange(TokenAsked),
}

impl TokenIssuer {
    /// The keys, if its tokens are verified by signature.
    #[must_use]
    pub fn keys(&self) -> Option<&KeyStore> {
        match &self.check {
            TokenCheck::Keys(keys) => Some(keys),
            TokenCheck::Introspection(_) => None,
        }
    }

    /// The introspection answers, if its tokens are verified by introspection.
    #[must_use]
    pub fn introspection(&self) -> Option<&Arc<Introspection>> {
        match &self.check {
            TokenCheck::Keys(_) => None,
            TokenCheck::Introspection(answers) => Some(answers),
        }
    }
}

/// Omits the digest of the token.
impl std::fmt::Debug for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Awaited::Keys { issuer, check } => f.debug_tuple("Keys").field(issuer).field(check).finish(),
            Awaited::Introspection { issuer, .. } => f.debug_tuple("Introspection").field(issuer).finish(),
            Awaited::Exchange(_) => f.write_str("Exchange"),
        }
    }
}
