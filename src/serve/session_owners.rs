//! The callers that created MCP sessions, on routes that require tokens. The server may not see the caller's identity,
//! so without this check a stolen session id would be enough to use a session.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Time;
use crate::policy::AgentIdentity;
use crate::serve::session_table::{SessionKey, SessionTable};
use crate::wire::http1::{Method, RequestHead, ResponseHead};
use crate::wire::mcp::{self, SESSION_ID};

/// Sessions that were idle for this long are forgotten. The next authenticated caller that uses such a session owns it
/// from then on.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The callers that created sessions, shared by all cores.
#[derive(Clone)]
pub struct SessionOwners(Arc<SessionTable>);

impl Default for SessionOwners {
    fn default() -> SessionOwners {
        SessionOwners(Arc::new(SessionTable::new(IDLE_MAX)))
    }
}

/// A caller as an owner of sessions.
#[derive(Clone)]
pub(super) struct SessionOwner {
    sessions: SessionOwners,
    holder: u64,
}

impl SessionOwners {
    /// All callers without an identity together, as one owner of sessions. No identity has an empty subject.
    pub(super) fn anonymous_owner(&self) -> SessionOwner {
        SessionOwner { sessions: self.clone(), holder: self.0.holder(("", "")) }
    }

    /// The given caller as an owner of sessions.
    pub(super) fn owner(&self, caller: &AgentIdentity) -> SessionOwner {
        let holder = self.0.holder((caller.issuer.as_deref().unwrap_or_default(), &caller.subject));
        SessionOwner { sessions: self.clone(), holder }
    }
}

impl SessionOwner {
    /// A number that stands for the caller in this process.
    pub(super) fn number(&self) -> u64 {
        self.holder
    }

    /// Whether a request to this resource may use the session that it names, if any. A request that names several is
    /// refused, because it is unknown which of them the server reads.
    pub(super) fn may_send(&self, resource: &str, head: &RequestHead, now: Time) -> bool {
        if head.get(SESSION_ID).is_none() {
            return true;
        }
        let Some(key) = self.key(resource, head.get_only(SESSION_ID)) else { return false };
        self.table().holder_of(key, now).is_none_or(|holder| holder == self.holder)
    }

    /// Learns from the head of this resource's answer which session was created, used or ended.
    pub(super) fn on_answer(&self, resource: &str, request: &RequestHead, answer: &ResponseHead, now: Time) {
        // A 404 may come from another server than the one that has the session, or concern another path, so it ends no
        // session.
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
            // The session was created before this process started, or was forgotten.
            if holder.is_none() && !mcp::is_stateless(request) {
                self.bind(key, now);
            }
        }
        // Servers may repeat the session id in every answer.
        if let Some(key) = self.key(resource, answer.get(SESSION_ID).filter(|begun| Some(*begun) != named)) {
            self.bind(key, now);
        }
    }

    fn key(&self, resource: &str, session: Option<&[u8]>) -> Option<SessionKey> {
        session.map(|session| self.table().key(resource, session))
    }

    /// A caller with many sessions displaces its own.
    fn bind(&self, key: SessionKey, now: Time) {
        self.table().bind(key, self.holder, self.holder, now);
    }

    fn table(&self) -> &SessionTable {
        &self.sessions.0
    }
}
