use std::sync::Arc;
use std::time::Duration;

use crate::identity::introspection::Introspection;
use crate::identity::key_store::{KeyStore, KeysChecked};
use crate::identity::token_answers::TokenAsked;
use crate::identity::token_rules::TokenRules;

/// Who issues tokens that a route accepts: what they must be, and how it is known that they are its own.
pub struct TokenIssuer {
    /// The name in the configuration and the log.
    pub name: Box<str>,
    /// What its tokens must be.
    pub rules: TokenRules,
    /// How a token is known to be one of its own.
    pub check: TokenCheck,
    /// How often the keys are fetched, if they are.
    pub refresh: Duration,
    /// How long keys are used that cannot be fetched again.
    pub grace: Duration,
}

/// How it is known that a token is one of its issuer.
pub enum TokenCheck {
    /// It is signed by one of these keys.
    Keys(KeyStore),
    /// The issuer says so when it is asked (RFC 7662).
    Introspection(Arc<Introspection>),
}

/// What a call waits for until it is known who calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The keys of an issuer.
    Keys {
        /// The issuer, by its place.
        issuer: usize,
        /// The fetch.
        check: KeysChecked,
    },
    /// What an issuer says about a token.
    Introspection {
        /// The issuer, by its place.
        issuer: usize,
        /// The question.
        asked: TokenAsked,
    },
    /// The token of the server that the caller's is exchanged for.
    Exchange(TokenAsked),
}

impl TokenIssuer {
    /// The keys, if its tokens are signed.
    #[must_use]
    pub fn keys(&self) -> Option<&KeyStore> {
        match &self.check {
            TokenCheck::Keys(keys) => Some(keys),
            TokenCheck::Introspection(_) => None,
        }
    }

    /// What it has said about its tokens, if it is asked about them.
    #[must_use]
    pub fn introspection(&self) -> Option<&Arc<Introspection>> {
        match &self.check {
            TokenCheck::Keys(_) => None,
            TokenCheck::Introspection(answers) => Some(answers),
        }
    }
}

/// What is asked is not told.
impl std::fmt::Debug for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Awaited::Keys { issuer, check } => f.debug_tuple("Keys").field(issuer).field(check).finish(),
            Awaited::Introspection { issuer, .. } => f.debug_tuple("Introspection").field(issuer).finish(),
            Awaited::Exchange(_) => f.write_str("Exchange"),
        }
    }
}
