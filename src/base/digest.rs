use std::hash::Hasher;

/// The number of bytes in a word.
const WORD: usize = size_of::<u64>();
/// An odd number without a pattern: the fraction of the golden ratio.
const MULTIPLE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fast hash of bytes that does not depend on how they are split into pieces. Without its seed nobody can construct
/// collisions. It is not for secrets, nor safe against someone who sees hashes.
#[derive(Clone, Debug)]
pub struct Digest {
    state: u64,
    /// The bytes after the last complete word, the first in the lowest place.
    word: u64,
    len: u64,
}

impl Digest {
    /// The hash of no bytes.
    #[must_use]
    pub const fn new(seed: u64) -> Digest {
        Digest { state: seed, word: 0, len: 0 }
    }

    const fn mix(state: u64, word: u64) -> u64 {
        let product = (state ^ word) as u128 * MULTIPLE as u128;
        // The high half alone would lose the low bits of a short text, the low half the high ones.
        (product as u64) ^ (product >> 64) as u64 ^ state.rotate_left(23)
    }

    /// Adds fewer bytes than the current word needs.
    fn add_short(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.word |= u64::from(byte) << (8 * (self.len % WORD as u64));
            self.len += 1;
        }
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let missing = WORD - (self.len % WORD as u64) as usize;
        if bytes.len() < missing {
            return self.add_short(bytes);
        }
        let (first, bytes) = bytes.split_at(missing % WORD);
        if !first.is_empty() {
            self.add_short(first);
            self.state = Digest::mix(self.state, self.word);
        }
        let (words, rest) = bytes.as_chunks::<WORD>();
        for word in words {
            self.state = Digest::mix(self.state, u64::from_le_bytes(*word));
        }
        self.len += (words.len() * WORD) as u64;
        self.word = 0;
        self.add_short(rest);
    }

    fn finish(&self) -> u64 {
        let state = Digest::mix(self.state, self.word);
        Digest::mix(Digest::mix(state, self.len), state)
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
