//! The tasks that carry calls. They are kept from one call to the next, with the memory that they have grown.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::connector::call::Work;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::session;
use crate::connector::shared::Counters;
use crate::link::{CallStream, LinkStream};
use crate::wire::mux::Cause;

/// Workers that are kept though they have nothing to do.
const IDLE_MAX: usize = 64;

/// The workers of one core.
#[derive(Default)]
pub(super) struct Workers {
    idle: RefCell<Vec<Rc<Desk>>>,
    busy: Cell<usize>,
    /// No more calls will come.
    closed: Cell<bool>,
}

/// Where an idle worker waits for its next call.
#[derive(Default)]
struct Desk {
    next: RefCell<Option<CallStream>>,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Workers {
    /// How many calls are being carried.
    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    /// Ends the idle workers, and those that become idle.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for desk in self.idle.borrow_mut().drain(..) {
            desk.closed.set(true);
            desk.wake();
        }
    }

    /// Takes a worker's place among the idle ones; false when there are enough.
    fn rest(&self, desk: &Rc<Desk>) -> bool {
        self.busy.set(self.busy.get() - 1);
        let mut idle = self.idle.borrow_mut();
        let fits = idle.len() < IDLE_MAX && !self.closed.get();
        if fits {
            idle.push(Rc::clone(desk));
        }
        fits
    }
}

impl ConnectorCore {
    /// Has a call carried.
    pub(super) fn carry(self: &Rc<ConnectorCore>, stream: LinkStream) {
        let workers = &self.workers;
        if workers.busy() >= self.connector.settings.calls_max {
            Counters::add(&self.connector.counters.calls_overloaded);
            return stream.reset(Cause::Overloaded);
        }
        workers.busy.set(workers.busy() + 1);
        let idle = workers.idle.borrow_mut().pop();
        match idle {
            Some(desk) => desk.give(stream),
            None => self.core.spawn(work(Rc::clone(self), CallStream::Plain(stream))),
        }
    }
}

impl Desk {
    fn give(&self, stream: LinkStream) {
        self.next.replace(Some(CallStream::Plain(stream)));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next call; none when no more will come.
    async fn next(&self) -> Option<CallStream> {
        poll_fn(|cx| {
            if let Some(stream) = self.next.take() {
                return Poll::Ready(Some(stream));
            }
            if self.closed.get() {
                return Poll::Ready(None);
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

async fn work(here: Rc<ConnectorCore>, first: CallStream) {
    let desk = Rc::new(Desk::default());
    let mut work = Work::default();
    let mut next = Some(first);
    while let Some(stream) = &next {
        if is_sealed(stream.on_link()) {
            // In a box, so that the others do not have its size.
            Box::pin(session::serve(&mut work, &here, &mut next)).await;
        } else {
            work.carry(&here, stream).await;
        }
        next = None;
        work.clear();
        if here.workers.rest(&desk) {
            next = desk.next().await;
        }
    }
}

/// Whether the edge opened a stream for a session that is sealed.
fn is_sealed(stream: &LinkStream) -> bool {
    stream.opening(|open| open.traffic.is_sealed()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an async function gives.
    const fn size_of_task<A, B, F>(_: &impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_that_waits_takes_little_memory() {
        // What the allocator gives for it is a class of 3,584 bytes; the next has 4,096.
        assert!(size_of_task(&work) <= 3584, "{}", size_of_task(&work));
    }
}
