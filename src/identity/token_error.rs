/// Why a token is refused. The caller receives the message, which contains nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// The token exceeds 16 KiB.
    #[error("the token is too long")]
    TooLong,
    /// The token is not a JSON Web Token in compact form, or parsers could read it differently.
    #[error("the token is not a well-formed JSON Web Token")]
    Malformed,
    /// The issuer does not use its algorithm, or the token is not signed.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// The header has critical extensions.
    #[error("the token has critical extensions, and none are supported")]
    Critical,
    /// The token has another type, such as an ID token.
    #[error("the type of the token is not accepted")]
    Type,
    /// The route does not accept the issuer.
    #[error("the issuer of the token is not accepted")]
    Issuer,
    /// The audience is not this resource.
    #[error("the token is not for this resource")]
    Audience,
    /// The token has expired already.
    #[error("the token has expired")]
    Expired,
    /// The token has no expiry.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// The token is valid for longer than such tokens may be.
    #[error("the token is valid for too long")]
    LivesTooLong,
    /// The token is not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
    /// The token has no subject.
    #[error("the token names no subject")]
    Subject,
    /// The name of its client is too long.
    #[error("the client that the token names is too long")]
    Client,
    /// The token is bound to a key (RFC 7800) that the caller has not proven to have.
    #[error("the token is bound to a key (`cnf`) by something else than the client certificate of this connection")]
    Bound,
    /// No key of the issuer has its key id.
    #[error("the key of the token is not known")]
    UnknownKey,
    /// The issuer reports the token as not active.
    #[error("the issuer of the token says that it is not active")]
    Inactive,
    /// The signature is not valid.
    #[error("the signature of the token is not valid")]
    Signature,
}

impl TokenError {
    /// Every reason, in the order of the declaration.
    #[cfg(test)]
    pub const ALL: [TokenError; 17] = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Critical,
        TokenError::Type,
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Expired,
        TokenError::NoExpiry,
        TokenError::LivesTooLong,
        TokenError::NotYet,
        TokenError::Subject,
        TokenError::Client,
        TokenError::Bound,
        TokenError::UnknownKey,
        TokenError::Inactive,
        TokenError::Signature,
    ];
}
