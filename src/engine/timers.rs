//! The timers of one core.

use std::task::Waker;

use crate::base::Time;
use crate::engine::shrink::shrink_spare;

/// An ordered set of deadlines, each with a waker. Setting, moving and cancelling a timer costs O(log n), and allocates
/// only when the set grows beyond its recent size.
#[derive(Default)]
pub(super) struct Timers {
    /// A binary heap of entries, the earliest first.
    heap: Vec<Entry>,
    /// For each timer its index in the heap; `None` if it is not set.
    places: Vec<Option<usize>>,
    /// Timers whose id may be used again. It has room for all, so that removing one never allocates.
    free: Vec<u32>,
}

/// Identifies a timer of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerId(u32);

struct Entry {
    at: Time,
    timer: TimerId,
    waker: Waker,
}

impl Timers {
    /// Creates a timer that is not set.
    pub(super) fn create(&mut self) -> TimerId {
        if let Some(index) = self.free.pop() {
            return TimerId(index);
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 timers fit in memory");
        self.places.push(None);
        // It is empty here.
        self.free.reserve(self.places.len());
        TimerId(index)
    }

    /// Removes a timer. Its id may be reused.
    pub(super) fn remove(&mut self, timer: TimerId) {
        self.cancel(timer);
        self.free.push(timer.0);
    }

    /// Sets a timer to wake `waker` at `at`, replacing its previous deadline.
    pub(super) fn set(&mut self, timer: TimerId, at: Time, waker: &Waker) {
        if let Some(place) = self.places[timer.0 as usize] {
            let entry = &mut self.heap[place];
            if !entry.waker.will_wake(waker) {
                entry.waker.clone_from(waker);
            }
            let before = std::mem::replace(&mut entry.at, at);
            if at < before {
                self.rise(place)
            } else {
                self.sink(place)
            }
            return;
        }
        let place = self.heap.len();
        self.heap.push(Entry { at, timer, waker: waker.clone() });
        self.places[timer.0 as usize] = Some(place);
        self.rise(place);
    }

    /// Unsets a timer; does nothing if it is not set.
    pub(super) fn cancel(&mut self, timer: TimerId) {
        if let Some(place) = self.places[timer.0 as usize] {
            self.take(place);
        }
    }

    /// The earliest deadline, or [`Time::NEVER`].
    pub(super) fn next(&self) -> Time {
        self.heap.first().map_or(Time::NEVER, |entry| entry.at)
    }

    /// Unsets and returns one timer that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Waker> {
        (self.next() <= now && !self.heap.is_empty()).then(|| self.take(0).waker)
    }

    fn take(&mut self, place: usize) -> Entry {
        let entry = self.heap.swap_remove(place);
        shrink_spare(&mut self.heap);
        self.places[entry.timer.0 as usize] = None;
        if place < self.heap.len() {
            self.places[self.heap[place].timer.0 as usize] = Some(place);
            self.rise(place);
            self.sink(place);
        }
        entry
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= self.heap[place].at {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut least = place;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].at < self.heap[least].at {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].timer.0 as usize] = Some(a);
        self.places[self.heap[b].timer.0 as usize] = Some(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn ten_thousand_timers_fire_in_order_and_cancelled_ones_do_not() {
        let mut rng = Rng::new(5);
        let mut timers = Timers::default();
        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let ids: Vec<(TimerId, Time)> = (0..10_000)
            .map(|_| {
                let (id, at) = (timers.create(), Time::from_nanos(rng.below(1_000_000)));
                timers.set(id, Time::from_nanos(rng.below(1_000_000)), &waker);
                timers.set(id, at, &waker);
                (id, at)
            })
            .collect();
        let (kept, cancelled): (Vec<_>, Vec<_>) = ids.into_iter().partition(|_| rng.chance(0.5));
        for (id, _) in &cancelled {
            timers.cancel(*id);
        }
        let mut deadlines: Vec<Time> = kept.iter().map(|(_, at)| *at).collect();
        deadlines.sort_unstable();
        for at in deadlines {
            assert_eq!(timers.next(), at);
            assert!(timers.pop_due(Time::from_nanos(at.as_nanos().saturating_sub(1))).is_none() || at == Time::ZERO);
            timers.pop_due(at).unwrap().wake();
        }
        assert_eq!(timers.next(), Time::NEVER);
        assert_eq!(count.0.load(Ordering::Relaxed), kept.len() as u64);
    }
}
