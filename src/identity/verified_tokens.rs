//! Tokens that were verified, so that the next call with them costs a look-up.

use std::sync::Arc;
use std::time::Duration;

use crate::base::sha256;
use crate::identity::identity_signer::SignedIdentity;
use crate::identity::key_store::KeyStore;
use crate::identity::members_len::members_len;
use crate::identity::remembered::Remembered;
use crate::identity::route_auth::{RouteAuth, TokenRefusal, Verified};
use crate::policy::AgentIdentity;

/// What a signed identity takes besides texts of its token, at the most.
const SIGNED_LEN: usize = 1_024;

/// A token on a route, by its SHA-256 digest and the place of the route in memory, which is kept as long as the entry.
type Name = ([u8; 32], usize);

/// The tokens that one core has verified. They are forgotten when they end, when the keys of their issuer change,
/// and when their issuer is to be asked again.
#[derive(Default)]
pub struct VerifiedTokens {
    known: Remembered<Name, Known>,
}

/// What a token that was shown has proven.
pub struct ShownToken {
    /// Who calls with it.
    pub identity: Arc<AgentIdentity>,
    /// Until when that is proven, since 1970.
    pub until: Duration,
    /// The same as a signed text for the server, if its route asks for that.
    pub signed: Option<Arc<str>>,
}

struct Known {
    /// Held so that no other route gets its place.
    auth: Arc<RouteAuth>,
    verified: Verified,
    signed: Option<SignedIdentity>,
}

impl VerifiedTokens {
    /// Who shows this token on a route, and until when that holds.
    ///
    /// # Errors
    ///
    /// Why it proves nobody who may call.
    pub fn identify(&mut self, auth: &Arc<RouteAuth>, token: &[u8], now: Duration) -> Result<ShownToken, TokenRefusal> {
        let name = name_of(auth, token);
        let (identity, until) = match self.find(&name, now) {
            Some(found) => found,
            None => {
                let verified = auth.verify(token, now)?;
                let (identity, until) = (Arc::clone(&verified.identity), verified.ends);
                let signed_len = auth.terms().identity_header.as_ref().map_or(0, |_| SIGNED_LEN + 2 * token.len());
                let len = token.len() + len_of(&identity) + signed_len;
                self.known.enter(name, Known { auth: Arc::clone(auth), verified, signed: None }, len);
                (identity, until)
            }
        };
        auth.check_scopes(&identity)?;
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity, until, signed })
    }

    /// The identity of a token that is known, as it is sent to its server. It is signed anew after a while.
    fn signed(&mut self, name: &Name, now: Duration) -> Option<Arc<str>> {
        let Known { auth, verified, signed, .. } = self.known.get_mut(name)?;
        let terms = auth.terms();
        let header = terms.identity_header.as_ref()?;
        let kept = signed.take().filter(|signed| now < signed.until);
        let sign = || header.signer.sign(&verified.identity, &terms.resource, (now, verified.ends));
        Some(Arc::clone(&signed.insert(kept.unwrap_or_else(sign)).text))
    }

    fn find(&self, name: &Name, now: Duration) -> Option<(Arc<AgentIdentity>, Duration)> {
        let Known { auth, verified, .. } = self.known.get(name)?;
        let version = auth.issuers()[verified.issuer].keys().map_or(verified.version, KeyStore::version);
        let is_current = version == verified.version && verified.since <= now && now < verified.until;
        is_current.then(|| (Arc::clone(&verified.identity), verified.ends))
    }
}

/// How many bytes an identity takes, about: what is small in a token may be large once it was read.
fn len_of(identity: &AgentIdentity) -> usize {
    let scopes = identity.scopes.iter().map(|scope| size_of::<Box<str>>() + scope.len());
    size_of::<AgentIdentity>() + scopes.sum::<usize>() + members_len(&identity.claims)
}

fn name_of(auth: &Arc<RouteAuth>, token: &[u8]) -> Name {
    (sha256(token), Arc::as_ptr(auth).addr())
}

#[cfg(test)]
impl VerifiedTokens {
    /// How many tokens are held, and of how many bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        self.known.held()
    }
}
