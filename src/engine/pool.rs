//! The buffer pool of one core: a budget in bytes, and the rules for sharing it.
//!
//! Each buffer is taken for a purpose, and each purpose leaves a part of the budget to those after it. Receiving leaves
//! room for sending, and both leave room for links, whose control frames free what everything else waits for. The limit
//! of one queue ([`Pool::allowance`]) shrinks with the cube of what is left, so that no number of unread queues can
//! exhaust the pool.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::base::Time;
use crate::engine::slots::{BufferPurpose, Slots};
use crate::engine::sys::lease::Lease;
use crate::engine::windows::Windows;

/// Bytes of a small buffer.
pub const SMALL_LEN: usize = 4 * 1024;
/// Bytes of a large buffer.
pub const LARGE_LEN: usize = 64 * 1024;

/// The default bound of a core's buffers, in bytes.
pub const BUFFER_MEMORY_DEFAULT: usize = 64 * 1024 * 1024;
/// The smallest budget that a pool can work with, in bytes.
pub const BUFFER_MEMORY_MIN: usize = 2 * 1024 * 1024;
/// One part in this many of the budget is reserved for links.
const LINK_RESERVE: usize = 8;
/// One part in this many of the budget is reserved for sending, besides the part for links.
const SEND_RESERVE: usize = 8;
/// The largest limit of one queue, in bytes, which applies while the pool is empty.
pub const ALLOWANCE_MAX: usize = 256 * 1024;
/// An empty pool of `bytes_max` allows each queue one part in this many, up to [`ALLOWANCE_MAX`]. With `n` full queues
/// that are never read, `1 / sqrt(1 + 2 n / 182)` of the bytes for receiving stay free.
const ALLOWANCE_SHARE: u64 = 182;
/// A pool with less than one part in this many left is under pressure: queued bytes are packed densely.
const PRESSURE_SHARE: usize = 2;
/// Unused buffers of up to this many bytes in total keep their memory.
const IDLE_KEPT: usize = 256 * 1024;
/// How often memory that was not used in the meantime is returned to the system.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// How many bytes are returned at a time, so that no turn takes long.
const TRIM_BURST: usize = 8 * 1024 * 1024;

/// The two sizes of buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A buffer of [`SMALL_LEN`] bytes.
    Small,
    /// A buffer of [`LARGE_LEN`] bytes.
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

    /// The class that holds `len` bytes; the large one if neither does.
    #[must_use]
    pub const fn for_len(len: usize) -> Class {
        if len <= SMALL_LEN { Class::Small } else { Class::Large }
    }
}

/// The buffer pool of a core, with a limit in bytes. Clones refer to the same pool.
#[derive(Clone)]
pub struct Pool {
    shared: Rc<PoolShared>,
    /// Whether this handle takes buffers from the part reserved for links.
    for_links: Cell<bool>,
}

/// How much of a pool is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Bytes of buffers in use.
    pub leased_bytes: usize,
    /// Of these, bytes that were taken to receive.
    pub receive_bytes: usize,
    /// Of these, bytes that were taken to send.
    pub send_bytes: usize,
    /// Of these, bytes that were taken for links, received frames included.
    pub link_bytes: usize,
    /// Bytes that the peers of links may send without further permission: the receive windows of all links together.
    pub window_bytes: usize,
    /// Bytes of memory behind the buffers, in use or not.
    pub allocated_bytes: usize,
    /// Bytes that may be in use.
    pub bytes_max: usize,
    /// The current limit of one queue, in bytes.
    pub allowance_bytes: usize,
    /// How often a buffer was requested and none was left.
    pub exhausted: u64,
    /// How many tasks wait for a buffer.
    pub waiting: usize,
}

