//! The rows of the store, as the rest of the program uses them.

use std::fmt;
use std::time::Duration;

use crate::base::{CredentialId, SecretHash, Traffic, TunnelId};
use crate::control::wall_time::WallTime;
use crate::policy::{Member, Network, TunnelLists};
use crate::route::HostPattern;

/// The time of a change and its reason, for the record of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// When it was done.
    pub at: WallTime,
    /// The reason that was given with the request.
    pub reason: Option<String>,
}

/// A tunnel, as the store, the API and the cores know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The id of the tunnel.
    pub id: TunnelId,
    /// The name for people.
    pub display_name: Option<String>,
    /// Its hosts, the first of which names it.
    pub hosts: Vec<HostPattern>,
    /// How its calls are carried.
    pub traffic: Traffic,
    /// Its admission lists for connectors and agents.
    pub lists: TunnelLists,
    /// The time of its creation.
    pub created_at: WallTime,
    /// When it was archived.
    pub archived_at: Option<WallTime>,
    /// The provisioning key that it was created with.
    pub provisioning_key: Option<String>,
    /// Its credentials, the newest first, including those that are no longer valid.
    pub credentials: Vec<CredentialRow>,
    /// The active registered certificates (PEM) of the authorities that sign its connectors' certificates for resealed
    /// traffic.
    pub authorities: Vec<String>,
}

impl Tunnel {
    /// The credentials with which a connector can register now, the newest first.
    pub fn good_credentials(&self, now: WallTime) -> impl Iterator<Item = &CredentialRow> {
        self.credentials.iter().filter(move |credential| credential.is_good(now))
    }

    /// The credentials that cores must know, the newest first: the valid ones, and those that ended within
    /// [`KNOWN_AFTER_END`] without being revoked.
    pub fn known_credentials(&self, now: WallTime) -> impl Iterator<Item = &CredentialRow> {
        let known_from = now.before(KNOWN_AFTER_END);
        let known = move |row: &&CredentialRow| row.until.is_none_or(|until| until > known_from);
        self.credentials.iter().filter(|row| row.revoked_at.is_none()).filter(known)
    }
}

/// How long cores still know a credential that has ended, so that calls on links that registered with it can finish.
pub const KNOWN_AFTER_END: Duration = Duration::from_secs(3_600);

/// A credential, without the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// The id of the credential.
    pub id: CredentialId,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The time of its creation.
    pub created_at: WallTime,
    /// When it ends, if another has replaced it.
    pub until: Option<WallTime>,
    /// When it was revoked.
    pub revoked_at: Option<WallTime>,
}

impl fmt::Debug for CredentialRow {
    /// Omits the hash of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CredentialRow { id, created_at, until, revoked_at, .. } = self;
        let mut row = f.debug_struct("CredentialRow");
        row.field("id", id).field("created_at", created_at).field("until", until).field("revoked_at", revoked_at);
        row.finish_non_exhaustive()
    }
}

impl CredentialRow {
    /// Whether a connector can register with it.
    #[must_use]
    pub fn is_good(&self, now: WallTime) -> bool {
        self.revoked_at.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// The host that exchanged a provisioning key: the SHA-256 of its public key (SubjectPublicKeyInfo, DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester(pub [u8; 32]);

/// A tunnel to create.
#[derive(Clone)]
pub struct NewTunnel {
    /// The id of the tunnel.
    pub id: TunnelId,
    /// The name for people.
    pub display_name: Option<String>,
    /// Its hosts, at least one.
    pub hosts: Vec<HostPattern>,
    /// Whether the edge generated the hosts. Generated hosts are never reused.
    pub hosts_made_up: bool,
    /// How its calls are carried.
    pub traffic: Traffic,
    /// Its admission lists for connectors and agents.
    pub lists: TunnelLists,
    /// The first credential of the tunnel.
    pub credential: NewCredential,
    /// The host that exchanged a provisioning key for it, if one did.
    pub requester: Option<Requester>,
}

/// A change of a tunnel. A member that is `None` stays unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelChange {
    /// The name for people.
    pub display_name: Option<String>,
    /// All of its hosts, at least one.
    pub hosts: Option<Vec<HostPattern>>,
    /// How its calls are carried.
    pub traffic: Option<Traffic>,
    /// The networks of its connectors.
    pub connectors_from: Option<Vec<Network>>,
    /// The sources of agents that may call it.
    pub allow_from: Option<Vec<Member>>,
    /// The sources of agents that may not call it.
    pub deny_from: Option<Vec<Member>>,
    /// Whether the lists for agents only count and log.
    pub dry_run: Option<bool>,
}

impl TunnelChange {
    /// Applies the change to these lists.
    #[must_use]
    pub fn lists(&self, before: TunnelLists) -> TunnelLists {
        TunnelLists {
            connectors_from: self.connectors_from.clone().unwrap_or(before.connectors_from),
            allow_from: self.allow_from.clone().unwrap_or(before.allow_from),
            deny_from: self.deny_from.clone().unwrap_or(before.deny_from),
            dry_run: self.dry_run.unwrap_or(before.dry_run),
        }
    }
}

/// Hosts of two tunnels, one of which is a wildcard that covers the other. Calls for the exact host go to its own
/// tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The host of the tunnel in question.
    pub host: HostPattern,
    /// The other tunnel's host.
    pub theirs: HostPattern,
    /// The id of the other tunnel.
    pub tunnel: TunnelId,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap { host, theirs, tunnel } = self;
        match host {
            HostPattern::Exact(_) => {
                write!(f, "calls for {host} come to this tunnel, and no longer to {tunnel}, which has {theirs}")
            }
            HostPattern::Wildcard(_) => {
                write!(f, "calls for {theirs} go to {tunnel}, which has it, and not to this tunnel for {host}")
            }
        }
    }
}

