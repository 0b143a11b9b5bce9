//! Tokens that were verified, so that the next call with them costs a look-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustc_hash::FxHashMap;

use crate::identity::route_auth::{RouteAuth, TokenRefusal, Verified};
use crate::policy::AgentIdentity;

/// The most tokens that one core remembers. The oldest gives way.
const TOKENS_MAX: usize = 4_096;
/// The most bytes that these tokens have together; what is kept of them takes a small multiple of that.
const BYTES_MAX: usize = 4 * 1024 * 1024;

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
    /// Who shows this token on a route.
    ///
    /// # Errors
    ///
    /// Why it proves nobody who may call.
    pub fn identify(
        &mut self,
        auth: &Arc<RouteAuth>,
        token: &[u8],
        now: Duration,
    ) -> Result<Arc<AgentIdentity>, TokenRefusal> {
        let name = name_of(auth, token);
        let identity = match self.find(&name, now) {
            Some(identity) => identity,
            None => {
                let verified = auth.verify(token, now)?;
                let identity = Arc::clone(&verified.identity);
                self.enter(name, Known { auth: Arc::clone(auth), verified, len: token.len() });
                identity
            }
        };
        auth.check_scopes(&identity)?;
        Ok(identity)
    }

    fn find(&self, name: &Name, now: Duration) -> Option<Arc<AgentIdentity>> {
        let Known { auth, verified, .. } = self.known.get(name)?;
        let is_current = auth.issuers()[verified.issuer].keys.version() == verified.version;
        (is_current && now < verified.until).then(|| Arc::clone(&verified.identity))
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

fn name_of(auth: &Arc<RouteAuth>, token: &[u8]) -> Name {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    (hash, Arc::as_ptr(auth).addr())
}

#[cfg(test)]
impl VerifiedTokens {
    /// How many tokens are held, and of how many bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.known.len(), self.bytes)
    }
}
