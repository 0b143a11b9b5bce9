use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;

use crate::base::Time;
use crate::engine::{ByteStream, Core, Lease, Pool, StreamError};
use crate::exchange::{HeadReadError, Intake, OriginRules, Outlet, clear_scratch};
use crate::route::Scheme;
use crate::serve::request_context::RequestContext;
use crate::wire::http1::{BodyDecoder, Cors};

/// The time limits of the requests of a connection.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// How long the first byte of the first request may take.
    pub first_timeout: Duration,
    /// How long the connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a head may take from its first byte.
    pub header_timeout: Duration,
}

/// The requests of one connection: unused received bytes, the current request, and memory that is reused.
#[derive(Default)]
pub struct Requests {
    pub(super) intake: Intake,
    /// The context of the current request.
    pub(super) context: RequestContext,
    pub(super) decoder: BodyDecoder,
    pub(super) outlet: Outlet,
    pub(super) scratch: Vec<u8>,
}

impl Requests {
    /// The requests of a connection whose first bytes are `first`.
    #[must_use]
    pub fn new(first: Option<Lease>) -> Requests {
        let mut requests = Requests::default();
        if let Some(first) = first {
            requests.intake.prime(first);
        }
        requests
    }

    /// Sets whether the label of each request is read.
    pub fn read_labels(&mut self, reads_labels: bool) {
        self.context.read_labels(reads_labels);
    }

    /// Sets the CORS rules and the scheme of the connection; no rules leave CORS to the next hop.
    pub fn answer_browsers(&mut self, rules: Option<&Arc<OriginRules>>, scheme: Scheme) {
        self.context.answer_browsers(rules, scheme);
    }

    /// Resets the state for another connection, and keeps the memory.
    pub fn clear(&mut self) {
        *self.intake.rest() = None;
        self.context.has_begun = false;
        self.context.browsers = None;
        self.context.head.clear();
        self.context.forget_caller();
        self.end_response();
    }

    /// The received bytes, if no request was read yet.
    #[must_use]
    pub fn into_received(mut self) -> Option<Lease> {
        self.intake.rest().take()
    }

    /// The received bytes that were not answered: the head of the last request, and what follows it.
    #[must_use]
    pub fn into_unanswered(mut self) -> Vec<u8> {
        let mut unanswered = self.context.head.as_bytes().to_vec();
        if let Some(rest) = self.intake.rest().take() {
            unanswered.extend_from_slice(&rest);
        }
        unanswered
    }

    /// Whether the peer has finished sending and all of its bytes were used.
    pub fn has_ended(&mut self, stream: &impl ByteStream) -> impl Future<Output = bool> {
        *self.intake.rest() = None;
        poll_fn(|cx| Poll::Ready(matches!(self.intake.poll_fill(stream, cx), Poll::Ready(Ok(false)))))
    }

    /// Waits for the first byte of the next request. False if no request will follow: the peer has finished, was idle
    /// for too long, or `ended` is ready because the connection has to end.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub(super) async fn wait(
        &mut self,
        core: &Core,
        stream: &impl ByteStream,
        limits: RequestLimits,
        ended: impl Future<Output = ()>,
    ) -> Result<bool, StreamError> {
        // Memory of a long head is freed before the wait for the next one.
        self.context.head.clear();
        // A part of a TLS record also starts a head.
        let begun = poll_fn(|cx| match self.intake.poll_fill(stream, cx) {
            Poll::Pending if stream.has_partial() => Poll::Ready(Ok(true)),
            filled => filled,
        });
        let patience = if self.context.has_begun { limits.idle_timeout } else { limits.first_timeout };
        let idle = core.timeout(patience, begun);
        let ended = async {
            ended.await;
            None
        };
        let begun = future::or(async { idle.await.ok() }, ended).await.transpose()?.unwrap_or(false);
        self.context.has_begun |= begun;
        Ok(begun)
    }

    /// Reads the head of the next request; returns when its first byte was received. `may_keep` decides whether an
    /// incomplete head of a given length may be held; it is called with zero when none is held any more.
    ///
    /// # Errors
    ///
    /// If the head is malformed, too long or late, or the connection fails within it.
    pub(super) async fn read_head(
        &mut self,
        core: &Core,
        stream: &impl ByteStream,
        limits: RequestLimits,
        mut may_keep: impl FnMut(usize) -> bool,
    ) -> Result<Option<Time>, HeadReadError> {
        let head = self.intake.request_head_within(stream, &mut self.context.head, core, &mut may_keep);
        let read = core.timeout(limits.header_timeout, head).await;
        may_keep(0);
        let began = read.unwrap_or(Err(HeadReadError::Timeout))?;
        self.decoder.restart(self.context.head.framing());
        self.context.begin_label();
        Ok(began)
    }

    /// Sends a response that `write` appends to an empty buffer. `write` gets the CORS fields to add.
    pub(super) async fn answer(
        &mut self,
        stream: &impl ByteStream,
        pool: &Pool,
        write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>),
    ) {
        self.scratch.clear();
        write(self.context.cors(), &mut self.scratch);
        // A caller that has left needs no answer.
        if self.outlet.put(stream, pool, &self.scratch).await.is_ok() {
            let _ = self.outlet.flush(stream);
        }
    }

    pub(super) fn end_response(&mut self) {
        self.context.drop_read_ahead();
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
    }
}
