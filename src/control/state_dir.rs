//! The connector's state directory: its certificates, the authority for sealed routes, and the token that a provisioning
//! key was exchanged for.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::base::{TunnelId, TunnelToken, TunnelTokenError, plain_text, single_value};
use crate::connector::EdgeAddress;
use crate::control::data_dir::make_authority;
use crate::control::file_lock::FileLock;
use crate::private::{self, FileError, PrivateError};
use crate::tls::{Authority, CertError, Identity, KeyRequest, ServerCert};

/// The certificate of the authority for sealed routes, in the state directory.
pub const SEAL_CA_FILE: &str = "seal-ca.pem";
/// The longest file of a certificate and its key, in bytes.
const IDENTITY_FILE_LEN_MAX: usize = 64 * 1024;
/// The longest file of a token, in bytes.
const TOKEN_FILE_LEN_MAX: usize = 1024;
/// The longest file of a connector's number, in bytes. It includes a host name, which has at most 64 bytes.
const INSTANCE_FILE_LEN_MAX: usize = 256;
/// The validity of a certificate for sealed routes. It is renewed at every start and reload, and once a day.
const SEAL_CERT_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// A file or the directory cannot be read or written, or is open to others.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The token file contains something else.
    #[error("{} holds no token: {why}; remove it to exchange the provisioning key again", path.display())]
    NoToken {
        /// The file that should hold the token.
        path: PathBuf,
        /// The rule that its content breaks.
        why: TunnelTokenError,
    },
}

/// The directory in which a connector keeps its certificates with their keys, one for each edge, so that a restart needs no
/// new ones. All files are private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

/// A connector's number, which is locked against other processes on this host for as long as this value exists.
#[derive(Debug)]
pub struct Instance {
    /// The number that identifies this connector.
    pub number: u64,
    lock: Option<FileLock>,
}

impl Instance {
    /// Whether this process has locked the state directory, so that no other writes its changing files.
    #[must_use]
    pub fn is_holder(&self) -> bool {
        self.lock.is_some()
    }
}

