//! The two tries of a call as one stream: the request goes to the first try, and the answer comes from the one that
//! wins.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::base::{CallFailure, Clock, Time};
use crate::edge::call_notes::HedgeNote;
use crate::edge::edge_core::EdgeCore;
use crate::edge::hedge::{HandedOver, HedgePlan, REQUEST_LEN_MAX};
use crate::edge::open::Opened;
use crate::engine::{ByteStream, Lease, StreamError, Timer};
use crate::exchange::ExchangeState;
use crate::latency::{Try, TryState, decide};
use crate::serve::CallPlace;
use crate::wire::http1::{BodyDecoder, Decoded, Method, Progress, ResponseHead};
use crate::wire::sse::EventData;
use crate::wire::{AnswerSays, AnswerScan};

/// How much memory for the copy of a request is kept from one call to the next, in bytes.
const COPY_LEN_FREE: usize = 1024;
/// The most bytes of an answer that are held back while it contains no result.
const HELD_LEN_MAX: usize = 16 * 1024;
/// The most buffers that these bytes may occupy.
const HELD_LEASES_MAX: usize = 16;

/// The tries of a call: one, or two if the first is slow and a second try is allowed.
pub(super) struct Tries<'a> {
    pub(super) core: &'a EdgeCore,
    pub(super) first: &'a Opened,
    /// Both tries, if there may be a second. Boxed, because that is rare.
    pub(super) hedged: Option<Box<Hedged<'a>>>,
}

/// The two tries of a call. Until one of them wins, received bytes are held back, unless only the first was sent.
pub(super) struct Hedged<'a> {
    plan: HedgePlan<'a>,
    first: &'a Opened,
    /// The second try, once the whole request was sent.
    second: OnceCell<Box<Opened>>,
    /// The start of the second try, once it is being sent.
    handed: OnceCell<Rc<OnceCell<HandedOver>>>,
    /// The winner, once that is decided.
    winner: Cell<Option<Try>>,
    /// A copy of what was sent, while a second try may be needed.
    sent: RefCell<Vec<u8>>,
    /// Whether the whole request was sent.
    is_whole: Cell<bool>,
    race: RefCell<Race<'a>>,
}

/// The state of both answers until one of them wins.
struct Race<'a> {
    stage: Stage<'a>,
    /// When the wait for the first try began.
    began: Time,
    /// Fires when the second try is due; after that, when the hold ends.
    timer: Option<Timer>,
    /// Whether the hold has ended.
    is_over: bool,
    first: Answer,
    second: Answer,
    /// The second try's place among the calls in flight.
    place: Option<CallPlace>,
}

/// The stage of the second try.
enum Stage<'a> {
    /// The second try may become due.
    Planned,
    /// The request is being sent.
    Sending(Pin<Box<dyn Future<Output = Result<Opened, Option<StreamError>>> + 'a>>),
    /// The answer is awaited.
    Sent,
    /// There is no second try, or it has failed.
    None,
}

/// The received part of an answer.
struct Answer {
    of: Try,
    state: TryState,
    head: ResponseHead,
    /// Decodes a body that has to be read.
    decoder: BodyDecoder,
    events: EventData,
    message: AnswerScan,
    held: VecDeque<Lease>,
    held_len: usize,
    /// The end of the answer, after the held bytes.
    end: Option<Result<(), StreamError>>,
}

impl Tries<'_> {
    /// The try that answers the call.
    pub(super) fn answering(&self) -> &Opened {
        self.hedged.as_deref().map_or(self.first, Hedged::winner)
    }

    /// The state of the exchange over the answering try.
    pub(super) fn exchange_state(&self, taken: u64, cx: &mut Context<'_>) -> ExchangeState {
        match &self.hedged {
            None => self.core.exchange_state(self.first.stream.on_link(), taken, cx),
            Some(hedged) => hedged.exchange_state(taken, cx),
        }
    }

    /// When the second try was opened, and how long after the first, if it is the winner.
    pub(super) fn won_by_second(&self) -> Option<(Time, Duration)> {
        self.hedged.as_ref()?.won()
    }

    /// Whether a second try was sent.
    pub(super) fn are_two(&self) -> bool {
        self.hedged.as_ref().is_some_and(|hedged| hedged.is_sent_twice())
    }
}

