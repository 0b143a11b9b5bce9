//! Sessions of agents with the bridge, for a server without.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Time, hex};
use crate::bridge::{AgentHello, BRIDGED_SESSION, CallerKey};
use crate::connector::bridge::mail::{BridgeInbox, Mail};
use crate::engine::Signal;

/// The most sessions of one route. The one that was not used for longest makes room for another.
const SESSIONS_MAX: usize = 1_024;
/// How long a session may be unused.
const IDLE_MAX: Duration = Duration::from_secs(3_600);
/// The most resources that one session subscribes to.
const RESOURCES_MAX: usize = 256;

/// A session of an agent.
pub(super) struct AgentSession {
    pub(super) id: Box<str>,
    /// What the agent has said in `initialize`.
    pub(super) hello: OnceCell<AgentHello>,
    /// The revision that was agreed.
    pub(super) revision: Cell<&'static str>,
    pub(super) log_level: RefCell<Option<String>>,
    uris: RefCell<BTreeSet<String>>,
    /// Raised when the subscriptions have changed.
    pub(super) subscribed: Signal,
    /// What is sent on the stream of the session, for agents of the transport HTTP+SSE.
    pub(super) outbox: Rc<BridgeInbox>,
    /// The number of streams that were opened. A new one replaces the one before.
    pub(super) streams: Cell<u64>,
    pub(super) next_question: Cell<u64>,
    /// Who waits for the answer to a question, and which caller it was asked of.
    questions: RefCell<BTreeMap<u64, (CallerKey, Rc<BridgeInbox>)>>,
    /// The calls, by the id of their request.
    calls: RefCell<BTreeMap<Vec<u8>, Rc<BridgeInbox>>>,
    pub(super) open: Cell<usize>,
    used: Cell<Time>,
    is_over: Cell<bool>,
    pub(super) over: Signal,
}

/// The sessions of one route.
#[derive(Default)]
pub(super) struct AgentSessions(RefCell<BTreeMap<Box<str>, Rc<AgentSession>>>);

/// A session in use by an exchange.
pub(super) struct AgentSessionUse(pub(super) Rc<AgentSession>);

impl AgentSessionUse {
    pub(super) fn new(session: &Rc<AgentSession>) -> AgentSessionUse {
        session.open.set(session.open.get() + 1);
        AgentSessionUse(Rc::clone(session))
    }
}

impl Drop for AgentSessionUse {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// An id that nobody can guess.
pub(super) fn new_id() -> Option<Box<str>> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(format!("{BRIDGED_SESSION}{}", hex(&bytes)).into())
}

impl AgentSessions {
    /// Begins a session; none if all are in use.
    pub(super) fn begin(&self, now: Time) -> Option<Rc<AgentSession>> {
        let mut sessions = self.0.borrow_mut();
        if sessions.len() >= SESSIONS_MAX {
            let idle = sessions.values().filter(|session| session.open.get() == 0);
            let oldest = idle.min_by_key(|session| session.used.get()).map(|session| session.id.clone())?;
            sessions.remove(&oldest).iter().for_each(|session| session.end());
        }
        let session = Rc::new(AgentSession {
            id: new_id()?,
            hello: OnceCell::new(),
            revision: Cell::new(""),
            log_level: RefCell::default(),
            uris: RefCell::default(),
            subscribed: Signal::default(),
            outbox: Rc::default(),
            streams: Cell::new(0),
            next_question: Cell::new(0),
            questions: RefCell::default(),
            calls: RefCell::default(),
            open: Cell::new(0),
            used: Cell::new(now),
            is_over: Cell::new(false),
            over: Signal::default(),
        });
        sessions.insert(session.id.clone(), Rc::clone(&session));
        Some(session)
    }

    /// The session with this id.
    pub(super) fn get(&self, id: &[u8], now: Time) -> Option<Rc<AgentSession>> {
        let found = self.0.borrow().get(std::str::from_utf8(id).ok()?).cloned();
        found.inspect(|session| session.used.set(now))
    }

    /// Ends a session, and with it its streams.
    pub(super) fn end(&self, session: &AgentSession) {
        self.0.borrow_mut().remove(&session.id);
        session.end();
    }

    /// Ends the sessions that were not used for too long.
    pub(super) fn sweep(&self, now: Time) {
        self.0.borrow_mut().retain(|_, session| {
            let is_kept = session.open.get() > 0 || now - session.used.get() <= IDLE_MAX;
            if !is_kept {
                session.end();
            }
            is_kept
        });
    }
}

