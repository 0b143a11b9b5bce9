//! TLS over any byte stream.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::error::TlsError;
use super::session::{Sealed, Session, Unsealed};
use crate::engine::{ByteStream, Class, Lease, Pool, StreamError};

/// A byte stream with TLS over another byte stream.
///
/// Finishing it sends close_notify and then finishes the inner stream. If the inner stream ends without close_notify,
/// the result is [`StreamError::Truncated`].
pub struct TlsStream<S> {
    inner: S,
    pool: Pool,
    session: RefCell<Session>,
    /// Plaintext that waits for a buffer to be sealed into. Empty unless the pool is exhausted.
    backlog: RefCell<VecDeque<Lease>>,
    finishing: Cell<bool>,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The inner stream failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Stream(#[from] StreamError),
    /// It took longer than the caller permits.
    #[error("the TLS handshake took too long: the peer is overloaded, or does not speak TLS")]
    Timeout,
}

impl<S: ByteStream> TlsStream<S> {
    /// Makes the handshake over `inner`, until `timeout` is ready.
    ///
    /// # Errors
    ///
    /// Why it failed, with the inner stream, to be closed or answered in another way. An alert for the peer was sent on
    /// it.
    pub async fn handshake(
        inner: S,
        session: Session,
        pool: Pool,
        timeout: impl Future<Output = ()>,
    ) -> Result<TlsStream<S>, (HandshakeError, S)> {
        let stream = TlsStream::new(inner, session, pool);
        let mut timeout = pin!(timeout);
        let result = poll_fn(|cx| match stream.poll_handshake(cx) {
            Poll::Pending => timeout.as_mut().poll(cx).map(|()| Err(HandshakeError::Timeout)),
            ready => ready,
        })
        .await;
        match result {
            Ok(()) => Ok(stream),
            Err(error) => Err((error, stream.inner)),
        }
    }

    /// A stream whose session has completed its handshake, on this or another core.
    #[must_use]
    pub fn new(inner: S, session: Session, pool: Pool) -> TlsStream<S> {
        TlsStream {
            inner,
            pool,
            session: RefCell::new(session),
            backlog: RefCell::new(VecDeque::new()),
            finishing: Cell::new(false),
        }
    }

    /// The inner stream and the session, which keeps received bytes that are not opened yet. Wait until the stream is
    /// flushed first: plaintext that waits for a buffer is lost.
    #[must_use]
    pub fn into_parts(self) -> (S, Session) {
        (self.inner, self.session.into_inner())
    }

    /// The session, for reading what was negotiated.
    #[must_use]
    pub fn session(&self) -> Ref<'_, Session> {
        self.session.borrow()
    }

    /// The stream under the TLS layer.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    pub(super) fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            let advanced = self.session.borrow_mut().advance_handshake(&self.pool);
            // Done after a failure too, because an alert may wait to be sent.
            let pumped = self.pump();
            match advanced {
                Ok(()) => {}
                Err(TlsError::NoBuffer(class)) => {
                    ready!(self.poll_buffer(class, cx));
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            if let Pumped::Waits(class) = pumped? {
                ready!(self.poll_buffer(class, cx));
                continue;
            }
            if !self.session.borrow().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            // Received bytes may require an answer, so none are read while earlier answers wait to be sent. If those
            // cannot be sent any more, the peer may still have sent the reason.
            if self.inner.poll_ready(cx).is_pending() {
                return Poll::Pending;
            }
            let Poll::Ready(received) = self.poll_input(cx) else {
                // The session may have failed because it would have to keep more than its limit.
                let failure = self.session.borrow().failure();
                return failure.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
            };
            match received? {
                Some(lease) => self.session.borrow_mut().read(lease),
                None => self.session.borrow_mut().read_end()?,
            }
        }
    }

    /// The next bytes of the inner stream. The beginning of an incomplete record is copied out of its buffer during the
    /// wait.
    fn poll_input(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let received = self.inner.poll_recv(cx);
        if received.is_pending() {
            self.session.borrow_mut().park(&self.pool);
        }
        received
    }

