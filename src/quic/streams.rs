//! The streams of a connection as byte streams, each held by a task of its own.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};

use crate::engine::{ByteStream, Class, Core, LARGE_LEN, Lease, Signal, StreamError};
use crate::quic::connection::{QuicConnection, QuicNews};
use crate::wire::quic::{ConnectionError, QuicPath, QuicRead, StreamId};

/// How much of one stream may wait here for room in QUIC before its source has to wait, in bytes.
const QUEUED_MAX: usize = 64 * 1024;
/// The most streams of the peer that wait for a task; further ones are refused.
const UNTAKEN_MAX: usize = 1024;

/// The streams of a connection. Clones are the same. The connection is closed when the last clone and stream is dropped.
#[derive(Clone)]
pub struct QuicStreams(Rc<Shared>);

struct Shared {
    core: Core,
    connection: Rc<QuicConnection>,
    held: RefCell<HashMap<StreamId, Rc<StreamState>>>,
    /// Streams with bytes that QUIC had no room for.
    blocked: RefCell<Vec<StreamId>>,
    opened: RefCell<VecDeque<StreamId>>,
    /// Raised when the peer has opened a stream, and when the connection has ended.
    arrived: Signal,
    ended: RefCell<Option<ConnectionError>>,
}

#[derive(Default)]
struct StreamState {
    reader: Waiter,
    writer: Waiter,
    watcher: Waiter,
    /// What was read from QUIC while there was no buffer for it.
    unread: RefCell<Bytes>,
    has_read_all: Cell<bool>,
    queued: RefCell<VecDeque<Queued>>,
    is_finished: Cell<bool>,
    /// Whether the end, or a reset, was given to QUIC.
    has_sent_end: Cell<bool>,
    is_delivered: Cell<bool>,
    /// Whether the peer wants nothing more, or has reset what it sends.
    is_stopped: Cell<bool>,
    is_reset: Cell<bool>,
}

/// Bytes that wait for room in QUIC.
enum Queued {
    Lease(Lease),
    Bytes(Bytes),
}

impl Queued {
    fn bytes(&self) -> &[u8] {
        match self {
            Queued::Lease(lease) => lease,
            Queued::Bytes(bytes) => bytes,
        }
    }

    fn advance(&mut self, len: usize) {
        match self {
            Queued::Lease(lease) => lease.advance(len),
            Queued::Bytes(bytes) => bytes.advance(len),
        }
    }
}

#[derive(Default)]
struct Waiter(RefCell<Option<Waker>>);

impl Waiter {
    fn keep(&self, cx: &Context<'_>) {
        self.0.replace(Some(cx.waker().clone()));
    }

    fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

/// One stream of a connection. Dropping it resets what was not finished, and stops what was not read.
pub struct QuicStream {
    shared: Rc<Shared>,
    id: StreamId,
    state: Rc<StreamState>,
}

impl QuicStreams {
    /// The streams of `connection`. Nothing happens on them until [`QuicStreams::run`] runs.
    #[must_use]
    pub fn new(core: &Core, connection: Rc<QuicConnection>) -> QuicStreams {
        QuicStreams(Rc::new(Shared {
            core: core.clone(),
            connection,
            held: RefCell::default(),
            blocked: RefCell::default(),
            opened: RefCell::default(),
            arrived: Signal::default(),
            ended: RefCell::default(),
        }))
    }

    /// Passes on what happens on the connection, until it has ended. Run it as one task.
    pub async fn run(&self) -> ConnectionError {
        let shared = &self.0;
        // The peer may have opened streams together with the connection.
        shared.accept();
        loop {
            match poll_fn(|cx| shared.connection.poll_news(cx)).await {
                Ok(QuicNews::Opened) => shared.accept(),
                Ok(QuicNews::Readable(id)) => shared.with(id, |state| {
                    state.reader.wake();
                    state.watcher.wake();
                }),
                Ok(QuicNews::Unblocked) => shared.send_blocked(),
                Ok(QuicNews::Stopped(id, _)) => shared.with(id, |state| {
                    state.is_stopped.set(true);
                    state.writer.wake();
                    state.watcher.wake();
                }),
                Ok(QuicNews::Delivered(id)) => shared.with(id, |state| {
                    state.is_delivered.set(true);
                    state.writer.wake();
                }),
                Err(why) => {
                    shared.end(why.clone());
                    return why;
                }
            }
        }
    }

    /// Opens a stream; `None` if the peer permits no further one, or the connection has ended.
    #[must_use]
    pub fn open(&self) -> Option<QuicStream> {
        self.0.connection.open_stream().map(|id| QuicStream::new(&self.0, id))
    }

