//! A body whose bytes depend on their position, so that missing, repeated or reordered bytes are detected.

use std::sync::LazyLock;

use adit::base::Rng;

/// The pattern repeats after this many bytes. It is a prime, so that no buffer length divides it.
const PERIOD: usize = 65_521;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::new(1);
    (0..PERIOD).map(|_| rng.next_u64() as u8).collect()
});

/// Some bytes of the pattern from this position on, at least one.
pub(crate) fn bytes_from(at: u64) -> &'static [u8] {
    &BYTES[(at % PERIOD as u64) as usize..]
}

/// Whether these bytes are those of the pattern at this position.
pub(crate) fn is_at(mut at: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let known = bytes_from(at);
        let n = known.len().min(bytes.len());
        if bytes[..n] != known[..n] {
            return false;
        }
        (at, bytes) = (at + n as u64, &bytes[n..]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_determined_by_their_position() {
        let mut body: Vec<u8> = Vec::new();
        while body.len() < 200_000 {
            body.extend_from_slice(bytes_from(body.len() as u64));
        }
        assert!(is_at(0, &body) && is_at(70_000, &body[70_000..]) && is_at(3, &[]));
        assert!(!is_at(4096, &body), "a buffer was lost");
        let (first, second) = body[..8192].split_at(4096);
        assert!(!is_at(0, &[second, first].concat()), "two buffers were exchanged");
    }
}