impl<'a> Hedged<'a> {
    /// The tries of a call whose first was just opened. `memory` is an empty buffer for a copy of the request.
    pub(super) fn new(plan: HedgePlan<'a>, first: &'a Opened, memory: Vec<u8>) -> Hedged<'a> {
        let race = Race {
            stage: Stage::Planned,
            began: Time::ZERO,
            timer: None,
            is_over: false,
            first: Answer::new(Try::First),
            second: Answer::new(Try::Second),
            place: None,
        };
        Hedged {
            plan,
            first,
            second: OnceCell::new(),
            handed: OnceCell::new(),
            winner: Cell::new(None),
            sent: RefCell::new(memory),
            is_whole: Cell::new(false),
            race: RefCell::new(race),
        }
    }

    /// The winner; the first try while that is not decided.
    fn winner(&self) -> &Opened {
        match (self.winner.get(), self.second.get()) {
            (Some(Try::Second), Some(second)) => second,
            _ => self.first,
        }
    }

    /// When the second try was opened, and how long after the first, if it is the winner.
    fn won(&self) -> Option<(Time, Duration)> {
        let handed = self.handed().filter(|_| self.winner.get() == Some(Try::Second))?;
        Some((handed.began, handed.began - self.race.borrow().began))
    }

    /// The second try, if any of it may have been sent.
    fn handed(&self) -> Option<&HandedOver> {
        self.handed.get()?.get()
    }

    /// Whether a second try was sent, or a part of it.
    fn is_sent_twice(&self) -> bool {
        self.handed().is_some()
    }

    /// The state of the exchange over the winner. While that is not decided, neither try ends the exchange.
    fn exchange_state(&self, taken: u64, cx: &mut Context<'_>) -> ExchangeState {
        let core = self.plan.core;
        let is_decided = self.winner.get().is_some() || self.second.get().is_none();
        match is_decided {
            true => core.exchange_state(self.winner().stream.on_link(), taken, cx),
            false if core.is_draining() => ExchangeState::Draining,
            false => ExchangeState::Running,
        }
    }

    /// Ends the exchange and cancels the other try. Returns a note of the second try, if there was one.
    pub(super) fn end(&self) -> Option<HedgeNote> {
        let mut race = self.race.borrow_mut();
        race.stage = Stage::None;
        race.place = None;
        let second = self.handed()?;
        let won = self.winner.get() == Some(Try::Second);
        let (loser, stream) = if won {
            (&self.first.usage, Some(self.first))
        } else {
            (&second.usage, self.second.get().map(|it| &**it))
        };
        stream.map(give_up);
        let (connector, after) = (second.usage.connector(), second.began - race.began);
        Some(HedgeNote { connector, after, won, loser: Rc::clone(loser) })
    }

    /// The stream of the second try, and the buffer for the next request.
    pub(super) fn into_parts(self) -> (Option<Box<Opened>>, Vec<u8>) {
        let mut memory = self.sent.into_inner();
        memory.clear();
        memory.shrink_to(COPY_LEN_FREE);
        (self.second.into_inner(), memory)
    }

    fn copy(&self, bytes: &[u8]) {
        let mut sent = self.sent.borrow_mut();
        if self.is_copied() && sent.len() + bytes.len() <= REQUEST_LEN_MAX {
            sent.extend_from_slice(bytes);
        } else {
            // There will be no other try.
            sent.clear();
            self.race.borrow_mut().stage = Stage::None;
        }
    }

    fn is_copied(&self) -> bool {
        matches!(self.race.borrow().stage, Stage::Planned)
    }

    /// Waits until the winner is decided.
    fn poll_winner(&self, cx: &mut Context<'_>) -> Poll<Try> {
        let mut race = self.race.borrow_mut();
        let first = race.first.poll(&self.first.stream, cx);
        let second =
            if first == TryState::Answered { TryState::Failed } else { self.poll_second(&mut race, first, cx) };
        let Some(winner) = decide(first, second, race.is_over) else { return Poll::Pending };
        self.winner.set(Some(winner));
        (race.stage, race.place) = (Stage::None, None);
        match (winner, self.second.get()) {
            (Try::First, Some(second)) => give_up(second),
            (Try::First, None) => {}
            (Try::Second, _) => give_up(self.first),
        }
        Poll::Ready(winner)
    }

    /// The state of the second try, which is started when it is due. One that is not sent counts as failed.
    fn poll_second(&self, race: &mut Race<'a>, first: TryState, cx: &mut Context<'_>) -> TryState {
        let core = self.plan.core();
        if let Stage::Planned = race.stage {
            // Without a second try, the failure of the first is that of the call, which may then be retried.
            if first == TryState::Failed {
                return TryState::Failed;
            }
            let timer = race.timer.get_or_insert_with(|| {
                race.began = core.now();
                core.sleep_until(race.began + self.plan.after)
            });
            if timer.poll_elapsed(cx).is_pending() {
                return TryState::Waits;
            }
            if !self.is_whole.get() {
                // A body that takes longer than most calls is checked again.
                timer.set(core.now() + self.plan.after);
                let _ = timer.poll_elapsed(cx);
                return TryState::Waits;
            }
            timer.set(core.now() + self.plan.hold);
            race.stage = match self.plan.fire(std::mem::take(&mut *self.sent.borrow_mut())) {
                Some(mut firing) => {
                    race.place = firing.place.take();
                    let handed = Rc::clone(self.handed.get_or_init(Rc::default));
                    Stage::Sending(Box::pin(self.plan.send(firing, handed)))
                }
                None => Stage::None,
            };
        }
        if let Some(timer) = race.timer.as_mut().filter(|_| !race.is_over) {
            race.is_over = timer.poll_elapsed(cx).is_ready();
        }
        if let Stage::Sending(sending) = &mut race.stage {
            let Poll::Ready(sent) = sending.as_mut().poll(cx) else { return TryState::Waits };
            race.stage = match sent {
                Ok(opened) => {
                    let _ = self.second.set(Box::new(opened));
                    Stage::Sent
                }
                Err(error) => {
                    race.second.end = error.map(Err);
                    Stage::None
                }
            };
        }
        match (&race.stage, self.second.get()) {
            (Stage::Sent, Some(second)) => race.second.poll(&second.stream, cx),
            _ => TryState::Failed,
        }
    }

    /// The failure of a call whose first try failed with `error`. It includes that the second try may have reached its
    /// server.
    fn failure(&self, error: StreamError) -> StreamError {
        let acted = |error: &StreamError| CallFailure::of_stream(error).may_have_acted();
        match &self.race.borrow().second.end {
            Some(Err(second)) if self.is_sent_twice() && !acted(&error) && acted(second) => second.clone(),
            _ => error,
        }
    }
}

