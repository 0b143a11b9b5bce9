use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustls::pki_types::CertificateDer;

use crate::base::Clock;
use crate::quic::endpoint::QuicEndpoint;
use crate::quic::error::QuicError;
use crate::tls::TlsError;
use crate::wire::quic::{ConnectionError, ConnectionKey, QuicPath, QuicRead, QuicStreamGone, StreamId};

/// What happens on a connection, for the task that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicNews {
    /// The peer has opened streams; see [`QuicConnection::accept_stream`].
    Opened,
    /// Something can be read from the stream.
    Readable(StreamId),
    /// A stream that was blocked can be written to, or further streams can be opened.
    Unblocked,
    /// The peer reads no more from the stream, for the reason with this code.
    Stopped(StreamId, u64),
    /// All that was written on the stream, and its end, has reached the peer's system.
    Delivered(StreamId),
}

/// A QUIC connection, held by one task. Dropping it closes it.
pub struct QuicConnection {
    endpoint: QuicEndpoint,
    key: ConnectionKey,
    state: Rc<ConnectionState>,
}

/// What the endpoint notes for the task that holds a connection.
#[derive(Default)]
pub(super) struct ConnectionState {
    pub(super) is_connected: Cell<bool>,
    pub(super) lost: RefCell<Option<ConnectionError>>,
    news: RefCell<VecDeque<QuicNews>>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionState {
    pub(super) fn tell(&self, news: QuicNews) {
        let mut queue = self.news.borrow_mut();
        // Datagrams of one turn often bring several pieces of a stream.
        if queue.back() != Some(&news) {
            queue.push_back(news);
        }
        drop(queue);
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Wakes the task of `cx` at the next news.
    pub(super) fn keep(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }
}

impl QuicConnection {
    pub(super) fn new(endpoint: QuicEndpoint, key: ConnectionKey, state: Rc<ConnectionState>) -> QuicConnection {
        QuicConnection { endpoint, key, state }
    }

    /// The next news; an error when the connection has ended and there are none left.
    pub fn poll_news(&self, cx: &Context<'_>) -> Poll<Result<QuicNews, ConnectionError>> {
        if let Some(news) = self.state.news.borrow_mut().pop_front() {
            return Poll::Ready(Ok(news));
        }
        if let Some(why) = &*self.state.lost.borrow() {
            return Poll::Ready(Err(why.clone()));
        }
        self.state.keep(cx);
        Poll::Pending
    }

    /// Opens a two-way stream; `None` if the peer permits no further one, or the connection has ended.
    #[must_use]
    pub fn open_stream(&self) -> Option<StreamId> {
        self.endpoint.machine().open_stream(self.key)
    }

    /// The next stream that the peer has opened.
    #[must_use]
    pub fn accept_stream(&self) -> Option<StreamId> {
        self.endpoint.machine().accept_stream(self.key)
    }

    /// Writes as much of `bytes` as there is room for; returns how much that was. [`QuicNews::Unblocked`] follows if it is not all.
    ///
    /// # Errors
    ///
    /// If nothing can be sent on the stream any more.
    pub fn write(&self, stream: StreamId, bytes: &[u8]) -> Result<usize, QuicStreamGone> {
        let written = self.endpoint.machine().write(self.key, stream, bytes);
        self.endpoint.wake();
        written
    }

    /// Finishes the sending direction after what was written.
    pub fn finish(&self, stream: StreamId) {
        self.endpoint.machine().finish(self.key, stream);
        self.endpoint.wake();
    }

    /// Ends the sending direction, and drops what was not sent.
    pub fn reset(&self, stream: StreamId, code: u16) {
        self.endpoint.machine().reset(self.key, stream, code.into());
        self.endpoint.wake();
    }

    /// Reads no more from the stream.
    pub fn stop(&self, stream: StreamId, code: u16) {
        self.endpoint.machine().stop(self.key, stream, code.into());
        self.endpoint.wake();
    }

    /// Reads the next bytes of the stream, at most `max`.
    #[must_use]
    pub fn read(&self, stream: StreamId, max: usize) -> QuicRead {
        let read = self.endpoint.machine().read(self.key, stream, max);
        self.endpoint.wake();
        read
    }

    /// The peer's certificate, if it sent one.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        self.endpoint.machine().peer_certificates(self.key).into_iter().next()
    }

    /// The TLS alert with which the peer has ended the connection, if it has.
    #[must_use]
    pub fn tls_failure(&self) -> Option<TlsError> {
        match QuicError::from(self.state.lost.borrow().clone()?) {
            QuicError::Alert(alert) => Some(alert),
            _ => None,
        }
    }

    /// The peer's present address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.endpoint.machine().peer(self.key)
    }

    /// What is known of the path; `None` if the connection is gone.
    #[must_use]
    pub fn path(&self) -> Option<QuicPath> {
        self.endpoint.machine().path(self.key)
    }

    /// Closes the connection. Nothing more can be sent or received.
    pub fn close(&self) {
        let now = self.endpoint.core().now();
        self.endpoint.machine().close(now, self.key, 0, "");
        self.endpoint.wake();
    }

    /// Whether the application protocol of this name was agreed.
    #[must_use]
    pub fn speaks(&self, protocol: &[u8]) -> bool {
        self.endpoint.machine().protocol(self.key).as_deref() == Some(protocol)
    }
}

impl Drop for QuicConnection {
    fn drop(&mut self) {
        self.close();
        self.endpoint.forget(self.key);
    }
}
