//! A whole call, from an agent over TLS through edge, link and connector to an upstream, allocates nothing on a core's
//! thread, once the connections are warm.
//!
//! Counted on the core's thread by an allocator of this test's own; agent and upstream are on other threads.
#![allow(unsafe_code)]

#[allow(dead_code, reason = "other tests need more of it")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;

thread_local! {
    /// Where this thread's allocations are counted; nowhere, for most threads.
    static COUNTER: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

static ON_CORE: AtomicU64 = AtomicU64::new(0);

fn count() {
    if let Some(counter) = COUNTER.get() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counter is a plain thread-local without a
// destructor, so that touching it neither allocates nor fails.
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

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_call_allocates_nothing_on_a_core() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in Traffic::ALL {
            let (counted, calls) = allocations_of_warm_calls(driver, traffic);
            assert_eq!(counted, 0, "{driver:?}, {traffic}: allocations in {calls} calls");
        }
    }
}

fn allocations_of_warm_calls(driver: DriverChoice, traffic: Traffic) -> (u64, u32) {
    let tunnel = support::Tunnel::start(driver, traffic, 1, 0, || COUNTER.set(Some(&ON_CORE)));
    let mut agent = tunnel.agent();
    // As many as it takes to come to the first credit on a stream that carries them all.
    (0..2_000).for_each(|_| support::call(&mut agent));
    let before = ON_CORE.load(Ordering::Relaxed);
    let calls = 1000;
    (0..calls).for_each(|_| support::call(&mut agent));
    let counted = ON_CORE.load(Ordering::Relaxed) - before;
    drop(agent);
    tunnel.end();
    (counted, calls)
}
