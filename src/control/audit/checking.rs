use std::path::Path;

use crate::audit::{Ed25519PublicKey, Verified, Verifier};
use crate::control::audit::dir::{HEAD, PUBLIC_KEY};
use crate::control::audit::error::AuditError;
use crate::control::audit::reading::AuditFile;

/// Checks the log in a directory by this key, or by the one that lies beside it.
///
/// # Errors
///
/// When there is no log, or a file of it cannot be read.
pub fn verify(dir: &Path, key: Option<Ed25519PublicKey>) -> Result<Verified, AuditError> {
    let files = AuditFile::list(dir).map_err(AuditError::io(dir))?;
    let named = dir.join(PUBLIC_KEY);
    let beside = || std::fs::read_to_string(&named).ok().and_then(|text| Ed25519PublicKey::parse(&text));
    let key = key.or_else(beside).ok_or_else(|| AuditError::NoLog { path: dir.to_path_buf() })?;
    // Read first: a process that writes meanwhile only adds lines behind it.
    let head = std::fs::read(dir.join(HEAD)).ok();
    let mut verifier = Verifier::new(key, head.as_deref());
    for file in &files {
        verifier.begin_file(&file.name());
        let mut lines = file.lines().map_err(AuditError::io(&file.path))?;
        while let Some((line, is_whole)) = lines.next_line().map_err(AuditError::io(&file.path))? {
            if is_whole { verifier.line(line) } else { verifier.incomplete() }
        }
    }
    Ok(verifier.finish())
}
