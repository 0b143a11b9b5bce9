use aws_lc_rs::{constant_time, digest};

use super::Secret;

/// The length of a [`SecretHash`], in bytes.
pub const SECRET_HASH_LEN: usize = 32;

/// SHA-256 of a secret: what is kept where the secret itself need not be known.
///
/// Two are compared in constant time. It has no `Debug`: the hash of a secret that a person made up tells much of it.
#[derive(Clone)]
pub struct SecretHash([u8; SECRET_HASH_LEN]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &Secret) -> SecretHash {
        let digest = digest::digest(&digest::SHA256, secret.expose());
        let mut bytes = [0; SECRET_HASH_LEN];
        bytes.copy_from_slice(digest.as_ref());
        SecretHash(bytes)
    }

    /// A hash that was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SECRET_HASH_LEN]) -> SecretHash {
        SecretHash(bytes)
    }

    /// The hash, to be kept.
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
