//! Many agents on one server that has one input and one output.
//!
//! The server sees one client. Each request of an agent gets a number of its own as its id, and as its progress token if it has one;
//! answers and progress reports carry the agent's own again. No other byte of a message changes, except line breaks between values,
//! which become spaces, because a line is a message.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::wire::jsonrpc::Message;
use crate::wire::mcp::INITIALIZE;
use crate::wire::stdio::long_line::id_of_long_line;
use crate::wire::stdio::rewrite::{line_of, number_of, outcome, with_edits};
use crate::wire::stdio::{Envelope, EnvelopeError};

const INITIALIZED: &str = "notifications/initialized";
const CANCELLED: &str = "notifications/cancelled";
const PROGRESS: &str = "notifications/progress";
/// How many cancelled requests are remembered: the server may still ask something for them.
const CANCELLED_MAX: usize = 256;
/// The most requests of the server that wait for an agent's answer.
const ASKED_MAX: usize = 256;
/// The longest id of a request of the server, in bytes.
const ASKED_ID_LEN_MAX: usize = 256;
/// The code of an answer to a request that was cancelled, as language servers have it.
const REQUEST_CANCELLED: i64 = -32_800;
const CANCELLED_ERROR: &[u8] = b"{\"code\":-32800,\"message\":\"Request cancelled\"}";
/// The code of JSON-RPC for an internal error.
const INTERNAL_ERROR: i64 = -32_603;
const TOO_LONG_ERROR: &[u8] =
    b"{\"code\":-32603,\"message\":\"the answer of the server is longer than the limit of the connector\"}";

/// An agent's session, by number.
pub type StdioSession = u64;

/// The limits of a [`Multiplexer`].
#[derive(Clone, Copy, Debug)]
pub struct MultiplexerLimits {
    /// The most requests that wait for an answer of the server.
    pub calls_max: usize,
    /// The most sessions at one time.
    pub sessions_max: usize,
    /// The longest answer, in bytes. A longer one is replaced by an error.
    pub answer_len_max: usize,
}

/// Who sends a message: an exchange, which belongs to a session unless its revision has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The number of the HTTP exchange, which no other one has.
    pub exchange: u64,
    /// Its session, if it has one.
    pub session: Option<StdioSession>,
}

/// What became of an agent's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is a request: an [`Effect::Answer`] follows, at once or later.
    Awaits,
    /// It is done with: it was passed on, or needs not be.
    Accepted,
}

/// Why an agent's message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentFault {
    /// It is not a message that can be passed on.
    #[error(transparent)]
    Message(#[from] EnvelopeError),
    /// Too many requests wait for an answer.
    #[error("too many requests wait for an answer of the server: try again later")]
    Busy,
    /// It answers a request that the server did not send to this session, or that has been answered.
    #[error("no request of the server with this id waits for an answer of this session")]
    NotAsked,
}

/// What an answer means for the exchange that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerMeaning {
    /// The code of the error, if it is one.
    pub code: Option<i64>,
    /// Whether it answers `initialize`, so that a session begins unless it is an error.
    pub opens: bool,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this line to the server. It ends with a line feed.
    ToServer(Vec<u8>),
    /// Send the answer to this exchange, which ends.
    Answer {
        /// The exchange that waits for it.
        exchange: u64,
        /// The message itself.
        message: Vec<u8>,
        /// What it means.
        note: AnswerMeaning,
    },
    /// Send this message before the answer of this exchange.
    Before {
        /// The exchange that waits for its answer.
        exchange: u64,
        /// The message itself.
        message: Vec<u8>,
    },
    /// Send this message to a session.
    ToSession {
        /// The session that gets it.
        session: StdioSession,
        /// The message itself.
        message: Vec<u8>,
    },
    /// Send this message to all sessions.
    ToAll(Vec<u8>),
}

/// How often something unusual was seen in the output of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MuxCounts {
    /// Lines that look like a message and are none.
    pub malformed: u64,
    /// Answers whose request was cancelled, left or answered before.
    pub late: u64,
    /// Messages that refer to a request that the server never got.
    pub unknown: u64,
    /// Answers that are too long.
    pub too_long: u64,
    /// Messages that may belong to several sessions, and went to none.
    pub unowned: u64,
}

