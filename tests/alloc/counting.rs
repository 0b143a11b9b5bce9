//! An allocator that counts: for each thread what it asked for, and for a thread that wants it so for others to see.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Where else this thread's allocations are counted; nowhere, for most threads.
    static SHARED: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread has asked for memory, growing included.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// From now on, counts this thread's allocations in `counter` too.
pub(crate) fn count_in(counter: &'static AtomicU64) {
    SHARED.set(Some(counter));
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    if let Some(counter) = SHARED.get() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counters are plain thread-locals without a
// destructor, so that touching them neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.realloc(place, layout, size) }
    }
}