    /// Seals everything that can be sealed and gives it to the inner stream, in order.
    fn pump(&self) -> Result<Pumped, StreamError> {
        let (mut session, mut backlog) = (self.session.borrow_mut(), self.backlog.borrow_mut());
        loop {
            while session.has_outgoing() {
                match session.take_outgoing(&self.pool) {
                    Ok(Some(lease)) => self.inner.send(lease)?,
                    Ok(None) => break,
                    Err(TlsError::NoBuffer(class)) => return Ok(Pumped::Waits(class)),
                    Err(error) => return Err(stream_error(&error)),
                }
            }
            let Some(lease) = backlog.pop_front() else { break };
            match session.seal(lease, &self.pool) {
                Ok(Sealed::All(sealed)) => self.inner.send(sealed)?,
                Ok(Sealed::Part { sealed, rest }) => {
                    backlog.push_front(rest);
                    self.inner.send(sealed)?;
                }
                Err(Unsealed { error: TlsError::OutgoingFirst, lease }) => backlog.push_front(lease),
                Err(Unsealed { error: TlsError::NoBuffer(class), lease }) => {
                    backlog.push_front(lease);
                    return Ok(Pumped::Waits(class));
                }
                Err(Unsealed { error, .. }) => {
                    backlog.clear();
                    return Err(stream_error(&error));
                }
            }
        }
        Ok(Pumped::All)
    }

    /// Like [`TlsStream::pump`]; after the last bytes it does what [`ByteStream::finish`] requested.
    fn pump_and_finish(&self) -> Result<Pumped, StreamError> {
        let pumped = self.pump()?;
        if !self.finishing.get() || pumped != Pumped::All {
            return Ok(pumped);
        }
        self.session.borrow_mut().close();
        let pumped = self.pump()?;
        if pumped == Pumped::All {
            self.inner.finish();
        }
        Ok(pumped)
    }

    fn poll_pumped(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            match self.pump_and_finish()? {
                Pumped::All => return Poll::Ready(Ok(())),
                Pumped::Waits(class) => ready!(self.poll_buffer(class, cx)),
            }
        }
    }

    /// Ready when a buffer of `class` is free; it is not taken.
    fn poll_buffer(&self, class: Class, cx: &mut Context<'_>) -> Poll<()> {
        pin!(self.pool.lease(class)).poll(cx).map(drop)
    }
}

impl<S: ByteStream> ByteStream for TlsStream<S> {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        loop {
            let taken = self.session.borrow_mut().take_plaintext(&self.pool);
            let mut clogged = None;
            if self.session.borrow().has_outgoing() {
                // Tries to send the alert for the peer. It does not matter if that fails.
                if let Ok(Pumped::Waits(class)) = self.pump() {
                    clogged = Some(class).filter(|_| self.session.borrow().is_clogged());
                }
            }
            match taken {
                Ok(Some(lease)) => return Poll::Ready(Ok(Some(lease))),
                Ok(None) if self.session.borrow().is_peer_closed() => return Poll::Ready(Ok(None)),
                Ok(None) => {}
                Err(TlsError::NoBuffer(class)) => {
                    ready!(self.poll_buffer(class, cx));
                    continue;
                }
                Err(error) => return Poll::Ready(Err(stream_error(&error))),
            }
            if let Some(class) = clogged {
                ready!(self.poll_buffer(class, cx));
                continue;
            }
            match ready!(self.poll_input(cx))? {
                Some(lease) => self.session.borrow_mut().read(lease),
                None => self.session.borrow_mut().read_end().map_err(|error| stream_error(&error))?,
            }
        }
    }

    /// The result is that of the inner stream: an end within unread bytes is seen only when they are read.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_ended(cx)
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if self.finishing.get() {
            return Err(StreamError::Closed);
        }
        if lease.is_empty() {
            return Ok(());
        }
        self.backlog.borrow_mut().push_back(lease);
        self.pump().map(drop)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_pumped(cx))?;
        self.inner.poll_ready(cx)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_pumped(cx))?;
        self.inner.poll_flushed(cx)
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.inner.poll_send_failed(cx)
    }

    /// If the pool is exhausted, queued bytes are sent only while the stream is awaited with
    /// [`ByteStream::poll_flushed`].
    fn finish(&self) {
        self.finishing.set(true);
        // A send error is reported when the stream is next awaited.
        let _ = self.pump_and_finish();
    }

    fn abort(&self) {
        self.finishing.set(true);
        self.backlog.borrow_mut().clear();
        self.inner.abort();
    }

    fn expect_more(&self) {
        self.inner.expect_more();
    }

    fn serve_link(&self) {
        self.pool.serve_link();
        self.inner.serve_link();
    }

    fn has_partial(&self) -> bool {
        self.session.borrow().has_partial()
    }

    fn headroom(&self) -> usize {
        self.inner.headroom() + self.session.borrow().headroom()
    }

    fn tailroom(&self) -> usize {
        self.inner.tailroom() + self.session.borrow().tailroom()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    All,
    /// A buffer of this class must become free first.
    Waits(Class),
}

fn stream_error(error: &TlsError) -> StreamError {
    match error {
        TlsError::Truncated => StreamError::Truncated,
        TlsError::Closed => StreamError::Closed,
        other => StreamError::Protocol(Rc::from(other.to_string())),
    }
}
