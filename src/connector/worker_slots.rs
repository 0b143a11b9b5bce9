//! Idle workers: tasks that are kept from one call to the next, with their memory.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::engine::Core;
use crate::link::CallStream;

/// The most workers that are kept idle.
const IDLE_MAX: usize = 64;
/// How often workers that were not needed are ended.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// How long ended workers take to run once more and free their memory.
const ENDED_AFTER: Duration = Duration::from_millis(1);

/// The workers of one core.
#[derive(Default)]
pub(super) struct WorkerSlots {
    /// The worker that became idle last is used first.
    idle: RefCell<Vec<Rc<WorkerSlot>>>,
    /// The smallest number of idle workers since the last trim.
    idle_least: Cell<usize>,
    is_trimmed: Cell<bool>,
    busy: Cell<usize>,
    /// Set when no more calls will arrive.
    closed: Cell<bool>,
}

/// The place where an idle worker waits for its next call.
#[derive(Default)]
pub(super) struct WorkerSlot {
    next: RefCell<Option<CallStream>>,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl WorkerSlots {
    /// The number of workers that carry a call.
    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    /// Gives a call to an idle worker and counts it as busy. Returns the call if there is none, for a new worker, which
    /// is already counted as busy.
    pub(super) fn start(&self, call: CallStream) -> Option<CallStream> {
        self.busy.set(self.busy.get() + 1);
        let slot = self.idle.borrow_mut().pop();
        self.idle_least.set(self.idle_least.get().min(self.idle.borrow().len()));
        match slot {
            Some(slot) => {
                slot.next.replace(Some(call));
                slot.wake();
                None
            }
            None => Some(call),
        }
    }

    /// Counts a worker as idle and keeps its slot; false if there are enough idle workers, so that this one has to end.
    pub(super) fn release(&self, slot: &Rc<WorkerSlot>) -> bool {
        self.busy.set(self.busy.get() - 1);
        let mut idle = self.idle.borrow_mut();
        let fits = idle.len() < IDLE_MAX && !self.closed.get();
        if fits {
            idle.push(Rc::clone(slot));
        }
        fits
    }

    /// Whether [trimming](WorkerSlots::trim) has to be started; true once.
    pub(super) fn begin_trim(&self) -> bool {
        !self.idle.borrow().is_empty() && !self.is_trimmed.replace(true)
    }

    /// Periodically ends idle workers that are not needed, until none is left. A buffer of a kept worker may prevent
    /// the allocator from returning the memory around it.
    pub(super) async fn trim(&self, core: &Core) {
        while !self.idle.borrow().is_empty() {
            self.idle_least.set(self.idle.borrow().len());
            core.sleep(TRIM_EVERY).await;
            self.end(self.idle_least.get());
        }
        self.is_trimmed.set(false);
        core.sleep(ENDED_AFTER).await;
        core.release_memory();
    }

    /// Ends the idle workers, and those that become idle.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.end(usize::MAX);
    }

    /// Ends up to `count` idle workers, the longest idle first.
    fn end(&self, count: usize) {
        let mut idle = self.idle.borrow_mut();
        let count = count.min(idle.len());
        for slot in idle.drain(..count) {
            slot.closed.set(true);
            slot.wake();
        }
    }
}

impl WorkerSlot {
    /// The next call; none when no more will arrive.
    pub(super) async fn next(&self) -> Option<CallStream> {
        poll_fn(|cx| {
            if let Some(call) = self.next.take() {
                return Poll::Ready(Some(call));
            }
            if self.closed.get() {
                return Poll::Ready(None);
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
