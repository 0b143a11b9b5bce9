use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::{Map, Value};

use crate::base::{Secret, SecretHash};
use crate::identity::algorithm::TokenAlgorithm;
use crate::identity::strict_object::strict_object;
use crate::identity::token::{KEY_ID_LEN_MAX, ReadToken};
use crate::identity::token_error::TokenError;

/// The longest accepted set of keys, in bytes.
pub const KEY_SET_LEN_MAX: usize = 256 * 1024;
/// The most keys of a set that are kept.
const KEYS_MAX: usize = 64;
/// The most keys that are tried for a token without a key id.
const TRIES_MAX: usize = 8;

/// The keys that verify the tokens of an issuer (RFC 7517).
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    /// The hash of the source, to detect an unchanged set.
    hash: SecretHash,
}

#[derive(Clone)]
struct VerifyingKey {
    id: Option<String>,
    /// The algorithms that it may be used with.
    algorithms: Vec<TokenAlgorithm>,
    key: DecodingKey,
}

/// Why a set of keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The set is too long.
    #[error("the set of keys is longer than {KEY_SET_LEN_MAX} bytes")]
    TooLong,
    /// The content is not a set of keys.
    #[error("this is no JSON Web Key Set: an object with a list `keys` is expected")]
    Malformed,
    /// No key of the set can verify a token.
    #[error(
        "the set has no key that can verify tokens: expected RSA with at least 2048 bits, EC P-256 or P-384, or Ed25519"
    )]
    NoKeys,
    /// A shared key is too short.
    #[error("a shared key of {0} bytes is too short: it needs 32, 48 or 64 bytes for HS256, HS384 or HS512")]
    ShortKey(usize),
}

impl KeySet {
    /// Parses a JSON Web Key Set. Unknown kinds of keys and encryption keys are ignored (RFC 7517 section 5), and so
    /// are shared keys, which do not belong in a public set.
    ///
    /// # Errors
    ///
    /// If it is not a set of keys, or no key is usable.
    pub fn parse(content: &[u8]) -> Result<KeySet, KeySetError> {
        if content.len() > KEY_SET_LEN_MAX {
            return Err(KeySetError::TooLong);
        }
        let set = strict_object(content).ok_or(KeySetError::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        let keys: Vec<VerifyingKey> =
            keys.iter().filter_map(Value::as_object).filter_map(VerifyingKey::of).take(KEYS_MAX).collect();
        if keys.is_empty() {
            Err(KeySetError::NoKeys)
        } else {
            Ok(KeySet { keys, hash: SecretHash::of_bytes(content) })
        }
    }

    /// A key that the issuer shares with the verifiers of its tokens.
    ///
    /// # Errors
    ///
    /// If it is shorter than the hash of every algorithm (RFC 7518 section 3.2).
    pub fn shared(secret: &Secret) -> Result<KeySet, KeySetError> {
        let len = secret.expose().len();
        let all = [(32, TokenAlgorithm::Hs256), (48, TokenAlgorithm::Hs384), (64, TokenAlgorithm::Hs512)];
        let fit = all.into_iter().filter(|(needs, _)| len >= *needs).map(|(_, algorithm)| algorithm);
        let algorithms: Vec<TokenAlgorithm> = fit.collect();
        let key = DecodingKey::from_secret(secret.expose()).ok().filter(|_| !algorithms.is_empty());
        let key = key.ok_or(KeySetError::ShortKey(len))?;
        let hash = SecretHash::of_bytes(secret.expose());
        Ok(KeySet { keys: vec![VerifyingKey { id: None, algorithms, key }], hash })
    }

    /// The number of its keys.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Verifies the signature of a token.
    ///
    /// # Errors
    ///
    /// [`TokenError::UnknownKey`] if the token may be signed by a key that is not fetched yet, else
    /// [`TokenError::Signature`].
    pub(super) fn verify(&self, token: &ReadToken<'_>) -> Result<(), TokenError> {
        let may_be = |key: &&VerifyingKey| match (&key.id, &token.key_id) {
            (Some(id), Some(named)) => id == named,
            // The token or the key has no key id.
            _ => true,
        };
        let fitting = self.keys.iter().filter(may_be).filter(|key| key.algorithms.contains(&token.algorithm));
        for key in fitting.take(TRIES_MAX) {
            if crypto::verify(token.signature, token.signed, &key.key, token.algorithm.library()).unwrap_or(false) {
                return Ok(());
            }
        }
        // Anybody can make a token that matches no key. Only a token with an unknown key id may be signed by a new key.
        let is_named = |id: &String| self.keys.iter().any(|key| key.id.as_ref() == Some(id));
        let may_be_new = token.key_id.as_ref().is_some_and(|id| !is_named(id));
        Err(if may_be_new { TokenError::UnknownKey } else { TokenError::Signature })
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &KeySet) -> bool {
        self.hash == other.hash
    }
}

impl Eq for KeySet {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_deref().unwrap_or("-")).collect();
        f.debug_tuple("KeySet").field(&ids).finish()
    }
}

impl VerifyingKey {
    /// Parses a key of a set; `None` if it cannot verify tokens.
    fn of(key: &Map<String, Value>) -> Option<VerifyingKey> {
        use TokenAlgorithm as A;
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let may_verify = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
        if key.get("key_ops").and_then(Value::as_array).is_some_and(|operations| !may_verify(operations)) {
            return None;
        }
        let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (decoding, mut algorithms) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                // The signature library accepts no other lengths.
                let is_long = (256..=1_024).contains(&modulus.len());
                let key = is_long.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))?;
                (key, vec![A::Rs256, A::Rs384, A::Rs512, A::Ps256, A::Ps384, A::Ps512])
            }
            ("EC", Some("P-256")) => (point(&bytes("x")?, &bytes("y")?, 32)?, vec![A::Es256]),
            ("EC", Some("P-384")) => (point(&bytes("x")?, &bytes("y")?, 48)?, vec![A::Es384]),
            ("OKP", Some("Ed25519")) => {
                let key = bytes("x").filter(|key| key.len() == 32)?;
                (DecodingKey::from_ed_der(&key), vec![A::EdDsa])
            }
            _ => return None,
        };
        if let Some(named) = key.get("alg") {
            // A key for one algorithm is never used with another.
            let named = named.as_str().and_then(TokenAlgorithm::of)?;
            algorithms.retain(|algorithm| *algorithm == named);
        }
        let id = text("kid").map(str::to_owned);
        let is_short = id.as_ref().is_none_or(|id| id.len() <= KEY_ID_LEN_MAX);
        (is_short && !algorithms.is_empty()).then_some(VerifyingKey { id, algorithms, key: decoding })
    }
}

/// The uncompressed form of a curve point (SEC 1, section 2.3.3) with coordinates of `len` bytes.
fn point(x: &[u8], y: &[u8], len: usize) -> Option<DecodingKey> {
    let is_whole = x.len() == len && y.len() == len;
    is_whole.then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}
