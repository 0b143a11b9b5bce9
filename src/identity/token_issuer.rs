use std::time::Duration;

use crate::identity::key_store::KeyStore;
use crate::identity::token_rules::TokenRules;

/// Who issues tokens that a route accepts: what they must be, and the keys by which they are verified.
pub struct TokenIssuer {
    /// The name in the configuration and the log.
    pub name: Box<str>,
    /// What its tokens must be.
    pub rules: TokenRules,
    /// The keys that are known of it.
    pub keys: KeyStore,
    /// How often the keys are fetched, if they are.
    pub refresh: Duration,
    /// How long keys are used that cannot be fetched again.
    pub grace: Duration,
}
