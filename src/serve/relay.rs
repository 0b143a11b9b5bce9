//! One exchange: the request is sent to the next hop and the response is sent back, both at the same time.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{Budget, Time};
use crate::engine::{ByteStream, Core, StreamError, Timer};
use crate::exchange::{BodySink, CarryError, HeadReadError, Http1Sink, Http1Source, INTERIM_MAX, Intake, carry_body};
use crate::policy::AnswerFilter;
use crate::serve::audit_log::{AuditLog, AuditReceipt};
use crate::serve::filtered_answer::{FilteredList, check_coding, is_carried_whole};
use crate::serve::filtered_events::FilteredEvents;
use crate::serve::incoming::{Incoming, RequestBody, Responder, ResponseExtras};
use crate::serve::label::CallLabel;
use crate::serve::next_hop::{CallerLimits, NextHop, NextHopWork, Replay};
use crate::serve::recorded::{Answered, carry_recorded, holds_answer, record};
use crate::serve::relayed_events::{carry_standing, carry_watched, send_broken_error};
use crate::serve::rewriting::carry_rewritten;
use crate::wire::http1::{BodyDecoder, BodyError, HeadError, RequestHead, ResponseHead, Version};
use crate::wire::mcp::asks_for_stream;

/// How long a next hop that stopped reading the request may take to respond.
const EARLY_RESPONSE_WITHIN: Duration = Duration::from_secs(5);
/// The status after which the connection no longer carries HTTP. adit never requests it.
const SWITCHING_PROTOCOLS: u16 = 101;

/// The part of a role in an exchange.
pub trait RelayHooks {
    /// Called when the head of the request was queued.
    fn on_request_head_queued(&mut self);

    /// When bytes were last received from the next hop.
    fn received_at(&self) -> Time;

    /// Called with the head of the final response, whose first bytes arrived at `received_at`. Returns what to add to
    /// it.
    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_>;

    /// Called when that head was queued for the caller.
    fn on_response_head_queued(&mut self) {}

    /// Called if the response is an event stream. If `is_standing`, it is not part of a call's answer and lasts as long
    /// as both sides want.
    fn on_event_stream(&mut self, is_standing: bool);

    /// Ready when event streams that are not part of a call's answer must end.
    fn streams_end(&self) -> impl Future<Output = ()>;

    /// After how much silence a comment is sent on an event stream; none to send none.
    fn sse_keepalive(&self) -> Option<Duration>;

    /// The core on which the exchange is carried.
    fn core(&self) -> &Core;

    /// The memory for lists that are filtered on this core.
    fn lists(&self) -> &Budget;

    /// Called if the response has lists of which only a part is sent.
    fn on_list_filtered(&mut self) {}

    /// Called if a response, or its rest, is withheld because no memory is left to filter it.
    fn on_lists_crowded(&self) {}

    /// Called with bytes of a response's body before they are sent.
    fn on_body_bytes(&mut self, _bytes: &[u8]) {}

    /// Called with bytes of an event stream that is not part of a call's answer, before they are sent.
    fn on_standing_bytes(&self, _bytes: &[u8]) {}

    /// When an event stream that answers a call is to be cut, if it has a limit. Progress moves this time.
    fn cuts_at(&self) -> Option<Time> {
        None
    }

    /// The audit log, if the call must be written to it before its answer is sent.
    fn records_in(&self) -> Option<&AuditLog> {
        None
    }

    /// Writes the call to the audit log.
    fn record_answer(&mut self, _answered: &Answered<'_>, _label: Option<&mut CallLabel>) -> Option<AuditReceipt> {
        None
    }

    /// Called when an event stream that answers a call is cut. Returns the event to send at its end, if the caller can
    /// be informed.
    fn on_cut(&mut self, _label: &mut CallLabel) -> Option<Vec<u8>> {
        None
    }

