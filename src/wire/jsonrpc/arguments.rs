//! The hash of a call's arguments.

use std::fmt;

use aws_lc_rs::digest;

/// The length and SHA-256 of the arguments so far.
pub(super) struct ArgumentsHash {
    len: u64,
    state: digest::Context,
    /// The bytes themselves, while they fit.
    kept: Vec<u8>,
    keep_max: usize,
}

impl ArgumentsHash {
    /// Adds the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.state.update(bytes);
        if self.keep_max > 0 && bytes.len() <= self.keep_max - self.kept.len() {
            self.kept.extend_from_slice(bytes);
        } else {
            (self.kept, self.keep_max) = (Vec::new(), 0);
        }
    }

    /// Keeps the bytes themselves, if there are no more than this.
    pub(super) fn keep(&mut self, len_max: usize) {
        self.keep_max = len_max;
    }

    /// The bytes so far, if they were kept.
    pub(super) fn text(&self) -> Option<&[u8]> {
        (self.keep_max > 0).then_some(&self.kept)
    }

    /// The length and hash of all bytes so far.
    pub(super) fn finish(&self) -> (u64, [u8; 32]) {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.state.clone().finish().as_ref());
        (self.len, hash)
    }
}

impl Default for ArgumentsHash {
    fn default() -> ArgumentsHash {
        ArgumentsHash { len: 0, state: digest::Context::new(&digest::SHA256), kept: Vec::new(), keep_max: 0 }
    }
}

impl fmt::Debug for ArgumentsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArgumentsHash").field("len", &self.len).finish_non_exhaustive()
    }
}
