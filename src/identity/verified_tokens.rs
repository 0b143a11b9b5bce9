//! Caches verified tokens, so that the next call with one costs a lookup.

use std::net::IpAddr;
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

/// The estimated size of a signed identity, in bytes, without the texts of its token.
const SIGNED_LEN: usize = 1_024;

/// How long the refusal of a certificate is cached.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The SHA-256 digest of a token or certificate chain, and the address of its route, which the entry keeps alive.
type Name = ([u8; 32], usize);

/// The tokens and certificates that one core has verified. An entry ends when it expires, when the keys of its issuer
/// change, or when the issuer must be asked again.
#[derive(Default)]
pub struct VerifiedTokens {
    known: Remembered<Name, Known>,
    /// Refused certificates. A client could otherwise present a chain that is slow to verify with every request.
    refused: Remembered<Name, Refused>,
    /// The identities that are forwarded to connectors.
    forwarded: Remembered<ForwardedName, Forwarded>,
}

/// The result of verifying a presented token or certificate.
pub struct ShownToken {
    /// The identity of the caller.
    pub identity: Arc<AgentIdentity>,
    /// When the proof expires, since 1970.
    pub until: Duration,
    /// The signed identity for the server, if its route sends one.
    pub signed: Option<Arc<str>>,
    /// The address of the caller, if an edge has said it.
    pub address: Option<IpAddr>,
}

/// What a caller has shown, by which its forwarded identity is cached.
#[derive(Clone, Copy)]
pub enum ShownCredential<'a> {
    /// A static key of the policy.
    Key(&'a [u8]),
    /// An access token of the caller's own.
    Token(&'a [u8]),
    /// Certificates of the TLS handshake.
    Certificates(&'a ShownCertificates),
}

/// A caller's credential, the address of its route, which the entry keeps alive, and the caller's address.
type ForwardedName = ([u8; 32], usize, Option<IpAddr>);

/// An identity that is forwarded to the connector.
struct Forwarded {
    /// Keeps the route alive, so that no other gets its address.
    _auth: Arc<RouteAuth>,
    identity: Arc<AgentIdentity>,
    since: Duration,
    signed: SignedIdentity,
}

struct Refused {
    /// Keeps the route alive, so that no other gets its address.
    _auth: Arc<RouteAuth>,
    why: TokenRefusal,
    since: Duration,
    until: Duration,
}

/// A proof that was just verified or was cached.
struct Proven {
    identity: Arc<AgentIdentity>,
    until: Duration,
    bound_to: Option<[u8; 32]>,
    address: Option<IpAddr>,
}

struct Known {
    /// Keeps the route alive, so that no other gets its address.
    auth: Arc<RouteAuth>,
    verified: Verified,
    signed: Option<SignedIdentity>,
}

impl VerifiedTokens {
    /// Identifies the caller by this token on a route, with its certificate if it presented one.
    ///
    /// # Errors
    ///
    /// Why the caller is refused.
    pub fn identify(
        &mut self,
        auth: &Arc<RouteAuth>,
        token: &[u8],
        certificate: Option<&ShownCertificates>,
        now: Duration,
    ) -> Result<ShownToken, TokenRefusal> {
        let name = name_of(auth, sha256(token));
        let Proven { identity, until, bound_to, .. } =
            self.prove(auth, name, token.len(), now, || auth.verify(token, now))?;
        if bound_to.is_some() && bound_to != certificate.map(|certificate| certificate.thumbprint) {
            return Err(TokenRefusal::Invalid(TokenError::Bound));
        }
        if !auth.has_scopes(&identity) {
            return Err(TokenRefusal::Scope);
        }
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity, until, signed, address: None })
    }

    /// Identifies the caller by these certificates on a route. The scopes of the route apply only to tokens.
    ///
    /// # Errors
    ///
    /// Why the caller is refused.
    pub fn identify_by_certificate(
        &mut self,
        auth: &Arc<RouteAuth>,
        shown: &ShownCertificates,
        now: Duration,
    ) -> Result<ShownToken, TokenRefusal> {
        let name = name_of(auth, shown.digest());
        let proven = self.prove_certificate(auth, name, shown.len(), now, || auth.verify_certificate(shown, now))?;
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity: proven.identity, until: proven.until, signed, address: None })
    }

    /// Identifies the edge by the certificates that it presented at the start of its session, at `shown_at`.
    ///
    /// # Errors
    ///
    /// Why the edge is refused.
    pub fn identify_edge(
        &mut self,
        auth: &Arc<RouteAuth>,
        shown: &ShownCertificates,
        (shown_at, now): (Duration, Duration),
    ) -> Result<Arc<AgentIdentity>, TokenRefusal> {
        // A certificate of a caller is another proof.
        let name = name_of(auth, sha256_of(b"edge certificate\0", &shown.digest()));
        let verify = || auth.verify_edge(shown, (shown_at, now));
        self.prove_certificate(auth, name, shown.len(), now, verify).map(|proven| proven.identity)
    }

    /// As [`VerifiedTokens::prove`]; a refusal is cached too.
    fn prove_certificate(
        &mut self,
        auth: &Arc<RouteAuth>,
        name: Name,
        shown_len: usize,
        now: Duration,
        verify: impl FnOnce() -> Result<Verified, TokenRefusal>,
    ) -> Result<Proven, TokenRefusal> {
        let holds = |refused: &&Refused| refused.since <= now && now < refused.until;
        if let Some(Refused { why, .. }) = self.refused.get(&name).filter(holds) {
            return Err(*why);
        }
        self.prove(auth, name, shown_len, now, verify).inspect_err(|why| {
            let (_auth, until) = (Arc::clone(auth), now.saturating_add(REFUSED_FOR));
            self.refused.enter(name, Refused { _auth, why: *why, since: now, until }, size_of::<Refused>());
        })
    }

    /// Identifies the caller by what an edge has forwarded.
    ///
    /// # Errors
    ///
    /// Why the identity is refused.
    pub fn identify_forwarded(
        &mut self,
        auth: &Arc<RouteAuth>,
        token: &[u8],
        now: Duration,
    ) -> Result<ShownToken, TokenRefusal> {
        // The same text as a token of a caller is another proof.
        let name = name_of(auth, sha256_of(b"edge\0", token));
        let proven = self.prove(auth, name, token.len(), now, || auth.verify_forwarded(token, now))?;
        let Proven { identity, until, address, .. } = proven;
        if !auth.has_scopes(&identity) {
            return Err(TokenRefusal::Scope);
        }
        let signed = self.signed(&name, now);
        Ok(ShownToken { identity, until, signed, address })
    }

    /// The identity of a caller at this address, signed for the connector; none if the route forwards none. It is signed again when it
    /// is about to expire. `until` is when the proof expires.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn forward(
        &mut self,
        auth: &Arc<RouteAuth>,
        (credential, address): (ShownCredential<'_>, Option<IpAddr>),
        identity: &AgentIdentity,
        (now, until): (Duration, Duration),
    ) -> Result<Option<Arc<str>>, TokenRefusal> {
        let Some(forwarder) = auth.forwarder() else { return Ok(None) };
        let (digest, auth_address) = name_of(auth, credential.digest());
        let name = (digest, auth_address, address);
        let holds = |known: &&Forwarded| known.since <= now && now < known.signed.until && *known.identity == *identity;
        if let Some(known) = self.forwarded.get(&name).filter(holds) {
            return Ok(Some(Arc::clone(&known.signed.text)));
        }
        let signed = forwarder.sign(identity, address, &auth.terms().resource, (now, until));
        let signed = signed.ok_or(TokenRefusal::Unforwardable)?;
        let (text, _auth, identity) = (Arc::clone(&signed.text), Arc::clone(auth), Arc::new(identity.clone()));
        let len = size_of::<Forwarded>() + text.len() + len_of(&identity);
        self.forwarded.enter(name, Forwarded { _auth, identity, since: now, signed }, len);
        Ok(Some(text))
    }

    /// Returns the cached proof, or the result of `verify`. `shown_len` is the length of the token or certificates.
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

    /// The signed identity for the server. It is signed again when it is about to expire.
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