    /// Called when an event stream that answers a call broke off. Returns the event to send at its end, if the caller
    /// can be informed ([`AnswerStream`](crate::wire::AnswerStream)).
    fn on_broken(&mut self, _error: &RelayError, _label: &mut CallLabel) -> Option<Vec<u8>> {
        None
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub struct Relayed {
    /// Whether the whole response was queued.
    pub result: Result<(), RelayError>,
    /// Whether the final response has begun, so that no other can be sent.
    pub has_begun: bool,
    /// Whether the whole request was sent.
    pub is_sent: bool,
    /// Whether the caller's connection can carry another request after the response.
    pub keeps: bool,
    /// Whether the response was ended before the next hop ended it. The next hop's connection is then unusable.
    pub is_cut: bool,
}

/// Why an exchange ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayError {
    /// The caller has left.
    CallerLeft,
    /// The caller stopped sending its body.
    CallerStalled,
    /// The request's body is malformed.
    BadBody(BodyError),
    /// The response could not be sent.
    Respond(StreamError),
    /// The next hop ended the connection before the first byte of a response; the error, if it failed.
    NoResponse(Option<StreamError>),
    /// The next hop ended the connection within the response; the error, if it failed.
    Broken(Option<StreamError>),
    /// The next hop stopped reading the request and did not respond.
    NotTaken,
    /// The next hop accepted nothing for too long.
    Stalled,
    /// The next hop violated HTTP.
    Protocol(Box<Violation>),
    /// The response did not begin in time.
    Late,
    /// The response, or its rest, is withheld because the call could not be written to the audit log.
    Unrecorded,
    /// The response, or its rest, is withheld because no memory is left to filter its lists.
    CrowdedLists,
    /// The response, or its rest, is withheld because it has more than a rule of the policy of its route lets it have.
    OverCeiling,
}

/// How a response violates HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Its head is malformed.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// Its status is 101, but the request did not ask to switch protocols.
    #[error("it switches protocols without having been asked to")]
    Switching,
    /// It has too many interim responses.
    #[error("it sends more than {INTERIM_MAX} interim responses")]
    Interim,
    /// Its body is malformed.
    #[error("{0}")]
    Body(CarryError),
}

impl From<Violation> for RelayError {
    fn from(violation: Violation) -> RelayError {
        RelayError::Protocol(Box::new(violation))
    }
}

/// The state that both directions of an exchange share.
pub(super) struct Progress<'a> {
    /// The label, taken out while it is used.
    label: Cell<Option<&'a mut CallLabel>>,
    is_sent: Cell<bool>,
    /// Whether the head of the final response was received. It may be sent to the caller later.
    is_answered: Cell<bool>,
    has_begun: Cell<bool>,
    pub(super) is_cut: Cell<bool>,
}

impl<'a> Progress<'a> {
    fn new(label: Option<&'a mut CallLabel>) -> Progress<'a> {
        let no = || Cell::new(false);
        Progress { label: Cell::new(label), is_sent: no(), is_answered: no(), has_begun: no(), is_cut: no() }
    }

    /// Passes the label to `look`, if there is one.
    pub(super) fn with_label<T>(&self, look: impl FnOnce(&mut CallLabel) -> T) -> Option<T> {
        let label = self.label.take()?;
        let seen = look(label);
        self.label.set(Some(label));
        Some(seen)
    }
}

/// Carries an exchange to its end. If it is dropped before, both connections stay as they are.
///
/// Values are captured in place and both directions are polled in place. If they were moved into a function or a
/// combinator, the future would contain each of them twice.
pub fn relay<'a, T: ByteStream, F: ByteStream>(
    incoming: Incoming<'a, impl RequestBody, impl Responder>,
    next_hop: NextHop<'a, T, F>,
    core: &'a Core,
    hooks: &'a mut impl RelayHooks,
) -> impl Future<Output = Relayed> {
    let Incoming { head, body, label, mut responder } = incoming;
    let NextHop { to, from, work, finish, flush, first_byte_timeout, caller, replay } = next_hop;
    let NextHopWork { head: response_head, intake, decoder, outlet, scratch } = work;
    let mut sink = Http1Sink::new(to, core.pool(), outlet, scratch);
    sink.begin(head.framing().toward(Version::Http11));
    let mut sending = Sending { body, to, sink, finish, flush, replay };
    let mut receiving = Receiving { request: head, from, head: response_head, intake, decoder };
    let progress = Progress::new(label);
    let mut limits = Limits::new(first_byte_timeout, caller);
    async move {
        let queued = {
            let mut queued = pin!(sending.sink.send_head());
            poll_fn(|cx| match queued.as_mut().poll(cx) {
                Poll::Ready(queued) => Poll::Ready(queued.map_err(|error| match error {
                    StreamError::TimedOut => RelayError::Stalled,
                    error => RelayError::NoResponse(Some(error)),
                })),
                Poll::Pending => limits.poll(core, &progress, cx).map(Err),
            })
            .await
        };
        // If the caller's time is over before that, nothing was sent.
        if !matches!(queued, Err(RelayError::Late)) {
            hooks.on_request_head_queued();
        }
        let result = if let Err(error) = queued {
            Err(error)
        } else {
            let mut sent = pin!(sending.run(core, &progress));
            let mut received = pin!(receiving.run(&mut responder, hooks, &progress));
            poll_fn(|cx| {
                if let done @ Poll::Ready(_) = received.as_mut().poll(cx) {
                    return done;
                }
                if let Poll::Ready(error) = sent.as_mut().poll(cx) {
                    return Poll::Ready(Err(error));
                }
                limits.poll(core, &progress, cx).map(Err)
            })
            .await
        };
        let (has_begun, is_sent, is_cut) = (progress.has_begun.get(), progress.is_sent.get(), progress.is_cut.get());
        Relayed { result, has_begun, is_sent, keeps: responder.keeps(), is_cut }
    }
}

