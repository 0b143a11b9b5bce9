/// A run of owned bytes that can be split without copying.
///
/// The sans-IO codecs take and return payload as chunks: pooled leases on a core, plain vectors in tests.
pub trait Chunk: AsRef<[u8]> + Sized {
    /// The number of bytes.
    fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether the chunk has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the first `at` bytes off and returns them; `self` keeps the rest.
    ///
    /// # Panics
    ///
    /// If `at` is greater than the length.
    fn split_to(&mut self, at: usize) -> Self;

    /// Appends `next` if that is cheap, so that many small chunks do not each keep a buffer. Returns `next` if it was
    /// not appended.
    fn absorb(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }
}

impl Chunk for Vec<u8> {
    fn split_to(&mut self, at: usize) -> Self {
        let rest = self.split_off(at);
        std::mem::replace(self, rest)
    }
}
