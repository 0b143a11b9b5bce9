//! Floor 1: verifies tokens and certificates, and maps them to the identity of a caller. Keys and the time are passed
//! in; other modules fetch keys and send requests.

mod algorithm;
mod certificate_subject;
mod client_authority;
mod forwarded_identity;
mod forwarding_keys;
mod identity_signer;
mod introspection;
mod key_set;
mod key_store;
mod members_len;
mod remembered;
mod route_auth;
mod strict_object;
mod token;
mod token_answers;
mod token_error;
mod token_exchange;
mod token_issuer;
mod token_rules;
mod verified_tokens;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod certificate_tests;
#[cfg(test)]
mod forwarded_tests;
#[cfg(test)]
mod introspection_tests;
#[cfg(test)]
mod signer;

pub use algorithm::{TokenAlgorithm, TokenAlgorithmError};
pub use client_authority::{
    CallerCertificate, CertificateName, CertificateRefusal, CertificateTerms, ClientAuthority, ShownCertificates,
};
pub use forwarded_identity::{EdgeTerms, FORWARDED_TYPE, IdentityForwarder, TrustedEdge};
pub use forwarding_keys::{FORWARDING_KEYS_LEN_MAX, ForwardingKeys, ForwardingKeysError};
pub use identity_signer::{IDENTITY_SEED_LEN, IdentityHeader, IdentitySigner};
pub use introspection::{INTROSPECTION_LEN_MAX, Introspected, Introspection, IntrospectionError, read_introspection};
pub use key_set::{KEY_SET_LEN_MAX, KeySet, KeySetError};
pub use key_store::{KeyStore, KeysChecked};
pub use route_auth::{AuthTerms, RouteAuth, TokenRefusal};
pub use token_answers::{QUESTIONS_MAX, TokenAnswer, TokenAnswers, TokenAsked, TokenQuestion};
pub use token_error::TokenError;
pub use token_exchange::{
    EXCHANGE_LEN_MAX, ExchangeAnswer, ExchangeAnswerError, ExchangedToken, TokenExchange, read_exchange_refusal,
};
pub use token_issuer::{Awaited, TokenCheck, TokenIssuer};
pub use token_rules::TokenRules;
pub use verified_tokens::{ShownCredential, ShownToken, VerifiedTokens};
