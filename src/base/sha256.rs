use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 hash of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Parses a hash of 64 hexadecimal digits; `None` for any other text.
#[must_use]
pub fn hex32(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_from_its_digits() {
        let text: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        // FIPS 180-2, appendix B.1.
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hex32(text.as_bytes()), Some(sha256(b"abc")));
        assert_eq!(hex32(text.to_uppercase().as_bytes()), Some(sha256(b"abc")));
        for wrong in [&text[1..], &format!("{text}0"), &text.replace('b', "g"), ""] {
            assert_eq!(hex32(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