impl AgentSession {
    fn end(&self) {
        self.is_over.set(true);
        self.over.raise();
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) {
        while !self.is_over.get() {
            self.over.after(self.over.count()).await;
        }
    }

    /// Subscribes to a resource. Returns false if there are too many.
    pub(super) fn subscribe(&self, uri: &str) -> bool {
        let mut uris = self.uris.borrow_mut();
        let has_room = uris.len() < RESOURCES_MAX || uris.contains(uri);
        if has_room && uris.insert(uri.to_owned()) {
            self.subscribed.raise();
        }
        has_room
    }

    /// Ends a subscription to a resource.
    pub(super) fn unsubscribe(&self, uri: &str) {
        if self.uris.borrow_mut().remove(uri) {
            self.subscribed.raise();
        }
    }

    /// The resources that it subscribes to.
    pub(super) fn uris(&self) -> Vec<String> {
        self.uris.borrow().iter().cloned().collect()
    }

    /// Notes who waits for the answer to a question.
    pub(super) fn on_question(&self, id: u64, key: CallerKey, inbox: &Rc<BridgeInbox>) {
        self.questions.borrow_mut().insert(id, (key, Rc::clone(inbox)));
    }

    /// Gives an answer to who waits for it. Returns false if nobody waits for an answer of this caller.
    pub(super) fn on_answer(&self, id: u64, key: CallerKey, message: Vec<u8>) -> bool {
        let mut questions = self.questions.borrow_mut();
        if questions.get(&id).is_none_or(|(asked, _)| *asked != key) {
            return false;
        }
        questions.remove(&id).is_some_and(|(_, inbox)| inbox.offer(Mail::FromAgent(id, message)))
    }

    /// Notes a call that has begun. Returns false if there is one with this id.
    pub(super) fn on_call(&self, id: &[u8], inbox: &Rc<BridgeInbox>) -> bool {
        let mut calls = self.calls.borrow_mut();
        let is_new = !calls.contains_key(id);
        if is_new {
            calls.insert(id.to_vec(), Rc::clone(inbox));
        }
        is_new
    }

    /// Notes a call that has ended.
    pub(super) fn on_call_ended(&self, id: &[u8], inbox: &Rc<BridgeInbox>) {
        self.calls.borrow_mut().remove(id);
        self.questions.borrow_mut().retain(|_, (_, of)| !Rc::ptr_eq(of, inbox));
    }

    /// Cancels the call with this id, if there is one.
    pub(super) fn cancel(&self, id: &[u8]) {
        if let Some(inbox) = self.calls.borrow().get(id) {
            inbox.put(Mail::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_that_was_not_used_for_longest_makes_room_and_one_in_use_does_not() {
        let (sessions, at) = (AgentSessions::default(), |nth: usize| Time::ZERO + Duration::from_secs(nth as u64));
        let first = sessions.begin(at(1)).unwrap();
        let used = AgentSessionUse::new(&sessions.begin(at(0)).unwrap());
        let rest: Vec<_> = (2..SESSIONS_MAX).map(|nth| sessions.begin(at(nth)).unwrap()).collect();
        let next = sessions.begin(at(SESSIONS_MAX)).unwrap();
        assert!(sessions.get(first.id.as_bytes(), at(0)).is_none() && first.is_over.get());
        assert!(
            sessions.get(used.0.id.as_bytes(), at(0)).is_some() && sessions.get(next.id.as_bytes(), at(0)).is_some()
        );
        let uses: Vec<_> = rest.iter().chain([&next]).map(AgentSessionUse::new).collect();
        assert!(sessions.begin(at(0)).is_none(), "all are in use");
        drop((uses, used));
        sessions.sweep(at(SESSIONS_MAX) + IDLE_MAX + Duration::from_secs(1));
        assert!(sessions.0.borrow().is_empty());
    }

    #[test]
    fn a_session_subscribes_to_so_many_resources() {
        let session = AgentSessions::default().begin(Time::ZERO).unwrap();
        let uri = |nth: usize| format!("test://{nth}");
        assert!((0..RESOURCES_MAX).all(|nth| session.subscribe(&uri(nth))));
        assert!(!session.subscribe(&uri(RESOURCES_MAX)) && session.subscribe(&uri(0)));
        session.unsubscribe(&uri(0));
        assert!(session.subscribe(&uri(RESOURCES_MAX)));
    }
}
