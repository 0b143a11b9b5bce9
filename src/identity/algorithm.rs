use std::fmt;
use std::str::FromStr;

use jsonwebtoken::Algorithm;

/// The signature algorithm of a token (RFC 7518 section 3.1, RFC 8037 section 3.1), never `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, the usual choice of issuers.
    Rs256,
    /// The same scheme as RS256, with SHA-384.
    Rs384,
    /// The same scheme as RS256, with SHA-512.
    Rs512,
    /// RSASSA-PSS with the hash SHA-256.
    Ps256,
    /// The same scheme as PS256, with SHA-384.
    Ps384,
    /// The same scheme as PS256, with SHA-512.
    Ps512,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// EdDSA over the curve Ed25519 only.
    EdDsa,
    /// HMAC with SHA-256 and a shared key.
    Hs256,
    /// HMAC with SHA-384 and a shared key.
    Hs384,
    /// HMAC with SHA-512 and a shared key.
    Hs512,
}

/// An unknown name of an algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no algorithm for tokens: use {names}", names = TokenAlgorithm::ALL.map(TokenAlgorithm::name).join(", "))]
pub struct TokenAlgorithmError(String);

impl TokenAlgorithm {
    /// Every algorithm, in the order of the declaration.
    pub const ALL: [TokenAlgorithm; 12] = [
        TokenAlgorithm::Rs256,
        TokenAlgorithm::Rs384,
        TokenAlgorithm::Rs512,
        TokenAlgorithm::Ps256,
        TokenAlgorithm::Ps384,
        TokenAlgorithm::Ps512,
        TokenAlgorithm::Es256,
        TokenAlgorithm::Es384,
        TokenAlgorithm::EdDsa,
        TokenAlgorithm::Hs256,
        TokenAlgorithm::Hs384,
        TokenAlgorithm::Hs512,
    ];

    /// The name, as in the `alg` of a token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TokenAlgorithm::Rs256 => "RS256",
            TokenAlgorithm::Rs384 => "RS384",
            TokenAlgorithm::Rs512 => "RS512",
            TokenAlgorithm::Ps256 => "PS256",
            TokenAlgorithm::Ps384 => "PS384",
            TokenAlgorithm::Ps512 => "PS512",
            TokenAlgorithm::Es256 => "ES256",
            TokenAlgorithm::Es384 => "ES384",
            TokenAlgorithm::EdDsa => "EdDSA",
            TokenAlgorithm::Hs256 => "HS256",
            TokenAlgorithm::Hs384 => "HS384",
            TokenAlgorithm::Hs512 => "HS512",
        }
    }

    /// The algorithm with this name, which is case-sensitive.
    #[must_use]
    pub fn of(name: &str) -> Option<TokenAlgorithm> {
        TokenAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether the key that verifies a token also signs it.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, TokenAlgorithm::Hs256 | TokenAlgorithm::Hs384 | TokenAlgorithm::Hs512)
    }

    pub(super) const fn library(self) -> Algorithm {
        match self {
            TokenAlgorithm::Rs256 => Algorithm::RS256,
            TokenAlgorithm::Rs384 => Algorithm::RS384,
            TokenAlgorithm::Rs512 => Algorithm::RS512,
            TokenAlgorithm::Ps256 => Algorithm::PS256,
            TokenAlgorithm::Ps384 => Algorithm::PS384,
            TokenAlgorithm::Ps512 => Algorithm::PS512,
            TokenAlgorithm::Es256 => Algorithm::ES256,
            TokenAlgorithm::Es384 => Algorithm::ES384,
            TokenAlgorithm::EdDsa => Algorithm::EdDSA,
            TokenAlgorithm::Hs256 => Algorithm::HS256,
            TokenAlgorithm::Hs384 => Algorithm::HS384,
            TokenAlgorithm::Hs512 => Algorithm::HS512,
        }
    }
}

impl FromStr for TokenAlgorithm {
    type Err = TokenAlgorithmError;

    fn from_str(name: &str) -> Result<TokenAlgorithm, TokenAlgorithmError> {
        TokenAlgorithm::of(name).ok_or_else(|| TokenAlgorithmError(name.to_owned()))
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
