//! Adapts a byte stream to the `h2` crate.
//!
//! The traits are tokio's, but no tokio runtime runs on a core.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::Time;
use crate::engine::{ByteStream, Class, Core, Lease, Pool, StreamError};
use crate::http2::queue::only_looks;
use crate::wire::http2::EmptyData;

/// Observes received bytes of a connection before `h2` has a complete frame.
pub trait Watch {
    /// Takes the next bytes, which were received at `now`.
    fn feed(&self, bytes: &[u8], now: Time);

    /// Whether receiving must pause until received data has been handled. The task that handles it polls the connection
    /// again.
    fn must_pause(&self) -> bool {
        false
    }
}

/// A connection in the form that `h2` reads and writes.
pub struct Io<S, W> {
    stream: Rc<S>,
    core: Core,
    received: Option<Lease>,
    /// Removes empty DATA frames, which `h2` must not see.
    filter: EmptyData,
    /// Bytes written since the last flush, so that frames share a record and a send.
    gathered: Option<Lease>,
    watch: Rc<W>,
}

impl<S: ByteStream, W> Io<S, W> {
    /// A connection to a client, whose first bytes are `first`.
    #[must_use]
    pub fn of_client(core: &Core, stream: Rc<S>, first: Option<Lease>, watch: Rc<W>) -> Io<S, W> {
        let received = first.filter(|lease| !lease.is_empty());
        Io { stream, core: core.clone(), received, filter: EmptyData::of_client(), gathered: None, watch }
    }

    /// A connection to a server.
    #[must_use]
    pub fn of_server(core: &Core, stream: Rc<S>, watch: Rc<W>) -> Io<S, W> {
        Io { stream, core: core.clone(), received: None, filter: EmptyData::of_server(), gathered: None, watch }
    }

    /// An empty buffer, as soon as the queue of the connection has room.
    fn poll_buffer(&self, len: usize, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        ready!(self.stream.poll_ready(cx)).map_err(of_stream)?;
        let around = self.stream.headroom() + self.stream.tailroom();
        match self.core.pool().poll_lease(Class::for_len(len + around), cx) {
            Poll::Pending => self.stream.poll_send_failed(cx).map(|error| Err(of_stream(error))),
            Poll::Ready(mut lease) => {
                lease.reserve_headroom(self.stream.headroom());
                Poll::Ready(Ok(lease))
            }
        }
    }

    fn send_gathered(&mut self) -> io::Result<()> {
        self.gathered.take().map_or(Ok(()), |lease| self.stream.send(lease).map_err(of_stream))
    }
}

impl<S: ByteStream, W: Watch> AsyncRead for Io<S, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.must_pause() {
            return Poll::Pending;
        }
        let (now, had) = (this.core.turn_time(), buf.filled().len());
        // Last time there may have been no room for the rest of a header.
        this.filter.pass(&mut &[][..], buf.remaining(), now, |part| buf.put_slice(part));
        // All received bytes may be filtered out.
        while buf.filled().len() == had && buf.remaining() > 0 {
            if this.received.is_none() {
                let received = this.stream.poll_recv(cx);
                if received.is_pending() {
                    this.stream.expect_more();
                }
                this.received = ready!(received).map_err(of_stream)?;
            }
            let Some(lease) = &mut this.received else {
                let is_cut = this.filter.has_held();
                return Poll::Ready(if is_cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) });
            };
            let mut rest = &lease[..];
            this.filter.pass(&mut rest, buf.remaining(), now, |part| buf.put_slice(part));
            let n = lease.len() - rest.len();
            this.watch.feed(&lease[..n], now);
            lease.advance(n);
            if lease.is_empty() {
                this.received = None;
            }
            // Bytes that are filtered out may also require a pause.
            if buf.filled().len() == had && this.watch.must_pause() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: ByteStream, W> AsyncWrite for Io<S, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tailroom = this.stream.tailroom();
        loop {
            let mut lease = match this.gathered.take() {
                Some(lease) => lease,
                None => ready!(this.poll_buffer(buf.len(), cx))?,
            };
            let n = buf.len().min(lease.tailroom().saturating_sub(tailroom));
            lease.append(&buf[..n]);
            this.gathered = Some(lease);
            if n > 0 || buf.is_empty() {
                return Poll::Ready(Ok(n));
            }
            this.send_gathered()?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().send_gathered())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.send_gathered();
        this.stream.finish();
        Poll::Ready(sent)
    }
}

