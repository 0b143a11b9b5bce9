//! A connection to an upstream for one exchange.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::base::Time;
use crate::engine::{ByteStream, Core, Timer};
use crate::upstream::{Checkout, Upstream, UpstreamConnection, UpstreamError};

/// Takes an idle connection or makes a new one; with `fresh` always a new one. None if that takes longer than `until`.
/// `timer` is used if there is something to wait for.
pub(super) async fn checkout(
    core: &Core,
    upstream: &Upstream,
    needs_fresh: bool,
    until: Time,
    timer: &mut Option<Timer>,
) -> Option<Result<Checkout, UpstreamError>> {
    let mut connecting = pin!(async {
        match needs_fresh {
            false => upstream.checkout().await,
            true => upstream.connect().await,
        }
    });
    poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(connected) => Poll::Ready(Some(connected)),
        Poll::Pending if until == Time::NEVER => Poll::Pending,
        Poll::Pending => timer.get_or_insert_with(|| core.sleep_until(until)).poll_elapsed(cx).map(|()| None),
    })
    .await
}

/// The connection of one exchange. If it is dropped before the exchange is complete, it is reset.
pub(super) struct Held(Option<UpstreamConnection>);

impl Held {
    pub(super) fn new(connection: UpstreamConnection) -> Held {
        Held(Some(connection))
    }

    pub(super) fn get(&self) -> &UpstreamConnection {
        self.0.as_ref().expect("only `release` takes it")
    }

    /// Ends a complete exchange: the connection is closed, or kept for as long as the upstream says.
    pub(super) fn release(&mut self, keep: bool, idle_timeout: Option<Duration>) {
        match self.0.take() {
            Some(UpstreamConnection::Http(connection)) if keep => connection.give_back(idle_timeout),
            // An HTTP/2 stream has ended, and its connection has room for another.
            Some(UpstreamConnection::Http(_) | UpstreamConnection::Http2(_)) | None => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.0.take() {
            Some(UpstreamConnection::Http(connection)) => connection.connection().abort(),
            Some(UpstreamConnection::Http2(stream)) => stream.abort(),
            None => {}
        }
    }
}
