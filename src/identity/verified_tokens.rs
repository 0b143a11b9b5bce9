//! Tokens that were verified, so that the next call with them costs a look-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use crate::base::sha256;
use crate::identity::route_auth::{RouteAuth, TokenRefusal, Verified};
use crate::policy::AgentIdentity;

/// The most tokens that one core remembers. The oldest gives way.
const TOKENS_MAX: usize = 4_096;
/// The most bytes that these tokens, and what was read of them, have together.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a member of an object takes besides its name and its value, about.
const MEMBER_LEN: usize = size_of::<String>() + 2 * size_of::<usize>();

/// A token on a route, by its SHA-256 digest and the place of the route in memory, which is kept as long as the entry.
type Name = ([u8; 32], usize);

/// The tokens that one core has verified. They are forgotten when they end, and when the keys of their issuer change.
#[derive(Default)]
pub struct VerifiedTokens {
    known: FxHashMap<Name, Known>,
    order: VecDeque<Name>,
    bytes: usize,
}

struct Known {
    /// Held so that no other route gets its place.
    auth: Arc<RouteAuth>,
    verified: Verified,
    len: usize,
}

impl VerifiedTokens {
    /// Who shows this token on a route, and until when that holds.
    ///
    /// # Errors
    ///
    /// Why it proves nobody who may call.
    pub fn identify(
        &mut self,
        auth: &Arc<RouteAuth>,
        token: &[u8],
        now: Duration,
    ) -> Result<(Arc<AgentIdentity>, Duration), TokenRefusal> {
        let name = name_of(auth, token);
        let (identity, until) = match self.find(&name, now) {
            Some(found) => found,
            None => {
                let verified = auth.verify(token, now)?;
                let (identity, until) = (Arc::clone(&verified.identity), verified.until);
                let len = token.len() + len_of(&identity);
                self.enter(name, Known { auth: Arc::clone(auth), verified, len });
                (identity, until)
            }
        };
        auth.check_scopes(&identity)?;
        Ok((identity, until))
    }

    fn find(&self, name: &Name, now: Duration) -> Option<(Arc<AgentIdentity>, Duration)> {
        let Known { auth, verified, .. } = self.known.get(name)?;
        let is_current = auth.issuers()[verified.issuer].keys.version() == verified.version;
        (is_current && now < verified.until).then(|| (Arc::clone(&verified.identity), verified.until))
    }

    fn enter(&mut self, name: Name, known: Known) {
        self.bytes += known.len;
        match self.known.insert(name, known) {
            // It keeps its place in the order.
            Some(before) => self.bytes -= before.len,
            None => self.order.push_back(name),
        }
        while self.order.len() > TOKENS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.known.remove(&oldest).map_or(0, |known| known.len);
        }
    }
}

/// How many bytes an identity takes, about: what is small in a token may be large once it was read.
fn len_of(identity: &AgentIdentity) -> usize {
    let scopes = identity.scopes.iter().map(|scope| size_of::<Box<str>>() + scope.len());
    size_of::<AgentIdentity>() + scopes.sum::<usize>() + members_len(&identity.claims)
}

fn members_len(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER_LEN + name.len() + value_len(value)).sum()
}

/// Tokens are not nested deeper than is safe to follow.
fn value_len(value: &Value) -> usize {
    let more = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_len).sum(),
        Value::Object(members) => members_len(members),
    };
    size_of::<Value>() + more
}

fn name_of(auth: &Arc<RouteAuth>, token: &[u8]) -> Name {
    (sha256(token), Arc::as_ptr(auth).addr())
}

#[cfg(test)]
impl VerifiedTokens {
    /// How many tokens are held, and of how many bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.known.len(), self.bytes)
    }
}
