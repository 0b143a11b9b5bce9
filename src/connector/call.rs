//! One call: a stream that the edge opened, an upstream, and back.
//!
//! Futures are raced where they lie: moved into a combinator they would take their place twice, for as long as a stream
//! lasts.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Clock, Traffic};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::respond::{Reply, ResponseWork};
use crate::connector::shared::Counters;
use crate::engine::{ByteStream, StreamError};
use crate::exchange::{
    Carry, CarryError, Course, HeadReadError, Intake, Outlet, Patient, carry_body, clear_scratch, forwarded,
};
use crate::latency::ConnectorStamps;
use crate::link::{CallStream, CarrierStream};
use crate::tls::Connection;
use crate::upstream::{Checkout, HttpConnection, UpstreamConnection};
use crate::wire::http1::{BodyDecoder, BodyEncoder, RequestEdits, RequestHead, Version, write_request};
use crate::wire::jsonrpc::Peek;
use crate::wire::mux::Cause;

/// How long the edge may take to send the head of a request on a stream that it has opened.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upstream that takes nothing more may take to say why.
const EARLY_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to become certain whether a failed connection has taken anything.
const CERTAIN_WITHIN: Duration = Duration::from_secs(1);
/// Up to how many bytes of a body are kept, so that a request of which nothing was sent can be sent once more.
const KEPT_LEN_MAX: usize = 4096;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The stream is to be reset so.
    Because(Cause),
    /// The upstream closed the connection before the first byte of an answer.
    Silent,
    /// The same, and nothing of the request had been sent.
    Unsent,
}

/// Whom the upstream is told that a call comes from, and who is answered when there is no answer of the upstream's.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    /// The edge: it has said so in the head, and answers for itself.
    Edge,
    /// An agent whose TLS ends here. Its address, as the edge tells it.
    Agent(&'a str),
}

/// A call on its way. Passed on as one: a task keeps what each of its functions was given.
pub(super) struct Passage<'a> {
    pub(super) here: &'a ConnectorCore,
    pub(super) stream: &'a CallStream,
    pub(super) caller: Caller<'a>,
    /// How its route must be carried.
    pub(super) traffic: Traffic,
}

/// What a worker needs for its calls; kept from one to the next for its memory.
#[derive(Default)]
pub(super) struct Work {
    pub(super) request: RequestWork,
    pub(super) response: ResponseWork,
}

#[derive(Default)]
pub(super) struct RequestWork {
    pub(super) head: RequestHead,
    pub(super) intake: Intake,
    pub(super) decoder: BodyDecoder,
    /// Looks into an agent's message, for answers of our own and for figures. Only workers that have served agents have one.
    pub(super) peek: Option<Box<Peek>>,
    outlet: Outlet,
    scratch: Vec<u8>,
    kept: Kept,
}

