use std::hash::Hasher;

/// The number of bytes in a block.
const BLOCK: usize = size_of::<u128>();
/// An odd number without a pattern: the fraction of the golden ratio.
const MULTIPLE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fast hash of bytes that does not depend on how they are split into pieces. Without its seed nobody can construct
/// collisions. It is not for secrets, nor safe against someone who sees hashes.
#[derive(Clone, Debug)]
pub struct Digest {
    state: u64,
    /// Follows from the seed, and is as secret.
    key: u64,
    /// The bytes after the last complete block, the first in the lowest place.
    block: u128,
    len: u64,
}

impl Digest {
    /// The hash of no bytes.
    #[must_use]
    pub const fn new(seed: u64) -> Digest {
        let state = scrambled(seed);
        Digest { state, key: scrambled(state), block: 0, len: 0 }
    }

    /// One multiplication for each block. The state is added to the product, so that a factor of zero does not lose it.
    const fn mix(state: u64, key: u64, block: u128) -> u64 {
        let (low, high) = (block as u64, (block >> 64) as u64);
        let product = (low ^ state) as u128 * (high ^ key) as u128;
        // The high half alone would lose the low bits of a short text, the low half the high ones.
        (product as u64) ^ (product >> 64) as u64 ^ state.rotate_left(23)
    }

    /// Adds fewer bytes than the current block needs.
    fn add_short(&mut self, bytes: &[u8]) {
        let mut padded = [0; BLOCK];
        padded[..bytes.len()].copy_from_slice(bytes);
        self.block |= u128::from_le_bytes(padded) << (8 * (self.len % BLOCK as u64));
        self.len += bytes.len() as u64;
    }
}

/// A number that depends on each bit of another (SplitMix64): a small seed would make small products.
const fn scrambled(number: u64) -> u64 {
    let number = number.wrapping_add(MULTIPLE);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let missing = BLOCK - (self.len % BLOCK as u64) as usize;
        if bytes.len() < missing {
            return self.add_short(bytes);
        }
        let (first, bytes) = bytes.split_at(missing % BLOCK);
        if !first.is_empty() {
            self.add_short(first);
            self.state = Digest::mix(self.state, self.key, self.block);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.state = Digest::mix(self.state, self.key, u128::from_le_bytes(*block));
        }
        self.len += (blocks.len() * BLOCK) as u64;
        self.block = 0;
        self.add_short(rest);
    }

    fn finish(&self) -> u64 {
        let state = Digest::mix(self.state, self.key, self.block);
        let last = u128::from(self.len) | u128::from(state.rotate_left(32)) << 64;
        Digest::mix(state, self.key, last)
    }
}
#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::base::Rng;

    fn digest(seed: u64, pieces: &[&[u8]]) -> u64 {
        let mut digest = Digest::new(seed);
        pieces.iter().for_each(|piece| digest.write(piece));
        digest.finish()
    }

    #[test]
    fn a_text_has_one_digest_however_it_is_cut() {
        let mut rng = Rng::new(3);
        for len in 0..200 {
            let text: Vec<u8> = (0..len).map(|_| rng.below(256) as u8).collect();
            let whole = digest(1, &[&text]);
            for _ in 0..20 {
                let mut cuts = [0; 3].map(|_| rng.below(len + 1) as usize);
                cuts.sort_unstable();
                let [one, two, three] = cuts;
                assert_eq!(digest(1, &[&text[..one], &text[one..two], &text[two..three], &text[three..]]), whole);
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(digest(1, &bytes), whole);
            assert_ne!(digest(2, &[&text]), whole, "the seed counts");
        }
    }

    #[test]
    fn texts_that_are_alike_have_other_digests() {
        let (mut texts, mut digests) = (0, HashSet::new());
        for len in 0..40 {
            let zeros = vec![0; len];
            let flipped = (0..8 * len).map(|bit| {
                let mut text = zeros.clone();
                text[bit / 8] ^= 1 << (bit % 8);
                text
            });
            for text in flipped.chain([zeros.clone()]) {
                texts += 1;
                digests.insert(digest(5, &[&text]));
            }
        }
        assert_eq!(digests.len(), texts);
    }
}
