use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;

use crate::base::Time;
use crate::engine::{ByteStream, Core, Lease, Pool, StreamError};
use crate::exchange::{HeadReadError, Intake, OriginRules, Outlet, clear_scratch};
use crate::latency::Phase;
use crate::route::Scheme;
use crate::serve::label::CallLabel;
use crate::wire::http1::{BodyDecoder, Cors, RequestHead};

/// How long the requests of a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// How long the first byte of the first request may take.
    pub first_timeout: Duration,
    /// How long the connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a head may take from its first byte.
    pub header_timeout: Duration,
}

/// The requests on one connection: what was received and not used, the request under way, and memory that is kept from one to
/// the next.
#[derive(Default)]
pub struct Requests {
    pub(super) intake: Intake,
    pub(super) head: RequestHead,
    pub(super) decoder: BodyDecoder,
    /// Only a connection on which labels were read has one.
    pub(super) label: Option<Box<CallLabel>>,
    pub(super) reads_labels: bool,
    /// By which rules browsers are answered; none if they are not answered here.
    pub(super) browsers: Option<Arc<OriginRules>>,
    pub(super) scheme: Scheme,
    pub(super) outlet: Outlet,
    pub(super) scratch: Vec<u8>,
    has_begun: bool,
    /// What the time of the role itself counts as.
    pub(super) own_phase: Phase,
}

impl Requests {
    /// The requests on a connection of which `first` was received.
    #[must_use]
    pub fn new(first: Option<Lease>) -> Requests {
        let mut requests = Requests::default();
        if let Some(first) = first {
            requests.intake.prime(first);
        }
        requests
    }

    /// Reads what each request is about, or no longer does.
    pub fn read_labels(&mut self, reads_labels: bool) {
        self.reads_labels = reads_labels;
        if reads_labels {
            self.label.get_or_insert_default();
        }
    }

    /// Answers browsers by these rules, over a connection of this scheme; none leaves that to the next hop.
    pub fn answer_browsers(&mut self, rules: Option<&Arc<OriginRules>>, scheme: Scheme) {
        self.browsers = rules.filter(|rules| rules.cors).map(Arc::clone);
        self.scheme = scheme;
    }

    /// Forgets the connection; keeps the memory.
    pub fn clear(&mut self) {
        *self.intake.rest() = None;
        self.has_begun = false;
        self.browsers = None;
        self.head.clear();
        self.end_response();
    }

    pub(super) fn label(&mut self) -> Option<&mut CallLabel> {
        self.label.as_deref_mut().filter(|_| self.reads_labels)
    }

    /// What was received and not answered: the head of the last request, and what follows it.
    #[must_use]
    pub fn into_unanswered(mut self) -> Vec<u8> {
        let mut unanswered = self.head.as_bytes().to_vec();
        if let Some(rest) = self.intake.rest().take() {
            unanswered.extend_from_slice(&rest);
        }
        unanswered
    }

    /// Whether the peer has said its last: its end was received, and nothing before it is unused.
    pub fn has_ended(&mut self, stream: &impl ByteStream) -> impl Future<Output = bool> {
        *self.intake.rest() = None;
        poll_fn(|cx| Poll::Ready(matches!(self.intake.poll_fill(stream, cx), Poll::Ready(Ok(false)))))
    }

    /// Waits for the first byte of the next request. False if no request will follow: the peer has finished, was idle for too
    /// long, or the connection is to end, which `ended` tells.
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
        // The memory of a long head is given back before the next is waited for.
        self.head.clear();
        // A part of a TLS record is the start of a head as well.
        let begun = poll_fn(|cx| match self.intake.poll_fill(stream, cx) {
            Poll::Pending if stream.has_partial() => Poll::Ready(Ok(true)),
            filled => filled,
        });
        let patience = if self.has_begun { limits.idle_timeout } else { limits.first_timeout };
        let idle = core.timeout(patience, begun);
        let ended = async {
            ended.await;
            None
        };
        let begun = future::or(async { idle.await.ok() }, ended).await.transpose()?.unwrap_or(false);
        self.has_begun |= begun;
        Ok(begun)
    }

    /// Reads the head of the next request; returns when its first byte was received. A part of it that is so many bytes long
    /// is kept if `may_keep` allows it; it is told zero when none is kept any more.
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
        let head = self.intake.request_head_within(stream, &mut self.head, core, &mut may_keep);
        let read = core.timeout(limits.header_timeout, head).await;
        may_keep(0);
        let began = read.unwrap_or(Err(HeadReadError::Timeout))?;
        self.decoder.restart(self.head.framing());
        if let Some(label) = self.label.as_mut().filter(|_| self.reads_labels) {
            label.begin(&self.head);
        }
        Ok(began)
    }

    /// Sends a response that `write` appends to an empty buffer, with what it is told about CORS.
    pub(super) async fn answer(
        &mut self,
        stream: &impl ByteStream,
        pool: &Pool,
        write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>),
    ) {
        self.scratch.clear();
        write(cors_of(self.browsers.as_ref(), self.scheme, &self.head), &mut self.scratch);
        // A caller that has left needs no answer.
        if self.outlet.put(stream, pool, &self.scratch).await.is_ok() {
            let _ = self.outlet.flush(stream);
        }
    }

    pub(super) fn end_response(&mut self) {
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
    }
}

/// What a browser is told with each answer to a request.
pub(super) fn cors_of<'h>(rules: Option<&Arc<OriginRules>>, scheme: Scheme, head: &'h RequestHead) -> Option<Cors<'h>> {
    rules.and_then(|rules| rules.cors(head, scheme))
}
