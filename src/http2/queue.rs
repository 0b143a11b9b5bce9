//! Accounts for body data that `h2` has queued on a connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::engine::Lease;

/// The cost of a piece in addition to its bytes, in the limit of its own stream: `h2` needs about this much memory for
/// each.
const PIECE_COST: usize = 256;

/// How many bytes of bodies may wait in `h2` before their sources have to wait. The connection has a queue of its own;
/// a longer queue here would only delay small answers.
const QUEUED_MAX: usize = 64 * 1024;

/// A piece up to this length need not wait behind pieces of large bodies, if its own stream has nothing queued.
pub const SMALL_LEN_MAX: usize = 2048;

/// How many bytes may wait before small pieces have to wait too.
const QUEUED_WITH_SMALL_MAX: usize = QUEUED_MAX + 32 * 1024;

/// How many bytes of small pieces may overtake the waiting streams before one of those gets its turn.
const PASSING_MAX: usize = 256 * 1024;

/// The queued bytes of a connection.
#[derive(Default)]
pub struct ConnectionQueue {
    bytes: Cell<usize>,
    /// Bytes of small pieces that were sent since a waiting stream was last woken.
    passed: Cell<usize>,
    /// Tasks that wait for room, in order.
    waiting: RefCell<VecDeque<Waker>>,
}

/// The queued bytes of one stream.
pub struct StreamQueue {
    connection: Rc<ConnectionQueue>,
    bytes: Cell<usize>,
    pieces: Cell<usize>,
    sent: Cell<u64>,
    /// Whether the last piece was a large one.
    is_bulk: Cell<bool>,
    /// The task that waits until everything is sent.
    flushing: RefCell<Option<Waker>>,
    /// The task that waits for room on this stream.
    waiting: RefCell<Option<Waker>>,
}

/// A piece of a body that is given to `h2`. It counts until it is written.
pub struct SendPiece {
    content: Content,
    queue: Rc<StreamQueue>,
}

/// The bytes of a piece.
pub enum Content {
    /// Bytes of a forwarded body.
    Lease(Lease),
    /// Bytes of an answer by adit itself: short, and kept until they are read. A pool buffer would be far larger.
    Bytes(Bytes),
    /// No bytes: the end of a body.
    End,
}

/// Whether a poll only looks, and must not take a place in a line: its waker is [`Waker::noop`], the only one without data. The
/// compiler may make several copies of that waker's function table, and `will_wake` says no for another copy.
pub(super) fn only_looks(cx: &Context<'_>) -> bool {
    cx.waker().data().is_null()
}

