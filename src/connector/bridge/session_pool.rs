//! The sessions with the server, by the callers that they were opened for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::bridge::{CallerKey, ModernCall, SessionTransport};
use crate::connector::bridge::inner_client::InnerClient;
use crate::connector::bridge::inner_session::{InnerSession, OpenError, answers_questions};
use crate::connector::shared::Counters;
use crate::engine::Signal;

/// The most sessions of one route.
const SESSIONS_MAX: usize = 256;
/// The most sessions of one caller.
const CALLER_SESSIONS_MAX: usize = 4;
/// How long a session may be unused.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// The sessions of one route. A session is only used by callers with the same credentials.
pub(super) struct SessionPool {
    client: Rc<InnerClient>,
    callers: RefCell<BTreeMap<CallerKey, CallerSessions>>,
    /// Raised when a session was opened, or could not be, or is free.
    changed: Signal,
}

#[derive(Default)]
struct CallerSessions {
    sessions: Vec<Rc<InnerSession>>,
    opening: usize,
}

/// A session in use by a call, until this is dropped.
pub(super) struct SessionUse {
    pool: Rc<SessionPool>,
    pub(super) session: Rc<InnerSession>,
}

/// A session that is being opened, until this is dropped.
struct Opening<'a> {
    pool: &'a SessionPool,
    key: CallerKey,
}

/// What a call can do.
enum Found {
    Use(Rc<InnerSession>),
    Open,
    Wait,
}

impl SessionPool {
    pub(super) fn new(client: &Rc<InnerClient>) -> Rc<SessionPool> {
        Rc::new(SessionPool { client: Rc::clone(client), callers: RefCell::default(), changed: Signal::default() })
    }

    /// A session for a call. An agent that a server may ask has one of its own for each call, as long as there are not too many, so
    /// that it is certain for which call the server asks.
    pub(super) async fn take(
        self: &Rc<SessionPool>,
        transport: SessionTransport,
        target: &[u8],
        kept: &[u8],
        key: CallerKey,
        call: &ModernCall,
    ) -> Result<SessionUse, OpenError> {
        let is_exclusive = answers_questions(call);
        loop {
            let seen = self.changed.count();
            match self.find(key, is_exclusive) {
                Found::Use(session) => return Ok(SessionUse::new(self, session)),
                Found::Wait => self.changed.after(seen).await,
                Found::Open => {
                    self.make_room()?;
                    self.callers.borrow_mut().entry(key).or_default().opening += 1;
                    let opening = Opening { pool: self, key };
                    let session = InnerSession::open(&self.client, transport, target, kept, call).await?;
                    self.callers.borrow_mut().entry(key).or_default().sessions.push(Rc::clone(&session));
                    let used = SessionUse::new(self, session);
                    drop(opening);
                    return Ok(used);
                }
            }
        }
    }

    fn find(&self, key: CallerKey, is_exclusive: bool) -> Found {
        let mut callers = self.callers.borrow_mut();
        let Some(caller) = callers.get_mut(&key) else { return Found::Open };
        let gone = caller.sessions.extract_if(.., |session| session.is_gone.get());
        gone.for_each(|session| session.end());
        let best = caller.sessions.iter().min_by_key(|session| session.users.get());
        let has_room = caller.sessions.len() + caller.opening < CALLER_SESSIONS_MAX;
        match best {
            Some(session) if session.users.get() == 0 || !is_exclusive || !has_room => Found::Use(Rc::clone(session)),
            None if caller.opening > 0 && (!is_exclusive || !has_room) => Found::Wait,
            _ => Found::Open,
        }
    }

    /// Makes room for one more session: the one that was not used for longest ends.
    fn make_room(&self) -> Result<(), OpenError> {
        let mut callers = self.callers.borrow_mut();
        let count: usize = callers.values().map(|caller| caller.sessions.len() + caller.opening).sum();
        if count < SESSIONS_MAX {
            return Ok(());
        }
        let idle = callers.values().flat_map(|caller| &caller.sessions).filter(|session| session.users.get() == 0);
        let oldest = idle.min_by_key(|session| session.used.get()).cloned().ok_or_else(|| {
            Counters::add(&self.client.counters().bridge_refused_limits);
            OpenError::Full
        })?;
        callers.values_mut().for_each(|caller| caller.sessions.retain(|session| !Rc::ptr_eq(session, &oldest)));
        oldest.end();
        Ok(())
    }

    /// Ends the sessions that were not used for too long.
    pub(super) fn sweep(&self, now: Time) {
        let is_idle = |session: &Rc<InnerSession>| session.users.get() == 0 && now - session.used.get() > IDLE_MAX;
        self.callers.borrow_mut().retain(|_, caller| {
            caller.sessions.retain(|session| {
                let is_kept = !session.is_gone.get() && !is_idle(session);
                if !is_kept {
                    session.end();
                }
                is_kept
            });
            !caller.sessions.is_empty() || caller.opening > 0
        });
    }

    /// Ends all sessions, also at the server.
    pub(super) fn clear(&self) {
        let callers = self.callers.take();
        callers.values().flat_map(|caller| &caller.sessions).for_each(|session| session.end());
    }
}

impl SessionUse {
    fn new(pool: &Rc<SessionPool>, session: Rc<InnerSession>) -> SessionUse {
        session.users.set(session.users.get() + 1);
        SessionUse { pool: Rc::clone(pool), session }
    }
}

impl Drop for SessionUse {
    fn drop(&mut self) {
        self.session.users.set(self.session.users.get() - 1);
        self.session.used.set(self.pool.client.core.now());
        self.pool.changed.raise();
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(caller) = self.pool.callers.borrow_mut().get_mut(&self.key) {
            caller.opening -= 1;
        }
        self.pool.changed.raise();
    }
}
