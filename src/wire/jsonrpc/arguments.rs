//! The hash of a call's arguments.

use std::fmt;

use aws_lc_rs::digest;

/// The length and SHA-256 of the arguments so far.
pub(super) struct ArgumentsHash {
    len: u64,
    state: digest::Context,
}

impl ArgumentsHash {
    /// Adds the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.state.update(bytes);
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
        ArgumentsHash { len: 0, state: digest::Context::new(&digest::SHA256) }
    }
}

impl fmt::Debug for ArgumentsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArgumentsHash").field("len", &self.len).finish_non_exhaustive()
    }
}
