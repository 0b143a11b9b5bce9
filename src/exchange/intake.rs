use std::task::{Context, Poll, ready};

use crate::base::Time;
use crate::engine::{ByteStream, Core, Lease, StreamError};
use crate::wire::http1::{Answer, Cors, HeadError, Method, Progress, RequestHead, ResponseHead};

/// The most interim (1xx) responses that are accepted for one request. More are a protocol error.
pub const INTERIM_MAX: u32 = 64;

/// The receiving half of a connection: bytes that were received and are not consumed yet.
///
/// It lives as long as its connection, so that bytes behind one message are kept for the next.
#[derive(Default)]
pub struct Intake {
    rest: Option<Lease>,
}

/// Why no head could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadReadError {
    /// The connection failed, or ended within the head.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The bytes are not a valid head, or one that is not accepted.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The head was not complete within its time limit.
    #[error("the head did not arrive in time")]
    Timeout,
}

impl HeadReadError {
    /// The response to a peer whose head took too long.
    pub const TIMEOUT_ANSWER: Answer<'static> =
        Answer::new(408, "head_timeout", "the head of the request took too long: send it at once");

    /// Appends the error response for the peer; nothing if the connection is gone.
    pub fn write_answer(&self, cors: Option<Cors<'_>>, append: &[(&str, &[u8])], out: &mut Vec<u8>) {
        match self {
            HeadReadError::Head(error) => error.write_answer(cors, append, out),
            HeadReadError::Timeout => Answer { cors, append, ..HeadReadError::TIMEOUT_ANSWER }.write(out),
            HeadReadError::Stream(_) => {}
        }
    }
}

impl Intake {
    /// Inserts bytes that were received elsewhere in front of all others.
    pub fn prime(&mut self, lease: Lease) {
        debug_assert!(self.rest.is_none(), "primed before it is read");
        self.rest = Some(lease).filter(|lease| !lease.is_empty());
    }

    /// The bytes that are not consumed yet. Set it to `None` when they are.
    pub fn rest(&mut self) -> &mut Option<Lease> {
        &mut self.rest
    }

    /// Whether there are bytes that are not consumed yet.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Waits for bytes to consume; false if the peer closed its side instead.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub async fn fill(&mut self, stream: &impl ByteStream) -> Result<bool, StreamError> {
        std::future::poll_fn(|cx| self.poll_fill(stream, cx)).await
    }

    /// [`Intake::fill`] as a poll function.
    pub fn poll_fill(&mut self, stream: &impl ByteStream, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let filled = self.poll_begin(stream, cx);
        if filled.is_pending() {
            stream.expect_more();
        }
        filled
    }

    /// Waits until the peer closes its side or the connection fails, even while received bytes are not consumed.
    /// Further bytes are received and kept, as many as the connection may hold.
    pub async fn ended(&mut self, stream: &impl ByteStream) {
        if self.fill(stream).await == Ok(true) {
            std::future::poll_fn(|cx| stream.poll_ended(cx)).await;
        }
    }

    /// As [`Intake::fill`], for the first bytes of a response, but without [`ByteStream::expect_more`]: a peer that was
    /// sent a request does not hold its response back until it gets an acknowledgement.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub async fn begin(&mut self, stream: &impl ByteStream) -> Result<bool, StreamError> {
        std::future::poll_fn(|cx| self.poll_begin(stream, cx)).await
    }

    fn poll_begin(&mut self, stream: &impl ByteStream, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        if self.rest.is_none() {
            self.rest = ready!(stream.poll_recv(cx))?;
        }
        Poll::Ready(Ok(self.rest.is_some()))
    }

    /// Reads the head of a request, and returns when its first byte arrived; `None` if the connection ended before
    /// that.
    ///
    /// # Errors
    ///
    /// If the connection failed, or the bytes are not an acceptable head.
    #[cfg(feature = "internals")]
    pub async fn request_head(
        &mut self,
        stream: &impl ByteStream,
        head: &mut RequestHead,
        core: &Core,
    ) -> Result<Option<Time>, HeadReadError> {
        self.request_head_within(stream, head, core, |_| true).await
    }

    /// As [`Intake::request_head`], while `may_keep` allows an incomplete head of the given length to be kept.
    ///
    /// # Errors
    ///
    /// As there, and [`HeadError::Crowded`].
    pub async fn request_head_within(
        &mut self,
        stream: &impl ByteStream,
        head: &mut RequestHead,
        core: &Core,
        mut may_keep: impl FnMut(usize) -> bool,
    ) -> Result<Option<Time>, HeadReadError> {
        let mut began = None;
        while self.fill(stream).await? {
            began.get_or_insert_with(|| core.turn_time());
            if self.feed(|bytes| head.feed(bytes))? {
                return Ok(began);
            }
            if !may_keep(head.as_bytes().len()) {
                return Err(HeadError::Crowded.into());
            }
        }
        if head.is_idle() { Ok(None) } else { Err(StreamError::Truncated.into()) }
    }

    /// Reads the head of a response to a request with `method`; false if the connection ended before its first byte.
    ///
    /// # Errors
    ///
    /// If the connection failed, or the bytes are not an acceptable head.
    pub async fn response_head(
        &mut self,
        stream: &impl ByteStream,
        head: &mut ResponseHead,
        method: Method,
    ) -> Result<bool, HeadReadError> {
        while self.fill(stream).await? {
            if self.feed(|bytes| head.feed(bytes, method))? {
                return Ok(true);
            }
        }
        if head.is_idle() { Ok(false) } else { Err(StreamError::Truncated.into()) }
    }

    /// Parses the received bytes; true when the head is complete.
    fn feed(&mut self, feed: impl FnOnce(&[u8]) -> Result<Progress, HeadError>) -> Result<bool, HeadError> {
        let Some(mut lease) = self.rest.take() else { return Ok(false) };
        match feed(&lease)? {
            Progress::Partial => Ok(false),
            Progress::Complete { len } => {
                lease.advance(len);
                self.rest = Some(lease).filter(|lease| !lease.is_empty());
                Ok(true)
            }
        }
    }
}