impl Pool {
    /// Creates a pool of at most `bytes_max` bytes, and at least [`BUFFER_MEMORY_MIN`]. It allocates no buffers at
    /// first.
    #[must_use]
    pub fn new(bytes_max: usize) -> Pool {
        let bytes_max = bytes_max.max(BUFFER_MEMORY_MIN);
        let shared = PoolShared {
            bytes_max,
            small: RefCell::new(Slots::new(SMALL_LEN)),
            large: RefCell::new(Slots::new(LARGE_LEN)),
            leased: Cell::new(0),
            by_purpose: Default::default(),
            idle: Cell::new(0),
            idle_least: Cell::new(0),
            trim_at: Cell::new(Time::NEVER),
            exhausted: Cell::new(0),
            waiting: RefCell::new(VecDeque::new()),
            windows: Windows::new(bytes_max),
        };
        Pool { shared: Rc::new(shared), for_links: Cell::new(false) }
    }

    /// From now on this handle, but not its clones, takes buffers from the part reserved for links.
    pub fn serve_link(&self) {
        self.for_links.set(true);
    }

    /// Another handle of the pool, which takes buffers from the part reserved for links.
    #[must_use]
    pub fn for_links(&self) -> Pool {
        Pool { shared: Rc::clone(&self.shared), for_links: Cell::new(true) }
    }

    /// An empty buffer of `class`; `None` if none is left for sending.
    #[must_use]
    pub fn take(&self, class: Class) -> Option<Lease> {
        self.shared.take(class, self.purpose(BufferPurpose::Send))
    }

    /// Like [`Pool::take`], but leaves the part that is reserved for sending.
    #[must_use]
    pub fn take_for_receive(&self, class: Class) -> Option<Lease> {
        self.shared.take(class, self.purpose(BufferPurpose::Receive))
    }

    /// The number of buffers of `class` if the whole budget were used for them.
    #[must_use]
    pub fn buffers_max(&self, class: Class) -> usize {
        self.shared.bytes_max / class.bytes()
    }

    /// Whether [`Pool::take_for_receive`] would give a small buffer.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        self.shared.has(SMALL_LEN, self.purpose(BufferPurpose::Receive))
    }

    /// The current limit of one queue in bytes, above which its source must wait: at most [`ALLOWANCE_MAX`], at least
    /// one small buffer.
    #[must_use]
    pub fn allowance(&self) -> usize {
        self.shared.allowance()
    }

    /// The class for a receive that would like `wanted`: a small buffer if a large one exceeds the limit of one queue.
    pub(in crate::engine) fn class_to_receive(&self, wanted: Class) -> Class {
        let small = !self.for_links.get() && self.shared.allowance() < LARGE_LEN;
        if small { Class::Small } else { wanted }
    }

    /// Whether little is left, so that queued bytes should be packed densely.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.shared.is_pressed()
    }

    /// Waits for an empty buffer of `class`.
    pub async fn lease(&self, class: Class) -> Lease {
        poll_fn(|cx| self.poll_lease(class, cx)).await
    }

    /// Waits for an empty buffer that holds `len` bytes, or for a large one if neither class does.
    pub async fn lease_for(&self, len: usize) -> Lease {
        self.lease(Class::for_len(len)).await
    }

    /// [`Pool::lease`] as a poll function.
    pub fn poll_lease(&self, class: Class, cx: &Context<'_>) -> Poll<Lease> {
        if let Some(lease) = self.take(class) {
            return Poll::Ready(lease);
        }
        let purpose = self.purpose(BufferPurpose::Send);
        let mut waiting = self.shared.waiting.borrow_mut();
        if !waiting.iter().any(|waiter| waiter.waker.will_wake(cx.waker())) {
            let waiter = Waiter { waker: cx.waker().clone(), bytes: class.bytes(), purpose };
            match purpose {
                BufferPurpose::Link => waiting.push_front(waiter),
                BufferPurpose::Receive | BufferPurpose::Send => waiting.push_back(waiter),
            }
        }
        Poll::Pending
    }

    /// Wakes as many waiting tasks as can be served now, in order, links first. Returns true if there was one. Call it
    /// whenever nothing else is ready, because a woken task may no longer want its buffer.
    pub(in crate::engine) fn wake_waiting(&self) -> bool {
        let mut promised = 0;
        loop {
            let mut waiting = self.shared.waiting.borrow_mut();
            let served = |waiter: &&Waiter| self.shared.has(promised + waiter.bytes, waiter.purpose);
            if waiting.front().filter(served).is_none() {
                return promised > 0;
            }
            let Some(waiter) = waiting.pop_front() else { return promised > 0 };
            drop(waiting);
            promised += waiter.bytes;
            waiter.waker.wake();
        }
    }

    /// The receive windows of the core's links.
    pub(super) fn windows(&self) -> &Rc<Windows> {
        &self.shared.windows
    }

    /// When [`Pool::trim`] should be called next.
    pub(in crate::engine) fn trim_at(&self) -> Time {
        self.shared.trim_at.get()
    }

    /// Returns memory that was not used for a while to the system.
    pub(in crate::engine) fn trim(&self, now: Time) -> Trimmed {
        self.shared.trim(now)
    }

    /// How full the pool is now.
    #[must_use]
    pub fn usage(&self) -> PoolUse {
        let shared = &self.shared;
        let taken_for = |purpose: BufferPurpose| shared.by_purpose[purpose as usize].get();
        PoolUse {
            leased_bytes: shared.leased.get(),
            receive_bytes: taken_for(BufferPurpose::Receive),
            send_bytes: taken_for(BufferPurpose::Send),
            link_bytes: taken_for(BufferPurpose::Link),
            window_bytes: shared.windows.granted(),
            allocated_bytes: shared.leased.get() + shared.idle.get(),
            bytes_max: shared.bytes_max,
            allowance_bytes: self.allowance(),
            exhausted: shared.exhausted.get(),
            waiting: shared.waiting.borrow().len(),
        }
    }

    fn purpose(&self, otherwise: BufferPurpose) -> BufferPurpose {
        if self.for_links.get() { BufferPurpose::Link } else { otherwise }
    }
}

