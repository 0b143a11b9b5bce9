//! Tokens in the compact form of RFC 7515, section 3.1, as they come from callers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::identity::algorithm::TokenAlgorithm;
use crate::identity::strict_object::strict_object;
use crate::identity::token_error::TokenError;

/// The longest token that is looked at, in bytes.
pub(super) const TOKEN_LEN_MAX: usize = 16 * 1024;
/// The longest header of a token, in bytes before it is decoded.
const HEADER_LEN_MAX: usize = 4 * 1024;
/// The longest id of a key, in bytes.
pub(super) const KEY_ID_LEN_MAX: usize = 256;

/// A token that was read, of which nothing is proven.
pub(super) struct ReadToken<'a> {
    pub(super) algorithm: TokenAlgorithm,
    /// Its type, without `application/`, in lower case.
    pub(super) kind: Option<String>,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// What the signature is about.
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a str,
}

impl<'a> ReadToken<'a> {
    /// Reads a token. Keys that it brings itself (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
    pub(super) fn parse(token: &'a [u8]) -> Result<ReadToken<'a>, TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::TooLong);
        }
        let text = std::str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        if header.len() > HEADER_LEN_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decoded(header)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let algorithm = text_of(&header, "alg")?.and_then(|name| TokenAlgorithm::of(&name));
        let algorithm = algorithm.ok_or(TokenError::Algorithm)?;
        let kind = text_of(&header, "typ")?.map(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind)
        });
        let key_id = text_of(&header, "kid")?;
        if key_id.as_ref().is_some_and(|id| id.len() > KEY_ID_LEN_MAX) {
            return Err(TokenError::Malformed);
        }
        let claims = decoded(payload)?;
        let signed = &token[..text.len() - signature.len() - 1];
        Ok(ReadToken { algorithm, kind, key_id, claims, signed, signature })
    }
}

/// A text that an object may have. Another value in its place is refused.
fn text_of(object: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Malformed),
    }
}

fn decoded(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    strict_object(&bytes).ok_or(TokenError::Malformed)
}
