use aws_lc_rs::constant_time;

use super::{Secret, sha256};

/// The length of a [`SecretHash`], in bytes.
pub const SECRET_HASH_LEN: usize = 32;

/// The SHA-256 hash of a secret, kept where the secret itself is not needed.
///
/// Hashes are compared in constant time. There is no `Debug`, because the hash of a secret that a person chose reveals
/// much about it.
#[derive(Clone)]
pub struct SecretHash([u8; SECRET_HASH_LEN]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &Secret) -> SecretHash {
        SecretHash::of_bytes(secret.expose())
    }

    /// The hash of a secret that a peer presents.
    #[must_use]
    pub fn of_bytes(secret: &[u8]) -> SecretHash {
        SecretHash(sha256(secret))
    }

    /// A hash from stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SECRET_HASH_LEN]) -> SecretHash {
        SecretHash(bytes)
    }

    /// The bytes of the hash, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SECRET_HASH_LEN] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &SecretHash) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256() {
        let hash = SecretHash::of(&Secret::from("abc"));
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash.as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(hash == SecretHash::from_bytes(*hash.as_bytes()));
        assert!(hash != SecretHash::of(&Secret::from("abd")));
    }
}
