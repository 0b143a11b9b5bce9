use std::future::pending;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Core, StreamError};
use crate::exchange::{BodySource, CallFailure, Http1Source, Piece, Refusal, read_on};
use crate::latency::{SERVER_TIMING, own_timing};
use crate::route::Scheme;
use crate::serve::incoming::{Incoming, RequestBody};
use crate::serve::label::CallLabel;
use crate::serve::requests::{Requests, cors_of};
use crate::serve::responder::Http1Responder;
use crate::wire::http1::{Answer, BodyError, Cors, Method, RequestHead};

/// How long the body of a request that cannot be passed on is read, to learn the id that the response should have.
const READ_ID_WITHIN: Duration = Duration::from_millis(500);

/// A request whose head was read, on its connection.
pub struct Request<'a, S> {
    stream: &'a S,
    core: &'a Core,
    began: Time,
    requests: &'a mut Requests,
}

/// The body of a request of HTTP/1.1.
pub struct Http1RequestBody<'a, S, P> {
    source: Http1Source<'a, P>,
    /// The connection, if it is watched for its end.
    watched: Option<&'a S>,
}

impl<'a, S: ByteStream> Request<'a, S> {
    pub(super) fn new(stream: &'a S, core: &'a Core, began: Time, requests: &'a mut Requests) -> Request<'a, S> {
        Request { stream, core, began, requests }
    }

    /// Its head.
    #[must_use]
    pub fn head(&self) -> &RequestHead {
        &self.requests.head
    }

    /// When its first byte was received.
    #[must_use]
    pub fn began(&self) -> Time {
        self.began
    }

    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &'a S {
        self.stream
    }

    /// Sets the scheme by which the caller called, where it is not that of the connection.
    pub fn set_scheme(&mut self, scheme: Scheme) {
        self.requests.scheme = scheme;
    }

    /// What it is about, if that is read on this connection.
    pub fn label(&mut self) -> Option<&mut CallLabel> {
        self.requests.label()
    }

    /// Whether its body was received to its end, so that another request can follow.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.requests.decoder.is_done()
    }

    /// The request apart from its connection. Body and response use `over`, which is the connection with limits on its waits.
    /// The connection is watched for its end, which means that the caller has left, if `is_watched` is true.
    pub fn incoming<'b, P: ByteStream>(
        &'b mut self,
        over: &'b P,
        is_watched: bool,
    ) -> Incoming<'b, Http1RequestBody<'b, S, P>, Http1Responder<'b, P>> {
        let Requests { head, intake, decoder, label, reads_labels, browsers, scheme, outlet, scratch, .. } =
            &mut *self.requests;
        let head = &*head;
        let responder = Http1Responder::new(
            head,
            over,
            self.core.pool(),
            outlet,
            scratch,
            cors_of(browsers.as_ref(), *scheme, head),
        );
        let watched = is_watched.then_some(self.stream);
        let body = Http1RequestBody { source: Http1Source::new(over, intake, decoder), watched };
        let label = label.as_deref_mut().filter(|_| *reads_labels);
        Incoming { head, body, label, responder }
    }

    /// Forgets what was queued for the response, which is given up or was sent.
    pub fn end_response(&mut self) {
        self.requests.end_response();
    }

    /// Answers a request that is not passed on. The connection has to be closed.
    pub async fn refuse(&mut self, refusal: Refusal) {
        self.answer(refusal.answer()).await;
    }

    /// Answers a request whose body is malformed. The connection has to be closed.
    pub async fn refuse_body(&mut self, error: BodyError) {
        let timing = self.own_timing();
        let append = [(SERVER_TIMING, &timing[..])];
        let write = |cors: Option<Cors<'_>>, out: &mut Vec<u8>| error.write_answer(cors, &append, out);
        self.requests.answer(self.stream, self.core.pool(), write).await;
    }

    /// Whether it is a preflight request that is answered here.
    #[must_use]
    pub fn is_preflight(&self) -> bool {
        self.requests.browsers.is_some() && self.head().is_preflight()
    }

    /// Answers a preflight request whose origin may call. Returns whether the connection can carry another request, which
    /// `may_keep` allows.
    pub async fn answer_preflight(&mut self, may_keep: bool) -> bool {
        let keep = may_keep && self.is_received() && self.head().keep_alive();
        let mut bytes = Vec::new();
        if let Some(cors) = cors_of(self.requests.browsers.as_ref(), self.requests.scheme, self.head()) {
            cors.write_preflight(self.head(), !keep, &mut bytes);
        }
        self.requests.answer(self.stream, self.core.pool(), |_, out| out.extend_from_slice(&bytes)).await;
        keep
    }

    /// Answers a call that failed before a response began, with the id of its message if that can be learnt. Returns whether
    /// the connection can carry another request, which `may_keep` allows. `timing` is the value of `Server-Timing`.
    pub async fn fail(&mut self, failure: CallFailure, timing: &[u8], may_keep: bool) -> bool {
        self.read_id().await;
        let keep = may_keep && self.is_received() && self.head().keep_alive();
        let to_head = self.head().method() == Method::Head;
        let Requests { head, label, reads_labels, browsers, scheme, .. } = &*self.requests;
        let rpc_id = label.as_ref().filter(|_| *reads_labels).and_then(|label| label.rpc_id());
        let cors = cors_of(browsers.as_ref(), *scheme, head);
        let mut bytes = Vec::new();
        let append = &[(SERVER_TIMING, timing)];
        Answer { close: !keep, to_head, cors, append, ..failure.answer(rpc_id) }.write(&mut bytes);
        self.requests.answer(self.stream, self.core.pool(), |_, out| out.extend_from_slice(&bytes)).await;
        keep
    }

    /// Reads on, for a moment, what of the body is still to come, to find the message's id.
    async fn read_id(&mut self) {
        let Requests { head, intake, decoder, label, reads_labels, .. } = &mut *self.requests;
        let Some(label) = label.as_mut().filter(|_| *reads_labels) else { return };
        if head.expects_continue() {
            // The caller keeps its body back.
            return;
        }
        let mut body = Http1Source::new(self.stream, intake, decoder);
        let reading = read_on(&mut body, |bytes| {
            label.feed(bytes);
            !label.is_done()
        });
        // Without the id the answer says less.
        let _ = self.core.timeout(READ_ID_WITHIN, reading).await;
    }

    async fn answer(&mut self, answer: Answer<'_>) {
        let to_head = self.head().method() == Method::Head;
        let timing = self.own_timing();
        let append = &[(SERVER_TIMING, &timing[..])];
        let write = |cors: Option<Cors<'_>>, out: &mut Vec<u8>| Answer { to_head, cors, append, ..answer }.write(out);
        self.requests.answer(self.stream, self.core.pool(), write).await;
    }

    /// The value of `Server-Timing` for an answer to a request that went no further.
    fn own_timing(&self) -> Vec<u8> {
        let mut timing = Vec::new();
        own_timing(self.requests.own_phase, self.core.now() - self.began, &mut timing);
        timing
    }
}

impl<S: ByteStream, P: ByteStream> RequestBody for Http1RequestBody<'_, S, P> {
    async fn caller_left(&mut self) {
        match self.watched {
            Some(connection) => self.source.peer_ended(connection).await,
            None => pending().await,
        }
    }

    fn is_watched(&self) -> bool {
        self.watched.is_some()
    }
}

impl<S: ByteStream, P: ByteStream> BodySource for Http1RequestBody<'_, S, P> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        self.source.next()
    }

    fn more(&mut self) -> impl Future<Output = Result<(), StreamError>> {
        self.source.more()
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.source.trailers()
    }
}