/// A buffer from the receive share of the pool. If that is used up, waits for a small buffer from the send share, so
/// that a body can always make progress.
pub fn poll_buffer(pool: &Pool, class: Class, cx: &Context<'_>) -> Poll<Lease> {
    match pool.take_for_receive(class).or_else(|| pool.take_for_receive(Class::Small)) {
        Some(lease) => Poll::Ready(lease),
        None if only_looks(cx) => Poll::Pending,
        None => pool.poll_lease(Class::Small, cx),
    }
}

fn of_stream(error: StreamError) -> io::Error {
    let kind = match &error {
        StreamError::Reset | StreamError::ResetWith { .. } => io::ErrorKind::ConnectionReset,
        StreamError::Truncated => io::ErrorKind::UnexpectedEof,
        StreamError::Closed => io::ErrorKind::NotConnected,
        StreamError::TimedOut => io::ErrorKind::TimedOut,
        StreamError::Protocol(_) => io::ErrorKind::InvalidData,
        StreamError::Io(kind) => *kind,
    };
    io::Error::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::base::CoreId;
    use crate::engine::sim::{Faults, SimNet};

    /// A stream with these received pieces and no more.
    struct Received(RefCell<VecDeque<Lease>>);

    impl ByteStream for Received {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
            self.0.borrow_mut().pop_front().map_or(Poll::Pending, |lease| Poll::Ready(Ok(Some(lease))))
        }

        fn send(&self, _: Lease) -> Result<(), StreamError> {
            Err(StreamError::Closed)
        }

        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            Poll::Ready(Err(StreamError::Closed))
        }

        fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            self.poll_ready(cx)
        }

        fn finish(&self) {}

        fn abort(&self) {}
    }

    /// Pauses after this many bytes.
    struct Enough {
        fed: Cell<usize>,
        max: usize,
    }

    impl Watch for Enough {
        fn feed(&self, bytes: &[u8], _: Time) {
            self.fed.set(self.fed.get() + bytes.len());
        }

        fn must_pause(&self) -> bool {
            self.fed.get() > self.max
        }
    }

    #[test]
    fn frames_that_are_left_out_are_received_no_further_than_others() {
        let (pool, net) = (Pool::new(0), SimNet::new(1, Faults::none()));
        let driver = Box::new(net.driver(Ipv4Addr::LOCALHOST.into(), pool.clone()));
        let core = Core::new(CoreId(0), driver, pool.clone(), Duration::ZERO);
        let lease = |bytes: &[u8]| {
            let mut lease = pool.take(Class::for_len(bytes.len())).unwrap();
            lease.append(bytes);
            lease
        };
        // A stream is opened (HEADERS), and then empty DATA frames follow.
        let (opening, nothing) = ([0, 0, 0, 1, 4, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(50));
        let pieces = [lease(&opening), lease(&nothing), lease(&nothing), lease(&nothing)];
        let received = Rc::new(Received(RefCell::new(pieces.into())));
        let watch = Rc::new(Enough { fed: Cell::new(0), max: nothing.len() + opening.len() });
        let mut io = Io::of_server(&core, Rc::clone(&received), watch);
        let mut room = [0; 100];
        let mut buf = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_read(&mut cx, &mut buf).is_ready());
        assert_eq!(buf.filled(), opening);
        assert!(Pin::new(&mut io).poll_read(&mut cx, &mut buf).is_pending());
        assert_eq!((buf.filled(), received.0.borrow().len()), (&opening[..], 1), "the last piece stays where it is");
    }
}
