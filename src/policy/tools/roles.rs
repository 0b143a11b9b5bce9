//! Roles: which callers a rule is about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::base::SecretHash;
use crate::policy::identity::{AgentIdentity, IdentityProof};
use crate::policy::networks::Networks;
use crate::policy::tools::pattern::Patterns;

/// The most roles of one policy.
pub(super) const ROLES_MAX: usize = 64;
/// The most different values of `scope` in the rules of one policy.
pub(super) const SCOPES_MAX: usize = 64;
/// The longest key that is looked at, in bytes.
const KEY_LEN_MAX: usize = 4_096;

/// The roles of a caller or rule, and for a caller which scopes of the rules it was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet {
    roles: u64,
    granted: u64,
}

impl RoleSet {
    /// The role at this place of the file.
    pub(super) const fn one(index: usize) -> RoleSet {
        RoleSet { roles: 1 << index, granted: 0 }
    }

    /// The scopes at this place among those of the rules.
    pub(super) const fn one_granted(index: usize) -> RoleSet {
        RoleSet { roles: 0, granted: 1 << index }
    }

    /// Combines these roles and scopes with others.
    #[must_use]
    pub const fn and(self, other: RoleSet) -> RoleSet {
        RoleSet { roles: self.roles | other.roles, granted: self.granted | other.granted }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.roles == 0
    }

    pub(super) const fn intersects(self, other: RoleSet) -> bool {
        self.roles & other.roles != 0
    }

    pub(super) const fn contains_all(self, other: RoleSet) -> bool {
        self.roles & other.roles == other.roles
    }

    pub(super) const fn contains(self, index: usize) -> bool {
        self.roles >> index & 1 == 1
    }

    pub(super) const fn has_granted(self, index: usize) -> bool {
        self.granted >> index & 1 == 1
    }
}

/// Where a call comes from, apart from who makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallerOrigin<'a> {
    /// The address of the caller, where it is known.
    pub address: Option<IpAddr>,
    /// The name in the certificate that the edge has shown in its inner TLS session, where it was asked for one.
    pub edge: Option<&'a str>,
}

/// Who has a role: the callers of its networks and through its edges, if it has any, who have one of its keys or an identity that
/// fits, if it asks for either.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: Arc<str>,
    pub(super) line: usize,
    pub(super) networks: Option<Networks>,
    /// The names of edges.
    pub(super) edges: Patterns,
    /// The names of its static keys.
    pub(super) keys: Patterns,
    pub(super) identity: Option<IdentityRule>,
}

/// Which identities have a role. What is not said fits all.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityRule {
    pub(super) proofs: Vec<IdentityProof>,
    pub(super) issuer: Option<Box<str>>,
    pub(super) subjects: Patterns,
    pub(super) clients: Patterns,
    /// All of them were granted.
    pub(super) scopes: Vec<Box<str>>,
    /// Each has this value, or a list that contains it. A name may lead into others, with dots between them.
    pub(super) claims: BTreeMap<Box<str>, Value>,
}

impl Role {
    pub(super) fn is_of(&self, origin: CallerOrigin<'_>, identity: Option<&AgentIdentity>) -> bool {
        self.is_of_whom(origin, identity, IdentityRule::fits)
    }

    /// Whether it is of a caller whose scopes and claims are not known, if those fit.
    pub(super) fn may_be_of(&self, origin: CallerOrigin<'_>, identity: Option<&AgentIdentity>) -> bool {
        self.is_of_whom(origin, identity, IdentityRule::fits_name)
    }

    fn is_of_whom(
        &self,
        origin: CallerOrigin<'_>,
        identity: Option<&AgentIdentity>,
        fits: impl Fn(&IdentityRule, &AgentIdentity) -> bool,
    ) -> bool {
        let is_near = |networks: &Networks| origin.address.is_some_and(|address| networks.contains(address));
        if !self.networks.as_ref().is_none_or(is_near) {
            return false;
        }
        if !self.edges.is_empty() && !origin.edge.is_some_and(|edge| self.edges.matches(edge)) {
            return false;
        }
        let asks_for_none = self.keys.is_empty() && self.identity.is_none();
        asks_for_none
            || identity.is_some_and(|identity| match identity.proof {
                IdentityProof::Key => self.keys.matches(&identity.subject),
                _ => self.identity.as_ref().is_some_and(|rule| fits(rule, identity)),
            })
    }

    /// Whether nobody can have it.
    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_none() && self.edges.is_empty() && self.keys.is_empty() && self.identity.is_none()
    }
}

impl IdentityRule {
    fn fits(&self, identity: &AgentIdentity) -> bool {
        let has_claim = |name: &str, wanted: &Value| match claim(identity, name) {
            Some(Value::Array(values)) => values.contains(wanted),
            Some(value) => value == wanted,
            None => false,
        };
        self.fits_name(identity)
            && self.scopes.iter().all(|scope| identity.scopes.contains(scope))
            && self.claims.iter().all(|(name, wanted)| has_claim(name, wanted))
    }

    /// Whether it fits, but for scopes and claims.
    fn fits_name(&self, identity: &AgentIdentity) -> bool {
        (self.proofs.is_empty() || self.proofs.contains(&identity.proof))
            && self.issuer.as_ref().is_none_or(|issuer| identity.issuer.as_deref() == Some(issuer))
            && (self.subjects.is_empty() || self.subjects.matches(&identity.subject))
            && (self.clients.is_empty() || identity.client.as_ref().is_some_and(|client| self.clients.matches(client)))
    }
}

/// The claim with this name; where none has it, one within others, with the names on the way to it between dots.
fn claim<'a>(identity: &'a AgentIdentity, name: &str) -> Option<&'a Value> {
    identity.claims.get(name).or_else(|| {
        let mut names = name.split('.');
        let first = identity.claims.get(names.next()?)?;
        names.try_fold(first, |claim, name| claim.get(name))
    })
}

/// A static key, of which only the hash is known.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) hash: SecretHash,
    pub(super) identity: AgentIdentity,
}

impl Key {
    pub(super) fn new(name: &str, line: usize, hash: SecretHash) -> Key {
        let identity = AgentIdentity {
            subject: name.into(),
            issuer: None,
            client: None,
            proof: IdentityProof::Key,
            scopes: Arc::new([]),
            claims: Arc::default(),
        };
        Key { line, hash, identity }
    }
}

/// Whose key this is. Every key is compared, in constant time.
pub(super) fn owner<'a>(keys: &'a [Key], bearer: &[u8]) -> Option<&'a AgentIdentity> {
    if keys.is_empty() || bearer.is_empty() || bearer.len() > KEY_LEN_MAX {
        return None;
    }
    let hash = SecretHash::of_bytes(bearer);
    keys.iter().fold(None, |found, key| if key.hash == hash { Some(&key.identity) } else { found })
}
