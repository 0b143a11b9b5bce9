//! What the connections of one running child share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Budget, Clock};
use crate::engine::{Core, Signal};
use crate::stdio::inbox::{HeldBytes, Inbox, Mail};
use crate::stdio::session::Session;
use crate::wire::stdio::{AgentFault, Asker, Effect, Heard, Multiplexer, MultiplexerLimits, StdioSession};

/// The most requests that wait for an answer of one child.
const CALLS_MAX: usize = 1_024;
/// The most sessions of one child. The one that was not used for longest makes room for another.
const SESSIONS_MAX: usize = 1_024;
/// How long a session may be unused.
pub(super) const SESSION_IDLE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How many bytes may wait for a child that does not read. Then agents wait.
const TO_CHILD_LEN_MAX: usize = 1024 * 1024;
/// The most bytes of messages of agents, and of events that are kept, each.
const MEMORY_MAX: usize = 64 * 1024 * 1024;
/// The bytes of each message that do not count.
const MEMORY_FREE: usize = 64 * 1024;
/// The most bytes of answers that agents have not taken.
const ANSWERS_LEN_MAX: usize = 64 * 1024 * 1024;

/// The state of one child while it runs.
pub(super) struct RunningChild {
    pub(super) core: Core,
    pub(super) route: String,
    mux: RefCell<Multiplexer>,
    next_exchange: Cell<u64>,
    exchanges: RefCell<BTreeMap<u64, Rc<Inbox>>>,
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
    /// Memory for messages of agents.
    pub(super) messages: Budget,
    /// Memory for events that are kept.
    events: Budget,
    is_over: Cell<bool>,
    /// Raised when the child has ended, or is to end.
    closed: Signal,
    /// Messages that no agent has received, because too much waited for it.
    dropped: Cell<u64>,
}

/// An exchange that waits for mail. Dropping it tells that its agent has left.
pub(super) struct OpenExchange {
    child: Rc<RunningChild>,
    pub(super) asker: Asker,
    pub(super) inbox: Rc<Inbox>,
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
    pub(super) fn new(core: &Core, route: &str) -> RunningChild {
        RunningChild {
            core: core.clone(),
            route: route.to_owned(),
            mux: RefCell::new(Multiplexer::new(MultiplexerLimits { calls_max: CALLS_MAX, sessions_max: SESSIONS_MAX })),
            next_exchange: Cell::new(1),
            exchanges: RefCell::default(),
            sessions: RefCell::default(),
            to_child: RefCell::default(),
            to_child_len: Cell::new(0),
            added: Signal::default(),
            taken: Signal::default(),
            answers_len: Rc::default(),
            messages: Budget::new(MEMORY_MAX, MEMORY_FREE),
            events: Budget::new(MEMORY_MAX, 0),
            is_over: Cell::new(false),
            closed: Signal::default(),
            dropped: Cell::new(0),
        }
    }

    /// Waits while too much waits for the child.
    pub(super) async fn has_room(&self) {
        loop {
            let seen = self.taken.count();
            if self.is_over.get() || self.to_child_len.get() < TO_CHILD_LEN_MAX {
                return;
            }
            self.taken.after(seen).await;
        }
    }

    /// Whether the child has ended, or is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Waits until the child has ended, or is to end.
    pub(super) async fn over(&self) {
        while !self.is_over.get() {
            self.closed.after(self.closed.count()).await;
        }
    }

    /// Ends it: what waits for the child gets no answer, and streams end.
    pub(super) fn close(&self) {
        self.is_over.set(true);
        self.exchanges.borrow().values().for_each(|inbox| inbox.put(Mail::End));
        self.sessions.take().values().for_each(|session| session.end());
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
        let inbox = Rc::<Inbox>::default();
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
        self.apply(effects);
        heard
    }

    /// Takes a line of the child that may be a message.
    pub(super) fn on_child(&self, text: &[u8]) {
        let mut effects = Vec::new();
        let before = self.mux.borrow().counts();
        self.mux.borrow_mut().on_server(text, &mut effects);
        let now = self.mux.borrow().counts();
        if now.malformed > before.malformed {
            tracing::debug!(route = self.route, total = now.malformed, "a line of the child is no JSON-RPC message");
        }
        if now.unowned > before.unowned {
            tracing::debug!(
                route = self.route,
                total = now.unowned,
                "a message of the child names no agent, and several may be meant"
            );
        }
        self.apply(effects);
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
                let oldest = oldest?;
                self.end_session(&oldest);
                self.mux.borrow_mut().open_session()?
            }
        };
        let session = Rc::new(Session::new(id.clone(), key, &self.events, now));
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        Some(session)
    }

    /// The session with this id.
    pub(super) fn session(&self, id: &[u8]) -> Option<Rc<Session>> {
        let found = self.sessions.borrow().get(std::str::from_utf8(id).ok()?).cloned();
        found.inspect(|session| session.used.set(self.core.turn_time()))
    }

    /// Ends a session, and with it its streams.
    pub(super) fn end_session(&self, session: &Session) {
        self.sessions.borrow_mut().remove(&session.id);
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
                            inbox.put(Mail::End);
                        }
                    }
                }
                Effect::Before { exchange, message } => match self.inbox(exchange) {
                    Some(inbox) => self.note_dropped(inbox.message(message)),
                    None => self.note_dropped(false),
                },
                Effect::ToSession { session, message } => {
                    let sessions = self.sessions.borrow();
                    let found = sessions.values().find(|found| found.key == session);
                    self.note_dropped(found.is_some_and(|session| session.inbox.message(message)));
                }
                Effect::ToAll(message) => {
                    let sessions = self.sessions.borrow();
                    sessions.values().for_each(|session| self.note_dropped(session.inbox.message(message.clone())));
                }
            }
        }
    }

    fn inbox(&self, exchange: u64) -> Option<Rc<Inbox>> {
        self.exchanges.borrow().get(&exchange).cloned()
    }

    fn note_dropped(&self, was_taken: bool) {
        if !was_taken {
            self.dropped.set(self.dropped.get() + 1);
            tracing::debug!(
                route = self.route,
                total = self.dropped.get(),
                "an agent does not take messages of the child: one is dropped"
            );
        }
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.child.exchanges.borrow_mut().remove(&self.asker.exchange);
        if !self.is_over {
            let mut effects = Vec::new();
            // A closed exchange cancels its request only where there are no sessions.
            let cancels = self.asker.session.is_none();
            self.child.mux.borrow_mut().on_left(self.asker.exchange, cancels, &mut effects);
            self.child.apply(effects);
        }
    }
}
