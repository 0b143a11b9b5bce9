//! The edge's data directory: its authority, the certificate for connectors, the admin token and the store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::base::{SECRET_ENTROPY_LEN, Secret, SecretKind, mint, plain_text, shell_word, single_value};
use crate::control::file_lock::FileLock;
use crate::identity::ForwardingKeysError;
use crate::private::{self, FileError, PrivateError};
use crate::tls::{Authority, CertError, CertInfo, Fingerprint};
use crate::wire::quic::QUIC_SEED_LEN;

/// The validity of edge certificates that the edge's own authority issues.
pub const EDGE_CERT_LIFE: Duration = Duration::from_secs(397 * 24 * 3_600);
/// An edge certificate is renewed when less time than this is left.
pub const EDGE_CERT_RENEWED_BEFORE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The longest PEM file that is read, in bytes.
const PEM_LEN_MAX: usize = 64 * 1024;
/// The longest admin token, in bytes.
const TOKEN_LEN_MAX: usize = 256;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or the directory is missing, cannot be read or written, or is open to others.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The path contains no data directory.
    #[error("{} is not a data directory of an edge: make it with `{}`", path.display(), init_again(path))]
    NotMade {
        /// The path that was given.
        path: PathBuf,
    },
    /// Only one of two files that belong together exists.
    #[error("{} exists, but {} is missing: restore it from a back-up, or move the first file away and run `{}` again", there.display(), missing.display(), init_again(there.parent().unwrap_or(there)))]
    Half {
        /// The file that exists.
        there: PathBuf,
        /// The file that is missing.
        missing: PathBuf,
    },
    /// A certificate or key is damaged or expired, or could not be created.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The token file contains no token.
    #[error("{} holds no admin token: remove it and run `{}` again", path.display(), init_again(path.parent().unwrap_or(path)))]
    NoToken {
        /// The path of the token file.
        path: PathBuf,
    },
    /// Another process uses the directory.
    #[error("another `adit edge` uses {}: stop it, or give this one a data directory of its own", path.display())]
    InUse {
        /// The directory that is in use.
        path: PathBuf,
    },
    /// The file of the keys that sign forwarded identities is damaged.
    #[error("{}: {why}: restore it from a back-up, or remove it and give connectors the new keys (`adit edge identity-keys`)", path.display())]
    IdentityKeys {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        why: ForwardingKeysError,
    },
    /// Another process changes these keys.
    #[error("another process changes {} at this moment: try again", path.display())]
    IdentityKeysInUse {
        /// The path of the file.
        path: PathBuf,
    },
    /// The system provides no random bytes.
    #[error("the operating system provides no random bytes")]
    NoRandom,
}

/// The directory with everything that an edge must not lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
}

/// What [`DataDir::init`] found or created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialised {
    /// The files that were created.
    pub made: Vec<PathBuf>,
    /// The names in the edge's certificate.
    pub names: Vec<String>,
    /// The fingerprint of the edge's authority.
    pub authority: Fingerprint,
}

impl DataDir {
    /// The data directory at this path, which may not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> DataDir {
        DataDir { path: path.into() }
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate of the edge's authority (PEM).
    #[must_use]
    pub fn ca_cert(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    /// The key of the edge's authority (PEM).
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.path.join("ca.key")
    }

    /// The certificate chain for connectors (PEM).
    #[must_use]
    pub fn edge_cert(&self) -> PathBuf {
        self.path.join("edge.pem")
    }

    /// The key of that certificate (PEM).
    #[must_use]
    pub fn edge_key(&self) -> PathBuf {
        self.path.join("edge.key")
    }

