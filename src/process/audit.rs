//! The audit log of a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{AuditMode, AuditSync, Config};
use crate::control::INVENTORY_FILE;
use crate::control::audit::{AuditWriter, AuditWriterSettings};
use crate::process::error::RunError;
use crate::serve::AuditLog;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The directory of the log, below the role's directory.
const DIR: &str = "audit";
/// The key that signs the log.
const KEY_FILE: &str = "audit.key";

/// Opens the audit log and starts its thread, if the configuration asks for one.
///
/// # Errors
///
/// If there is no directory for the log, or the log cannot be written.
pub(super) fn start_audit(config: &Config) -> Result<Option<AuditWriter>, RunError> {
    let audit = &config.audit;
    let is_required = match audit.mode {
        AuditMode::Off => return Ok(None),
        AuditMode::BestEffort => false,
        AuditMode::Required => true,
    };
    let home = home(config);
    let Some(dir) = audit_dir(config) else {
        let why = "audit.mode needs a directory for the log: set audit.dir, edge.data_dir or connect.state_dir";
        return Err(RunError::Other(why.to_owned()));
    };
    let settings = AuditWriterSettings {
        key_file: home.unwrap_or(&dir).join(KEY_FILE),
        dir,
        is_required,
        is_synced: audit.sync == AuditSync::Data,
        arguments_len_max: usize::try_from(audit.arguments_max_bytes.0).unwrap_or_default(),
        file_len_max: audit.file_max_bytes.0,
        compress: audit.compress,
        keep_age: DAY * audit.keep_days,
        keep_len_max: audit.keep_max_bytes.0,
    };
    let dir = settings.dir.clone();
    let writer = AuditWriter::start(settings, env!("CARGO_PKG_VERSION"))?;
    tracing::info!(dir = %dir.display(), mode = audit.mode.as_str(), "the audit log is open");
    Ok(Some(writer))
}

/// The directory of the log, if the configuration names one, whether there is a log or not.
#[must_use]
pub fn audit_dir(config: &Config) -> Option<PathBuf> {
    config.audit.dir.as_ref().map(|dir| dir.0.clone()).or_else(|| Some(home(config)?.join(DIR)))
}

/// The directory of the log that a process with this configuration writes; `None` if it writes none.
pub(super) fn open_audit_dir(config: &Config) -> Option<PathBuf> {
    audit_dir(config).filter(|_| config.audit.mode != AuditMode::Off)
}

/// The file with what is known of tools, if the configuration names a directory for it, whether there is a file or not.
#[must_use]
pub fn inventory_file(config: &Config) -> Option<PathBuf> {
    Some(home(config)?.join(INVENTORY_FILE))
}

/// The sending end of a log, which the roles hold.
pub(super) fn log_of(writer: Option<&AuditWriter>) -> Option<AuditLog> {
    writer.map(AuditWriter::log)
}

/// The directory of the role, which holds its keys.
fn home(config: &Config) -> Option<&Path> {
    let of_edge = config.edge.as_ref().and_then(|edge| edge.data_dir.as_ref());
    let of_connector = config.connect.as_ref().and_then(|connect| connect.state_dir.as_ref());
    of_edge.or(of_connector).map(|dir| PathBuf::as_path(&dir.0))
}
