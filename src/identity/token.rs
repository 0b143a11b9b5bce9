//! Tokens of callers in the compact serialization (RFC 7515, section 3.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::identity::algorithm::TokenAlgorithm;
use crate::identity::strict_object::strict_object;
use crate::identity::token_error::TokenError;

/// The longest accepted token, in bytes.
pub(super) const TOKEN_LEN_MAX: usize = 16 * 1024;
/// The longest encoded header of a token, in bytes.
const HEADER_LEN_MAX: usize = 4 * 1024;
/// The longest key id, in bytes.
pub(super) const KEY_ID_LEN_MAX: usize = 256;

/// A parsed token that is not verified.
pub(super) struct ReadToken<'a> {
    pub(super) algorithm: TokenAlgorithm,
    /// Its type in lower case, without `application/`.
    pub(super) kind: Option<String>,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The bytes that the signature covers.
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a str,
}

impl<'a> ReadToken<'a> {
    /// Parses a token. Keys in the token itself (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
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

/// An optional text of an object. A value of another type is an error.
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