    /// The path of the store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    /// The directory of the store's back-ups.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.path.join("backups")
    }

    /// The file of the token for the admin API.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    /// The file of the secret behind the keys of QUIC.
    #[must_use]
    pub fn quic_seed_file(&self) -> PathBuf {
        self.path.join("quic.seed")
    }

    /// The file of the keys that sign forwarded identities.
    #[must_use]
    pub fn identity_keys_file(&self) -> PathBuf {
        self.path.join("identity.keys")
    }

    /// Creates the authority, the edge's certificate and the admin token, and keeps those that exist. If `names` differ
    /// from those of the certificate, a new one is issued.
    ///
    /// # Errors
    ///
    /// If something that exists cannot be used, or something cannot be created.
    pub fn init(&self, names: &[String], now: UnixTime) -> Result<Initialised, DataDirError> {
        private::folder(&self.path)?;
        let mut made = Vec::new();
        if !both_or_none(&self.ca_cert(), &self.ca_key())? {
            make_authority("adit edge", (&self.ca_cert(), &self.ca_key()), now)?;
            made.extend([self.ca_cert(), self.ca_key()]);
        }
        let authority = self.authority(now)?;
        let present =
            if both_or_none(&self.edge_cert(), &self.edge_key())? { Some(self.edge_cert_info()?) } else { None };
        let wanted = if names.is_empty() { present.as_ref().map_or(names, |info| &info.names) } else { names };
        let vouched_for = present.is_some() && self.shows(&authority)?;
        if !vouched_for || present.as_ref().is_none_or(|info| info.names != wanted || is_due(info, now)) {
            self.issue_edge_cert(&authority, wanted, now)?;
            made.extend([self.edge_cert(), self.edge_key()]);
        }
        if !self.admin_token_file().exists() {
            private::write(&self.admin_token_file(), &[mint_random(SecretKind::AdminToken)?.expose(), b"\n"].concat())?;
            made.push(self.admin_token_file());
        }
        let names = self.edge_cert_info()?.names;
        Ok(Initialised { made, names, authority: Fingerprint::of(authority.cert_der()) })
    }

    /// Reads the authority that signs certificates for this edge.
    ///
    /// # Errors
    ///
    /// If its files are missing, accessible to others, damaged or expired.
    pub fn authority(&self, now: UnixTime) -> Result<Authority, DataDirError> {
        if !self.ca_cert().exists() {
            return Err(DataDirError::NotMade { path: self.path.clone() });
        }
        private::folder(&self.path)?;
        let (cert, key) = (self.ca_cert(), self.ca_key());
        let (cert_pem, key_pem) = (private::read(&cert, PEM_LEN_MAX)?, private::read(&key, PEM_LEN_MAX)?);
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        Ok(Authority::from_pem((&cert, &cert_pem), (&key, &key_pem), now)?)
    }

    /// Renews the edge's certificate for the same names if it is about to expire. Returns whether it did.
    ///
    /// # Errors
    ///
    /// If the authority or the certificate cannot be read, or the new one cannot be written.
    pub fn renew_edge_cert(&self, now: UnixTime) -> Result<bool, DataDirError> {
        let info = self.edge_cert_info()?;
        if !is_due(&info, now) {
            return Ok(false);
        }
        self.issue_edge_cert(&self.authority(now)?, &info.names, now)?;
        Ok(true)
    }

    /// Whether the chain for connectors ends with this authority.
    fn shows(&self, authority: &Authority) -> Result<bool, DataDirError> {
        let chain = private::read(&self.edge_cert(), PEM_LEN_MAX)?;
        let wanted = Fingerprint::of(authority.cert_der());
        Ok(CertificateDer::pem_slice_iter(&chain).flatten().any(|cert| Fingerprint::of(&cert) == wanted))
    }

    /// Reads the token of the admin API.
    ///
    /// # Errors
    ///
    /// If its file is missing, accessible to others, or contains no token.
    pub fn admin_token(&self) -> Result<Secret, DataDirError> {
        let path = self.admin_token_file();
        let content = private::read(&path, TOKEN_LEN_MAX)?;
        match plain_text(&content).map(single_value) {
            Ok(token) if !token.is_empty() => Ok(Secret::from(token)),
            _ => Err(DataDirError::NoToken { path }),
        }
    }

    /// The secret behind the keys of QUIC, which stays the same over restarts. It is created if there is none. A file of another
    /// length, as after a full disk, is replaced.
    ///
    /// # Errors
    ///
    /// If its file is accessible to others, or cannot be read or written.
    pub fn quic_seed(&self) -> Result<Secret, DataDirError> {
        let path = self.quic_seed_file();
        if path.exists() {
            let seed = private::read(&path, TOKEN_LEN_MAX)?;
            if seed.len() == QUIC_SEED_LEN {
                return Ok(Secret::new(seed.to_vec()));
            }
        }
        let mut seed = [0; QUIC_SEED_LEN];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| DataDirError::NoRandom)?;
        private::write(&path, &seed)?;
        Ok(Secret::new(seed.to_vec()))
    }

    /// Locks the directory against other edges, until the lock is dropped. While another edge holds it, `pause` is
    /// called before each retry, for as long as it returns true.
    ///
    /// # Errors
    ///
    /// The same as for [`DataDir::lock`].
    pub async fn lock_soon(&self, mut pause: impl AsyncFnMut() -> bool) -> Result<DataDirLock, DataDirError> {
        loop {
            match self.lock() {
                Err(DataDirError::InUse { .. }) if pause().await => {}
                locked => return locked,
            }
        }
    }

    /// Locks the directory against other edges, until the lock is dropped.
    ///
    /// # Errors
    ///
    /// If another edge uses it, or it cannot be used.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let lock = self.try_lock("lock")?.ok_or_else(|| DataDirError::InUse { path: self.path.clone() })?;
        Ok(DataDirLock { _lock: lock })
    }

    /// Locks the file with this name. None if another process holds the lock.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<FileLock>, DataDirError> {
        let path = self.path.join(name);
        private::ensure(&path)?;
        let unreadable = |cause: io::Error| PrivateError::from(FileError::unreadable(&path, &cause));
        Ok(File::open(&path).and_then(FileLock::try_lock).map_err(unreadable)?)
    }

    fn edge_cert_info(&self) -> Result<CertInfo, DataDirError> {
        let path = self.edge_cert();
        let pem = private::read(&path, PEM_LEN_MAX)?;
        Ok(CertInfo::of_pem((&path.display().to_string(), &pem))?)
    }

    fn issue_edge_cert(&self, authority: &Authority, names: &[String], now: UnixTime) -> Result<(), DataDirError> {
        let issued = authority.issue_chain(names, now, EDGE_CERT_LIFE)?;
        private::write(&self.edge_key(), issued.key_pem.expose())?;
        private::write(&self.edge_cert(), issued.cert_pem.as_bytes())?;
        Ok(())
    }
}

