//! The buffers of one core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::engine::sys::arena::Arena;
use crate::engine::sys::lease::{Lease, References};

/// Bytes of a small buffer.
pub const SMALL_LEN: usize = 4 * 1024;
/// Bytes of a large buffer.
pub const LARGE_LEN: usize = 64 * 1024;

/// The default bound of a core's buffers, in bytes.
pub const BUFFER_MEMORY_DEFAULT: usize = 64 * 1024 * 1024;
/// The least that a pool can work with, in bytes.
pub const BUFFER_MEMORY_MIN: usize = 2 * 1024 * 1024;
/// How much one growth step takes, in bytes.
const SLAB_LEN: usize = 256 * 1024;
/// Small buffers get this part of the memory, large ones the rest.
const SMALL_SHARE: usize = 4;
/// Receiving leaves this part of each class to sending, so that what was accepted can always leave.
const SEND_RESERVE: usize = 8;

/// The two sizes of buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// [`SMALL_LEN`] bytes.
    Small,
    /// [`LARGE_LEN`] bytes.
    Large,
}

impl Class {
    /// Bytes of a buffer of this class.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Class::Small => SMALL_LEN,
            Class::Large => LARGE_LEN,
        }
    }
}

/// A core's pool of buffers, in two classes, bounded in bytes. Cheap to clone; the clones are one pool.
#[derive(Clone)]
pub struct Pool(Rc<PoolShared>);

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Bytes of buffers that somebody holds.
    pub leased_bytes: usize,
    /// Bytes that were taken from the system, leased or free.
    pub allocated_bytes: usize,
    /// Bytes that may be taken from the system.
    pub bytes_max: usize,
    /// How often a buffer was asked for and none was left.
    pub exhausted: u64,
}

impl Pool {
    /// A pool that takes at most `bytes_max` from the system ([`BUFFER_MEMORY_MIN`] when that is less), none at first.
    #[must_use]
    pub fn new(bytes_max: usize) -> Pool {
        let bytes_max = bytes_max.max(BUFFER_MEMORY_MIN);
        let small_max = bytes_max / SMALL_SHARE;
        Pool(Rc::new(PoolShared {
            bytes_max,
            small: RefCell::new(Slots::new(SMALL_LEN, small_max)),
            large: RefCell::new(Slots::new(LARGE_LEN, bytes_max - small_max)),
            waiting: RefCell::new(VecDeque::new()),
        }))
    }

    /// An empty buffer of `class`, or none when the class is exhausted.
    #[must_use]
    pub fn take(&self, class: Class) -> Option<Lease> {
        self.0.take(class, 0)
    }

    /// As [`Pool::take`], but leaves the part that is kept for sending.
    #[must_use]
    pub fn take_for_receive(&self, class: Class) -> Option<Lease> {
        let reserve = self.0.slots(class).borrow().slots_max / SEND_RESERVE;
        self.0.take(class, reserve)
    }

    /// How many buffers of `class` there can be.
    #[must_use]
    pub fn buffers_max(&self, class: Class) -> usize {
        self.0.slots(class).borrow().slots_max
    }

    /// Whether [`Pool::take_for_receive`] would give a buffer of either class.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        [Class::Small, Class::Large].into_iter().any(|class| {
            let slots = self.0.slots(class).borrow();
            slots.leased + slots.slots_max / SEND_RESERVE < slots.slots_max
        })
    }

    /// An empty buffer of `class`, waiting for one when the class is exhausted.
    pub async fn lease(&self, class: Class) -> Lease {
        poll_fn(|cx| self.poll_lease(class, cx)).await
    }

    /// An empty buffer of the class that holds `len` bytes, or the large class when none does; waits when exhausted.
    pub async fn lease_for(&self, len: usize) -> Lease {
        self.lease(if len <= SMALL_LEN { Class::Small } else { Class::Large }).await
    }

    fn poll_lease(&self, class: Class, cx: &Context<'_>) -> Poll<Lease> {
        if let Some(lease) = self.take(class) {
            return Poll::Ready(lease);
        }
        self.0.waiting.borrow_mut().push_back(cx.waker().clone());
        Poll::Pending
    }

    /// How full the pool is now.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        let (small, large) = (self.0.small.borrow(), self.0.large.borrow());
        PoolUse {
            leased_bytes: small.leased * SMALL_LEN + large.leased * LARGE_LEN,
            allocated_bytes: small.arena.slots() * SMALL_LEN + large.arena.slots() * LARGE_LEN,
            bytes_max: self.0.bytes_max,
            exhausted: small.exhausted + large.exhausted,
        }
    }
}

/// Which buffer of which class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Slot {
    class: Class,
    index: u32,
}

