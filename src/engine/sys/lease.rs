//! The owned range of a pooled buffer.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::base::Chunk;
use crate::engine::pool::{Class, PoolShared, Slot};

/// Pieces of up to this length, in bytes, are copied behind others, which is cheaper than a buffer for each.
pub(in crate::engine) const COPY_LEN_MAX: usize = 2048;

/// An owned range of a pooled buffer: content, with room before and after it that nobody else may touch.
///
/// ```text
///   lo        start            end          hi
///   | headroom | content ...... | tailroom   |
/// ```
///
/// Splitting a lease gives two leases of one buffer whose ranges do not overlap; the buffer goes back to its pool when
/// the last of them is dropped. A lease stays on its core.
pub struct Lease {
    pool: Rc<PoolShared>,
    slot: Slot,
    base: NonNull<u8>,
    lo: u32,
    start: u32,
    end: u32,
    hi: u32,
}

impl Lease {
    /// The whole of `slot`, empty and with no headroom. The caller holds the one reference to the slot, which passes to
    /// the lease; `base` is what the pool's arena gave for it, and `len` the arena's slot length.
    pub(in crate::engine) fn of_slot(pool: Rc<PoolShared>, slot: Slot, base: NonNull<u8>, len: usize) -> Lease {
        Lease { pool, slot, base, lo: 0, start: 0, end: 0, hi: to_u32(len) }
    }

    /// The number of bytes that can be added before the content.
    #[must_use]
    pub fn headroom(&self) -> usize {
        (self.start - self.lo) as usize
    }

