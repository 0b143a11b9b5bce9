//! Tokens that were verified, so that the next call with them costs a look-up.

use std::sync::Arc;
use std::time::Duration;

use crate::base::sha256;
use crate::identity::client_authority::ShownCertificates;
use crate::identity::identity_signer::SignedIdentity;
use crate::identity::key_store::KeyStore;
use crate::identity::members_len::members_len;
use crate::identity::remembered::Remembered;
use crate::identity::route_auth::{RouteAuth, TokenRefusal, Verified};
use crate::identity::token_error::TokenError;
use crate::policy::AgentIdentity;

/// What a signed identity takes besides texts of its token, at the most.
const SIGNED_LEN: usize = 1_024;

/// How long a certificate that was refused is not checked again.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// A token or certificate on a route, by its SHA-256 digest and the place of the route in memory, which is kept as long as the entry.
type Name = ([u8; 32], usize);

/// The tokens and certificates that one core has verified. They are forgotten when they end, when the keys of their issuer change,
/// and when their issuer is to be asked again.
#[derive(Default)]
pub struct VerifiedTokens {
    known: Remembered<Name, Known>,
    /// Certificates that were refused. A chain can be made that takes long to check, and would be shown with every request.
    refused: Remembered<Name, Refused>,
}

/// What a token or certificate that was shown has proven.
pub struct ShownToken {
    /// Who calls with it.
    pub identity: Arc<AgentIdentity>,
    /// Until when that is proven, since 1970.
    pub until: Duration,
    /// The same as a signed text for the server, if its route asks for that.
    pub signed: Option<Arc<str>>,
}

struct Refused {
    /// Held so that no other route gets its place.
    _auth: Arc<RouteAuth>,
    why: TokenRefusal,
    since: Duration,
    until: Duration,
}

/// What was proven, by what was just verified or is known.
struct Proven {
    identity: Arc<AgentIdentity>,
    until: Duration,
    bound_to: Option<[u8; 32]>,
}

struct Known {
    /// Held so that no other route gets its place.
    auth: Arc<RouteAuth>,
    verified: Verified,
    signed: Option<SignedIdentity>,
}

impl VerifiedTokens {
    /// Who shows this token on a route, with this certificate or none, and until when that holds.
    ///
    /// # Errors
    ///
    /// Why it proves nobody who may call.
    pub fn identify(
        &mut self,
        auth: &Arc<RouteAuth>,
        token: &[u8],
        certificate: Option<&ShownCertificates>,
        now: Duration,
    ) -> Result<ShownToken, TokenRefusal> {
        let name = name_of(auth, sha256(token));
        let Proven { identity, until, bound_to } =
            self.prove(auth, name, token.len(), now, || auth.verify(token, now))?;
        if bound_to.is_some() && bound_to != certificate.map(|certificate| certificate.thumbprint) {
            return Err(TokenRefusal::Invalid(TokenError::Bound));
        }
        if !auth.has_scopes(&identity) {
            return Err(TokenRefusal::Scope);
        }
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity, until, signed })
    }

    /// Who shows these certificates on a route, and until when that holds. Which scopes the route asks for is not checked: they are
    /// those of tokens.
    ///
    /// # Errors
    ///
    /// Why they prove nobody who may call.
    pub fn identify_by_certificate(
        &mut self,
        auth: &Arc<RouteAuth>,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<ShownToken, TokenRefusal> {
        let name = name_of(auth, shown.digest());
        let holds = |refused: &&Refused| refused.since <= now && now < refused.until;
        if let Some(Refused { why, .. }) = self.refused.get(&name).filter(holds) {
            return Err(*why);
        }
        let proven = self.prove(auth, name, shown.len(), now, || auth.verify_certificate(shown, now));
        let proven = proven.inspect_err(|why| {
            let (_auth, until) = (Arc::clone(auth), now.saturating_add(REFUSED_FOR));
            self.refused.enter(name, Refused { _auth, why: *why, since: now, until }, size_of::<Refused>());
        })?;
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity: proven.identity, until: proven.until, signed })
    }

    /// What is known by this name, or is found out by `verify`. What is shown has so many bytes.
    fn prove(
        &mut self,
        auth: &Arc<RouteAuth>,
        name: Name,
        shown_len: usize,
        now: Duration,
        verify: impl FnOnce() -> Result<Verified, TokenRefusal>,
    ) -> Result<Proven, TokenRefusal> {
        if let Some(found) = self.find(&name, now) {
            return Ok(found);
        }
        let verified = verify()?;
        let proven = Proven::of(&verified);
        let signed_len = auth.terms().identity_header.as_ref().map_or(0, |_| SIGNED_LEN + 2 * shown_len);
        let len = shown_len + len_of(&proven.identity) + signed_len;
        self.known.enter(name, Known { auth: Arc::clone(auth), verified, signed: None }, len);
        Ok(proven)
    }

    /// The identity of a token or certificate that is known, as it is sent to its server. It is signed anew after a while.
    fn signed(&mut self, name: &Name, now: Duration) -> Option<Arc<str>> {
        let Known { auth, verified, signed, .. } = self.known.get_mut(name)?;
        let terms = auth.terms();
        let header = terms.identity_header.as_ref()?;
        let kept = signed.take().filter(|signed| now < signed.until);
        let sign = || header.signer.sign(&verified.identity, &terms.resource, (now, verified.ends));
        Some(Arc::clone(&signed.insert(kept.unwrap_or_else(sign)).text))
    }

    fn find(&self, name: &Name, now: Duration) -> Option<Proven> {
        let Known { auth, verified, .. } = self.known.get(name)?;
        let is_version = |(issuer, version): (usize, u64)| {
            auth.issuers()[issuer].keys().map(KeyStore::version).is_some_and(|current| current == version)
        };
        let is_current = verified.keys.is_none_or(is_version) && verified.since <= now && now < verified.until;
        is_current.then(|| Proven::of(verified))
    }
}

impl Proven {
    fn of(verified: &Verified) -> Proven {
        Proven { identity: Arc::clone(&verified.identity), until: verified.ends, bound_to: verified.bound_to }
    }
}

/// How many bytes an identity takes, about: what is small in a token may be large once it was read.
fn len_of(identity: &AgentIdentity) -> usize {
    let scopes = identity.scopes.iter().map(|scope| size_of::<Box<str>>() + scope.len());
    size_of::<AgentIdentity>() + scopes.sum::<usize>() + members_len(&identity.claims)
}

fn name_of(auth: &Arc<RouteAuth>, digest: [u8; 32]) -> Name {
    (digest, Arc::as_ptr(auth).addr())
}

#[cfg(test)]
impl VerifiedTokens {
    /// How many tokens are held, and of how many bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        self.known.held()
    }
}
