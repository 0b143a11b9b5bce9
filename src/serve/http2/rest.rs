//! The part of a request that arrives after its response.
//!
//! A response may be complete before its request: the next hop has the announced length while END_STREAM is still on
//! its way in a separate frame, or a call is refused before its body arrived. A server may reset such a stream with
//! NO_ERROR (RFC 9113, section 8.1), but some clients report that as a failure of a request that was served. The rest
//! is therefore received and discarded for a short time.

use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use h2::RecvStream;

use crate::engine::Core;
use crate::serve::http2::connection::{STREAMS_MAX, Shared};

/// How long the rest of a request may take after its response, before the stream is reset.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest rest of a request in bytes. The stream of a longer one is reset.
const REST_LEN_MAX: usize = 64 * 1024;

/// Receives and discards the rest of a request whose response is complete. The call does not wait for it. A task is
/// started only if data is still expected.
///
/// `h2` resets the stream with NO_ERROR if it is dropped before the end.
pub(super) fn discard_rest(core: &Core, recv: RecvStream, shared: &Rc<Shared>) {
    let mut rest = Rest { recv, left: REST_LEN_MAX };
    if rest.poll_end(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    let Some(counted) = Counted::new(shared) else { return };
    let clock = core.clone();
    core.spawn(async move {
        let _counted = counted;
        // The stream is dropped, whether the rest came or not.
        let _ = clock.timeout(REST_TIMEOUT, std::future::poll_fn(|cx| rest.poll_end(cx))).await;
    });
}

struct Rest {
    recv: RecvStream,
    /// How many more bytes may arrive.
    left: usize,
}

impl Rest {
    /// Ready at the end of the request, when its stream has failed, or when it is too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Also release what the call has not used, so that other streams of the connection do not wait for it.
            let window = self.recv.flow_control();
            let used = window.used_capacity();
            // A stream that has ended has nothing to release.
            let _ = window.release_capacity(used);
            // Trailers also end the data.
            let Some(Ok(data)) = ready!(self.recv.poll_data(cx)) else { return Poll::Ready(()) };
            let Some(left) = self.left.checked_sub(data.len()) else { return Poll::Ready(()) };
            self.left = left;
        }
    }
}

/// Counts a rest as awaited until dropped.
struct Counted(Rc<Shared>);

impl Counted {
    /// None if the connection already has the maximum.
    fn new(shared: &Rc<Shared>) -> Option<Counted> {
        let rests = shared.rests();
        if rests.get() >= STREAMS_MAX as usize {
            return None;
        }
        rests.set(rests.get() + 1);
        Some(Counted(Rc::clone(shared)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let rests = self.0.rests();
        rests.set(rests.get() - 1);
    }
}
