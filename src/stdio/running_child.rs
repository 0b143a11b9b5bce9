//! What the connections of one running child share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Budget, Clock, Time};
use crate::engine::{Core, Signal};
use crate::exchange::Inbox;
use crate::stdio::child_permit::ChildPermit;
use crate::stdio::mail::{HeldBytes, Mail};
use crate::stdio::session::Session;
use crate::stdio::settings::StdioSettings;
use crate::stdio::stats::{StdioEvent, StdioStats};
use crate::wire::stdio::{
    AgentFault, Asker, Effect, Heard, MirroredArguments, Multiplexer, MultiplexerLimits, MuxCounts, StdioSession,
};

/// How long a session may be unused.
pub(super) const SESSION_IDLE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How many bytes may wait for a child that does not read. Then agents wait.
const TO_CHILD_LEN_MAX: usize = 1024 * 1024;
/// The most bytes of answers that agents have not taken.
const ANSWERS_LEN_MAX: usize = 64 * 1024 * 1024;

/// Reads one of the counts.
type ReadCount = fn(&MuxCounts) -> u64;

/// The state of one child while it runs.
pub(super) struct RunningChild {
    pub(super) core: Core,
    pub(super) route: String,
    pub(super) stats: Arc<StdioStats>,
    /// When it was started.
    pub(super) began: Time,
    /// Its place among the children that are allowed, until it is closed.
    permit: Cell<Option<ChildPermit>>,
    mux: RefCell<Multiplexer>,
    /// What requests have to repeat in their heads.
    pub(super) mirrored: RefCell<MirroredArguments>,
    next_exchange: Cell<u64>,
    exchanges: RefCell<BTreeMap<u64, Rc<Inbox<Mail>>>>,
    sessions: RefCell<BTreeMap<Box<str>, Rc<Session>>>,
    /// Lines that wait to be written to the child.
    to_child: RefCell<VecDeque<Vec<u8>>>,
    to_child_len: Cell<usize>,
    /// Raised when a line is added.
    pub(super) added: Signal,
    /// Raised when a line was taken.
    taken: Signal,
    /// The bytes of answers that agents have not taken.
    answers_len: Rc<Cell<usize>>,
    /// Memory for events that are kept.
    events: Budget,
    /// When it was last used.
    used: Cell<Time>,
    /// Whether a message was written to it, and one came from it.
    pub(super) was_asked: Cell<bool>,
    pub(super) has_spoken: Cell<bool>,
    /// Why it has ended, or is to end.
    closing: Cell<Option<StdioEvent>>,
    /// Raised when the child has ended, or is to end.
    closed: Signal,
}

/// An exchange that waits for mail. Dropping it tells that its agent has left.
pub(super) struct OpenExchange {
    child: Rc<RunningChild>,
    pub(super) asker: Asker,
    pub(super) inbox: Rc<Inbox<Mail>>,
    /// Whether nothing more follows.
    is_over: bool,
}

impl OpenExchange {
    /// Closes it as nothing more follows.
    pub(super) fn finish(mut self) {
        self.is_over = true;
    }
}

impl RunningChild {
    pub(super) fn new(
        core: &Core,
        settings: &StdioSettings,
        (stats, permit): (&Arc<StdioStats>, ChildPermit),
        events: &Budget,
    ) -> RunningChild {
        let limits = &settings.limits;
        let limits = MultiplexerLimits {
            calls_max: limits.calls_max,
            sessions_max: limits.sessions_max,
            answer_len_max: limits.answer_len_max,
        };
        RunningChild {
            core: core.clone(),
            route: settings.route.clone(),
            stats: Arc::clone(stats),
            began: core.now(),
            permit: Cell::new(Some(permit)),
            mux: RefCell::new(Multiplexer::new(limits)),
            mirrored: RefCell::default(),
            next_exchange: Cell::new(1),
            exchanges: RefCell::default(),
            sessions: RefCell::default(),
            to_child: RefCell::default(),
            to_child_len: Cell::new(0),
            added: Signal::default(),
            taken: Signal::default(),
            answers_len: Rc::default(),
            events: events.clone(),
            used: Cell::new(core.now()),
            was_asked: Cell::new(false),
            has_spoken: Cell::new(false),
            closing: Cell::new(None),
            closed: Signal::default(),
        }
    }

    /// Takes note that it is used.
    pub(super) fn touch(&self) {
        self.used.set(self.core.turn_time());
    }