impl StateDir {
    /// The state directory at this path, which may not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> StateDir {
        StateDir { path: path.into() }
    }

    /// The certificate of the authority for sealed routes (PEM).
    #[must_use]
    pub fn seal_ca_cert(&self) -> PathBuf {
        self.path.join(SEAL_CA_FILE)
    }

    /// The key of that authority (PEM).
    #[must_use]
    pub fn seal_ca_key(&self) -> PathBuf {
        self.path.join("seal-ca.key")
    }

    /// The token that a provisioning key was exchanged for.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.path.join("tunnel.token")
    }

    /// The key that identifies this host during the exchange, until it is complete.
    #[must_use]
    pub fn trade_key_file(&self) -> PathBuf {
        self.path.join("trade.key")
    }

    /// The number by which edges know this connector, and the host on which it was created.
    #[must_use]
    pub fn instance_file(&self) -> PathBuf {
        self.path.join("instance")
    }

    /// The certificate that an edge issued, with its key (PEM).
    #[must_use]
    pub fn identity_file(&self, edge: &EdgeAddress) -> PathBuf {
        let host: String = edge.host.chars().map(|c| if c == ':' || c == '/' { '_' } else { c }).collect();
        self.path.join(format!("{host}_{}.pem", edge.port))
    }

    /// Creates the directory, unless it exists.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or others can list it.
    pub fn init(&self) -> Result<(), StateDirError> {
        Ok(private::folder(&self.path)?)
    }

    /// Stores the certificate that an edge issued.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. The old one is then unchanged.
    pub fn keep(&self, edge: &EdgeAddress, identity: &Identity) -> Result<(), PrivateError> {
        private::write(&self.identity_file(edge), identity.to_pem().expose())
    }

    /// The stored certificate for an edge, if it is still valid and names this tunnel. One that cannot be used is
    /// logged and ignored.
    #[must_use]
    pub fn identity(&self, edge: &EdgeAddress, tunnel: &TunnelId, now: UnixTime) -> Option<Identity> {
        let file = self.identity_file(edge);
        if !file.exists() {
            return None;
        }
        let name = file.display().to_string();
        let read = private::read(&file, IDENTITY_FILE_LEN_MAX).map_err(|error| error.to_string());
        let identity = read.and_then(|pem| Identity::from_pem(&name, &pem).map_err(|error| error.to_string()));
        match identity {
            Ok(identity) if identity.tunnel() == tunnel && !identity.left(now).is_zero() => Some(identity),
            Ok(_) => None,
            Err(why) => {
                tracing::warn!(%why, "a kept certificate cannot be used; a new one will be requested");
                None
            }
        }
    }

    /// The stored token, if there is one.
    ///
    /// # Errors
    ///
    /// If it exists and cannot be used.
    pub fn token(&self) -> Result<Option<TunnelToken>, StateDirError> {
        let path = self.token_file();
        if !path.exists() {
            return Ok(None);
        }
        let content = private::read(&path, TOKEN_FILE_LEN_MAX)?;
        let token = plain_text(&content).map_err(|_| TunnelTokenError).and_then(|text| single_value(text).parse());
        token.map(Some).map_err(|why| StateDirError::NoToken { path, why })
    }

    /// Writes a token to the directory.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep_token(&self, token: &TunnelToken) -> Result<(), PrivateError> {
        private::write(&self.token_file(), token.text().expose())
    }

    /// The number by which edges know this connector. A restarted connector has the same number, and therefore the
    /// sessions of its predecessor. `fresh` is used and stored if there is no number for this `host`. It is used
    /// without being stored while another process holds the stored number.
    ///
    /// # Errors
    ///
    /// If the number can be neither read nor stored.
    pub fn instance(&self, host: &str, fresh: u64) -> Result<Instance, PrivateError> {
        let unreadable = |cause: io::Error| FileError::unreadable(&self.path, &cause);
        let locked = File::open(&self.path).and_then(FileLock::try_lock).map_err(unreadable)?;
        let Some(lock) = locked else { return Ok(Instance { number: fresh, lock: None }) };
        let file = self.instance_file();
        // A number that was copied from another host is not used, because two connectors must not have the same one.
        let kept = if file.exists() { private::read(&file, INSTANCE_FILE_LEN_MAX)?.to_vec() } else { Vec::new() };
        let kept = String::from_utf8(kept).ok().and_then(|text| {
            let (number, of_host) = text.trim_end().split_once(' ')?;
            u64::from_str_radix(number, 16).ok().filter(|_| of_host == host)
        });
        if kept.is_none() {
            private::write(&file, format!("{fresh:016x} {host}\n").as_bytes())?;
        }
        Ok(Instance { number: kept.unwrap_or(fresh), lock: Some(lock) })
    }

    /// The key with which this host exchanges its provisioning key. It stays the same until the exchange is complete,
    /// so that an edge recognises a host that asks again because the answer was lost.
    ///
    /// # Errors
    ///
    /// If it cannot be created or written, or the stored one cannot be used.
    pub fn trade_key(&self) -> Result<KeyRequest, CertError> {
        let file = self.trade_key_file();
        if file.exists() {
            let pem = private::read(&file, IDENTITY_FILE_LEN_MAX)?;
            return KeyRequest::from_pem(&file.display().to_string(), &pem);
        }
        let key = KeyRequest::new()?;
        private::write(&file, key.key_pem().expose())?;
        Ok(key)
    }

    /// Removes that key, once the result of the exchange is stored.
    pub fn end_trade(&self) {
        // A key that stays is never used again.
        let _ = std::fs::remove_file(self.trade_key_file());
    }

    /// Issues a certificate for the hosts of sealed routes, signed by the authority in the directory, which is created
    /// if there is none.
    ///
    /// # Errors
    ///
    /// If the authority cannot be created, stored or used.
    pub fn issue_seal_cert(&self, hosts: &[String], now: UnixTime) -> Result<ServerCert, CertError> {
        private::folder(&self.path)?;
        let (cert, key) = (self.seal_ca_cert(), self.seal_ca_key());
        if !cert.exists() {
            make_authority("adit connector", (&cert, &key), now)?;
            tracing::info!(file = %cert.display(), "created a certificate authority for sealed routes");
        }
        Authority::load(&cert, &key, now)?.issue_chain(hosts, now, SEAL_CERT_LIFE)?.server_cert(now)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use std::path::Path;

    use super::*;
    use crate::tls::{Authority, KeyRequest};

    fn identity(tunnel: &str, now: UnixTime) -> Identity {
        let authority = Authority::new("test", now, 2).unwrap();
        let request = KeyRequest::new().unwrap();
        let lifetime = Duration::from_secs(3600);
        let cert = authority.certify(request.csr(), &tunnel.parse().unwrap(), lifetime, now).unwrap();
        request.into_identity(cert.chain).unwrap()
    }

    #[test]
    fn only_the_owner_continues_a_state_and_only_while_it_is_valid() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let dir = StateDir::new(&path);
        dir.init().unwrap();
        let edge = EdgeAddress { host: "::1".into(), port: 7844 };
        let (tunnel, now) = ("tnl_a".parse().unwrap(), UnixTime::now());
        assert_eq!(dir.identity(&edge, &tunnel, now), None);
        let made = identity("tnl_a", now);
        dir.keep(&edge, &made).unwrap();
        let file = path.join("__1_7844.pem");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        assert_eq!(dir.identity(&edge, &tunnel, now), Some(made));
        assert_eq!(dir.identity(&edge, &"tnl_b".parse().unwrap(), now), None);
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 3601));
        assert_eq!(dir.identity(&edge, &tunnel, later), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(dir.identity(&edge, &tunnel, now), None, "others could have read the key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(dir.init().is_err());
    }

    #[test]
    fn the_number_of_a_connector_stays_and_belongs_to_one_process_on_one_host() {
        let parent = tempfile::tempdir().unwrap();
        let dir = StateDir::new(parent.path().join("state"));
        dir.init().unwrap();
        let first = dir.instance("host-a", 1).unwrap();
        assert_eq!(first.number, 1);
        let beside = dir.instance("host-a", 2).unwrap();
        assert_eq!(beside.number, 2, "the first is still there");
        drop((first, beside));
        assert_eq!(dir.instance("host-a", 3).unwrap().number, 1);
        assert_eq!(dir.instance("host-b", 4).unwrap().number, 4, "the directory was copied");
        assert_eq!(dir.instance("host-b", 5).unwrap().number, 4);
        private::write(&dir.instance_file(), b"damaged").unwrap();
        assert_eq!(dir.instance("host-b", 6).unwrap().number, 6);
    }

    #[test]
    fn a_token_is_kept_until_it_is_damaged() {
        let parent = tempfile::tempdir().unwrap();
        let dir = StateDir::new(parent.path().join("state"));
        dir.init().unwrap();
        assert!(dir.token().unwrap().is_none());
        let token: TunnelToken = "tnl_a:an-example-secret-0123".parse().unwrap();
        dir.keep_token(&token).unwrap();
        assert_eq!(dir.token().unwrap().unwrap().text().expose(), token.text().expose());
        private::write(&dir.token_file(), b"hunter2").unwrap();
        let error = dir.token().err().unwrap().to_string();
        assert!(error.contains("tunnel.token holds no token") && !error.contains("hunter2"), "{error}");
    }
}