/// Cancels a try: its connector closes the connection to the server. No cancel notification is sent, because both tries
/// have the same id and may have reached the same server.
fn give_up(opened: &Opened) {
    opened.stream.on_link().reset(CallFailure::Cancelled);
}

impl Answer {
    fn new(of: Try) -> Answer {
        Answer {
            of,
            state: TryState::Waits,
            head: ResponseHead::new(),
            decoder: BodyDecoder::default(),
            events: EventData::default(),
            message: AnswerScan::default(),
            held: VecDeque::new(),
            held_len: 0,
            end: None,
        }
    }

    /// Receives until the state of the answer is known.
    fn poll(&mut self, stream: &impl ByteStream, cx: &mut Context<'_>) -> TryState {
        while matches!(self.state, TryState::Waits | TryState::Begun) {
            match stream.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(lease))) => {
                    self.state = self.judge(&lease);
                    self.held_len += lease.len();
                    self.held.push_back(lease);
                    let is_full = self.held_len > HELD_LEN_MAX || self.held.len() >= HELD_LEASES_MAX;
                    if is_full && self.state == TryState::Begun {
                        self.state = TryState::Answered;
                    } else if is_full && self.state == TryState::Waits {
                        self.state = self.unusual();
                    }
                }
                Poll::Ready(Ok(None)) => {
                    let is_whole = self.state == TryState::Begun && self.decoder.finish().is_ok();
                    self.state = if is_whole { self.whole() } else { TryState::Failed };
                    self.end = Some(Ok(()));
                }
                Poll::Ready(Err(error)) => {
                    self.state = TryState::Failed;
                    self.end = Some(Err(error));
                }
            }
        }
        if self.state == TryState::Failed {
            // Nothing was passed on, so that an error can be sent instead.
            self.held.clear();
        }
        self.state
    }

    /// The state after these bytes.
    fn judge(&mut self, mut bytes: &[u8]) -> TryState {
        while self.state == TryState::Waits {
            match self.head.feed(bytes, Method::Post) {
                Ok(Progress::Partial) => return TryState::Waits,
                Ok(Progress::Complete { len }) => bytes = &bytes[len..],
                Err(_) => return self.unusual(),
            }
            if self.head.is_interim() {
                continue;
            }
            match self.of {
                Try::First if !self.head.is_event_stream() => return TryState::Answered,
                Try::Second if !(200..300).contains(&self.head.status()) => return TryState::Refused,
                Try::Second if !self.head.is_event_stream() && !self.is_readable() => return TryState::Answered,
                Try::First | Try::Second => {}
            }
            self.decoder.restart(self.head.framing());
            break;
        }
        let mut rest = bytes.to_vec();
        loop {
            match self.decoder.next(&mut rest) {
                Ok(Decoded::Data(data)) => match self.read(&data) {
                    TryState::Begun => {}
                    decided => return decided,
                },
                Ok(Decoded::More) => return TryState::Begun,
                Ok(Decoded::End) => return self.whole(),
                Err(_) => return self.unusual(),
            }
        }
    }

    /// The state after these bytes of the body. In the first try any byte is worth passing on.
    fn read(&mut self, data: &[u8]) -> TryState {
        for byte in data {
            match self.of {
                Try::First if self.events.has(*byte) => return TryState::Answered,
                Try::First => continue,
                Try::Second if self.head.is_event_stream() && !self.events.has(*byte) => continue,
                Try::Second => self.message.feed(&[*byte]),
            }
            match self.message.says() {
                AnswerSays::Nothing => {}
                AnswerSays::Result => return TryState::Answered,
                AnswerSays::Error => return TryState::Refused,
            }
        }
        TryState::Begun
    }

    /// The state after the end of a body without a readable answer.
    fn whole(&self) -> TryState {
        let may_be_one = self.of == Try::First || !self.is_readable();
        if may_be_one { TryState::Answered } else { TryState::Refused }
    }

    /// Whether the body has no content coding.
    fn is_readable(&self) -> bool {
        self.head.get("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"))
    }

    /// The state after an answer that violates HTTP: for the first try it counts as the answer.
    fn unusual(&self) -> TryState {
        match self.of {
            Try::First => TryState::Answered,
            Try::Second => TryState::Failed,
        }
    }
}