    /// When it was last used; none if it is in use.
    pub(super) fn unused_since(&self) -> Option<Time> {
        let is_idle = self.exchanges.borrow().is_empty()
            && self.sessions.borrow().values().all(|session| session.open.get() == 0);
        is_idle.then(|| self.used.get())
    }

    /// Whether another message may wait for the child.
    pub(super) fn has_room(&self) -> bool {
        self.is_over() || self.to_child_len.get() < TO_CHILD_LEN_MAX
    }

    /// Waits while too much waits for the child.
    pub(super) async fn room(&self) {
        loop {
            let seen = self.taken.count();
            if self.has_room() {
                return;
            }
            self.taken.after(seen).await;
        }
    }

    /// Whether the child has ended, or is to end.
    pub(super) fn is_over(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Why it has ended, or is to end.
    pub(super) fn closing(&self) -> Option<StdioEvent> {
        self.closing.get()
    }

    /// Waits until the child has ended, or is to end.
    pub(super) async fn over(&self) {
        while !self.is_over() {
            self.closed.after(self.closed.count()).await;
        }
    }

    /// Ends it for this reason: what waits for the child gets no answer, and streams end.
    pub(super) fn close(&self, reason: StdioEvent) {
        if self.is_over() {
            return;
        }
        self.closing.set(Some(reason));
        drop(self.permit.take());
        self.exchanges.borrow().values().for_each(|inbox| inbox.put(Mail::End));
        let sessions = self.sessions.take();
        self.stats.remove_sessions(sessions.len());
        sessions.values().for_each(|session| session.end());
        self.taken.raise();
        self.closed.raise();
    }

    /// The next line for the child, if there is one.
    pub(super) fn take_line(&self) -> Option<Vec<u8>> {
        self.to_child.borrow_mut().pop_front()
    }

    /// Records that a line was written.
    pub(super) fn on_written(&self, len: usize) {
        self.to_child_len.set(self.to_child_len.get() - len);
        self.taken.raise();
    }

    /// Opens an exchange, which belongs to a session if it has one.
    pub(super) fn open(self: &Rc<RunningChild>, session: Option<StdioSession>) -> OpenExchange {
        let exchange = self.next_exchange.get();
        self.next_exchange.set(exchange + 1);
        let inbox = Rc::<Inbox<Mail>>::default();
        self.touch();
        self.exchanges.borrow_mut().insert(exchange, Rc::clone(&inbox));
        OpenExchange { child: Rc::clone(self), asker: Asker { exchange, session }, inbox, is_over: false }
    }

    /// Whether this exchange waits for an answer.
    pub(super) fn is_open(&self, exchange: u64) -> bool {
        self.exchanges.borrow().contains_key(&exchange)
    }

    /// Takes a message of an agent.
    pub(super) fn on_agent(&self, from: Asker, text: &[u8]) -> Result<Heard, AgentFault> {
        let mut effects = Vec::new();
        let heard = self.mux.borrow_mut().on_agent(from, text, &mut effects);
        if heard == Err(AgentFault::Busy) {
            self.stats.add(StdioEvent::CallRefused);
        }
        self.apply(effects);
        heard
    }

    /// Takes a line of the child that may be a message.
    pub(super) fn on_child(&self, text: &[u8]) {
        self.has_spoken.set(true);
        self.with_mux(|mux, effects| mux.on_server(text, effects));
    }

    /// Takes a line of the child that is too long, by its first and last bytes.
    pub(super) fn on_long_line(&self, start: &[u8], end: &[u8]) {
        self.with_mux(|mux, effects| mux.on_long_line(start, end, effects));
    }

    fn with_mux(&self, take: impl FnOnce(&mut Multiplexer, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        let before = self.mux.borrow().counts();
        take(&mut self.mux.borrow_mut(), &mut effects);
        let now = self.mux.borrow().counts();
        if now != before {
            self.count(before, now);
        }
        self.apply(effects);
    }

    fn count(&self, before: MuxCounts, now: MuxCounts) {
        let counts: [(StdioEvent, ReadCount, &str); 5] = [
            (StdioEvent::MalformedLine, |counts| counts.malformed, "a line of the child is no JSON-RPC message"),
            (StdioEvent::LateAnswer, |counts| counts.late, "the child answers a request late or twice"),
            (StdioEvent::UnknownId, |counts| counts.unknown, "the child refers to a request that it never got"),
            (StdioEvent::AnswerDropped, |counts| counts.too_long, "an answer of the child is too long"),
            (
                StdioEvent::Unowned,
                |counts| counts.unowned,
                "a message of the child names no agent, and several may be meant",
            ),
        ];
        for (event, of, what) in counts {
            let new = of(&now) - of(&before);
            if new > 0 {
                self.stats.add_many(event, new);
                tracing::debug!(route = self.route, total = self.stats.count(event), "{what}");
            }
        }
    }

    /// Begins a session with this id. The one that was not used for longest makes room.
    pub(super) fn begin_session(&self, id: Box<str>) -> Option<Rc<Session>> {
        let now = self.core.now();
        let opened = self.mux.borrow_mut().open_session();
        let key = match opened {
            Some(key) => key,
            None => {
                let idle = |session: &&Rc<Session>| session.open.get() == 0;
                let oldest =
                    self.sessions.borrow().values().filter(idle).min_by_key(|session| session.used.get()).cloned();
                let Some(oldest) = oldest else {
                    self.stats.add(StdioEvent::SessionRefused);
                    return None;
                };
                self.end_session(&oldest);
                self.mux.borrow_mut().open_session()?
            }
        };
        let session = Rc::new(Session::new(id.clone(), key, &self.events, now));
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        self.stats.add_session();
        Some(session)
    }

    /// The session with this id.
    pub(super) fn session(&self, id: &[u8]) -> Option<Rc<Session>> {
        let found = self.sessions.borrow().get(std::str::from_utf8(id).ok()?).cloned();
        found.inspect(|session| session.used.set(self.core.turn_time()))
    }

    /// Ends a session, and with it its streams.
    pub(super) fn end_session(&self, session: &Session) {
        if self.sessions.borrow_mut().remove(&session.id).is_some() {
            self.stats.remove_sessions(1);
        }
        session.end();
        let mut effects = Vec::new();
        self.mux.borrow_mut().close_session(session.key, &mut effects);
        self.apply(effects);
    }

    /// Ends the sessions that were not used for too long.
    pub(super) fn end_idle_sessions(&self) {
        let now = self.core.now();
        let is_idle = |session: &&Rc<Session>| session.open.get() == 0 && now - session.used.get() > SESSION_IDLE_MAX;
        let idle: Vec<_> = self.sessions.borrow().values().filter(is_idle).cloned().collect();
        idle.iter().for_each(|session| self.end_session(session));
    }

    fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ToServer(line) => {
                    self.to_child_len.set(self.to_child_len.get() + line.len());
                    self.to_child.borrow_mut().push_back(line);
                    self.added.raise();
                }
                Effect::Answer { exchange, message, note } => {
                    let Some(inbox) = self.inbox(exchange) else { continue };
                    match HeldBytes::take(&self.answers_len, message.len(), ANSWERS_LEN_MAX) {
                        Some(held) => inbox.put(Mail::Answer(message, note, held)),
                        None => {
                            tracing::warn!(
                                route = self.route,
                                "agents do not take the answers of the child: one is dropped"
                            );
                            self.stats.add(StdioEvent::AnswerDropped);
                            inbox.put(Mail::End);
                        }
                    }
                }
                Effect::Before { exchange, message } => match self.inbox(exchange) {
                    Some(inbox) => self.note_dropped(inbox.offer(Mail::Message(message))),
                    None => self.note_dropped(false),
                },
                Effect::ToSession { session, message } => {
                    let sessions = self.sessions.borrow();
                    let found = sessions.values().find(|found| found.key == session);
                    self.note_dropped(found.is_some_and(|session| session.inbox.offer(Mail::Message(message))));
                }
                Effect::ToAll(message) => {
                    let sessions = self.sessions.borrow();
                    sessions
                        .values()
                        .for_each(|session| self.note_dropped(session.inbox.offer(Mail::Message(message.clone()))));
                }
            }
        }
    }

    fn inbox(&self, exchange: u64) -> Option<Rc<Inbox<Mail>>> {
        self.exchanges.borrow().get(&exchange).cloned()
    }

    fn note_dropped(&self, was_taken: bool) {
        if !was_taken {
            self.stats.add(StdioEvent::MessageDropped);
            let total = self.stats.count(StdioEvent::MessageDropped);
            tracing::debug!(route = self.route, total, "an agent does not take messages of the child: one is dropped");
        }
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.child.exchanges.borrow_mut().remove(&self.asker.exchange);
        self.child.touch();
        if !self.is_over {
            let mut effects = Vec::new();
            // A closed exchange cancels its request only where there are no sessions.
            let cancels = self.asker.session.is_none();
            self.child.mux.borrow_mut().on_left(self.asker.exchange, cancels, &mut effects);
            self.child.apply(effects);
        }
    }
}