    /// The number of bytes that can be added after the content.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        (self.hi - self.end) as usize
    }

    /// The length of the owned range: headroom, content and tailroom, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        (self.hi - self.lo) as usize
    }

    /// Sets the headroom of an empty lease to `n` bytes.
    ///
    /// # Panics
    ///
    /// If the lease has content, or owns fewer than `n` bytes.
    pub fn reserve_headroom(&mut self, n: usize) {
        assert!(self.start == self.end, "only an empty lease can be moved");
        assert!(n <= self.capacity(), "headroom within the owned range");
        self.start = self.lo + to_u32(n);
        self.end = self.start;
    }

    /// Removes `n` bytes from the front of the content; they become headroom.
    ///
    /// # Panics
    ///
    /// If there are fewer than `n` bytes.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance within the content");
        self.start += to_u32(n);
    }

    /// Keeps the first `n` bytes of the content; the rest becomes tailroom.
    ///
    /// # Panics
    ///
    /// If there are fewer than `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        assert!(n <= self.len(), "truncate within the content");
        self.end = self.start + to_u32(n);
    }

    /// Adds `bytes` before the content.
    ///
    /// # Panics
    ///
    /// If the headroom is too small.
    pub fn prepend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.headroom(), "prepend within the headroom");
        self.start -= to_u32(bytes.len());
        self[..bytes.len()].copy_from_slice(bytes);
    }

    /// Adds `bytes` after the content.
    ///
    /// # Panics
    ///
    /// If the tailroom is too small.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.tailroom(), "append within the tailroom");
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.end += to_u32(bytes.len());
    }

    /// Adds as much of `bytes` after the content as fits into the tailroom; returns how much that was.
    pub fn append_some(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.tailroom());
        self.append(&bytes[..n]);
        n
    }

    /// The tailroom, to be written to; [`Lease::filled`] then makes it content. Its initial content is arbitrary.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: `end..hi` is inside the buffer and owned by this lease alone (splits never overlap); the memory was
        // initialised when the slab was made; `&mut self` keeps any other access away for the life of the slice.
        unsafe { std::slice::from_raw_parts_mut(self.at(self.end), self.tailroom()) }
    }

    /// Makes the first `n` bytes of the tailroom content.
    ///
    /// # Panics
    ///
    /// If the tailroom is smaller.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.tailroom(), "filled within the tailroom");
        self.end += to_u32(n);
    }

    /// Makes the last `n` bytes of the headroom content again.
    ///
    /// # Panics
    ///
    /// If the headroom is smaller.
    pub fn retreat(&mut self, n: usize) {
        assert!(n <= self.headroom(), "retreat within the headroom");
        self.start -= to_u32(n);
    }

    /// Whether `self` ends, content and owned range, exactly where `next` begins, in the same buffer.
    fn touches(&self, next: &Lease) -> bool {
        self.slot == next.slot && Rc::ptr_eq(&self.pool, &next.pool) && self.end == next.start && self.hi == next.lo
    }

    /// Appends `next` if it follows directly in the same buffer.
    ///
    /// # Errors
    ///
    /// `next`, unchanged, if it does not.
    pub fn join(&mut self, next: Lease) -> Result<(), Lease> {
        if !self.touches(&next) {
            return Err(next);
        }
        self.end = next.end;
        self.hi = next.hi;
        Ok(())
    }

    /// The current limit of one queue in bytes; see [`Pool::allowance`](crate::engine::Pool::allowance).
    pub(in crate::engine) fn allowance(&self) -> usize {
        self.pool.allowance()
    }

    /// Whether little of the pool is left.
    pub(in crate::engine) fn pool_is_pressed(&self) -> bool {
        self.pool.is_pressed()
    }

    /// Whether its buffer is a large one.
    pub(in crate::engine) fn is_of_large(&self) -> bool {
        self.slot.is_large()
    }

    /// An empty small buffer of the same pool to copy into; `None` if none is left.
    pub(in crate::engine) fn small_of_same_pool(&self) -> Option<Lease> {
        self.pool.take_in_place_of(self.slot, Class::Small)
    }

    /// Cuts off the first `at` bytes of the content and returns them, with the headroom; `self` keeps the rest and the
    /// tailroom.
    ///
    /// # Panics
    ///
    /// If `at` is greater than the length.
    pub fn split_to(&mut self, at: usize) -> Lease {
        assert!(at <= self.len(), "split within the content");
        let cut = self.start + to_u32(at);
        self.pool.retain(self.slot);
        let front = Lease {
            pool: Rc::clone(&self.pool),
            slot: self.slot,
            base: self.base,
            lo: self.lo,
            start: self.start,
            end: cut,
            hi: cut,
        };
        self.lo = cut;
        self.start = cut;
        front
    }

    /// The start and the length of the owned range, for the kernel to write to while the lease is kept.
    pub(in crate::engine) fn raw_range(&mut self) -> (NonNull<u8>, u32) {
        // SAFETY: `lo` is within the buffer that `base` begins.
        let first = unsafe { self.base.add(self.lo as usize) };
        (first, self.hi - self.lo)
    }

    /// The address of the byte at `offset` of the buffer; `offset` is at most `hi`.
    fn at(&self, offset: u32) -> *mut u8 {
        // SAFETY: `hi` is at most the slot's length, so that the result is inside the buffer or one past its end.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// Sets the content to the first `n` bytes of the owned range, which the kernel has just written.
    ///
    /// # Panics
    ///
    /// If the owned range is smaller.
    pub(in crate::engine) fn written(&mut self, n: usize) {
        assert!(n <= self.capacity(), "written within the owned range");
        self.start = self.lo;
        self.end = self.lo + to_u32(n);
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start..end` is inside the buffer, initialised, and owned by this lease alone; `&self` keeps writers
        // away for the life of the slice.
        unsafe { std::slice::from_raw_parts(self.at(self.start), (self.end - self.start) as usize) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = (self.end - self.start) as usize;
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at(self.start), len) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Chunk for Lease {
    fn split_to(&mut self, at: usize) -> Lease {
        Lease::split_to(self, at)
    }

    fn absorb(&mut self, next: Lease) -> Option<Lease> {
        match self.join(next) {
            Err(next) if next.len() <= COPY_LEN_MAX && self.tailroom() >= next.len() => self.append(&next),
            Err(next) => return Some(next),
            Ok(()) => {}
        }
        None
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may be private payload, so only its length is printed.
        write!(f, "Lease({} bytes of {:?})", self.len(), self.slot)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release(self.slot);
    }
}

/// Counts the references to one slot.
#[derive(Default)]
pub(in crate::engine) struct References(Cell<u32>);

impl References {
    pub(in crate::engine) fn add(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Removes a reference; returns true if it was the last one.
    pub(in crate::engine) fn remove(&self) -> bool {
        let left = self.0.get() - 1;
        self.0.set(left);
        left == 0
    }
}

/// Offsets within a slot fit, because a slot has at most 64 KiB.
fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("an offset within a slot")
}
