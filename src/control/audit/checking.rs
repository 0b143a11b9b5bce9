use std::path::Path;
use std::time::{Duration, Instant};

use crate::audit::{Ed25519PublicKey, Verified, Verifier};
use crate::control::audit::dir::{HEAD, PUBLIC_KEY};
use crate::control::audit::error::AuditError;
use crate::control::audit::reading::AuditFile;

/// How long a verification is restarted because a process moves files during it.
const RESTARTED_FOR: Duration = Duration::from_secs(30);

/// Verifies the log in a directory with this key, or with the public key beside it. A process may write to the log at
/// the same time. `progress` is told how many files of how many are read.
///
/// # Errors
///
/// If there is no log, or one of its files cannot be read.
pub fn verify(
    dir: &Path,
    key: Option<Ed25519PublicKey>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Verified, AuditError> {
    let began = Instant::now();
    loop {
        let before = AuditFile::list(dir).map_err(AuditError::io(dir))?;
        let found = check(dir, key, progress);
        let is_sound = found.as_ref().is_ok_and(|found| found.faults_count == 0);
        if is_sound || !is_moved(dir, &before) || began.elapsed() >= RESTARTED_FOR {
            return found;
        }
    }
}

/// Whether files were removed, or otherwise changed except for additions at the end, since they were listed.
fn is_moved(dir: &Path, files: &[AuditFile]) -> bool {
    AuditFile::list(dir).is_ok_and(|now| {
        let now = now.iter().map(|file| file.first);
        !now.take(files.len()).eq(files.iter().map(|file| file.first))
    })
}

fn check(
    dir: &Path,
    key: Option<Ed25519PublicKey>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Verified, AuditError> {
    // Read before the files are listed, because a process that is writing only adds lines behind this checkpoint.
    let head = std::fs::read(dir.join(HEAD)).ok();
    let files = AuditFile::list(dir).map_err(AuditError::io(dir))?;
    let named = dir.join(PUBLIC_KEY);
    let beside = || std::fs::read_to_string(&named).ok().and_then(|text| Ed25519PublicKey::parse(&text));
    let key = key.or_else(beside).ok_or_else(|| AuditError::NoLog { path: dir.to_path_buf() })?;
    let mut verifier = Verifier::new(key, head.as_deref());
    for (at, file) in files.iter().enumerate() {
        progress(at, files.len());
        verifier.begin_file(&file.name());
        let mut lines = file.lines().map_err(AuditError::io(&file.path))?;
        while let Some((line, is_whole)) = lines.next_line().map_err(AuditError::io(&file.path))? {
            if is_whole { verifier.line(line) } else { verifier.incomplete() }
        }
    }
    Ok(verifier.finish())
}