    /// The next stream that the peer opens; `None` when the connection has ended.
    pub async fn accept(&self) -> Option<QuicStream> {
        loop {
            let seen = self.0.arrived.count();
            if let Some(id) = self.0.opened.borrow_mut().pop_front() {
                return Some(QuicStream::new(&self.0, id));
            }
            if self.0.ended.borrow().is_some() {
                return None;
            }
            self.0.arrived.after(seen).await;
        }
    }

    /// What is known of the path; `None` if the connection is gone.
    #[must_use]
    pub fn path(&self) -> Option<QuicPath> {
        if self.0.ended.borrow().is_some() { None } else { self.0.connection.path() }
    }

    /// Closes the connection. Its streams fail.
    pub fn close(&self) {
        self.0.connection.close();
        self.0.end(ConnectionError::LocallyClosed);
    }
}

impl Shared {
    fn accept(&self) {
        while let Some(id) = self.connection.accept_stream() {
            if self.opened.borrow().len() >= UNTAKEN_MAX {
                self.connection.reset(id, 0);
                self.connection.stop(id, 0);
            } else {
                self.opened.borrow_mut().push_back(id);
            }
        }
        self.arrived.raise();
    }

    fn with(&self, id: StreamId, note: impl FnOnce(&StreamState)) {
        let state = self.held.borrow().get(&id).map(Rc::clone);
        if let Some(state) = state {
            note(&state);
        }
    }

    fn end(&self, why: ConnectionError) {
        self.ended.borrow_mut().get_or_insert(why);
        self.opened.borrow_mut().clear();
        let held: Vec<_> = self.held.borrow().values().map(Rc::clone).collect();
        for state in held {
            [&state.reader, &state.writer, &state.watcher].into_iter().for_each(Waiter::wake);
        }
        self.arrived.raise();
    }

    fn send_blocked(&self) {
        let blocked = self.blocked.take();
        for id in blocked {
            self.with(id, |state| {
                self.send_queued(id, state);
                state.writer.wake();
            });
            // A stream that was dropped after its end stays only until that was sent.
            let is_over = |state: &Rc<StreamState>| Rc::strong_count(state) == 1 && state.has_sent_end.get();
            if self.held.borrow().get(&id).is_some_and(is_over) {
                self.held.borrow_mut().remove(&id);
            }
        }
    }

    /// Gives QUIC what it has room for.
    fn send_queued(&self, id: StreamId, state: &StreamState) {
        let mut queued = state.queued.borrow_mut();
        while let Some(piece) = queued.front_mut() {
            let Ok(written) = self.connection.write(id, piece.bytes()) else {
                state.is_stopped.set(true);
                queued.clear();
                break;
            };
            if written < piece.bytes().len() {
                piece.advance(written);
                return self.blocked.borrow_mut().push(id);
            }
            queued.pop_front();
        }
        drop(queued);
        if state.is_finished.get() && !state.has_sent_end.replace(true) {
            self.connection.finish(id);
        }
    }
}

impl QuicStream {
    fn new(shared: &Rc<Shared>, id: StreamId) -> QuicStream {
        let state = Rc::new(StreamState::default());
        shared.held.borrow_mut().insert(id, Rc::clone(&state));
        QuicStream { shared: Rc::clone(shared), id, state }
    }

    /// The next bytes, at most `max`, where QUIC keeps them; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the peer has reset the stream, or the connection has ended.
    pub fn poll_bytes(&self, max: usize, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let state = &self.state;
        if state.has_read_all.get() {
            return Poll::Ready(Ok(None));
        }
        let mut unread = state.unread.borrow_mut();
        if !unread.is_empty() {
            let len = unread.len().min(max);
            return Poll::Ready(Ok(Some(unread.split_to(len))));
        }
        match self.shared.connection.read(self.id, max) {
            QuicRead::Bytes(bytes) => Poll::Ready(Ok(Some(bytes))),
            QuicRead::Reset(_) => {
                state.is_reset.set(true);
                state.has_read_all.set(true);
                Poll::Ready(Err(StreamError::Reset))
            }
            QuicRead::Finished | QuicRead::Blocked if self.shared.ended.borrow().is_some() => {
                Poll::Ready(Err(StreamError::Reset))
            }
            QuicRead::Finished => {
                state.has_read_all.set(true);
                Poll::Ready(Ok(None))
            }
            QuicRead::Blocked => {
                state.reader.keep(cx);
                Poll::Pending
            }
        }
    }

