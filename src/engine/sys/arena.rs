//! Memory for pooled buffers: slots of one size in zeroed slabs that live as long as the arena.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Slabs are aligned to pages, so that a new slab takes no resident memory until a slot is written.
const SLAB_ALIGN: usize = 4096;

/// Zeroed slabs of memory, handed out as slots.
pub(in crate::engine) struct Arena {
    slot_len: usize,
    slots_per_slab: usize,
    slabs: Vec<NonNull<u8>>,
}

impl Arena {
    /// Creates an empty arena. `slot_len` and `slots_per_slab` must be greater than zero.
    pub(in crate::engine) fn new(slot_len: usize, slots_per_slab: usize) -> Arena {
        assert!(slot_len > 0 && slots_per_slab > 0, "an arena has slots");
        Arena { slot_len, slots_per_slab, slabs: Vec::new() }
    }

    /// The number of slots.
    pub(in crate::engine) fn slots(&self) -> usize {
        self.slabs.len() * self.slots_per_slab
    }

    /// The length of a slab in bytes.
    pub(in crate::engine) fn slab_len(&self) -> usize {
        self.slot_len * self.slots_per_slab
    }

    /// Adds one slab of zeroed memory.
    pub(in crate::engine) fn grow(&mut self) {
        let layout = self.slab_layout();
        // SAFETY: the layout's size is greater than zero, as `new` asserts.
        let slab = unsafe { alloc_zeroed(layout) };
        let Some(slab) = NonNull::new(slab) else { handle_alloc_error(layout) };
        self.slabs.push(slab);
    }

    /// The start of slot `index`. The pointer is valid for reads and writes of `slot_len` initialised bytes until the
    /// arena is dropped.
    pub(in crate::engine) fn slot(&self, index: usize) -> NonNull<u8> {
        let slab = self.slabs[index / self.slots_per_slab];
        let offset = (index % self.slots_per_slab) * self.slot_len;
        // SAFETY: `offset` is less than the slab's length, so the result is inside the one allocation `slab`.
        unsafe { slab.add(offset) }
    }

    /// Returns the memory of slot `index` to the system. When it is next used, its bytes are zero or unchanged. The
    /// caller ensures that nobody uses the slot now.
    pub(in crate::engine) fn release_memory(&mut self, index: usize) {
        let slot = self.slot(index);
        // SAFETY: the range is one slot of a slab that this arena owns, private anonymous memory of the allocator, and no
        // lease of it exists, so that nobody relies on its content.
        unsafe { release_memory(slot, self.slot_len) };
    }

    fn slab_layout(&self) -> Layout {
        Layout::from_size_align(self.slab_len(), SLAB_ALIGN).expect("slab sizes are small constants")
    }
}

/// Returns the memory of a range to the system. When it is next used, its bytes are zero or unchanged.
///
/// # Safety
///
/// The range must be inside a slab of an [`Arena`], and nobody may rely on its content or write to it meanwhile.
pub(in crate::engine) unsafe fn release_memory(first: NonNull<u8>, len: usize) {
    // SAFETY: the range is private anonymous memory, as the caller promises. The system replaces its pages by zeroed ones, or,
    // where the range does not consist of whole pages, refuses and changes nothing; either way the bytes stay initialised.
    let _ = unsafe { libc::madvise(first.as_ptr().cast(), len, libc::MADV_DONTNEED) };
}

impl Drop for Arena {
    fn drop(&mut self) {
        let layout = self.slab_layout();
        for slab in &self.slabs {
            // SAFETY: each slab came from `alloc_zeroed` with this same layout, and is freed once, here.
            unsafe { dealloc(slab.as_ptr(), layout) };
        }
    }
}