/// The time limits of a response.
struct Limits {
    caller: CallerLimits,
    /// The limit for the first byte after the request was sent; once it was sent, the time when the limit ends.
    first_byte_ns: u64,
    is_timed: bool,
    /// Created with the first limit.
    timer: Option<Timer>,
}

impl Limits {
    fn new(first_byte_timeout: Option<Duration>, caller: CallerLimits) -> Limits {
        let first_byte_ns = first_byte_timeout.map_or(u64::MAX, |timeout| (Time::ZERO + timeout).as_nanos());
        Limits { caller, first_byte_ns, is_timed: false, timer: None }
    }

    /// Ready when a limit of the response has passed.
    fn poll(&mut self, core: &Core, progress: &Progress<'_>, cx: &mut Context<'_>) -> Poll<RelayError> {
        let is_sent = progress.is_sent.get();
        if is_sent && !std::mem::replace(&mut self.is_timed, true) {
            self.first_byte_ns = (core.turn_time() + Duration::from_nanos(self.first_byte_ns)).as_nanos();
        }
        let at = match (progress.has_begun.get(), is_sent) {
            (true, _) => self.caller.ends_by(),
            (false, true) => self.caller.begins_by.min(Time::from_nanos(self.first_byte_ns)),
            (false, false) => self.caller.begins_by,
        };
        if at == Time::NEVER {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| core.timer());
        if timer.at() != at {
            timer.set(at);
        }
        timer.poll_elapsed(cx).map(|()| RelayError::Late)
    }
}

/// The direction of the request.
struct Sending<'a, B, T> {
    body: B,
    to: &'a T,
    sink: Http1Sink<'a, T>,
    finish: bool,
    flush: bool,
    replay: Option<&'a mut Replay>,
}

impl<B: RequestBody, T: ByteStream> Sending<'_, B, T> {
    /// Sends the body, then waits for the caller to leave. Ends only with an error that the response would not report,
    /// or not soon.
    async fn run(&mut self, core: &Core, progress: &Progress<'_>) -> RelayError {
        match self.send(progress).await {
            Ok(()) => {
                progress.is_sent.set(true);
                if self.finish {
                    self.to.finish();
                }
            }
            Err(CarryError::From(StreamError::TimedOut)) => return RelayError::CallerStalled,
            // The next hop failed during the wait for the caller: the response reports why.
            Err(CarryError::From(StreamError::ResetWith { .. })) => pending().await,
            Err(CarryError::From(_)) if !self.body.is_watched() => pending().await,
            Err(CarryError::From(_)) => return RelayError::CallerLeft,
            Err(CarryError::Body(BodyError::Truncated)) if self.body.is_watched() => return RelayError::CallerLeft,
            Err(CarryError::Body(error)) => return RelayError::BadBody(error),
            Err(CarryError::Length(_)) => return RelayError::BadBody(BodyError::Truncated),
            Err(CarryError::To(StreamError::TimedOut)) => return RelayError::Stalled,
            Err(CarryError::To(_)) => {
                // The next hop may have responded before it stopped reading.
                core.sleep(EARLY_RESPONSE_WITHIN).await;
                if !progress.is_answered.get() {
                    return RelayError::NotTaken;
                }
            }
        }
        self.body.caller_left().await;
        RelayError::CallerLeft
    }

    async fn send(&mut self, progress: &Progress<'_>) -> Result<(), CarryError> {
        let Sending { body, sink, replay, .. } = self;
        if let Some(replay) = replay.as_ref().filter(|replay| !replay.sent_first().is_empty()) {
            sink.copy(replay.sent_first()).await?;
        }
        while let Some(piece) = progress.with_label(|label| label.ahead.pop()).flatten() {
            if let Some(replay) = replay {
                replay.keep(&piece);
            }
            sink.data(piece).await?;
        }
        carry_body(body, sink, |bytes| {
            progress.with_label(|label| label.read_passing(bytes)).unwrap_or(Ok(()))?;
            if let Some(replay) = replay {
                replay.keep(bytes);
            }
            Ok(())
        })
        .await?;
        if self.flush {
            self.to.flushed().await.map_err(CarryError::To)?;
        }
        Ok(())
    }
}

