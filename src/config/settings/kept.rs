//! Certificates of a connector, kept in its state directory from one start to the next.

use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;

use super::fault;
use crate::base::{TunnelId, TunnelToken};
use crate::config::checks::token;
use crate::config::fault::Faults;
use crate::config::table::ConnectConfig;
use crate::config::values::{FolderPath, SecretSource, SecretText};
use crate::connector::{EdgeAddress, EdgeTls};
use crate::private::{self, PrivateError};
use crate::tls::{CertError, Identity, KeyRequest};

/// The longest file of a certificate and its key, in bytes.
const IDENTITY_FILE_LEN_MAX: usize = 64 * 1024;

/// What is traded for a provisioning key.
const TOKEN_FILE: &str = "tunnel.token";
/// The key with which it is.
const TRADE_KEY_FILE: &str = "trade.key";

/// Where a connector keeps its certificates: one file for each edge, with the key, for this user alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDir(PathBuf);

impl IdentityDir {
    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or others than its owner can look into it.
    pub fn open(path: &Path) -> Result<IdentityDir, PrivateError> {
        private::folder(path)?;
        Ok(IdentityDir(path.to_path_buf()))
    }

    /// Keeps what an edge gave.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. The old one is then as it was.
    pub fn keep(&self, edge: &EdgeAddress, identity: &Identity) -> Result<(), PrivateError> {
        private::write(&self.file(edge), identity.to_pem().expose())
    }

    /// What was kept for an edge, if it is still good and the tunnel's. What cannot be used is as good as nothing, and said.
    #[must_use]
    pub fn take(&self, edge: &EdgeAddress, tunnel: &TunnelId, now: UnixTime) -> Option<Identity> {
        let file = self.file(edge);
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
                tracing::warn!(%why, "a certificate that was kept cannot be used; another one is asked for");
                None
            }
        }
    }

    /// The token that was kept, if one was.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be used.
    pub fn token(&self) -> Result<Option<TunnelToken>, Faults> {
        let file = self.0.join(TOKEN_FILE);
        if !file.exists() {
            return Ok(None);
        }
        let key = "connect.state_dir";
        let read = SecretSource::File(file).read().map_err(|error| fault(key, error))?;
        token(&SecretText(read)).map(Some).map_err(|error| fault(key, error))
    }

    /// Keeps a token.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn keep_token(&self, token: &TunnelToken) -> Result<(), PrivateError> {
        private::write(&self.0.join(TOKEN_FILE), token.text().expose())
    }

    /// The key with which this host trades its provisioning key, the same one until the trade is done: by it an edge knows
    /// that a host asks again whose answer was lost.
    ///
    /// # Errors
    ///
    /// When it cannot be made or kept, or what was kept cannot be used.
    pub fn trade_key(&self) -> Result<KeyRequest, CertError> {
        let file = self.0.join(TRADE_KEY_FILE);
        if file.exists() {
            let pem = private::read(&file, IDENTITY_FILE_LEN_MAX)?;
            return KeyRequest::from_pem(&file.display().to_string(), &pem);
        }
        let key = KeyRequest::new()?;
        private::write(&file, key.key_pem().expose())?;
        Ok(key)
    }

    /// Forgets that key: the trade is done, and what came of it is kept.
    pub fn end_trade(&self) {
        // One that stays is used by nobody.
        let _ = std::fs::remove_file(self.0.join(TRADE_KEY_FILE));
    }

    fn file(&self, edge: &EdgeAddress) -> PathBuf {
        let host: String = edge.host.chars().map(|c| if c == ':' || c == '/' { '_' } else { c }).collect();
        self.0.join(format!("{host}_{}.pem", edge.port))
    }
}

impl ConnectConfig {
    /// Where certificates are kept, if they are to be.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used.
    pub fn identity_dir(&self) -> Result<Option<IdentityDir>, Faults> {
        let open = |path: &FolderPath| IdentityDir::open(&path.0).map_err(|error| fault("connect.state_dir", error));
        self.state_dir.as_ref().map(open).transpose()
    }

    /// Begins with what was kept for each edge.
    pub(super) fn with_kept(
        &self,
        mut tls: EdgeTls,
        edges: &[EdgeAddress],
        tunnel: &TunnelId,
    ) -> Result<EdgeTls, Faults> {
        let Some(dir) = self.identity_dir()? else { return Ok(tls) };
        for (index, edge) in edges.iter().enumerate() {
            if let Some(identity) = dir.take(edge, tunnel, UnixTime::now()) {
                tls = tls.with_kept(index, identity);
            }
        }
        Ok(tls)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

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
    fn what_was_kept_is_taken_up_by_its_owner_alone_and_while_it_is_good() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let dir = IdentityDir::open(&path).unwrap();
        let edge = EdgeAddress { host: "::1".into(), port: 7844 };
        let (tunnel, now) = ("tnl_a".parse().unwrap(), UnixTime::now());
        assert_eq!(dir.take(&edge, &tunnel, now), None);
        let made = identity("tnl_a", now);
        dir.keep(&edge, &made).unwrap();
        let file = path.join("__1_7844.pem");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        assert_eq!(dir.take(&edge, &tunnel, now), Some(made));
        assert_eq!(dir.take(&edge, &"tnl_b".parse().unwrap(), now), None);
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 3601));
        assert_eq!(dir.take(&edge, &tunnel, later), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(dir.take(&edge, &tunnel, now), None, "others could have read the key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(IdentityDir::open(&path).is_err());
    }
}