impl ConnectionQueue {
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.get() < QUEUED_MAX {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !only_looks(cx) && !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push_back(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Notes that bytes were written. Waiting tasks are woken one after another, so that none takes all the room. If a
    /// task is gone, the next one gets its turn.
    fn wrote(&self, n: usize) {
        self.bytes.set(self.bytes.get() - n);
        let wakes = match self.bytes.get() {
            0 => usize::MAX,
            1..QUEUED_MAX => 1,
            _ => 0,
        };
        if wakes > 0 {
            self.passed.set(0);
        }
        for _ in 0..wakes {
            let Some(waker) = self.waiting.borrow_mut().pop_front() else { return };
            waker.wake();
        }
    }

    /// Whether a small piece may overtake the waiting streams.
    fn may_pass(&self) -> bool {
        self.bytes.get() < QUEUED_WITH_SMALL_MAX && self.passed.get() < PASSING_MAX
    }

    fn add(&self, len: usize) {
        let is_passing = self.bytes.get() >= QUEUED_MAX && !self.waiting.borrow().is_empty();
        if is_passing {
            self.passed.set(self.passed.get() + len);
        }
        self.bytes.set(self.bytes.get() + len);
    }
}

impl StreamQueue {
    /// The queue of a new stream of `connection`.
    #[must_use]
    pub fn new(connection: &Rc<ConnectionQueue>) -> Rc<StreamQueue> {
        let connection = Rc::clone(connection);
        Rc::new(StreamQueue {
            connection,
            bytes: Cell::new(0),
            pieces: Cell::new(0),
            sent: Cell::new(0),
            is_bulk: Cell::new(false),
            flushing: RefCell::default(),
            waiting: RefCell::default(),
        })
    }

    /// Ready when the connection has room for another piece of `len` bytes; if the length is not known, that of the
    /// previous piece is assumed.
    pub fn poll_room(&self, len: Option<usize>, cx: &Context<'_>) -> Poll<()> {
        let is_small = len.map_or(!self.is_bulk.get(), |len| len <= SMALL_LEN_MAX);
        if is_small && !self.has_queued() && self.connection.may_pass() {
            return Poll::Ready(());
        }
        let room = self.connection.poll_room(cx);
        // It need not wait any more once the previous piece was written.
        if room.is_pending() && is_small && self.has_queued() && !only_looks(cx) {
            self.waiting.replace(Some(cx.waker().clone()));
        }
        room
    }

    /// Announces that the next piece will be large, although there was none before.
    pub fn expect_bulk(&self) {
        self.is_bulk.set(true);
    }

    /// Ready when less than `bytes_max` wait on this stream, including the cost of each piece.
    pub fn poll_own_room(&self, bytes_max: usize, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.get() + self.pieces.get() * PIECE_COST < bytes_max {
            return Poll::Ready(());
        }
        self.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Ready when everything was written.
    pub fn poll_flushed(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.has_queued() {
            return Poll::Ready(());
        }
        self.flushing.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether bytes wait to be sent.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.bytes.get() > 0
    }

    /// The number of bytes written.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent.get()
    }

    fn wrote(&self, n: usize) {
        self.bytes.set(self.bytes.get() - n);
        self.sent.set(self.sent.get() + n as u64);
        self.connection.wrote(n);
        self.waiting.take().into_iter().for_each(Waker::wake);
        if !self.has_queued() {
            self.flushing.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl SendPiece {
    /// A piece that is now queued on a stream.
    #[must_use]
    pub fn new(content: Content, queue: &Rc<StreamQueue>) -> SendPiece {
        let piece = SendPiece { content, queue: Rc::clone(queue) };
        let len = piece.remaining();
        queue.pieces.set(queue.pieces.get() + 1);
        queue.is_bulk.set(len > SMALL_LEN_MAX);
        queue.bytes.set(queue.bytes.get() + len);
        queue.connection.add(len);
        piece
    }
}

impl Buf for SendPiece {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.content {
            Content::Lease(lease) => lease,
            Content::Bytes(bytes) => bytes,
            Content::End => &[],
        }
    }

    fn advance(&mut self, n: usize) {
        match &mut self.content {
            Content::Lease(lease) => lease.advance(n),
            Content::Bytes(bytes) => bytes.advance(n),
            Content::End => return,
        }
        self.queue.wrote(n);
    }
}

impl Drop for SendPiece {
    fn drop(&mut self) {
        self.queue.pieces.set(self.queue.pieces.get() - 1);
        let left = self.remaining();
        if left > 0 {
            self.queue.wrote(left);
        }
        self.queue.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for SendPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendPiece").field("len", &self.remaining()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::engine::{Class, Pool};

    const LARGE: Option<usize> = Some(SMALL_LEN_MAX + 1);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn piece(pool: &Pool, len: usize, queue: &Rc<StreamQueue>) -> SendPiece {
        let mut lease = pool.take(Class::for_len(len)).unwrap();
        lease.append(&vec![b'x'; len]);
        SendPiece::new(Content::Lease(lease), queue)
    }

    #[test]
    fn waiting_streams_get_room_in_turn() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let (a, b) = (StreamQueue::new(&connection), StreamQueue::new(&connection));
        let mut full = piece(&pool, QUEUED_MAX, &a);
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (waker_1, waker_2) = (Waker::from(Arc::clone(&first)), Waker::from(Arc::clone(&second)));
        let (cx_1, cx_2) = (Context::from_waker(&waker_1), Context::from_waker(&waker_2));
        assert!(b.poll_room(LARGE, &Context::from_waker(Waker::noop())).is_pending(), "it only checks");
        for _ in 0..3 {
            assert!(a.poll_room(LARGE, &cx_1).is_pending() && b.poll_room(LARGE, &cx_2).is_pending());
        }
        full.advance(1);
        assert_eq!((first.count(), second.count()), (1, 0), "the first in line");
        assert!(a.poll_room(LARGE, &cx_1).is_ready());
        let more = piece(&pool, 1, &a);
        assert!(a.poll_room(LARGE, &cx_1).is_pending(), "it is now after the second");
        full.advance(1);
        assert_eq!((first.count(), second.count()), (1, 1));
        drop((full, more));
        assert_eq!((first.count(), connection.bytes.get(), a.sent_bytes()), (2, 0, QUEUED_MAX as u64 + 1));
    }

    #[test]
    fn a_small_piece_does_not_wait_behind_large_ones() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let (bulk, small) = (StreamQueue::new(&connection), StreamQueue::new(&connection));
        let cx = Context::from_waker(Waker::noop());
        let full = piece(&pool, QUEUED_MAX, &bulk);
        for (queue, len, is_ready) in [
            (&small, Some(SMALL_LEN_MAX), true),
            (&small, None, true),
            (&small, LARGE, false),
            // After large pieces of its own it keeps its place.
            (&bulk, Some(1), false),
            (&bulk, None, false),
        ] {
            assert_eq!(queue.poll_room(len, &cx).is_ready(), is_ready, "{len:?}");
        }
        // One at a time per stream, and no more than there is room for in total.
        let streams: Vec<_> = (0..100).map(|_| StreamQueue::new(&connection)).collect();
        let mut waiting = Vec::new();
        while let Some(queue) = streams.get(waiting.len()).filter(|queue| queue.poll_room(Some(1), &cx).is_ready()) {
            waiting.push(piece(&pool, SMALL_LEN_MAX, queue));
            assert!(queue.poll_room(Some(1), &cx).is_pending());
        }
        assert_eq!(waiting.len(), (QUEUED_WITH_SMALL_MAX - QUEUED_MAX) / SMALL_LEN_MAX);
        drop((full, waiting));
        assert!(bulk.poll_room(None, &cx).is_ready());
    }

    #[test]
    fn a_new_stream_whose_first_piece_will_be_large_waits_in_line() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let (bulk, fresh) = (StreamQueue::new(&connection), StreamQueue::new(&connection));
        let cx = Context::from_waker(Waker::noop());
        let full = piece(&pool, QUEUED_MAX, &bulk);
        assert!(fresh.poll_room(None, &cx).is_ready());
        fresh.expect_bulk();
        assert!(fresh.poll_room(None, &cx).is_pending());
        let small = piece(&pool, 10, &fresh);
        drop(small);
        assert!(fresh.poll_room(None, &cx).is_ready(), "its pieces are small after all");
        drop(full);
    }

    #[test]
    fn a_second_small_piece_goes_when_the_first_is_written() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let (bulk, small) = (StreamQueue::new(&connection), StreamQueue::new(&connection));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let full = piece(&pool, QUEUED_MAX, &bulk);
        let mut first = piece(&pool, 100, &small);
        assert!(small.poll_room(Some(100), &cx).is_pending());
        first.advance(100);
        assert_eq!(woken.count(), 1, "the connection is still full of bulk");
        assert!(small.poll_room(Some(100), &cx).is_ready());
        drop((first, full));
    }

    #[test]
    fn small_pieces_do_not_keep_large_ones_waiting_for_ever() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let bulk = StreamQueue::new(&connection);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let streams: Vec<_> = (0..40).map(|_| StreamQueue::new(&connection)).collect();
        let mut waiting = VecDeque::from([piece(&pool, QUEUED_MAX, &StreamQueue::new(&connection))]);
        assert!(bulk.poll_room(LARGE, &cx).is_pending());
        let idle = Context::from_waker(Waker::noop());
        // Small pieces arrive as fast as bytes are written.
        for nth in 0..100_000 {
            let queue = &streams[nth % streams.len()];
            if queue.poll_room(Some(SMALL_LEN_MAX), &idle).is_ready() {
                waiting.push_back(piece(&pool, SMALL_LEN_MAX, queue));
            }
            let Some(front) = waiting.front_mut() else { break };
            front.advance(SMALL_LEN_MAX);
            if front.remaining() == 0 {
                waiting.pop_front();
            }
            if woken.count() > 0 {
                break;
            }
        }
        assert_eq!(woken.count(), 1);
        assert!(bulk.poll_room(LARGE, &cx).is_ready());
    }

    #[test]
    fn a_stream_is_flushed_when_its_last_piece_is_written_or_dropped() {
        let (pool, connection) = (Pool::new(0), Rc::new(ConnectionQueue::default()));
        let queue = StreamQueue::new(&connection);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        assert!(queue.poll_flushed(&cx).is_ready());
        let (mut one, two) = (piece(&pool, 10, &queue), piece(&pool, 20, &queue));
        assert!(queue.poll_flushed(&cx).is_pending());
        one.advance(10);
        drop(one);
        assert_eq!((woken.count(), queue.has_queued()), (0, true));
        drop(two);
        assert_eq!((woken.count(), queue.has_queued(), pool.usage().leased_bytes), (1, false, 0));
        drop(SendPiece::new(Content::End, &queue));
        assert!(!queue.has_queued());
    }
}