/// A credential to store.
#[derive(Clone)]
pub struct NewCredential {
    /// The id of the credential.
    pub id: CredentialId,
    /// The hash of its secret.
    pub hash: SecretHash,
}

/// The certificate of an authority that is registered with a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its id in the admin API.
    pub id: String,
    /// The id of its tunnel.
    pub tunnel: TunnelId,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    pub fingerprint: String,
    /// The certificate itself, as PEM.
    pub pem: String,
    /// When it was registered.
    pub created_at: WallTime,
    /// The end of its validity.
    pub expires_at: WallTime,
    /// When it was archived, if it was.
    pub archived_at: Option<WallTime>,
}

/// A key that new hosts exchange for a tunnel of their own, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningKey {
    /// Its id in the admin API.
    pub id: String,
    /// The name for people.
    pub display_name: Option<String>,
    /// The pattern for the names of hosts; `*` stands for any letters, digits and hyphens.
    pub name_template: String,
    /// The hosts of a tunnel that is created with it; `{name}` stands for the host's name.
    pub hosts: Vec<String>,
    /// How many times it can be exchanged.
    pub uses_max: u32,
    /// How many times it was exchanged.
    pub uses: u32,
    /// The time of its creation.
    pub created_at: WallTime,
    /// When the key expires.
    pub expires_at: WallTime,
    /// When it was revoked.
    pub revoked_at: Option<WallTime>,
}

impl ProvisioningKey {
    /// Whether it can be exchanged.
    #[must_use]
    pub fn is_good(&self, now: WallTime) -> bool {
        self.revoked_at.is_none() && now < self.expires_at && self.uses < self.uses_max
    }
}

/// A provisioning key to store.
#[derive(Clone)]
pub struct NewKey {
    /// The key without its secret; its uses count from zero.
    pub key: ProvisioningKey,
    /// The hash of its secret.
    pub hash: SecretHash,
}

/// An event, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its place in the order of events.
    pub seq: i64,
    /// When it was done.
    pub at: WallTime,
    /// What happened, such as `tunnel.created`.
    pub kind: String,
    /// The tunnel that it concerns.
    pub tunnel: Option<TunnelId>,
    /// The credential, certificate or provisioning key that it concerns.
    pub subject: Option<String>,
    /// The reason that was given with the request.
    pub reason: Option<String>,
}

/// The calls of one kind over links with one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The id of its tunnel.
    pub tunnel: TunnelId,
    /// The credential that the link registered with.
    pub credential: CredentialId,
    /// The name of the route.
    pub route: String,
    /// The MCP method, or the kind of request if there is none.
    pub method: String,
    /// The tool; empty for other methods.
    pub tool: String,
    /// How many calls of this kind ended.
    pub calls: u64,
    /// When the first of them ended.
    pub first: WallTime,
    /// When the last of them ended.
    pub last: WallTime,
}

/// A page of a list, whose newest entries come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows of the page.
    pub limit: u32,
    /// Only rows older than the one at this position.
    pub before: Option<i64>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows of this page.
    pub rows: Vec<T>,
    /// The position of the next page; `None` after the last.
    pub next: Option<i64>,
}