/// The lock of a data directory.
#[derive(Debug)]
pub struct DataDirLock {
    _lock: FileLock,
}

/// Creates an authority and writes its certificate and key. The key is written first, because a key without a
/// certificate does no harm.
pub(super) fn make_authority(name: &str, (cert, key): (&Path, &Path), now: UnixTime) -> Result<(), CertError> {
    let authority = Authority::make(name, now)?;
    private::write(key, authority.key_pem.expose())?;
    private::write(cert, authority.cert_pem.as_bytes())?;
    Ok(())
}

/// Creates a random secret that contains no pin of an authority.
pub(super) fn mint_random(kind: SecretKind) -> Result<Secret, DataDirError> {
    let mut entropy = zeroize::Zeroizing::new([0; SECRET_ENTROPY_LEN]);
    aws_lc_rs::rand::fill(entropy.as_mut()).map_err(|_| DataDirError::NoRandom)?;
    Ok(mint(kind, &entropy, None))
}

fn is_due(info: &CertInfo, now: UnixTime) -> bool {
    let soon = now.as_secs().saturating_add(EDGE_CERT_RENEWED_BEFORE.as_secs());
    info.not_after_unix_s < i64::try_from(soon).unwrap_or(i64::MAX)
}

/// The command that creates missing files in the data directory at this path.
fn init_again(path: &Path) -> String {
    format!("adit edge init --data-dir {}", shell_word(&path.to_string_lossy()))
}