/// Shares one server among agents. It decides, and does no input or output.
#[derive(Debug)]
pub struct Multiplexer {
    limits: MultiplexerLimits,
    /// The number of the next request.
    next: u64,
    next_session: StdioSession,
    sessions: BTreeMap<StdioSession, ()>,
    pub(super) calls: BTreeMap<u64, Call>,
    /// Numbers of cancelled requests, the oldest first.
    cancelled: VecDeque<u64>,
    /// Requests of the server that wait for an answer, by their id.
    asked: BTreeMap<Box<[u8]>, StdioSession>,
    opening: Opening,
    counts: MuxCounts,
}

/// A request that the server has not answered.
#[derive(Debug)]
pub(super) struct Call {
    asker: Asker,
    id: Box<[u8]>,
    token: Option<Box<[u8]>>,
    state: CallState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    /// Its exchange waits for the answer.
    Awaited,
    /// Its exchange has ended: the answer is dropped.
    Left,
    /// It was cancelled, so that there may never be an answer.
    Cancelled,
}

/// How far the one `initialize` that the server gets has come.
#[derive(Debug)]
enum Opening {
    /// There was none, or it failed.
    Fresh,
    /// It has this number. Others wait for its result, with their ids.
    Underway { number: u64, waiting: Vec<(Asker, Box<[u8]>)> },
    /// It had this result.
    Done { result: Box<[u8]> },
}

impl Multiplexer {
    /// A server that has received nothing.
    #[must_use]
    pub fn new(limits: MultiplexerLimits) -> Multiplexer {
        Multiplexer {
            limits,
            next: 1,
            next_session: 1,
            sessions: BTreeMap::new(),
            calls: BTreeMap::new(),
            cancelled: VecDeque::new(),
            asked: BTreeMap::new(),
            opening: Opening::Fresh,
            counts: MuxCounts::default(),
        }
    }

    /// What was unusual so far.
    #[must_use]
    pub fn counts(&self) -> MuxCounts {
        self.counts
    }

    /// The number of requests that wait for an answer of the server.
    #[must_use]
    pub fn calls_open(&self) -> usize {
        self.calls.len() - self.cancelled.len()
    }

    /// Begins a session; none if there are as many as allowed.
    pub fn open_session(&mut self) -> Option<StdioSession> {
        if self.sessions.len() >= self.limits.sessions_max {
            return None;
        }
        let key = self.next_session;
        self.next_session += 1;
        self.sessions.insert(key, ());
        Some(key)
    }

