//! For whom MCP sessions were begun, on routes that ask their callers for tokens. The server may not see who calls, so that whoever
//! learns the id of a session could use it.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::policy::AgentIdentity;
use crate::serve::session_table::{SessionKey, SessionTable};
use crate::wire::http1::{Method, RequestHead, ResponseHead};
use crate::wire::mcp::{self, SESSION_ID};

/// Sessions that were idle for so long are forgotten. Whoever is let in and uses such a session next has it from then on.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The callers for whom sessions were begun, shared by all cores.
#[derive(Clone)]
pub struct SessionOwners(Arc<SessionTable>);

impl Default for SessionOwners {
    fn default() -> SessionOwners {
        SessionOwners(Arc::new(SessionTable::new(IDLE_MAX)))
    }
}

/// A caller as the holder of sessions.
#[derive(Clone)]
pub(super) struct SessionOwner {
    sessions: SessionOwners,
    holder: u64,
}

impl SessionOwners {
    /// All callers of whom nothing is known, as one who may hold sessions. No caller that is known has no name.
    pub(super) fn owner_of_nobody(&self) -> SessionOwner {
        SessionOwner { sessions: self.clone(), holder: self.0.holder(("", "")) }
    }

    /// This caller, as one who may hold sessions.
    pub(super) fn owner(&self, caller: &AgentIdentity) -> SessionOwner {
        let holder = self.0.holder((caller.issuer.as_deref().unwrap_or_default(), &caller.subject));
        SessionOwner { sessions: self.clone(), holder }
    }
}

impl SessionOwner {
    /// Whether a request to this resource may use the session that it names, if it names one. Which of several a server reads is
    /// not certain.
    pub(super) fn may_send(&self, resource: &str, head: &RequestHead, now: Time) -> bool {
        if head.get(SESSION_ID).is_none() {
            return true;
        }
        let Some(key) = self.key(resource, head.get_only(SESSION_ID)) else { return false };
        self.table().holder_of(key, now).is_none_or(|holder| holder == self.holder)
    }

    /// Learns from the head of an answer of this resource which session was begun, used or ended.
    pub(super) fn on_answer(&self, resource: &str, request: &RequestHead, answer: &ResponseHead, now: Time) {
        // A 404 may be the answer of another server than the one that has the session, or of another path: it ends none.
        if !(200..300).contains(&answer.status()) {
            return;
        }
        let named = request.get_only(SESSION_ID);
        if let Some(key) = self.key(resource, named) {
            let holder = self.table().holder_of(key, now);
            if request.method() == Method::Delete {
                if holder == Some(self.holder) {
                    self.table().release(key);
                }
                return;
            }
            // One that was begun before the process was, or was forgotten.
            if holder.is_none() && !mcp::is_stateless(request) {
                self.bind(key, now);
            }
        }
        // Servers may repeat the session in every answer.
        if let Some(key) = self.key(resource, answer.get(SESSION_ID).filter(|begun| Some(*begun) != named)) {
            self.bind(key, now);
        }
    }

    fn key(&self, resource: &str, session: Option<&[u8]>) -> Option<SessionKey> {
        session.map(|session| self.table().key(resource, session))
    }

    /// A caller with many sessions takes the room of its own.
    fn bind(&self, key: SessionKey, now: Time) {
        self.table().bind(key, self.holder, self.holder, now);
    }

    fn table(&self) -> &SessionTable {
        &self.sessions.0
    }
}
