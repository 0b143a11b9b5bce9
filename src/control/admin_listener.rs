use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// The most connections to the admin API at a time. Further ones wait.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The longest life of one connection. Tools simply reconnect.
pub const ADMIN_CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// How long to wait when the system refuses to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener whose connections are few and short-lived, so that slow or idle peers hold nothing for long.
pub struct AdminListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl AdminListener {
    /// Wraps a listener with both limits.
    #[must_use]
    pub fn new(listener: TcpListener) -> AdminListener {
        AdminListener { listener, places: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)) }
    }
}

impl Listener for AdminListener {
    type Io = AdminConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (AdminConnection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(tokio::time::sleep(ADMIN_CONNECTION_LIFE));
                    return (AdminConnection { stream, end, _place: place }, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that closes after its longest life.
pub struct AdminConnection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// When the connection of a request ends at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionEnd(pub(super) Instant);

impl Connected<IncomingStream<'_, AdminListener>> for ConnectionEnd {
    fn connect_info(stream: IncomingStream<'_, AdminListener>) -> ConnectionEnd {
        ConnectionEnd(stream.io().end.deadline())
    }
}

impl AdminConnection {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
