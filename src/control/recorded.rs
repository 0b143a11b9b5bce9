use crate::audit::ActionLine;
use crate::serve::{AUDIT_WAIT_MAX, AuditLog};

/// Writes an action to the audit log, and waits for it. Returns false if the log is required and the line was not
/// written in time; it may still be written later.
pub(super) async fn recorded(audit: Option<&AuditLog>, line: ActionLine<'_>) -> bool {
    let Some(audit) = audit else { return true };
    let receipt = audit.submit(line.body());
    let written = tokio::time::timeout(AUDIT_WAIT_MAX, receipt.written()).await;
    written.unwrap_or_else(|_| {
        audit.on_late();
        false
    })
}
