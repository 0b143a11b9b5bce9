use std::path::{Path, PathBuf};

use super::rows::Overlap;
use crate::base::{CredentialId, TunnelId, shell_word};

/// Why the store did not perform an operation. None of its changes was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many operations are waiting for it.
    #[error("the store is overloaded: try again shortly")]
    Busy,
    /// The store's thread has ended.
    #[error("the store is closed: the edge is ending")]
    Closed,
    /// Another process has it open.
    #[error("another process has the store {} open: end it (`fuser {}` shows which one it is), then try again", path.display(), word(path))]
    Locked {
        /// The path of its file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the store {} is damaged ({cause}); it was left as it is: {}", path.display(),
        match backup {
            Some(backup) => format!("stop the edge and run `{} --from {}`, which keeps the damaged one aside", restore(path), word(backup)),
            None => format!("there is no back-up in its directory; restore one of yours with `{} --from FILE`", restore(path)),
        }
    )]
    Damaged {
        /// The path of its file.
        path: PathBuf,
        /// The fault that was found.
        cause: String,
        /// The newest back-up beside it.
        backup: Option<PathBuf>,
    },
    /// A restore was interrupted before its last step, or is in progress.
    #[error("a restore of the store {} was interrupted: start the edge, which finishes it, or run `{}` again", path.display(), restore(path))]
    HalfRestored {
        /// The path of its file.
        path: PathBuf,
    },
    /// The disk has no room for the change.
    #[error("the disk has no room for the store {}: free some space on its disk, then try again", path.display())]
    Full {
        /// The path of its file.
        path: PathBuf,
    },
    /// A newer version of adit created it.
    #[error("the store {} was made by a newer adit (its schema is {found}, this one knows {known}): run that version", path.display())]
    Newer {
        /// The path of its file.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// The system refuses access to it.
    #[error("the store {} cannot be used: {cause}", path.display())]
    Unusable {
        /// The path of its file.
        path: PathBuf,
        /// The error of the system or of SQLite.
        cause: String,
    },
    /// The audit log is required and cannot be written.
    #[error("the change could not be written to the audit log, so it was not made: the log of the edge says why")]
    Unrecorded,
    /// A rule forbids the change.
    #[error(transparent)]
    Refused(#[from] RuleViolation),
}

/// The rule that forbids a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleViolation {
    /// There is no such tunnel.
    #[error("there is no tunnel {0}")]
    NoTunnel(TunnelId),
    /// There is no such certificate.
    #[error("the tunnel has no certificate {0}")]
    NoCertificate(String),
    /// There is no such credential.
    #[error("the tunnel has no valid credential {0}")]
    NoCredential(CredentialId),
    /// There is no such provisioning key.
    #[error("there is no provisioning key {0}")]
    NoKey(String),
    /// The tunnel is archived.
    #[error("the tunnel {0} is archived, which cannot be undone: create a new one")]
    Archived(TunnelId),
    /// The host belongs to another tunnel.
    #[error("the host {host} belongs to the tunnel {tunnel}: choose another, or archive that tunnel")]
    HostTaken {
        /// The host that was requested.
        host: String,
        /// The tunnel that has it.
        tunnel: TunnelId,
    },
    /// The host is covered by another tunnel's wildcard, or is a wildcard that covers another tunnel's host, and the
    /// requester may not create such overlaps.
    #[error("the hosts {} and {} of the tunnel {} overlap because one is a wildcard that covers the other: a provisioning key cannot create such a host", .0.host, .0.theirs, .0.tunnel)]
    HostOverlaps(Box<Overlap>),
    /// The edge generated the host for an earlier tunnel. Such hosts are never reused.
    #[error("the host {0} belonged to an archived tunnel and is not reused: choose another")]
    HostRetired(String),
    /// The limit of tunnels is reached.
    #[error("this edge has {0} tunnels, which is the limit: archive some")]
    TooManyTunnels(u32),
    /// The limit of hosts is reached.
    #[error("this edge has {0} hosts, which is the limit: archive tunnels, or use a '*.' host for many of them")]
    TooManyHosts(usize),
    /// Two credentials are already valid.
    #[error(
        "a rotation is under way and two secrets are valid: wait until the old one ends, revoke it, or rotate with no overlap"
    )]
    RotationUnderWay,
    /// The limit of active certificates is reached.
    #[error("the tunnel has {0} active certificates, which is the limit: archive one")]
    CertificateSlots(usize),
    /// The certificate is already registered.
    #[error("this certificate is registered already, as {0}")]
    CertificateKnown(String),
    /// The limit of provisioning keys is reached.
    #[error("this edge has {0} valid provisioning keys, which is the limit: revoke some")]
    TooManyKeys(u32),
    /// The provisioning key cannot be exchanged.
    #[error("the provisioning key is not known, was revoked, has expired, or is used up")]
    KeyNotGood,
}

/// The command that restores the store with this file.
fn restore(store: &Path) -> String {
    let dir = store.parent().unwrap_or(store);
    format!("adit edge restore --data-dir {}", word(dir))
}

fn word(path: &Path) -> String {
    shell_word(&path.to_string_lossy())
}
