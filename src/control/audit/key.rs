use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;

use crate::audit::CheckpointKey;
use crate::control::audit::error::AuditError;
use crate::private::{self, PrivateError};

/// The longest key file, in bytes.
const KEY_LEN_MAX: usize = 1024;

/// Reads the key from this file, which is created if it does not exist.
pub(super) fn load_or_make(path: &Path) -> Result<CheckpointKey, AuditError> {
    if !path.try_exists().map_err(AuditError::io(path))? {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| AuditError::NoRandom)?;
        private::write(path, document.as_ref())?;
    }
    let document = private::read(path, KEY_LEN_MAX).map_err(|error: PrivateError| AuditError::from(error))?;
    CheckpointKey::of_pkcs8(&document).ok_or_else(|| AuditError::NoKey { path: path.to_path_buf() })
}