/// The body of a request as far as it was taken off the stream, in case that it has to be sent once more.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Work {
    /// Carries the one call of a stream.
    pub(super) async fn carry(&mut self, here: &ConnectorCore, stream: &CallStream) {
        let passage = Passage { here, stream, caller: Caller::Edge, traffic: Traffic::Plain };
        let ended = {
            let mut calling = pin!(async {
                self.request.read_head(here, stream).await?;
                self.call(&passage).await
            });
            unless_broken(stream.on_link(), calling.as_mut()).await
        };
        count(here, ended);
        match ended {
            Some(Ok(())) => self.request.await_end(stream.on_link()).await,
            Some(Err(cause)) => stream.on_link().reset(cause),
            None => {}
        }
    }

    /// Forgets all of what it carried.
    pub(super) fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
    }

    /// Carries one call, whose head is read, to its end.
    pub(super) async fn call(&mut self, passage: &Passage<'_>) -> Result<(), Cause> {
        let mut stamps = ConnectorStamps::new(passage.stream.on_link().received_at());
        let served = passage.here.upstreams.for_request(&self.request.head).ok_or(Cause::NoRoute)?;
        if served.traffic() != passage.traffic {
            return Err(Cause::SealMismatch);
        }
        let checkout = served.upstream.checkout().await;
        let mut checkout = checkout.map_err(|error| served.on_failed(&error))?;
        let mut may_resend = checkout.connect.is_none();
        loop {
            if let Some(took) = checkout.connect {
                served.on_connected();
                stamps.on_connected(took);
            }
            let exchanged = self.exchange(passage, checkout, &mut stamps).await;
            served.on_answer(stamps.status());
            match exchanged {
                Ok(()) => return Ok(()),
                Err(Failure::Unsent) if may_resend && !self.request.kept.too_long => {
                    may_resend = false;
                    Counters::add(&passage.here.connector.counters.requests_resent);
                    checkout = served.upstream.connect().await.map_err(|error| served.on_failed(&error))?;
                }
                Err(Failure::Unsent) => return Err(Cause::UpstreamUnsent),
                Err(Failure::Silent) => return Err(Cause::UpstreamClosed),
                Err(Failure::Because(cause)) => return Err(cause),
            }
        }
    }

    /// Carries request and response over one connection, at the same time.
    async fn exchange(
        &mut self,
        passage: &Passage<'_>,
        checkout: Checkout,
        stamps: &mut ConnectorStamps,
    ) -> Result<(), Failure> {
        let Work { request, response } = self;
        let reused = checkout.connect.is_none();
        let UpstreamConnection::Http(connection) = checkout.connection;
        let held = Held(Some(connection));
        let connection = held.connection();
        let sent_before = connection.sent_bytes();
        let reply = Reply::to(&request.head, passage.caller, passage.here.is_draining());
        let sent_whole = Cell::new(false);
        stamps.on_sent(passage.here.core.now());
        let ended = {
            let to = Onward { connection, authority: held.authority(), keep: reused };
            let mut there = pin!(request.send(passage, &to, &sent_whole));
            let mut back = pin!(response.receive(passage, &reply, connection, stamps));
            poll_fn(|cx| match back.as_mut().poll(cx) {
                Poll::Pending => there.as_mut().poll(cx).map(Err),
                done => done,
            })
            .await
        };
        if ended == Err(Failure::Silent) && has_sent_nothing(passage.here, connection, sent_before).await {
            return Err(Failure::Unsent);
        }
        let keep = ended?;
        if sent_whole.get() {
            held.let_go(keep);
        }
        Ok(())
    }
}

/// Where a request goes on.
struct Onward<'a> {
    connection: &'a Connection,
    authority: &'a str,
    /// Whether its body is kept, in case that it has to be sent once more.
    keep: bool,
}

/// Drives a call until it is done; none when the edge gave it up first, so that whatever the call has come to is dropped, and
/// the upstream sees that at once.
pub(super) fn unless_broken<T>(
    stream: &CarrierStream,
    mut calling: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |cx| match calling.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => stream.poll_broken(cx).map(|_| None),
    })
}

/// Counts how a call ended; none when the edge gave it up.
pub(super) fn count(here: &ConnectorCore, ended: Option<Result<(), Cause>>) {
    let counters = &here.connector.counters;
    match ended {
        Some(Ok(())) => {}
        Some(Err(Cause::NoRoute)) => Counters::add(&counters.calls_unrouted),
        Some(Err(Cause::Overloaded)) => Counters::add(&counters.calls_overloaded),
        Some(Err(Cause::Cancelled)) | None => Counters::add(&counters.calls_cancelled),
        Some(Err(_)) => Counters::add(&counters.calls_failed),
    }
}

impl RequestWork {
    async fn read_head(&mut self, here: &ConnectorCore, stream: &CallStream) -> Result<(), Cause> {
        let read = self.intake.request_head(stream, &mut self.head, &here.core);
        match here.core.timeout(HEAD_TIMEOUT, read).await {
            Ok(Ok(Some(_))) => {
                self.decoder.restart(self.head.framing());
                Ok(())
            }
            Ok(Ok(None) | Err(HeadReadError::Head(_))) => Err(Cause::RequestRefused),
            Ok(Err(HeadReadError::Stream(_))) => Err(Cause::RequestRefused),
            Ok(Err(HeadReadError::Timeout)) | Err(_) => Err(Cause::Deadline),
        }
    }

    /// Sends head and body. Ends only when something is wrong that the way back does not tell, or not soon.
    async fn send(&mut self, passage: &Passage<'_>, to: &Onward<'_>, sent_whole: &Cell<bool>) -> Failure {
        let stream = passage.stream;
        match self.carry(passage, to).await {
            Ok(()) => sent_whole.set(true),
            // The call is over: whoever waits for the stream to break is told.
            Err(CarryError::From(_)) if !stream.is_sealed() => return pending().await,
            Err(CarryError::From(_)) => return Failure::Because(Cause::Cancelled),
            Err(CarryError::Body(_) | CarryError::Length(_)) => return Failure::Because(Cause::RequestBroken),
            Err(CarryError::To(StreamError::TimedOut)) => return Failure::Because(Cause::UpstreamTimeout),
            Err(CarryError::To(_)) => {
                // It may have answered before it closed the connection.
                passage.here.core.sleep(EARLY_ANSWER_WITHIN).await;
                return Failure::Because(Cause::UpstreamClosed);
            }
        }
        if !stream.is_sealed() {
            return pending().await;
        }
        // Nothing more is to be said in this call. Who ends the session has gone; what is sent ahead waits.
        self.intake.ended(stream).await;
        Failure::Because(Cause::Cancelled)
    }

