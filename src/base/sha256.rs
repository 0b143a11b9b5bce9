use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 hash of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The first bytes of that hash: enough of them for a name that nobody can give to something else.
#[must_use]
pub fn sha256_start<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const { assert!(N <= 32) };
    let mut start = [0; N];
    start.copy_from_slice(&sha256(bytes)[..N]);
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn a_hash_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
