use std::path::Path;
use std::time::{Duration, Instant};

use crate::audit::{Ed25519PublicKey, Verified, Verifier};
use crate::control::audit::dir::{HEAD, PUBLIC_KEY};
use crate::control::audit::error::AuditError;
use crate::control::audit::reading::AuditFile;

/// For how long a check is begun again because a process moved files under it.
const RESTARTED_FOR: Duration = Duration::from_secs(30);

/// Checks the log in a directory by this key, or by the one that lies beside it. A process may write the log meanwhile.
///
/// # Errors
///
/// When there is no log, or a file of it cannot be read.
pub fn verify(dir: &Path, key: Option<Ed25519PublicKey>) -> Result<Verified, AuditError> {
    let began = Instant::now();
    loop {
        let before = AuditFile::list(dir).map_err(AuditError::io(dir))?;
        let found = check(dir, key);
        let is_sound = found.as_ref().is_ok_and(|found| found.faults_count == 0);
        if is_sound || !is_moved(dir, &before) || began.elapsed() >= RESTARTED_FOR {
            return found;
        }
    }
}

/// Whether files were removed, or more than added at the end, since they were listed.
fn is_moved(dir: &Path, files: &[AuditFile]) -> bool {
    AuditFile::list(dir).is_ok_and(|now| {
        let now = now.iter().map(|file| file.first);
        !now.take(files.len()).eq(files.iter().map(|file| file.first))
    })
}

fn check(dir: &Path, key: Option<Ed25519PublicKey>) -> Result<Verified, AuditError> {
    // Read before the files are listed: a process that writes meanwhile only adds lines behind it.
    let head = std::fs::read(dir.join(HEAD)).ok();
    let files = AuditFile::list(dir).map_err(AuditError::io(dir))?;
    let named = dir.join(PUBLIC_KEY);
    let beside = || std::fs::read_to_string(&named).ok().and_then(|text| Ed25519PublicKey::parse(&text));
    let key = key.or_else(beside).ok_or_else(|| AuditError::NoLog { path: dir.to_path_buf() })?;
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
