//! In steady state a record is sealed and opened without one allocation: counted, not believed.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "a test may")]

mod tls_pair;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use adit::engine::{Class, Lease, Pool};
use adit::tls::{Sealed, Session, Versions};
use tls_pair::pair;

struct Counting;

thread_local! {
    // Per thread, as the test harness allocates on its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nothing that is measured.
    let _ = ALLOCATIONS.try_with(|counter| counter.set(counter.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of the heap.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the contract is the trait's own, and is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the contract is the trait's own, and is passed on.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    // SAFETY: the contract is the trait's own, and is passed on.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Seals `len` bytes at `from` and opens them at `to`, whole or in two leases of which the second begins at `cut`.
fn send(from: &mut Session, to: &mut Session, pool: &Pool, len: usize, in_place: bool, cut: Option<usize>) {
    let mut plain = pool.take(Class::Large).unwrap();
    if in_place {
        plain.reserve_headroom(from.headroom());
    }
    plain.spare_mut()[..len].fill(7);
    plain.filled(len);
    let mut received = 0;
    let mut left = Some(plain);
    while let Some(plain) = left.take() {
        let sealed = match from.seal(plain, pool).map_err(|unsealed| unsealed.error).unwrap() {
            Sealed::All(sealed) => sealed,
            Sealed::Part { sealed, rest } => {
                left = Some(rest);
                sealed
            }
        };
        for part in parts(sealed, pool, cut) {
            to.read(part);
        }
        while let Some(plain) = to.take_plaintext(pool).unwrap() {
            received += plain.len();
        }
    }
    assert_eq!(received, len);
}

fn parts(sealed: Lease, pool: &Pool, cut: Option<usize>) -> impl Iterator<Item = Lease> + use<> {
    let Some(cut) = cut else { return [Some(sealed), None].into_iter().flatten() };
    // Copied, as two receives would have it: leases that touch would be joined without a copy.
    let copy = |bytes: &[u8]| {
        let mut lease = pool.take(Class::Large).unwrap();
        lease.append(bytes);
        lease
    };
    let (front, back) = sealed.split_at(cut);
    [Some(copy(front)), Some(copy(back))].into_iter().flatten()
}

#[test]
fn records_are_sealed_and_opened_without_allocation() {
    for versions in [Versions::Tls13, Versions::Tls12And13] {
        let pool = Pool::new(0);
        let (mut client, mut server) = pair(versions, &pool);
        let round = |from: &mut Session, to: &mut Session| {
            for len in [1, 1_000, 16_384] {
                send(from, to, &pool, len, true, None);
                send(from, to, &pool, len, false, None);
                send(from, to, &pool, len, true, Some(3));
                send(from, to, &pool, len, true, Some(12));
            }
            send(from, to, &pool, 64 * 1024, false, None);
        };
        // The pool and the queues grow to their size once.
        round(&mut client, &mut server);
        round(&mut server, &mut client);
        let before = ALLOCATIONS.get();
        for _ in 0..50 {
            round(&mut client, &mut server);
            round(&mut server, &mut client);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{versions:?}");
    }
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