/// The direction of the response.
struct Receiving<'a, F> {
    request: &'a RequestHead,
    from: &'a F,
    head: &'a mut ResponseHead,
    intake: &'a mut Intake,
    decoder: &'a mut BodyDecoder,
}

impl<F: ByteStream> Receiving<'_, F> {
    async fn run(
        &mut self,
        responder: &mut impl Responder,
        hooks: &mut impl RelayHooks,
        progress: &Progress<'_>,
    ) -> Result<(), RelayError> {
        let received_at = {
            let received_at = self.head(responder, hooks).await?;
            progress.is_answered.set(true);
            progress.with_label(|label| label.on_answer(self.request, self.head, hooks.core().turn_time()));
            if hooks.records_in().is_none() && self.filter(progress).is_none() {
                received_at
            } else {
                // Boxed, so that other calls do not pay for its size.
                match Box::pin(self.governed(received_at, responder, hooks, progress)).await {
                    ControlFlow::Continue(received_at) => received_at,
                    ControlFlow::Break(ended) => return ended,
                }
            }
        };
        let Receiving { request, from, head, intake, decoder } = self;
        decoder.restart(head.framing());
        let extras = hooks.on_response_head(head, received_at);
        if extras.is_metadata {
            let body = Http1Source::new(*from, intake, decoder);
            return carry_rewritten(body, head, extras, responder, &progress.has_begun).await.map_err(of_body);
        }
        let is_stream = head.is_event_stream();
        progress.has_begun.set(true);
        responder.head(head, None, extras).await.map_err(RelayError::Respond)?;
        hooks.on_response_head_queued();
        let mut body = Http1Source::new(*from, intake, decoder);
        let is_standing = is_stream && asks_for_stream(request);
        if is_stream {
            hooks.on_event_stream(is_standing);
        }
        let keepalive = hooks.sse_keepalive().filter(|_| is_stream);
        let may_cut = is_stream && !is_standing && hooks.cuts_at().is_some();
        // Boxed, so that calls do not pay for their size.
        if is_standing {
            return Box::pin(carry_standing(body, responder, hooks, progress)).await;
        }
        let carried = if may_cut || keepalive.is_some() {
            Box::pin(carry_watched(body, responder, hooks, progress)).await
        } else {
            let seen = |bytes: &[u8]| {
                hooks.on_body_bytes(bytes);
                Ok(())
            };
            carry_body(&mut body, responder, seen).await.map_err(of_body)
        };
        match carried {
            Err(error @ RelayError::Broken(_)) if is_stream => {
                // Boxed, so that other calls do not pay for its size.
                Box::pin(send_broken_error(error, responder, hooks, progress)).await
            }
            ended => ended,
        }
    }

    /// The filter for the response, if anything of it may change.
    fn filter(&self, progress: &Progress<'_>) -> Option<AnswerFilter> {
        progress.with_label(|label| label.filter(self.request, self.head)).flatten()
    }

    /// Writes the call to the audit log, and removes from its response what the caller may not see. If the response is
    /// filtered or held until it is complete, carries it as well and returns the result; otherwise returns when the
    /// response was received, and leaves it to be carried.
    async fn governed(
        &mut self,
        received_at: Time,
        responder: &mut impl Responder,
        hooks: &mut impl RelayHooks,
        progress: &Progress<'_>,
    ) -> ControlFlow<Result<(), RelayError>, Time> {
        let filter = self.filter(progress);
        let Receiving { request, from, head, intake, decoder } = self;
        let is_held = holds_answer(request, head);
        // One that is filtered is recorded as its caller is sent it.
        if hooks.records_in().is_some() && !(is_held && filter.is_some()) {
            let (label, has_begun) = (&progress.label, &progress.has_begun);
            if is_held {
                decoder.restart(head.framing());
                let body = Http1Source::new(*from, intake, decoder);
                return ControlFlow::Break(
                    carry_recorded(body, head, received_at, responder, hooks, label, has_begun).await,
                );
            }
            if let Err(error) = record(&Answered::begun(head, received_at), hooks, label).await {
                return ControlFlow::Break(Err(error));
            }
        }
        match filter {
            None => ControlFlow::Continue(received_at),
            Some(filter) => {
                let ended = self.filtered(filter, received_at, responder, hooks, progress).await;
                if ended == Err(RelayError::CrowdedLists) {
                    hooks.on_lists_crowded();
                }
                ControlFlow::Break(ended)
            }
        }
    }

    /// Carries a response that is filtered.
    async fn filtered(
        &mut self,
        filter: AnswerFilter,
        received_at: Time,
        responder: &mut impl Responder,
        hooks: &mut impl RelayHooks,
        progress: &Progress<'_>,
    ) -> Result<(), RelayError> {
        let Receiving { request, from, head, intake, decoder } = self;
        check_coding(head).map_err(of_body)?;
        decoder.restart(head.framing());
        let body = Http1Source::new(*from, intake, decoder);
        let is_standing = head.is_event_stream() && asks_for_stream(request);
        let filter = filter.timed(|| Rc::new(hooks.core().clone()), is_standing);
        if is_carried_whole(head) {
            let list = FilteredList::read(body, &filter, hooks.lists()).await.map_err(of_body)?;
            if hooks.records_in().is_some() && holds_answer(request, head) {
                let answered = Answered { head, received_at, rest: list.body(), is_whole: true };
                record(&answered, hooks, &progress.label).await?;
            }
            progress.has_begun.set(true);
            let extras = hooks.on_response_head(head, received_at);
            list.send_head(head, extras, responder).await.map_err(RelayError::Respond)?;
            hooks.on_response_head_queued();
            if filter.filters_lists() {
                hooks.on_list_filtered();
            }
            if head.is_event_stream() {
                hooks.on_event_stream(is_standing);
            }
            if is_standing {
                hooks.on_standing_bytes(list.body());
            } else {
                hooks.on_body_bytes(list.body());
            }
            return list.send_body(responder).await.map_err(of_body);
        }
        let extras = hooks.on_response_head(head, received_at);
        progress.has_begun.set(true);
        responder.head(head, None, extras).await.map_err(RelayError::Respond)?;
        hooks.on_response_head_queued();
        if filter.filters_lists() {
            hooks.on_list_filtered();
        }
        hooks.on_event_stream(is_standing);
        let core = hooks.core().clone();
        let body = FilteredEvents::new(body, core.pool(), filter, hooks.lists().share());
        if is_standing {
            return carry_standing(body, responder, hooks, progress).await;
        }
        match carry_watched(body, responder, hooks, progress).await {
            Err(
                error @ (RelayError::Broken(_)
                | RelayError::Protocol(_)
                | RelayError::CrowdedLists
                | RelayError::OverCeiling),
            ) => send_broken_error(error, responder, hooks, progress).await,
            ended => ended,
        }
    }

    /// Reads the head of the final response, and passes on interim ones. Returns when its first bytes were received.
    async fn head(&mut self, responder: &mut impl Responder, hooks: &impl RelayHooks) -> Result<Time, RelayError> {
        let Receiving { request, from, head, intake, .. } = self;
        for nth in 0..=INTERIM_MAX {
            let first = if nth == 0 { intake.begin(*from).await } else { intake.fill(*from).await };
            match first {
                Ok(true) => {}
                first if nth == 0 => return Err(RelayError::NoResponse(first.err())),
                first => return Err(RelayError::Broken(first.err())),
            }
            let received_at = hooks.received_at();
            match intake.response_head(*from, head, request.method()).await {
                Ok(true) => {}
                Ok(false) => return Err(RelayError::Broken(None)),
                Err(HeadReadError::Stream(error)) => return Err(RelayError::Broken(Some(error))),
                Err(HeadReadError::Head(error)) => return Err(Violation::Head(error).into()),
                Err(HeadReadError::Timeout) => return Err(RelayError::Late),
            }
            if head.status() == SWITCHING_PROTOCOLS {
                return Err(Violation::Switching.into());
            }
            if !head.is_interim() {
                return Ok(received_at);
            }
            responder.interim(head).await.map_err(RelayError::Respond)?;
        }
        Err(Violation::Interim.into())
    }
}

/// Why the body of a response is incomplete.
pub(super) fn of_body(error: CarryError) -> RelayError {
    match error {
        CarryError::To(error) => RelayError::Respond(error),
        CarryError::From(error) => RelayError::Broken(Some(error)),
        CarryError::Body(BodyError::Truncated) => RelayError::Broken(None),
        CarryError::Body(BodyError::CrowdedLists) => RelayError::CrowdedLists,
        CarryError::Body(BodyError::AnswerOverCeiling) => RelayError::OverCeiling,
        error @ (CarryError::Body(_) | CarryError::Length(_)) => Violation::Body(error).into(),
    }
}

#[cfg(test)]
mod tests;