impl ByteStream for Hedged<'_> {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let winner = match self.winner.get() {
            Some(winner) => winner,
            None => ready!(self.poll_winner(cx)),
        };
        let mut race = self.race.borrow_mut();
        let answer = if winner == Try::First { &mut race.first } else { &mut race.second };
        if let Some(lease) = answer.held.pop_front() {
            return Poll::Ready(Ok(Some(lease)));
        }
        match answer.end.clone() {
            None => self.winner().stream.poll_recv(cx),
            Some(Ok(())) => Poll::Ready(Ok(None)),
            Some(Err(error)) => {
                drop(race);
                Poll::Ready(Err(self.failure(error)))
            }
        }
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.winner.get().is_some() { self.winner().stream.poll_ended(cx) } else { Poll::Pending }
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        self.copy(&lease);
        self.first.stream.send(lease)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.first.stream.poll_ready(cx)
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.first.stream.poll_flushed(cx)
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.first.stream.poll_send_failed(cx)
    }

    /// Ends the request, all of which was sent.
    fn finish(&self) {
        self.is_whole.set(true);
        self.first.stream.finish_message();
    }

    fn abort(&self) {
        self.winner().stream.abort();
    }

    fn has_partial(&self) -> bool {
        self.winner().stream.has_partial()
    }

    fn headroom(&self) -> usize {
        self.first.stream.headroom()
    }

    fn tailroom(&self) -> usize {
        self.first.stream.tailroom()
    }
}