/// What the leases of a pool share.
pub(in crate::engine) struct PoolShared {
    bytes_max: usize,
    small: RefCell<Slots>,
    large: RefCell<Slots>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl PoolShared {
    fn slots(&self, class: Class) -> &RefCell<Slots> {
        match class {
            Class::Small => &self.small,
            Class::Large => &self.large,
        }
    }

    fn take(self: &Rc<Self>, class: Class, reserve: usize) -> Option<Lease> {
        let mut slots = self.slots(class).borrow_mut();
        let index = slots.take(reserve)?;
        let base = slots.arena.slot(index as usize);
        drop(slots);
        Some(Lease::of_slot(Rc::clone(self), Slot { class, index }, base, class.bytes()))
    }

    /// One more lease of the slot.
    pub(in crate::engine) fn retain(&self, slot: Slot) {
        self.slots(slot.class).borrow().references[slot.index as usize].add();
    }

    /// One lease of the slot fewer.
    pub(in crate::engine) fn release(&self, slot: Slot) {
        let freed = self.slots(slot.class).borrow_mut().release(slot.index);
        if freed {
            // All of them: which class each waits for is not kept, and exhaustion is rare.
            for waker in self.waiting.borrow_mut().drain(..) {
                waker.wake();
            }
        }
    }
}

/// The buffers of one class.
struct Slots {
    arena: Arena,
    slots_max: usize,
    references: Vec<References>,
    free: Vec<u32>,
    leased: usize,
    exhausted: u64,
}

impl Slots {
    fn new(slot_len: usize, bytes_max: usize) -> Slots {
        let arena = Arena::new(slot_len, SLAB_LEN / slot_len);
        let slots_max = bytes_max / SLAB_LEN * (SLAB_LEN / slot_len);
        Slots { arena, slots_max, references: Vec::new(), free: Vec::new(), leased: 0, exhausted: 0 }
    }

    fn take(&mut self, reserve: usize) -> Option<u32> {
        if self.leased + reserve >= self.slots_max {
            self.exhausted += 1;
            return None;
        }
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop()?;
        self.references[index as usize].add();
        self.leased += 1;
        Some(index)
    }

    fn grow(&mut self) {
        let from = self.arena.slots();
        self.arena.grow();
        let to = self.arena.slots();
        self.references.resize_with(to, References::default);
        // Low indices are handed out first, so that a pool in light use touches few pages.
        self.free.extend((from..to).rev().filter_map(|index| u32::try_from(index).ok()));
    }

    fn release(&mut self, index: u32) -> bool {
        let last = self.references[index as usize].remove();
        if last {
            self.free.push(index);
            self.leased -= 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn a_lease_has_room_on_both_sides() {
        let pool = Pool::new(0);
        let mut lease = pool.take(Class::Small).unwrap();
        lease.reserve_headroom(16);
        lease.append(b"world");
        lease.prepend(b"hello ");
        assert_eq!(&lease[..], b"hello world");
        assert_eq!((lease.headroom(), lease.tailroom()), (10, SMALL_LEN - 21));
        lease.advance(6);
        lease.truncate(3);
        assert_eq!(&lease[..], b"wor");
        lease.retreat(6);
        assert_eq!(&lease[..], b"hello wor");
    }

    #[test]
    fn a_split_buffer_goes_back_with_its_last_lease() {
        let pool = Pool::new(0);
        let mut rest = pool.take(Class::Large).unwrap();
        rest.append(b"abcdef");
        let front = rest.split_to(2);
        assert_eq!((&front[..], &rest[..]), (&b"ab"[..], &b"cdef"[..]));
        assert_eq!(front.tailroom(), 0);
        drop(rest);
        assert_eq!(pool.usage().leased_bytes, LARGE_LEN);
        drop(front);
        assert_eq!(pool.usage().leased_bytes, 0);
    }

    #[test]
    fn neighbours_join_and_strangers_do_not() {
        let pool = Pool::new(0);
        let mut rest = pool.take(Class::Small).unwrap();
        rest.append(b"abcdef");
        let mut front = rest.split_to(3);
        let middle = rest.split_to(1);
        let rest = front.join(rest).expect_err("a gap between them");
        front.join(middle).unwrap();
        front.join(rest).unwrap();
        assert_eq!(&front[..], b"abcdef");
        drop(front);
        assert_eq!(pool.usage().leased_bytes, 0);
    }

    #[test]
    fn an_exhausted_pool_says_so_and_keeps_a_reserve_for_sending() {
        let pool = Pool::new(0);
        let received: Vec<Lease> = std::iter::from_fn(|| pool.take_for_receive(Class::Large)).collect();
        let sending: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Large)).collect();
        assert!(!received.is_empty() && !sending.is_empty());
        assert!(pool.usage().exhausted >= 2);
        assert!(pool.usage().allocated_bytes <= pool.usage().bytes_max);
        drop(received);
        assert!(pool.take_for_receive(Class::Large).is_some());
    }

    #[test]
    fn random_use_never_shows_one_lease_the_bytes_of_another() {
        let pool = Pool::new(0);
        let mut rng = Rng::new(11);
        let mut held: Vec<(Lease, u8)> = Vec::new();
        for step in 0..20_000_u32 {
            let mark = (step % 251) as u8;
            match rng.below(4) {
                0 => {
                    if let Some(mut lease) = pool.take(Class::Small) {
                        let n = rng.below(64) as usize;
                        lease.append(&vec![mark; n]);
                        held.push((lease, mark));
                    }
                }
                1 if !held.is_empty() => {
                    let at = rng.below(held.len() as u64) as usize;
                    let (lease, mark) = &mut held[at];
                    let cut = rng.below(lease.len() as u64 + 1) as usize;
                    let front = lease.split_to(cut);
                    let mark = *mark;
                    held.push((front, mark));
                }
                2 if !held.is_empty() => {
                    let at = rng.below(held.len() as u64) as usize;
                    let (lease, mark) = &mut held[at];
                    let n = lease.tailroom().min(8);
                    lease.append(&vec![*mark; n]);
                }
                _ if !held.is_empty() => {
                    let at = rng.below(held.len() as u64) as usize;
                    let (lease, mark) = held.swap_remove(at);
                    assert!(lease.iter().all(|byte| *byte == mark));
                }
                _ => {}
            }
        }
        held.clear();
        assert_eq!(pool.usage().leased_bytes, 0);
    }
}
