//! The persistent state of an edge: tunnels, their hosts and credentials, certificates, provisioning keys, events and
//! usage.
//!
//! [`Store`] is the interface, and [`SqliteStore`] its only implementation, in one file. Each operation is one
//! transaction. A store blocks, so it has a thread of its own, behind a [`StoreHandle`]. It contains no secrets, only
//! their hashes.

mod error;
mod rows;
mod sqlite;
mod thread;

pub use error::{RuleViolation, StoreError};
pub use rows::{
    AuditEvent, Certificate, CredentialRow, KNOWN_AFTER_END, Listed, NewCredential, NewKey, NewTunnel, Note, Overlap,
    Page, ProvisioningKey, Requester, Tunnel, TunnelChange, Usage,
};
pub use sqlite::{
    BACKUPS_MAX, CopyProgress, Reinstated, ReinstatedKind, Restored, SCHEMA_VERSION, SqliteStore, finish_restore,
    is_half_restored, newest_backup, restore,
};
pub use thread::{STORE_QUEUE_MAX, StoreHandle};

use std::path::{Path, PathBuf};

use crate::base::{CredentialId, SecretHash, TunnelId};
use crate::control::wall_time::WallTime;

/// The most tunnels that are not archived.
pub const TUNNELS_MAX: u32 = 10_000;
/// The most hosts of one tunnel.
pub const TUNNEL_HOSTS_MAX: usize = 64;
/// The most overlaps with hosts of other tunnels that are reported at once.
pub const OVERLAPS_REPORTED_MAX: usize = 16;
/// The most entries in one admission list of a tunnel. Longer lists belong in a set.
pub const TUNNEL_LIST_LEN_MAX: usize = 256;
/// The most active certificates of one tunnel: the current one and, during a change, the next one.
pub const CERTIFICATES_ACTIVE_MAX: usize = 2;
/// The most valid provisioning keys.
pub const PROVISIONING_KEYS_MAX: u32 = 1_000;
/// The most events that are kept. New events replace the oldest.
pub const EVENTS_MAX: u32 = 100_000;
/// The most rows of usage that are kept. New rows replace the oldest.
pub const USAGE_ROWS_MAX: u32 = 200_000;

/// Stores the persistent state of an edge. Each call is one transaction.
///
/// # Errors
///
/// If a rule forbids an operation, it fails with [`StoreError::Refused`]. Other errors are distinguished by their
/// remedy.
pub trait Store: Send {
    /// Every tunnel that is not archived, the oldest first.
    fn active_tunnels(&mut self) -> Result<Vec<Tunnel>, StoreError>;

    /// Creates a tunnel with its first credential.
    fn create_tunnel(&mut self, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError>;
    /// Returns one tunnel, also an archived one.
    fn tunnel(&mut self, id: &TunnelId) -> Result<Tunnel, StoreError>;
    /// Lists tunnels; archived ones only with `archived_too`.
    fn tunnels(&mut self, archived_too: bool, page: Page) -> Result<Listed<Tunnel>, StoreError>;
    /// Changes the name, hosts, traffic or admission lists of a tunnel.
    fn change_tunnel(&mut self, id: &TunnelId, wanted: &TunnelChange, note: &Note) -> Result<Tunnel, StoreError>;
    /// The overlaps of a tunnel's hosts with those of others: at most [`OVERLAPS_REPORTED_MAX`].
    fn overlaps(&mut self, id: &TunnelId) -> Result<Vec<Overlap>, StoreError>;
    /// Archives a tunnel, with its hosts, credentials and certificates. Repeating this changes nothing.
    fn archive_tunnel(&mut self, id: &TunnelId, note: &Note) -> Result<Tunnel, StoreError>;

    /// Adds a credential, and ends the earlier ones at `old_until`.
    fn rotate(
        &mut self,
        id: &TunnelId,
        new: &NewCredential,
        old_until: WallTime,
        note: &Note,
    ) -> Result<Tunnel, StoreError>;
    /// Revokes one credential, or all.
    fn revoke(&mut self, id: &TunnelId, which: Option<&CredentialId>, note: &Note) -> Result<Tunnel, StoreError>;

    /// Registers a certificate. Also returns its tunnel after the change.
    fn add_certificate(&mut self, new: &Certificate, note: &Note) -> Result<(Tunnel, Certificate), StoreError>;
    /// One certificate of a tunnel.
    fn certificate(&mut self, tunnel: &TunnelId, id: &str) -> Result<Certificate, StoreError>;
    /// Lists certificates of a tunnel; archived ones only if requested.
    fn certificates(
        &mut self,
        tunnel: &TunnelId,
        archived_too: bool,
        page: Page,
    ) -> Result<Listed<Certificate>, StoreError>;
    /// Archives a certificate. Also returns its tunnel after the change. Repeating this changes nothing.
    fn archive_certificate(
        &mut self,
        tunnel: &TunnelId,
        id: &str,
        note: &Note,
    ) -> Result<(Tunnel, Certificate), StoreError>;

    /// Adds a provisioning key.
    fn add_key(&mut self, new: &NewKey, note: &Note) -> Result<ProvisioningKey, StoreError>;
    /// Returns one provisioning key, also a revoked one.
    fn key(&mut self, id: &str) -> Result<ProvisioningKey, StoreError>;
    /// The provisioning key with this secret, if it is valid.
    fn good_key(&mut self, hash: &SecretHash, now: WallTime) -> Result<ProvisioningKey, StoreError>;
    /// Whether the provisioning key with this secret is valid, or was used since `since` and not revoked.
    fn may_trade(&mut self, hash: &SecretHash, now: WallTime, since: WallTime) -> Result<bool, StoreError>;
    /// Returns one page of the provisioning keys, the newest first.
    fn keys(&mut self, page: Page) -> Result<Listed<ProvisioningKey>, StoreError>;
    /// Revokes a provisioning key. Repeating this changes nothing.
    fn revoke_key(&mut self, id: &str, note: &Note) -> Result<ProvisioningKey, StoreError>;
    /// The tunnel that was created since then for this requester and this provisioning key. The key may be used up but
    /// not revoked.
    fn traded(
        &mut self,
        key: &SecretHash,
        requester: &Requester,
        since: WallTime,
    ) -> Result<Option<Tunnel>, StoreError>;
    /// Creates a tunnel for a provisioning key, and counts the use. Hosts that the edge did not generate must not
    /// overlap with those of others.
    fn trade_key(&mut self, id: &str, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError>;

    /// Lists events, the newest first.
    fn events(&mut self, tunnel: Option<&TunnelId>, page: Page) -> Result<Listed<AuditEvent>, StoreError>;
    /// Adds to the recorded usage.
    fn add_usage(&mut self, rows: &[Usage]) -> Result<(), StoreError>;
    /// The usage of a tunnel's links since then, rounded to the hour, for one credential or all.
    fn usage(
        &mut self,
        tunnel: &TunnelId,
        credential: Option<&CredentialId>,
        since: WallTime,
    ) -> Result<Vec<Usage>, StoreError>;

    /// Writes a complete private copy into a new file, while the store remains in use.
    fn backup(&mut self, to: &Path) -> Result<(), StoreError>;
    /// Writes a copy into the directory for back-ups, and removes the oldest beyond [`BACKUPS_MAX`].
    fn keep_backup(&mut self, now: WallTime) -> Result<PathBuf, StoreError>;

    /// Does maintenance that would otherwise make one of the next operations slow. Called in a pause between operations.
    fn on_idle(&mut self);
}
