//! Checks that bytes that pass in pieces are UTF-8.

/// Follows a text that passes in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Check {
    /// The start of an incomplete character.
    start: [u8; 4],
    len: usize,
}

impl Utf8Check {
    /// Processes the next bytes. False if they do not continue valid UTF-8.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((first, rest)) = bytes.split_first() else { return true };
            self.start[self.len] = *first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.start[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else { return true };
        if error.error_len().is_some() {
            return false;
        }
        let tail = &bytes[error.valid_up_to()..];
        self.start[..tail.len()].copy_from_slice(tail);
        self.len = tail.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn it_agrees_with_the_standard_library_however_the_bytes_are_cut() {
        let mut rng = Rng::new(9);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> =
                (0..rng.below(6)).flat_map(|_| ["a", "é", "語", "😀"][rng.below(4) as usize].bytes()).collect();
            if rng.chance(0.5) && !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.below(256) as u8;
            }
            bytes.push(b'}');
            let (mut check, mut rest, mut is_good) = (Utf8Check::default(), &bytes[..], true);
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(1 + rng.below(rest.len().min(3) as u64) as usize);
                is_good = is_good && check.feed(piece);
                rest = left;
            }
            let want = std::str::from_utf8(&bytes).is_ok();
            assert_eq!(is_good, want, "{bytes:?}");
            *(if want { &mut good } else { &mut bad }) += 1;
        }
        assert!(good > 5_000 && bad > 1_000, "{good} {bad}");
    }
}
