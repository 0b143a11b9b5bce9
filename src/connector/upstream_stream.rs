//! Streams of exchanges with upstreams, over HTTP/1.1 and HTTP/2.

use std::time::Duration;

use crate::base::Time;
use crate::engine::{ByteStream, Core, StreamError};
use crate::exchange::PeerProgress;
use crate::tls::Connection;
use crate::upstream::{Http2Exchange, HttpConnection};

/// How long to wait for certainty whether a failed connection accepted anything.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The stream of one exchange with an upstream.
pub(super) trait UpstreamStream {
    /// The stream of HTTP/1.1 that is written and read.
    type Stream: ByteStream + PeerProgress;

    fn stream(&self) -> &Self::Stream;

    /// Whether even a small queued request may wait for the upstream, so that sending must be watched too.
    const QUEUES_APART: bool;

    /// When the last bytes were received.
    fn received_at(&self) -> Time;

    /// Within which time the upstream's host must acknowledge what this exchange sends; none if the exchange does not
    /// check.
    fn acknowledged_within(&self) -> Option<Duration>;

    /// Whether an exchange that failed before any response is certain not to have reached the upstream. The system had
    /// accepted `sent_before` bytes before it.
    async fn has_sent_nothing(&self, core: &Core, sent_before: u64) -> bool;

    /// Logs a fault in an answer.
    fn log_fault(&self, why: &str);
}

impl UpstreamStream for HttpConnection {
    type Stream = Connection;

    /// The system accepts the request, or its host is found to be gone.
    const QUEUES_APART: bool = false;

    fn stream(&self) -> &Connection {
        self.connection()
    }

    fn received_at(&self) -> Time {
        self.connection().received_at()
    }

    fn acknowledged_within(&self) -> Option<Duration> {
        self.acknowledged_within()
    }

    async fn has_sent_nothing(&self, core: &Core, sent_before: u64) -> bool {
        let flushed: Result<Result<(), StreamError>, _> =
            core.timeout(FLUSH_TIMEOUT, self.connection().flushed()).await;
        flushed.is_ok() && self.connection().sent_bytes() == sent_before
    }

    fn log_fault(&self, why: &str) {
        self.log_fault(why);
    }
}

impl PeerProgress for Http2Exchange {
    fn core(&self) -> &Core {
        self.core()
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes()
    }

    /// Bytes are given to the stream only when the server's window has room.
    fn acked_bytes(&self) -> u64 {
        self.sent_bytes()
    }

    fn has_queued(&self) -> bool {
        self.has_queued()
    }
}

impl UpstreamStream for Http2Exchange {
    type Stream = Http2Exchange;

    /// The request waits for the server's windows.
    const QUEUES_APART: bool = true;

    fn stream(&self) -> &Http2Exchange {
        self
    }

    fn received_at(&self) -> Time {
        self.received_at()
    }

    /// The connection has its own task for that.
    fn acknowledged_within(&self) -> Option<Duration> {
        None
    }

    async fn has_sent_nothing(&self, _: &Core, _: u64) -> bool {
        self.is_unprocessed()
    }

    fn log_fault(&self, why: &str) {
        self.log_fault(why);
    }
}