    /// Puts back the rest of what [`QuicStream::poll_bytes`] has returned.
    pub fn put_back(&self, rest: Bytes) {
        self.state.unread.replace(rest);
    }

    /// Ready when the peer wants no more of this side's bytes, or has reset its own, or the connection has ended.
    pub fn poll_broken(&self, cx: &Context<'_>) -> Poll<StreamError> {
        let state = &self.state;
        if state.is_stopped.get() || state.is_reset.get() || self.shared.ended.borrow().is_some() {
            return Poll::Ready(StreamError::Reset);
        }
        state.watcher.keep(cx);
        Poll::Pending
    }

    /// Whether the connection that carries it has ended.
    #[must_use]
    pub fn has_lost_connection(&self) -> bool {
        self.shared.ended.borrow().is_some()
    }

    /// How many bytes wait here for room in QUIC.
    #[must_use]
    pub fn queued_len(&self) -> usize {
        self.state.queued.borrow().iter().map(|piece| piece.bytes().len()).sum()
    }

    /// Queues bytes that are in no buffer of the pool; otherwise as [`ByteStream::send`].
    ///
    /// # Errors
    ///
    /// If the sending direction has failed or was finished.
    pub fn send_bytes(&self, bytes: impl Into<Bytes>) -> Result<(), StreamError> {
        self.queue(Queued::Bytes(bytes.into()))
    }

    fn queue(&self, piece: Queued) -> Result<(), StreamError> {
        let state = &self.state;
        if state.is_finished.get() {
            return Err(StreamError::Closed);
        }
        if state.is_stopped.get() || self.shared.ended.borrow().is_some() {
            return Err(StreamError::Reset);
        }
        let was_blocked = !state.queued.borrow().is_empty();
        state.queued.borrow_mut().push_back(piece);
        if !was_blocked {
            self.shared.send_queued(self.id, state);
        }
        Ok(())
    }

    /// Waits until the peer's system has all that was sent, and its end.
    ///
    /// # Errors
    ///
    /// If the peer does not want it, or the connection has ended.
    pub async fn delivered(&self) -> Result<(), StreamError> {
        poll_fn(|cx| match self.state.is_delivered.get() {
            true => Poll::Ready(Ok(())),
            false => self.poll_send(cx),
        })
        .await
    }

    /// An error if nothing can be sent any more; otherwise keeps the waker.
    fn poll_send(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.state.is_stopped.get() || self.shared.ended.borrow().is_some() {
            return Poll::Ready(Err(StreamError::Reset));
        }
        self.state.writer.keep(cx);
        Poll::Pending
    }
}

impl ByteStream for QuicStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let Some(mut bytes) = ready!(self.poll_bytes(LARGE_LEN, cx))? else { return Poll::Ready(Ok(None)) };
        match self.shared.core.pool().poll_lease(Class::for_len(bytes.len()), cx) {
            Poll::Ready(mut lease) => {
                let copied = lease.append_some(&bytes);
                bytes.advance(copied);
                if !bytes.is_empty() {
                    self.put_back(bytes);
                }
                Poll::Ready(Ok(Some(lease)))
            }
            Poll::Pending => {
                self.put_back(bytes);
                Poll::Pending
            }
        }
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.queue(Queued::Lease(lease))
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self.poll_send(cx) {
            Poll::Pending if self.queued_len() < QUEUED_MAX.min(self.shared.core.pool().allowance()) => {
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self.poll_send(cx) {
            Poll::Pending if self.state.queued.borrow().is_empty() => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            _ => Poll::Pending,
        }
    }

    fn finish(&self) {
        if !self.state.is_finished.replace(true) && self.state.queued.borrow().is_empty() {
            self.shared.send_queued(self.id, &self.state);
        }
    }

    fn abort(&self) {
        let state = &self.state;
        state.queued.borrow_mut().clear();
        state.is_finished.set(true);
        if !state.has_sent_end.replace(true) {
            self.shared.connection.reset(self.id, 0);
        }
        if !state.has_read_all.replace(true) {
            self.shared.connection.stop(self.id, 0);
        }
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        let state = &self.state;
        // What was finished is sent to its end by `run`, which needs the state for that.
        if !state.is_finished.get() || state.queued.borrow().is_empty() {
            self.shared.held.borrow_mut().remove(&self.id);
        }
        if !state.is_finished.get() {
            self.shared.connection.reset(self.id, 0);
        }
        if !state.has_read_all.get() {
            self.shared.connection.stop(self.id, 0);
        }
    }
}
