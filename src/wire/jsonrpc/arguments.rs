//! The hash of a call's arguments.

use std::fmt;

use aws_lc_rs::digest;

use crate::base::sha256;

/// The arguments that are collected and hashed at once, in bytes. The state that longer ones need is allocated for each call.
const COLLECTED_MAX: usize = 4 * 1024;

/// The length and SHA-256 of the arguments so far.
#[derive(Default)]
pub(super) struct ArgumentsHash {
    len: u64,
    /// The bytes, while there are few.
    collected: Vec<u8>,
    /// The state, once there are more.
    state: Option<digest::Context>,
    /// The bytes themselves, while they fit.
    kept: Vec<u8>,
    keep_max: usize,
}

impl ArgumentsHash {
    /// Begins again, with the memory for short arguments.
    pub(super) fn clear(&mut self) {
        let mut collected = std::mem::take(&mut self.collected);
        collected.clear();
        *self = ArgumentsHash { collected, ..ArgumentsHash::default() };
    }

    /// Adds the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        match &mut self.state {
            Some(state) => state.update(bytes),
            None if bytes.len() <= COLLECTED_MAX - self.collected.len() => self.collected.extend_from_slice(bytes),
            None => {
                let mut state = digest::Context::new(&digest::SHA256);
                state.update(&self.collected);
                state.update(bytes);
                self.state = Some(state);
            }
        }
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
        let Some(state) = &self.state else { return (self.len, sha256(&self.collected)) };
        let mut hash = [0; 32];
        hash.copy_from_slice(state.clone().finish().as_ref());
        (self.len, hash)
    }
}

impl fmt::Debug for ArgumentsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArgumentsHash").field("len", &self.len).finish_non_exhaustive()
    }
}
