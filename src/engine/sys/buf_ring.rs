//! A ring of buffers for received data, shared with the kernel, which picks a buffer for each receive.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The alignment that the kernel requires.
const PAGE: usize = 4096;

/// The memory of the ring. It is freed only after [`BufRing::unregistered`].
pub(in crate::engine) struct BufRing {
    base: NonNull<BufRingEntry>,
    entries: u16,
    tail: u16,
    is_registered: bool,
}

impl BufRing {
    /// Creates a ring of `entries`, which must be a power of two.
    pub(in crate::engine) fn new(entries: u16) -> BufRing {
        assert!(entries.is_power_of_two(), "the kernel wants a power of two");
        let layout = layout(entries);
        // SAFETY: the layout's size is greater than zero, as `entries` is.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base.cast()) else { handle_alloc_error(layout) };
        BufRing { base, entries, tail: 0, is_registered: false }
    }

    /// The address of the memory, to be registered. From now on the kernel may read it.
    pub(in crate::engine) fn registered(&mut self) -> u64 {
        self.is_registered = true;
        self.base.as_ptr() as u64
    }

    /// Notes that the kernel does not use the memory.
    pub(in crate::engine) fn unregistered(&mut self) {
        self.is_registered = false;
    }

    /// Writes a buffer into the next entry. The kernel sees it after [`BufRing::publish`].
    ///
    /// # Safety
    ///
    /// The ring must not hold more buffers than it has entries. `first` must be valid for writes of `len` bytes, and
    /// nobody else may access them, until the kernel reports the buffer `id` used or the ring was unregistered.
    pub(in crate::engine) unsafe fn push(&mut self, first: NonNull<u8>, len: u32, id: u16) {
        let at = self.tail & (self.entries - 1);
        // SAFETY: `at` is less than `entries`, so the entry is inside the allocation.
        let entry = unsafe { self.base.add(usize::from(at)) };
        // SAFETY: the entry is initialised (zeroed at first), and the kernel does not read it before the tail passes it.
        // The tail itself is inside the first entry, in a field that is not touched here.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(first.as_ptr() as u64);
        entry.set_len(len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// The id of the buffer that was pushed so many pushes ago, the last one being 0. The entry must not have been
    /// overwritten since.
    pub(in crate::engine) fn pushed_id(&self, ago: u16) -> u16 {
        let at = self.tail.wrapping_sub(1).wrapping_sub(ago) & (self.entries - 1);
        // SAFETY: `at` is less than `entries`, so the entry is inside the allocation.
        let entry = unsafe { self.base.add(usize::from(at)) };
        // SAFETY: the entry is initialised, and the kernel only reads it.
        unsafe { entry.as_ref() }.bid()
    }

    /// Makes the pushed buffers visible to the kernel.
    pub(in crate::engine) fn publish(&self) {
        // SAFETY: `base` begins the ring's first entry, which is initialised.
        let tail = unsafe { BufRingEntry::tail(self.base.as_ptr()) };
        // SAFETY: the tail is two aligned bytes inside the allocation; this side alone writes it, and only by atomic
        // stores through this pointer; the kernel reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        if self.is_registered {
            return;
        }
        // SAFETY: the memory came from `alloc_zeroed` with this same layout, the kernel does not know it any more, and it
        // is freed once, here.
        unsafe { dealloc(self.base.as_ptr().cast(), layout(self.entries)) };
    }
}

fn layout(entries: u16) -> Layout {
    let size = usize::from(entries) * size_of::<BufRingEntry>();
    Layout::from_size_align(size, PAGE).expect("at most 32,768 entries of 16 bytes")
}
