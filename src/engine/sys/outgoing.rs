//! The send queue of a socket.

use std::collections::VecDeque;

use crate::engine::{Lease, push_packed};

/// The most buffers in one send.
pub(in crate::engine) const GATHER_MAX: usize = 64;

/// The send queue of a socket, and the state of its end.
pub(in crate::engine) struct Outgoing {
    queue: VecDeque<Lease>,
    /// How many buffers at the front the kernel has, so that they must not change.
    in_flight: usize,
    end: End,
}

/// The state of the end of the sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Requested; to be sent after the queue.
    Wanted,
    /// Sent, or not possible any more.
    Done,
}

impl Outgoing {
    pub(in crate::engine) fn new() -> Outgoing {
        Outgoing { queue: VecDeque::new(), in_flight: 0, end: End::Open }
    }

    /// Queues a buffer, unless it is empty or the end was requested.
    pub(in crate::engine) fn push(&mut self, lease: Lease) {
        if self.end == End::Open && !lease.is_empty() {
            push_packed(&mut self.queue, self.in_flight, lease);
        }
    }

    /// Records that the kernel has the buffers of [`Outgoing::front`], until [`Outgoing::end_send`].
    pub(in crate::engine) fn begin_send(&mut self) {
        let in_flight = self.front().len();
        self.in_flight = in_flight;
    }

    /// Records that the kernel has no buffers any more.
    pub(in crate::engine) fn end_send(&mut self) {
        self.in_flight = 0;
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The buffers of the next send: up to [`GATHER_MAX`], none of them empty.
    pub(in crate::engine) fn front(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.queue.iter().take(GATHER_MAX)
    }

    /// Removes sent bytes from the front.
    pub(in crate::engine) fn sent(&mut self, mut bytes: usize) {
        while let Some(front) = self.queue.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.queue.pop_front();
        }
    }

    /// Requests the end after the queue.
    pub(in crate::engine) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Wanted;
        }
    }

    /// Whether the end must be sent now; returns true once.
    pub(in crate::engine) fn take_end(&mut self) -> bool {
        let due = self.queue.is_empty() && self.end == End::Wanted;
        if due {
            self.end = End::Done;
        }
        due
    }

    /// Whether the end was requested, or nothing can be sent any more.
    pub(in crate::engine) fn is_ending(&self) -> bool {
        self.end != End::Open
    }

    /// Drops the queue and everything that is queued later.
    pub(in crate::engine) fn give_up(&mut self) {
        self.queue.clear();
        self.end = End::Done;
    }

    /// Leaks the buffers, because the kernel may still read them.
    pub(in crate::engine) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.queue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pool::{Class, Pool};

    #[test]
    fn it_sends_in_any_cut_and_ends_once() {
        let pool = Pool::new(0);
        let mut outgoing = Outgoing::new();
        for text in ["ab", "", "cde", "f"] {
            let mut lease = pool.take(Class::Small).unwrap();
            lease.append(text.as_bytes());
            outgoing.push(lease);
        }
        outgoing.finish();
        assert_eq!(outgoing.front().len(), 1);
        outgoing.sent(3);
        assert!(!outgoing.take_end());
        assert_eq!(outgoing.front().map(|lease| lease.to_vec()).collect::<Vec<_>>(), [b"def".to_vec()]);
        outgoing.sent(3);
        assert!(outgoing.is_empty() && outgoing.take_end() && !outgoing.take_end());
        outgoing.push(pool.take(Class::Small).unwrap());
        assert!(outgoing.is_empty());
        assert_eq!(pool.usage().leased_bytes, 0);
    }
}
