/// Why a token proves nobody. The sentences are told to the caller and name nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// It is longer than 16 KiB.
    #[error("the token is too long")]
    TooLong,
    /// It is no JSON Web Token in its compact form, or readers could read it in different ways.
    #[error("the token is not a well-formed JSON Web Token")]
    Malformed,
    /// It is signed by another algorithm than the issuer uses, or not at all.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// Its header has extensions that must be understood.
    #[error("the token has critical extensions, and none are supported")]
    Critical,
    /// It is a token of another type, such as an identity token.
    #[error("the type of the token is not accepted")]
    Type,
    /// None of the route's issuers has issued it.
    #[error("the issuer of the token is not accepted")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is not for this resource")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It does not say until when it is valid.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It does not say whose it is.
    #[error("the token names no subject")]
    Subject,
    /// The name of its client is too long.
    #[error("the client that the token names is too long")]
    Client,
    /// It is bound to a key of its client (RFC 7800), and its caller has not proven to have it.
    #[error("the token is bound to a key (`cnf`) by something else than the client certificate of this connection")]
    Bound,
    /// None of the issuer's keys has the id that it names.
    #[error("the key of the token is not known")]
    UnknownKey,
    /// Its issuer says that it is not valid, or no longer.
    #[error("the issuer of the token says that it is not active")]
    Inactive,
    /// The signature is not that of its issuer.
    #[error("the signature of the token is not valid")]
    Signature,
}

impl TokenError {
    /// Every reason, in the order of the declaration.
    #[cfg(test)]
    pub const ALL: [TokenError; 16] = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Critical,
        TokenError::Type,
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Expired,
        TokenError::NoExpiry,
        TokenError::NotYet,
        TokenError::Subject,
        TokenError::Client,
        TokenError::Bound,
        TokenError::UnknownKey,
        TokenError::Inactive,
        TokenError::Signature,
    ];
}
