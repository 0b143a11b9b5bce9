//! The keys in the data directory by which an edge signs the identities that it forwards.

use zeroize::Zeroizing;

use crate::control::data_dir::{DataDir, DataDirError};
use crate::identity::{FORWARDING_KEYS_LEN_MAX, ForwardingKeys, IDENTITY_SEED_LEN};
use crate::private;

/// The lock that is held while the keys are changed. The edge itself holds another one while it runs.
const LOCK: &str = "identity.keys.lock";

impl DataDir {
    /// Reads the keys. They are created if there are none.
    ///
    /// # Errors
    ///
    /// If they cannot be read or created, or the directory is not that of an edge.
    pub fn identity_keys(&self) -> Result<ForwardingKeys, DataDirError> {
        if self.identity_keys_file().exists() {
            return self.read_identity_keys();
        }
        self.change_identity_keys(|known| match known {
            Some(known) => Ok(known),
            None => Ok(ForwardingKeys::new(seed()?, seed()?)),
        })
    }

    /// Puts the next key in place of the one that signs, and a new one after it. A running edge notices that the file has changed.
    ///
    /// # Errors
    ///
    /// As for [`DataDir::identity_keys`].
    pub fn rotate_identity_keys(&self) -> Result<ForwardingKeys, DataDirError> {
        self.change_identity_keys(|known| match known {
            Some(known) => Ok(known.rotated(seed()?)),
            None => Ok(ForwardingKeys::new(seed()?, seed()?)),
        })
    }

    fn change_identity_keys(
        &self,
        change: impl FnOnce(Option<ForwardingKeys>) -> Result<ForwardingKeys, DataDirError>,
    ) -> Result<ForwardingKeys, DataDirError> {
        if !self.ca_cert().exists() {
            return Err(DataDirError::NotMade { path: self.path().to_path_buf() });
        }
        private::folder(self.path())?;
        let path = self.identity_keys_file();
        let _lock = self.try_lock(LOCK)?.ok_or_else(|| DataDirError::IdentityKeysInUse { path: path.clone() })?;
        let known = if path.exists() { Some(self.read_identity_keys()?) } else { None };
        let keys = change(known)?;
        private::write(&path, keys.text().as_bytes())?;
        Ok(keys)
    }

    fn read_identity_keys(&self) -> Result<ForwardingKeys, DataDirError> {
        let path = self.identity_keys_file();
        let text = private::read(&path, FORWARDING_KEYS_LEN_MAX)?;
        ForwardingKeys::parse(&text).map_err(|why| DataDirError::IdentityKeys { path, why })
    }
}

fn seed() -> Result<[u8; IDENTITY_SEED_LEN], DataDirError> {
    let mut seed = Zeroizing::new([0; IDENTITY_SEED_LEN]);
    aws_lc_rs::rand::fill(seed.as_mut()).map_err(|_| DataDirError::NoRandom)?;
    Ok(*seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls_pki_types::UnixTime;

    use super::*;

    #[test]
    fn keys_are_made_once_survive_and_are_private() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::new(parent.path().join("data"));
        assert!(matches!(dir.identity_keys(), Err(DataDirError::NotMade { .. })), "a wrong path gets no keys");
        dir.init(&["edge.test".to_owned()], UnixTime::now()).unwrap();
        let first = dir.identity_keys().unwrap();
        assert!(first == dir.identity_keys().unwrap());
        let mode = std::fs::metadata(dir.identity_keys_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let rotated = dir.rotate_identity_keys().unwrap();
        assert!(rotated == dir.identity_keys().unwrap() && rotated != first);
        assert_eq!(rotated.public_keys()[0], first.public_keys()[1], "connectors have known it already");
        let lock = dir.try_lock(LOCK).unwrap().unwrap();
        assert!(matches!(dir.rotate_identity_keys(), Err(DataDirError::IdentityKeysInUse { .. })));
        assert!(dir.identity_keys().unwrap() == rotated, "reading needs no lock");
        drop(lock);
        std::fs::set_permissions(dir.identity_keys_file(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(dir.identity_keys(), Err(DataDirError::Private(_))));
        private::write(&dir.identity_keys_file(), b"current 00").unwrap();
        let error = dir.identity_keys().unwrap_err().to_string();
        assert!(error.contains("identity.keys") && error.contains("identity-keys"), "{error}");
    }
}