    /// Ends a session. What the server asked of it is answered with an error.
    pub fn close_session(&mut self, session: StdioSession, effects: &mut Vec<Effect>) {
        self.sessions.remove(&session);
        let gone: Vec<Box<[u8]>> =
            self.asked.iter().filter(|(_, of)| **of == session).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.asked.remove(&id);
            effects.push(refuse_server(&id, "the agent has ended its session"));
        }
        let calls = &self.calls;
        let is_others = |number: &u64| calls.get(number).is_some_and(|call| call.asker.session != Some(session));
        let (kept, gone) = self.cancelled.iter().partition::<Vec<u64>, _>(|number| is_others(number));
        self.cancelled = kept.into();
        for number in gone {
            self.calls.remove(&number);
        }
    }

    /// Takes a message of an agent.
    ///
    /// # Errors
    ///
    /// If it is not passed on.
    pub fn on_agent(&mut self, from: Asker, text: &[u8], effects: &mut Vec<Effect>) -> Result<Heard, AgentFault> {
        let envelope = Envelope::read(text)?;
        let method = envelope.method(text).unwrap_or_default();
        match (envelope.kind(text), &*method) {
            (Some(Message::Request), INITIALIZE) => self.initialize(from, text, &envelope, effects),
            (Some(Message::Request), _) => {
                let Some(id) = envelope.id.clone() else { return Err(EnvelopeError::NotRpc.into()) };
                self.request(from, text, (id, envelope.progress_token), effects).map(|_| Heard::Awaits)
            }
            // The server gets one after its one `initialize`.
            (Some(Message::Notification), INITIALIZED) => Ok(Heard::Accepted),
            (Some(Message::Notification), CANCELLED) => {
                self.cancel_by_agent(from, text, &envelope, effects);
                Ok(Heard::Accepted)
            }
            (Some(Message::Notification), _) => {
                effects.push(Effect::ToServer(line_of(text, &mut [])));
                Ok(Heard::Accepted)
            }
            (Some(Message::Response), _) => {
                let id = envelope.id.clone().map(|id| &text[id]).unwrap_or_default();
                if from.session.is_none() || self.asked.get(id).copied() != from.session {
                    return Err(AgentFault::NotAsked);
                }
                self.asked.remove(id);
                effects.push(Effect::ToServer(line_of(text, &mut [])));
                Ok(Heard::Accepted)
            }
            (None, _) => Err(EnvelopeError::NotRpc.into()),
        }
    }

    /// Takes note that an exchange has ended before its answer. With `cancels`, its request is cancelled.
    pub fn on_left(&mut self, exchange: u64, cancels: bool, effects: &mut Vec<Effect>) {
        if let Opening::Underway { waiting, .. } = &mut self.opening {
            waiting.retain(|(asker, _)| asker.exchange != exchange);
        }
        let found = self.calls.iter_mut().find(|(_, call)| call.asker.exchange == exchange && call.is_awaited());
        let Some((number, call)) = found else { return };
        call.state = CallState::Left;
        let number = *number;
        // Others may wait for the result of `initialize`.
        if cancels && !matches!(self.opening, Opening::Underway { number: opening, .. } if opening == number) {
            effects.push(Effect::ToServer(cancellation(number)));
            self.set_cancelled(number);
        }
    }

    /// Takes a line of the server's output that may be a message.
    pub fn on_server(&mut self, text: &[u8], effects: &mut Vec<Effect>) {
        let Ok(envelope) = Envelope::read(text) else {
            self.counts.malformed += 1;
            return;
        };
        match envelope.kind(text) {
            Some(Message::Response) => self.on_answer(text, &envelope, effects),
            Some(Message::Request) => self.on_server_request(text, &envelope, effects),
            Some(Message::Notification) => self.on_notification(text, &envelope, effects),
            None => self.counts.malformed += 1,
        }
    }

    /// Takes note of a line that was too long to be read, by its first and last bytes. If it is certain which request it answers,
    /// that gets an error.
    pub fn on_long_line(&mut self, start: &[u8], end: &[u8], effects: &mut Vec<Effect>) {
        let Some(number) = id_of_long_line(start, end).filter(|number| self.calls.contains_key(number)) else { return };
        let answer = outcome(number.to_string().as_bytes(), "error", TOO_LONG_ERROR);
        self.counts.too_long += 1;
        self.on_server(&answer, effects);
    }

    fn initialize(
        &mut self,
        from: Asker,
        text: &[u8],
        envelope: &Envelope,
        effects: &mut Vec<Effect>,
    ) -> Result<Heard, AgentFault> {
        let Some(id) = envelope.id.clone() else { return Err(EnvelopeError::NotRpc.into()) };
        match &mut self.opening {
            Opening::Fresh => {
                let number = self.request(from, text, (id, envelope.progress_token.clone()), effects)?;
                self.opening = Opening::Underway { number, waiting: Vec::new() };
            }
            Opening::Underway { waiting, .. } if waiting.len() < self.limits.calls_max => {
                waiting.push((from, text[id].into()));
            }
            Opening::Underway { .. } => return Err(AgentFault::Busy),
            Opening::Done { result } => effects.push(Effect::Answer {
                exchange: from.exchange,
                message: outcome(&text[id], "result", result),
                note: AnswerMeaning { code: None, opens: true },
            }),
        }
        Ok(Heard::Awaits)
    }

    /// Passes a request on, and returns its number.
    fn request(
        &mut self,
        asker: Asker,
        text: &[u8],
        (id, token): (Range<usize>, Option<Range<usize>>),
        effects: &mut Vec<Effect>,
    ) -> Result<u64, AgentFault> {
        if self.calls_open() >= self.limits.calls_max {
            return Err(AgentFault::Busy);
        }
        let number = self.next;
        self.next += 1;
        let digits = number.to_string();
        let mut edits = vec![(id.clone(), digits.as_bytes())];
        edits.extend(token.clone().map(|token| (token, digits.as_bytes())));
        effects.push(Effect::ToServer(line_of(text, &mut edits)));
        let token = token.map(|token| text[token].into());
        self.calls.insert(number, Call { asker, id: text[id].into(), token, state: CallState::Awaited });
        Ok(number)
    }

    fn cancel_by_agent(&mut self, from: Asker, text: &[u8], envelope: &Envelope, effects: &mut Vec<Effect>) {
        // Without a session, nobody can prove that the request is its own: closing its exchange cancels it.
        let (Some(session), Some(place)) = (from.session, envelope.request_id.clone()) else { return };
        let is_meant = |call: &Call| {
            call.asker.session == Some(session) && *call.id == text[place.clone()] && call.state != CallState::Cancelled
        };
        let Some((number, call)) = self.calls.iter().rfind(|(_, call)| is_meant(call)) else { return };
        let (number, was_awaited, exchange, id) = (*number, call.is_awaited(), call.asker.exchange, call.id.clone());
        // A client must not cancel its `initialize`, for whose result others wait.
        if matches!(self.opening, Opening::Underway { number: opening, .. } if opening == number) {
            return;
        }
        effects.push(Effect::ToServer(line_of(text, &mut [(place, number.to_string().as_bytes())])));
        if was_awaited {
            // Many servers give no answer, for which the exchange would wait.
            effects.push(Effect::Answer {
                exchange,
                message: outcome(&id, "error", CANCELLED_ERROR),
                note: AnswerMeaning { code: Some(REQUEST_CANCELLED), opens: false },
            });
        }
        self.set_cancelled(number);
    }

    fn set_cancelled(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.state = CallState::Cancelled;
        self.cancelled.push_back(number);
        if self.cancelled.len() > CANCELLED_MAX
            && let Some(oldest) = self.cancelled.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }

    fn on_answer(&mut self, text: &[u8], envelope: &Envelope, effects: &mut Vec<Effect>) {
        let Some(place) = envelope.id.clone() else {
            self.counts.malformed += 1;
            return;
        };
        let Some((number, call)) = number_of(&text[place.clone()]).and_then(|number| self.calls.remove_entry(&number))
        else {
            return self.count_stray(&text[place]);
        };
        self.cancelled.retain(|cancelled| *cancelled != number);
        let code = envelope.error.as_ref().map(|_| {
            let code = envelope.error_code.clone().map(|code| &text[code]);
            code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(INTERNAL_ERROR)
        });
        let is_opening = matches!(self.opening, Opening::Underway { number: opening, .. } if opening == number);
        if is_opening {
            self.on_opened(text, envelope, code, effects);
        }
        if !call.is_awaited() {
            self.counts.late += u64::from(!is_opening);
            return;
        }
        let (message, code) = match text.len() <= self.limits.answer_len_max || is_opening {
            true => (with_edits(text, &mut [(place, &call.id)]), code),
            false => {
                self.counts.too_long += 1;
                (outcome(&call.id, "error", TOO_LONG_ERROR), Some(INTERNAL_ERROR))
            }
        };
        let note = AnswerMeaning { code, opens: is_opening };
        effects.push(Effect::Answer { exchange: call.asker.exchange, message, note });
    }

    /// Counts a message that refers to no request that waits.
    fn count_stray(&mut self, id: &[u8]) {
        match number_of(id) {
            Some(number) if number < self.next => self.counts.late += 1,
            _ => self.counts.unknown += 1,
        }
    }

    /// Gives the result of the one `initialize` to all that wait for it.
    fn on_opened(&mut self, text: &[u8], envelope: &Envelope, code: Option<i64>, effects: &mut Vec<Effect>) {
        let (key, value) = match (&envelope.result, &envelope.error) {
            (Some(result), _) => ("result", &text[result.clone()]),
            (None, Some(error)) => ("error", &text[error.clone()]),
            (None, None) => return,
        };
        let after = if code.is_none() {
            effects
                .push(Effect::ToServer(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{INITIALIZED}\"}}\n").into_bytes()));
            Opening::Done { result: value.into() }
        } else {
            Opening::Fresh
        };
        let Opening::Underway { waiting, .. } = std::mem::replace(&mut self.opening, after) else { return };
        effects.extend(waiting.into_iter().map(|(asker, id)| Effect::Answer {
            exchange: asker.exchange,
            message: outcome(&id, key, value),
            note: AnswerMeaning { code, opens: true },
        }));
    }

    fn on_notification(&mut self, text: &[u8], envelope: &Envelope, effects: &mut Vec<Effect>) {
        let method = envelope.method(text).unwrap_or_default();
        if let Some(place) = envelope.subscription.clone() {
            return self.on_report(text, place, |call| Some(&call.id), effects);
        }
        match &*method {
            PROGRESS => match envelope.progress.clone() {
                Some(place) => self.on_report(text, place, |call| call.token.as_deref(), effects),
                None => self.counts.malformed += 1,
            },
            CANCELLED => {
                let id = envelope.request_id.clone().map(|id| &text[id]).unwrap_or_default();
                match self.asked.remove(id) {
                    Some(session) => effects.push(Effect::ToSession { session, message: text.into() }),
                    None => self.counts.unknown += 1,
                }
            }
            method if method.ends_with("/list_changed") => effects.push(Effect::ToAll(text.into())),
            _ => self.give_to_owner(text, effects),
        }
    }

    /// Passes on a message that refers to a request by its number, which `own` replaces.
    fn on_report(
        &mut self,
        text: &[u8],
        place: Range<usize>,
        own: impl Fn(&Call) -> Option<&[u8]>,
        effects: &mut Vec<Effect>,
    ) {
        let call = number_of(&text[place.clone()]).and_then(|number| self.calls.get(&number));
        match call.filter(|call| call.is_awaited()).and_then(|call| Some((call.asker, own(call)?))) {
            Some((Asker { exchange, .. }, own)) => {
                let message = with_edits(text, &mut [(place, own)]);
                effects.push(Effect::Before { exchange, message });
            }
            None => self.count_stray(&text[place]),
        }
    }

    fn on_server_request(&mut self, text: &[u8], envelope: &Envelope, effects: &mut Vec<Effect>) {
        let Some(id) = envelope.id.clone().map(|id| &text[id]) else { return };
        if envelope.method(text).as_deref() == Some("ping") {
            let answer = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":{}}\n"].concat();
            return effects.push(Effect::ToServer(answer));
        }
        let Some(session) = self.owner().flatten() else {
            self.counts.unowned += 1;
            return effects.push(refuse_server(
                id,
                "this server is shared by several agents, and it is not certain which of them is meant",
            ));
        };
        let is_known = self.asked.contains_key(id);
        if is_known || self.asked.len() >= ASKED_MAX || id.len() > ASKED_ID_LEN_MAX {
            return effects.push(refuse_server(id, "the id is in use or too long, or too many requests wait"));
        }
        self.asked.insert(id.into(), session);
        self.give_to_owner(text, effects);
    }

    /// Passes on a message that names no request, if only one agent can be meant.
    fn give_to_owner(&mut self, text: &[u8], effects: &mut Vec<Effect>) {
        let Some(session) = self.owner() else {
            self.counts.unowned += 1;
            return;
        };
        let mut awaited = self.calls.values().filter(|call| call.is_awaited());
        let message = text.to_vec();
        match (awaited.next(), awaited.next(), session) {
            (Some(only), None, _) => {
                effects.push(Effect::Before { exchange: only.asker.exchange, message });
            }
            (_, _, Some(session)) => effects.push(Effect::ToSession { session, message }),
            (_, _, None) => self.counts.unowned += 1,
        }
    }

    /// The one agent that can be the cause of what the server sends: its session, or none if the one request that waits has no
    /// session. Without a request in progress it is the only session.
    fn owner(&self) -> Option<Option<StdioSession>> {
        let mut calls = self.calls.values();
        let Some(first) = calls.next() else {
            let mut sessions = self.sessions.keys();
            return match (sessions.next(), sessions.next()) {
                (Some(only), None) => Some(Some(*only)),
                _ => None,
            };
        };
        match first.asker.session {
            Some(session) => calls.all(|call| call.asker.session == Some(session)).then_some(Some(session)),
            None => calls.next().is_none().then_some(None),
        }
    }
}

impl Call {
    fn is_awaited(&self) -> bool {
        self.state == CallState::Awaited
    }
}

fn cancellation(number: u64) -> Vec<u8> {
    let params = format!("{{\"requestId\":{number},\"reason\":\"the agent has closed the exchange\"}}");
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{CANCELLED}\",\"params\":{params}}}\n").into_bytes()
}

/// The answer to a request of the server that no agent gets.
fn refuse_server(id: &[u8], why: &str) -> Effect {
    let mut line = outcome(id, "error", format!("{{\"code\":{INTERNAL_ERROR},\"message\":\"{why}\"}}").as_bytes());
    line.push(b'\n');
    Effect::ToServer(line)
}
