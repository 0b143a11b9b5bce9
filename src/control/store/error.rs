use std::path::{Path, PathBuf};

use super::rows::Overlap;
use crate::base::{CredentialId, TunnelId, shell_word};

/// Why the store did not do what it was asked to. Nothing of the change was kept then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too much waits for it.
    #[error("the store is overloaded: try again shortly")]
    Busy,
    /// The thread on which it runs has ended.
    #[error("the store is closed: the edge is ending")]
    Closed,
    /// Another process holds it.
    #[error("another process has the store {} open: end it (`fuser {}` shows which one it is), then try again", path.display(), word(path))]
    Locked {
        /// The path of its file.
        path: PathBuf,
    },
    /// What the file holds is not whole.
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
        /// What is wrong with it.
        cause: String,
        /// The newest back-up that lies beside it.
        backup: Option<PathBuf>,
    },
    /// A restore of it was cut off before its last move, or goes on at this moment.
    #[error("a restore of the store {} was cut off: start the edge, which finishes it, or run `{}` again", path.display(), restore(path))]
    HalfRestored {
        /// The path of its file.
        path: PathBuf,
    },
    /// There is no room for the change.
    #[error("the disk has no room for the store {}: free some space on its disk, then try again", path.display())]
    Full {
        /// The path of its file.
        path: PathBuf,
    },
    /// A newer version of adit made it.
    #[error("the store {} was made by a newer adit (its schema is {found}, this one knows {known}): run that version", path.display())]
    Newer {
        /// The path of its file.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// The system refuses to read or write it.
    #[error("the store {} cannot be used: {cause}", path.display())]
    Unusable {
        /// The path of its file.
        path: PathBuf,
        /// As the system or SQLite says it.
        cause: String,
    },
    /// The audit log cannot be written, and is required.
    #[error("the change could not be written to the audit log, so that it was not made: the log of the edge says why")]
    Unrecorded,
    /// A rule forbids the change.
    #[error(transparent)]
    Refused(#[from] RuleViolation),
}

/// Which rule forbids a change.
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
    /// The host is another tunnel's.
    #[error("the host {host} belongs to the tunnel {tunnel}: choose another, or archive that tunnel")]
    HostTaken {
        /// The host that was asked for.
        host: String,
        /// The tunnel that has it.
        tunnel: TunnelId,
    },
    /// The host is below another tunnel's wildcard, or a wildcard over another tunnel's host, and whoever asked may not have
    /// such a one.
    #[error("the hosts {} and {} of the tunnel {} overlap because one is a wildcard that covers the other: a provisioning key cannot create such a host", .0.host, .0.theirs, .0.tunnel)]
    HostOverlaps(Box<Overlap>),
    /// The host was one of a tunnel that was made up by the edge, and such hosts are never given again.
    #[error("the host {0} belonged to an archived tunnel and is not reused: choose another")]
    HostRetired(String),
    /// There are as many tunnels as there may be.
    #[error("this edge has {0} tunnels, which is the limit: archive some")]
    TooManyTunnels(u32),
    /// There are as many hosts as there may be.
    #[error("this edge has {0} hosts, which is the limit: archive tunnels, or use a '*.' host for many of them")]
    TooManyHosts(usize),
    /// Two credentials are good already.
    #[error(
        "a rotation is under way and two secrets are valid: wait until the old one ends, revoke it, or rotate with no overlap"
    )]
    RotationUnderWay,
    /// Both slots for certificates are taken.
    #[error("the tunnel has {0} active certificates, which is the limit: archive one")]
    CertificateSlots(usize),
    /// The certificate is there already.
    #[error("this certificate is registered already, as {0}")]
    CertificateKnown(String),
    /// There are as many provisioning keys as there may be.
    #[error("this edge has {0} valid provisioning keys, which is the limit: revoke some")]
    TooManyKeys(u32),
    /// A provisioning key that cannot be traded.
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