    async fn carry(&mut self, passage: &Passage<'_>, to: &Onward<'_>) -> Result<(), CarryError> {
        let RequestWork { head, intake, decoder, outlet, scratch, kept, peek } = self;
        let Onward { connection, authority, keep } = *to;
        let Passage { here, stream, caller, .. } = *passage;
        let pool = here.core.pool();
        let framing = head.framing().toward(Version::Http11);
        outlet.clear();
        scratch.clear();
        let edits = RequestEdits { host: Some(authority), framing, ..RequestEdits::default() };
        match caller {
            Caller::Edge => write_request(head, &edits, scratch),
            Caller::Agent(address) => {
                let append = forwarded(address.as_bytes(), b"https", head);
                write_request(head, &RequestEdits { drop_forwarded: true, append: &append, ..edits }, scratch);
            }
        }
        outlet.put(connection, pool, scratch).await.map_err(CarryError::To)?;
        let mut encoder = BodyEncoder::new(framing);
        if !kept.bytes.is_empty() {
            let wrap = encoder.data(kept.bytes.len())?;
            for part in [wrap.before.as_ref(), &kept.bytes, wrap.after] {
                outlet.put(connection, pool, part).await.map_err(CarryError::To)?;
            }
        }
        let encoder = &mut encoder;
        let course = |_: &mut Context<'_>| match stream.on_link().is_carrier_draining() {
            true => Course::Draining,
            false => Course::Open,
        };
        let to = &Patient::new(connection, &here.connector.settings.write_timeout, course);
        let carry = Carry { from: stream, intake, decoder, to, outlet, encoder, pool, scratch };
        let mut look = peek.as_mut().filter(|_| matches!(caller, Caller::Agent(_)));
        carry_body(carry, |bytes| {
            if let Some(peek) = &mut look {
                peek.feed(bytes);
            }
            if keep {
                kept.keep(bytes);
            }
        })
        .await
    }

    /// Waits until the answer is on its way, if the edge has not said its last yet: to drop the stream now would reset it.
    async fn await_end(&mut self, stream: &CarrierStream) {
        *self.intake.rest() = None;
        let ended = poll_fn(|cx| Poll::Ready(self.intake.poll_fill(stream, cx))).await;
        if !matches!(ended, Poll::Ready(Ok(false))) {
            // Only the edge's giving up ends it otherwise.
            let _ = stream.flushed().await;
        }
    }

    fn clear(&mut self) {
        *self.intake.rest() = None;
        self.clear_call();
    }

    /// Forgets a call, and nothing of what came behind it.
    pub(super) fn clear_call(&mut self) {
        self.head.clear();
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
        if let Some(peek) = &mut self.peek {
            peek.clear();
        }
        self.kept.bytes.clear();
        self.kept.too_long = false;
    }
}

impl Kept {
    fn keep(&mut self, bytes: &[u8]) {
        self.too_long |= self.bytes.len() + bytes.len() > KEPT_LEN_MAX;
        if !self.too_long {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// Whether it is certain that the system has taken no byte of what was to be sent.
async fn has_sent_nothing(here: &ConnectorCore, connection: &Connection, sent_before: u64) -> bool {
    let settled: Result<Result<(), StreamError>, _> = here.core.timeout(CERTAIN_WITHIN, connection.flushed()).await;
    settled.is_ok() && connection.sent_bytes() == sent_before
}

/// A connection in use. Dropped before the exchange is whole, it is broken off.
struct Held(Option<HttpConnection>);

impl Held {
    fn connection(&self) -> &Connection {
        self.http().connection()
    }

    fn authority(&self) -> &str {
        self.http().authority()
    }

    fn http(&self) -> &HttpConnection {
        self.0.as_ref().expect("only `let_go` takes it")
    }

    /// The exchange is whole: the connection is kept for another, or closed.
    fn let_go(mut self, keep: bool) {
        if let Some(connection) = self.0.take().filter(|_| keep) {
            connection.give_back();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.connection().abort();
        }
    }
}