impl ShownCredential<'_> {
    fn digest(self) -> [u8; 32] {
        match self {
            ShownCredential::Key(key) => sha256_of(b"key\0", key),
            ShownCredential::Token(token) => sha256_of(b"token\0", token),
            ShownCredential::Certificates(shown) => shown.digest(),
        }
    }
}

impl Proven {
    fn of(verified: &Verified) -> Proven {
        let Verified { ref identity, ends: until, bound_to, address, .. } = *verified;
        Proven { identity: Arc::clone(identity), until, bound_to, address }
    }
}

/// The estimated size of an identity, in bytes: parsed claims may be much larger than the token.
fn len_of(identity: &AgentIdentity) -> usize {
    let scopes = identity.scopes.iter().map(|scope| size_of::<Box<str>>() + scope.len());
    size_of::<AgentIdentity>() + scopes.sum::<usize>() + members_len(&identity.claims)
}

/// The hash of a text of this kind.
fn sha256_of(kind: &[u8], text: &[u8]) -> [u8; 32] {
    sha256(&[kind, text].concat())
}

fn name_of(auth: &Arc<RouteAuth>, digest: [u8; 32]) -> Name {
    (digest, Arc::as_ptr(auth).addr())
}

#[cfg(test)]
impl VerifiedTokens {
    /// The number of cached tokens, and their total length in bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        self.known.held()
    }

    /// The same for identities that are forwarded.
    pub(super) fn forwarded_held(&self) -> (usize, usize) {
        self.forwarded.held()
    }
}
