//! The persistent state of an edge: tunnels, their hosts and credentials, certificates, provisioning keys, events and usage.
//!
//! [`Store`] is the interface; [`SqliteStore`] is the one implementation, in one file. Each operation is one transaction, which
//! takes effect whole or not at all. A store blocks, so that it has a thread of its own, behind a [`StoreHandle`]. It contains
//! no secrets, only their hashes.

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
    BACKUPS_MAX, Reinstated, ReinstatedKind, Restored, SCHEMA_VERSION, SqliteStore, finish_restore, is_half_restored,
    newest_backup, restore,
};
pub use thread::{STORE_QUEUE_MAX, StoreHandle};

use std::path::{Path, PathBuf};

use crate::base::{CredentialId, SecretHash, TunnelId};
use crate::control::wall_time::WallTime;

/// The most tunnels that are not archived.
pub const TUNNELS_MAX: u32 = 10_000;
/// The most hosts of one tunnel.
pub const TUNNEL_HOSTS_MAX: usize = 64;
/// The most overlaps with hosts of other tunnels that are told at once.
pub const OVERLAPS_REPORTED_MAX: usize = 16;
/// The most entries of one list of who may come to a tunnel; more go into a set.
pub const TUNNEL_LIST_LEN_MAX: usize = 256;
/// The most certificates of one tunnel that are active: one in use, and during a change the next one.
pub const CERTIFICATES_ACTIVE_MAX: usize = 2;
/// The most provisioning keys that are good.
pub const PROVISIONING_KEYS_MAX: u32 = 1_000;
/// The most events that are kept; the oldest make room.
pub const EVENTS_MAX: u32 = 100_000;
/// The most lines of what was called that are kept; the oldest make room.
pub const USAGE_ROWS_MAX: u32 = 200_000;

/// Keeps what an edge must not forget. Each call is one transaction.
///
/// # Errors
///
/// Every operation tells a rule that forbids it as [`StoreError::Refused`], and everything else by what it takes to mend it.
pub trait Store: Send {
    /// Every tunnel that is not archived, the oldest first.
    fn active_tunnels(&mut self) -> Result<Vec<Tunnel>, StoreError>;

    /// Creates a tunnel with its first credential.
    fn create_tunnel(&mut self, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError>;
    /// Returns one tunnel, also an archived one.
    fn tunnel(&mut self, id: &TunnelId) -> Result<Tunnel, StoreError>;
    /// Tunnels; those that are archived only if they are wanted too.
    fn tunnels(&mut self, archived_too: bool, page: Page) -> Result<Listed<Tunnel>, StoreError>;
    /// Changes what a tunnel is called, its hosts, or who may come to it.
    fn change_tunnel(&mut self, id: &TunnelId, wanted: &TunnelChange, note: &Note) -> Result<Tunnel, StoreError>;
    /// Where hosts of a tunnel overlap with those of others: at most [`OVERLAPS_REPORTED_MAX`].
    fn overlaps(&mut self, id: &TunnelId) -> Result<Vec<Overlap>, StoreError>;
    /// Gives a tunnel up for good, with its hosts, credentials and certificates. Once more changes nothing.
    fn archive_tunnel(&mut self, id: &TunnelId, note: &Note) -> Result<Tunnel, StoreError>;

    /// Adds a credential, and ends the ones before it at `old_until`.
    fn rotate(
        &mut self,
        id: &TunnelId,
        new: &NewCredential,
        old_until: WallTime,
        note: &Note,
    ) -> Result<Tunnel, StoreError>;
    /// Withdraws one credential, or all.
    fn revoke(&mut self, id: &TunnelId, which: Option<&CredentialId>, note: &Note) -> Result<Tunnel, StoreError>;

    /// Registers a certificate; returned is also its tunnel as it is then.
    fn add_certificate(&mut self, new: &Certificate, note: &Note) -> Result<(Tunnel, Certificate), StoreError>;
    /// One certificate of a tunnel.
    fn certificate(&mut self, tunnel: &TunnelId, id: &str) -> Result<Certificate, StoreError>;
    /// Certificates of a tunnel; those that are archived only if they are wanted too.
    fn certificates(
        &mut self,
        tunnel: &TunnelId,
        archived_too: bool,
        page: Page,
    ) -> Result<Listed<Certificate>, StoreError>;
    /// Takes a certificate out of use; returned is also its tunnel as it is then. Once more changes nothing.
    fn archive_certificate(
        &mut self,
        tunnel: &TunnelId,
        id: &str,
        note: &Note,
    ) -> Result<(Tunnel, Certificate), StoreError>;

    /// Keeps a provisioning key.
    fn add_key(&mut self, new: &NewKey, note: &Note) -> Result<ProvisioningKey, StoreError>;
    /// Returns one provisioning key, also a revoked one.
    fn key(&mut self, id: &str) -> Result<ProvisioningKey, StoreError>;
    /// The provisioning key with this secret, if it is good.
    fn good_key(&mut self, hash: &SecretHash, now: WallTime) -> Result<ProvisioningKey, StoreError>;
    /// Whether the provisioning key with this secret is good, or a tunnel was made for it since then and it was not
    /// withdrawn.
    fn may_trade(&mut self, hash: &SecretHash, now: WallTime, since: WallTime) -> Result<bool, StoreError>;
    /// Returns one part of the provisioning keys, the newest first.
    fn keys(&mut self, page: Page) -> Result<Listed<ProvisioningKey>, StoreError>;
    /// Withdraws a provisioning key. Once more changes nothing.
    fn revoke_key(&mut self, id: &str, note: &Note) -> Result<ProvisioningKey, StoreError>;
    /// The tunnel that was made since then for this requester and the provisioning key with this secret, which may be used
    /// up but not withdrawn.
    fn traded(
        &mut self,
        key: &SecretHash,
        requester: &Requester,
        since: WallTime,
    ) -> Result<Option<Tunnel>, StoreError>;
    /// Makes a tunnel for a provisioning key, and counts that the key was used. Hosts that the edge did not make up may not
    /// overlap with those of others.
    fn trade_key(&mut self, id: &str, new: &NewTunnel, note: &Note) -> Result<Tunnel, StoreError>;

    /// What was done, the newest first.
    fn events(&mut self, tunnel: Option<&TunnelId>, page: Page) -> Result<Listed<AuditEvent>, StoreError>;
    /// Adds to what was called.
    fn add_usage(&mut self, rows: &[Usage]) -> Result<(), StoreError>;
    /// What was called over links of this tunnel since then, to the hour; with one credential, or with any.
    fn usage(
        &mut self,
        tunnel: &TunnelId,
        credential: Option<&CredentialId>,
        since: WallTime,
    ) -> Result<Vec<Usage>, StoreError>;

    /// Writes a whole copy, private, into a file that must not be there yet; the store goes on meanwhile.
    fn backup(&mut self, to: &Path) -> Result<(), StoreError>;
    /// Writes a copy into the directory for back-ups, and removes the oldest beyond [`BACKUPS_MAX`].
    fn keep_backup(&mut self, now: WallTime) -> Result<PathBuf, StoreError>;

    /// Does maintenance that would otherwise make one of the next operations slow. Called in a pause between operations.
    fn on_idle(&mut self);
}
