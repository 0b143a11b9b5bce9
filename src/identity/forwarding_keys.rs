//! The keys by which an edge signs the identities that it forwards, as they are kept and rotated.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base::{hex, unhex};
use crate::identity::identity_signer::{IDENTITY_SEED_LEN, IdentitySigner};

/// The longest file of keys, in bytes.
pub const FORWARDING_KEYS_LEN_MAX: usize = 1_024;

type Seed = Zeroizing<[u8; IDENTITY_SEED_LEN]>;

/// The key that signs, the next one, and the one before. The public keys of all are published, so that whoever knows them
/// accepts what is signed before and after a rotation.
pub struct ForwardingKeys {
    current: Key,
    next: Key,
    previous: Option<Key>,
}

struct Key {
    seed: Seed,
    signer: Arc<IdentitySigner>,
}

/// A text that holds no keys. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not have a line `current` and a line `next`, each with a key of 64 hexadecimal digits")]
pub struct ForwardingKeysError;

impl ForwardingKeys {
    /// New keys of these random bytes.
    #[must_use]
    pub fn new(current: [u8; IDENTITY_SEED_LEN], next: [u8; IDENTITY_SEED_LEN]) -> ForwardingKeys {
        ForwardingKeys { current: Key::new(current.into()), next: Key::new(next.into()), previous: None }
    }

    /// Reads the keys from the text of [`ForwardingKeys::text`].
    ///
    /// # Errors
    ///
    /// If the text does not hold them.
    pub fn parse(text: &[u8]) -> Result<ForwardingKeys, ForwardingKeysError> {
        let text = std::str::from_utf8(text).map_err(|_| ForwardingKeysError)?;
        let (mut current, mut next, mut previous) = (None, None, None);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, digits) = line.split_once(' ').ok_or(ForwardingKeysError)?;
            let key = match name {
                "current" => &mut current,
                "next" => &mut next,
                "previous" => &mut previous,
                _ => return Err(ForwardingKeysError),
            };
            if key.replace(Key::parse(digits)?).is_some() {
                return Err(ForwardingKeysError);
            }
        }
        match (current, next) {
            (Some(current), Some(next)) => Ok(ForwardingKeys { current, next, previous }),
            _ => Err(ForwardingKeysError),
        }
    }

    /// The keys as text, which is secret.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(FORWARDING_KEYS_LEN_MAX));
        for (name, key) in self.named() {
            text.push_str(name);
            text.push(' ');
            text.push_str(&Zeroizing::new(hex(&*key.seed)));
            text.push('\n');
        }
        text
    }

    /// The keys after a rotation: the next one signs, and a new one of these random bytes comes after it.
    #[must_use]
    pub fn rotated(self, fresh: [u8; IDENTITY_SEED_LEN]) -> ForwardingKeys {
        ForwardingKeys { current: self.next, next: Key::new(fresh.into()), previous: Some(self.current) }
    }

    /// The signer that is in use.
    #[must_use]
    pub fn signer(&self) -> &Arc<IdentitySigner> {
        &self.current.signer
    }

    /// The public keys, as a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn public_keys(&self) -> Vec<Value> {
        self.named().map(|(_, key)| key.signer.public_key()).collect()
    }

    /// The same as a whole document.
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!({ "keys": self.public_keys() })
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &Key)> {
        let previous = self.previous.iter().map(|key| ("previous", key));
        [("current", &self.current), ("next", &self.next)].into_iter().chain(previous)
    }
}

impl Key {
    fn new(seed: Seed) -> Key {
        Key { signer: Arc::new(IdentitySigner::new(&seed)), seed }
    }

    fn parse(digits: &str) -> Result<Key, ForwardingKeysError> {
        unhex(digits.as_bytes()).map(|seed: [u8; IDENTITY_SEED_LEN]| Key::new(seed.into())).ok_or(ForwardingKeysError)
    }
}

impl PartialEq for ForwardingKeys {
    fn eq(&self, other: &ForwardingKeys) -> bool {
        self.public_keys() == other.public_keys()
    }
}

/// Shows no key.
impl fmt::Debug for ForwardingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardingKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(keys: &ForwardingKeys) -> Vec<String> {
        keys.public_keys().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_rotation_takes_the_key_that_was_published_before_and_publishes_another() {
        let first = ForwardingKeys::new([1; 32], [2; 32]);
        let (old, read) = (ids(&first), ForwardingKeys::parse(first.text().as_bytes()).unwrap());
        assert_eq!((read == first, old.len()), (true, 2));
        let second = read.rotated([3; 32]);
        let new = ids(&second);
        assert_eq!((&new[0], &new[2], new.len()), (&old[1], &old[0], 3));
        assert_eq!(second.signer().public_key()["kid"], json!(old[1]));
        let third = ForwardingKeys::parse(second.text().as_bytes()).unwrap().rotated([4; 32]);
        assert_eq!((&ids(&third)[0], &ids(&third)[2]), (&new[1], &new[0]), "no more than one old key is kept");
        assert!(
            third.text().len() <= FORWARDING_KEYS_LEN_MAX && third.key_set()["keys"].as_array().unwrap().len() == 3
        );
    }

    #[test]
    fn damaged_keys_are_refused_and_no_key_is_shown() {
        let good = ForwardingKeys::new([1; 32], [2; 32]).text();
        for wrong in [
            String::new(),
            good.replace("next", "other"),
            good.replace("next", "current"),
            good.lines().next().unwrap().to_owned(),
            good.replace("01", "0g"),
            good.replacen("01", "", 1),
            good.replacen("01", "0101", 1),
        ] {
            assert!(ForwardingKeys::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(!format!("{:?}", ForwardingKeys::new([1; 32], [2; 32])).contains("01"));
    }
}
