//! Notifications for any number of tasks on one core.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Counts occurrences of an event, and lets tasks wait for the next one.
#[derive(Default)]
pub struct Signal {
    count: Cell<u64>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Signal {
    /// Records one occurrence and wakes all waiting tasks.
    pub fn raise(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.waiting.borrow_mut().places.iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// The number of occurrences so far.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Waits until there are more than `count` occurrences.
    pub fn after(&self, count: u64) -> After<'_> {
        After { signal: self, count, place: None }
    }
}

/// Waits for a [`Signal`]. It uses no memory but a slot of the signal, which it returns when it is dropped.
pub struct After<'a> {
    signal: &'a Signal,
    count: u64,
    place: Option<usize>,
}

impl Future for After<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.count() > self.count {
            return Poll::Ready(());
        }
        let mut waiting = self.signal.waiting.borrow_mut();
        let place = self.place.unwrap_or_else(|| {
            waiting.free.pop().unwrap_or_else(|| {
                waiting.places.push(None);
                waiting.places.len() - 1
            })
        });
        waiting.places[place] = Some(cx.waker().clone());
        drop(waiting);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut waiting = self.signal.waiting.borrow_mut();
            waiting.places[place] = None;
            waiting.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn a_task_receives_later_signals_and_releases_its_slot() {
        let signal = Signal::default();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut waits = pin!(signal.after(0));
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            signal.raise();
            assert!(waits.as_mut().poll(&mut cx).is_ready());
        }
        for _ in 0..100 {
            assert!(pin!(signal.after(signal.count())).poll(&mut cx).is_pending());
        }
        assert_eq!(signal.waiting.borrow().places.len(), 1);
    }
}
