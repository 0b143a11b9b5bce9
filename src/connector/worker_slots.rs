//! Idle workers: tasks that are kept from one call to the next, with the memory that they have grown.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::engine::Core;
use crate::link::CallStream;

/// The most workers that are kept idle.
const IDLE_MAX: usize = 64;
/// How often those that were not needed since are ended.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// When workers that were told to end have run once more, and hold no memory.
const ENDED_AFTER: Duration = Duration::from_millis(1);

/// The workers of one core.
#[derive(Default)]
pub(super) struct WorkerSlots {
    /// The last one that became idle is used first.
    idle: RefCell<Vec<Rc<WorkerSlot>>>,
    /// The fewest that were idle at one time since the last trim.
    idle_least: Cell<usize>,
    is_trimmed: Cell<bool>,
    busy: Cell<usize>,
    /// Set when no more calls will come.
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
    /// Workers that carry a call.
    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    /// Gives a call to an idle worker and counts it as busy. Gives the call back when there is none, for a new worker, which
    /// is counted already.
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

    /// Counts a worker as idle and keeps its slot; false when there are enough idle workers, and this one has to end.
    pub(super) fn release(&self, slot: &Rc<WorkerSlot>) -> bool {
        self.busy.set(self.busy.get() - 1);
        let mut idle = self.idle.borrow_mut();
        let fits = idle.len() < IDLE_MAX && !self.closed.get();
        if fits {
            idle.push(Rc::clone(slot));
        }
        fits
    }

    /// Whether idle workers are to be [trimmed](WorkerSlots::trim) from now on; true once.
    pub(super) fn begin_trim(&self) -> bool {
        !self.idle.borrow().is_empty() && !self.is_trimmed.replace(true)
    }

    /// Ends the idle workers that are not needed, from time to time, until none is left. Each buffer of a worker that is kept
    /// after many have ended would keep the memory around it from being given back.
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
    /// The next call; none when no more will come.
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