/// A task that waits for a buffer.
struct Waiter {
    waker: Waker,
    bytes: usize,
    purpose: BufferPurpose,
}

/// Identifies a buffer: its class and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Slot {
    class: Class,
    index: u32,
}

impl Slot {
    pub(in crate::engine) fn is_large(self) -> bool {
        self.class == Class::Large
    }
}

/// The state that the leases of a pool share.
pub(in crate::engine) struct PoolShared {
    bytes_max: usize,
    small: RefCell<Slots>,
    large: RefCell<Slots>,
    /// Bytes of buffers in use, and the same by purpose.
    leased: Cell<usize>,
    by_purpose: [Cell<usize>; 3],
    /// Bytes of unused buffers that have memory, and the smallest value since the last trim.
    idle: Cell<usize>,
    idle_least: Cell<usize>,
    trim_at: Cell<Time>,
    exhausted: Cell<u64>,
    waiting: RefCell<VecDeque<Waiter>>,
    windows: Rc<Windows>,
}

impl PoolShared {
    fn slots(&self, class: Class) -> &RefCell<Slots> {
        match class {
            Class::Small => &self.small,
            Class::Large => &self.large,
        }
    }

    /// The number of bytes in use at which receiving stops.
    fn receive_max(&self) -> usize {
        self.bytes_max - self.bytes_max / LINK_RESERVE - self.bytes_max / SEND_RESERVE
    }

    /// The number of bytes that are left until receiving stops.
    fn left(&self) -> usize {
        self.receive_max().saturating_sub(self.leased.get())
    }

    pub(in crate::engine) fn allowance(&self) -> usize {
        let (left, max) = (self.left() as u64, self.receive_max() as u64);
        let allowance = left * left / max * left / max * 4 / 3 / ALLOWANCE_SHARE;
        usize::try_from(allowance).unwrap_or(usize::MAX).clamp(SMALL_LEN, ALLOWANCE_MAX)
    }

    pub(in crate::engine) fn is_pressed(&self) -> bool {
        self.left() < self.receive_max() / PRESSURE_SHARE
    }

    /// Whether `bytes` more can be used for `purpose`.
    fn has(&self, bytes: usize, purpose: BufferPurpose) -> bool {
        let reserved = match purpose {
            BufferPurpose::Receive => self.bytes_max / LINK_RESERVE + self.bytes_max / SEND_RESERVE,
            BufferPurpose::Send => self.bytes_max / LINK_RESERVE,
            BufferPurpose::Link => 0,
        };
        self.leased.get() + bytes + reserved <= self.bytes_max
    }

