//! Calls at a server with sessions that wait for their agents to come back with input.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::Time;
use crate::bridge::{CallerKey, ModernToLegacy};
use crate::connector::bridge::inner_client::InnerHead;
use crate::connector::bridge::inner_session::SessionCall;
use crate::connector::bridge::session_pool::SessionUse;

/// The most calls of one route that wait.
const PARKED_MAX: usize = 256;
/// The most calls of one caller that wait.
const CALLER_PARKED_MAX: usize = 16;
/// How long a call may wait, as people answer slowly.
const PARKED_TIME_MAX: Duration = Duration::from_secs(600);

/// A call that runs on a session.
pub(super) struct RunningCall {
    pub(super) machine: ModernToLegacy,
    /// Dropped before the session is free.
    pub(super) call: SessionCall,
    pub(super) _used: SessionUse,
    pub(super) key: CallerKey,
    /// What is called, so that a later request cannot claim to be about something else.
    pub(super) params: Vec<u8>,
    /// The head of the response, if the server refuses the request.
    pub(super) refusal: Option<InnerHead>,
    /// Whether it was sent again on another session.
    pub(super) is_again: bool,
}

/// The calls that wait, by the state that their agents send back. Dropping one cancels it.
#[derive(Default)]
pub(super) struct ParkedCalls(RefCell<BTreeMap<Box<str>, (Time, RunningCall)>>);

impl ParkedCalls {
    /// Keeps a call. Gives it back if too many wait.
    pub(super) fn park(&self, state: Box<str>, running: RunningCall, now: Time) -> Result<(), Box<RunningCall>> {
        let mut parked = self.0.borrow_mut();
        let of_caller = parked.values().filter(|(_, other)| other.key == running.key).count();
        if parked.len() >= PARKED_MAX || of_caller >= CALLER_PARKED_MAX {
            return Err(Box::new(running));
        }
        parked.insert(state, (now, running));
        Ok(())
    }

    /// The call that an agent comes back for, if it is the same caller and about the same thing.
    pub(super) fn take(&self, state: &str, key: CallerKey, method: &str, params: &[u8]) -> Option<RunningCall> {
        let mut parked = self.0.borrow_mut();
        let (_, known) = parked.get(state)?;
        let is_same = known.key == key && known.machine.method() == method && known.params == params;
        if !is_same {
            return None;
        }
        parked.remove(state).map(|(_, running)| running)
    }

    /// Gives up the calls that have waited for too long.
    pub(super) fn sweep(&self, now: Time) {
        let mut late = Vec::new();
        let mut parked = self.0.borrow_mut();
        let states: Vec<Box<str>> = parked
            .iter()
            .filter(|(_, (since, _))| now - *since > PARKED_TIME_MAX)
            .map(|(state, _)| state.clone())
            .collect();
        for state in states {
            late.extend(parked.remove(&state));
        }
        drop(parked);
        drop(late);
    }

    /// Gives up all calls.
    pub(super) fn clear(&self) {
        drop(self.0.take());
    }
}