fn both_or_none(one: &Path, other: &Path) -> Result<bool, DataDirError> {
    let half = |there: &Path, missing: &Path| DataDirError::Half { there: there.into(), missing: missing.into() };
    match (one.exists(), other.exists()) {
        (true, false) => Err(half(one, other)),
        (false, true) => Err(half(other, one)),
        (there, _) => Ok(there),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use futures_lite::future::block_on;

    use super::*;

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().join("edge"));
        (dir, data)
    }

    #[test]
    fn all_is_made_once_for_the_owner_alone_and_then_left_alone() {
        let (_dir, data) = fresh();
        let first = data.init(&names(&["edge.test", "127.0.0.1"]), NOW).unwrap();
        assert_eq!((first.made.len(), first.names.as_slice()), (5, &names(&["edge.test", "127.0.0.1"])[..]));
        for file in &first.made {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600, "{}", file.display());
        }
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        let token = data.admin_token().unwrap();
        let again = data.init(&[], NOW).unwrap();
        assert_eq!((again.made.as_slice(), again.authority, again.names), (&[][..], first.authority, first.names));
        assert_eq!(data.admin_token().unwrap().expose(), token.expose());
        assert_eq!(Fingerprint::of(data.authority(NOW).unwrap().cert_der()), first.authority);
        // A different authority requires a different certificate, for the same names.
        fs::remove_file(data.ca_cert()).unwrap();
        assert!(matches!(data.init(&[], NOW), Err(DataDirError::Half { .. })));
        fs::remove_file(data.ca_key()).unwrap();
        let other = data.init(&[], NOW).unwrap();
        assert_eq!((other.made.len(), &other.names), (4, &names(&["edge.test", "127.0.0.1"])));
        assert_ne!(other.authority, first.authority);
        assert_eq!(data.init(&[], NOW).unwrap().made, [] as [PathBuf; 0]);
        let renamed = data.init(&names(&["other.test"]), NOW).unwrap();
        assert_eq!(renamed.made, [data.edge_cert(), data.edge_key()]);
        assert_eq!(renamed.authority, other.authority);
    }

    #[test]
    fn the_edges_certificate_is_renewed_near_its_end_for_the_same_names() {
        let (_dir, data) = fresh();
        data.init(&names(&["edge.test"]), NOW).unwrap();
        let at =
            |left: Duration| UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs()) + EDGE_CERT_LIFE - left);
        assert!(!data.renew_edge_cert(at(EDGE_CERT_RENEWED_BEFORE * 2)).unwrap());
        assert!(data.renew_edge_cert(at(EDGE_CERT_RENEWED_BEFORE / 2)).unwrap());
        assert!(!data.renew_edge_cert(at(EDGE_CERT_RENEWED_BEFORE / 2)).unwrap());
        assert_eq!(data.edge_cert_info().unwrap().names, ["edge.test"]);
    }

    #[test]
    fn readable_or_incomplete_directories_are_refused_with_the_remedy() {
        let (_dir, data) = fresh();
        let message = data.authority(NOW).err().unwrap().to_string();
        assert!(message.contains("adit edge init --data-dir"), "{message}");
        data.init(&names(&["edge.test"]), NOW).unwrap();
        fs::set_permissions(data.ca_key(), fs::Permissions::from_mode(0o644)).unwrap();
        let message = data.authority(NOW).err().unwrap().to_string();
        assert!(message.contains("chmod 600") && message.contains("ca.key"), "{message}");
        fs::remove_file(data.ca_key()).unwrap();
        assert!(matches!(data.init(&[], NOW), Err(DataDirError::Half { .. })));
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let message = data.init(&[], NOW).unwrap_err().to_string();
        assert!(message.contains("chmod 700"), "{message}");
    }

    #[test]
    fn one_edge_at_a_time() {
        let (_dir, data) = fresh();
        data.init(&names(&["edge.test"]), NOW).unwrap();
        let held = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataDirError::InUse { .. })));
        drop(held);
        // The retry succeeds once the predecessor ends, and gives up if it does not.
        let mut held = Some(data.lock().unwrap());
        let mut pauses = 0..3;
        let in_use = block_on(data.lock_soon(async || pauses.next().is_some()));
        assert!(matches!(in_use, Err(DataDirError::InUse { .. })));
        assert!(pauses.next().is_none());
        block_on(data.lock_soon(async || held.take().is_some())).unwrap();
    }
}