    fn take(self: &Rc<Self>, class: Class, purpose: BufferPurpose) -> Option<Lease> {
        let len = class.bytes();
        if !self.has(len, purpose) {
            self.exhausted.set(self.exhausted.get() + 1);
            return None;
        }
        let mut slots = self.slots(class).borrow_mut();
        if !slots.has_idle() {
            // Memory of unused buffers of the other class is reused here.
            if self.leased.get() + self.idle.get() + len > self.bytes_max {
                self.release_memory(if class == Class::Small { Class::Large } else { Class::Small }, len);
            }
        } else {
            self.idle.set(self.idle.get() - len);
            self.idle_least.set(self.idle_least.get().min(self.idle.get()));
        }
        let index = slots.take(purpose)?;
        let base = slots.base(index);
        drop(slots);
        self.leased.set(self.leased.get() + len);
        let by_purpose = &self.by_purpose[purpose as usize];
        by_purpose.set(by_purpose.get() + len);
        Some(Lease::of_slot(Rc::clone(self), Slot { class, index }, base, len))
    }

    /// An empty buffer for copying bytes out of another one, which will be kept for a while. If none is left for
    /// receiving, it is taken for the purpose of the other buffer, whose memory the copy frees.
    pub(in crate::engine) fn take_in_place_of(self: &Rc<Self>, slot: Slot, class: Class) -> Option<Lease> {
        let purpose = if self.has(class.bytes(), BufferPurpose::Receive) {
            BufferPurpose::Receive
        } else {
            self.slots(slot.class).borrow().purpose(slot.index)
        };
        self.take(class, purpose)
    }

    /// Adds a lease of the slot.
    pub(in crate::engine) fn retain(&self, slot: Slot) {
        self.slots(slot.class).borrow().retain(slot.index);
    }

    /// Removes a lease of the slot.
    pub(in crate::engine) fn release(&self, slot: Slot) {
        let Some(purpose) = self.slots(slot.class).borrow_mut().release(slot.index) else { return };
        let len = slot.class.bytes();
        self.leased.set(self.leased.get() - len);
        self.idle.set(self.idle.get() + len);
        let by_purpose = &self.by_purpose[purpose as usize];
        by_purpose.set(by_purpose.get() - len);
    }

    fn trim(&self, now: Time) -> Trimmed {
        let at = self.trim_at.get();
        if at == Time::NEVER {
            if self.idle.get() > IDLE_KEPT {
                self.idle_least.set(self.idle.get());
                self.trim_at.set(now + TRIM_EVERY);
            }
            Trimmed::Nothing
        } else if now >= at {
            let before = self.idle.get();
            let unused = self.idle_least.get().saturating_sub(IDLE_KEPT).min(TRIM_BURST);
            self.release_memory(Class::Large, unused);
            self.release_memory(Class::Small, unused.saturating_sub(before - self.idle.get()));
            self.idle_least.set(self.idle.get());
            let is_done = self.idle.get() <= IDLE_KEPT;
            self.trim_at.set(if is_done { Time::NEVER } else { now + TRIM_EVERY });
            if is_done { Trimmed::All } else { Trimmed::Some }
        } else {
            Trimmed::Nothing
        }
    }

    /// Returns the memory of unused buffers of `class` to the system, up to about `bytes`.
    fn release_memory(&self, class: Class, bytes: usize) {
        let released = self.slots(class).borrow_mut().release_memory(bytes.div_ceil(class.bytes()));
        let idle = self.idle.get() - released * class.bytes();
        self.idle.set(idle);
        self.idle_least.set(self.idle_least.get().min(idle));
    }
}

/// The result of a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Trimmed {
    /// It is not due, or there is nothing to return.
    Nothing,
    /// A part of the memory was returned, and more can be.
    Some,
    /// Memory of unused buffers was returned, and no more will be until buffers have been used again.
    All,
}

#[cfg(test)]
mod tests;
