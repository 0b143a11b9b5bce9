//! The results that tell a caller of its call that waits for approval, as a task of MCP.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::{ApprovalTask, ApprovalTaskReply};

/// After which time a client should ask again.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The result as JSON. `error` is that with which a task ends: nothing of its call was made.
pub(super) fn approval_task_result(task: &ApprovalTask, error: Value) -> Value {
    let (result_type, status) = match task.reply {
        ApprovalTaskReply::Acknowledged => return json!({"resultType": "complete"}),
        ApprovalTaskReply::Created => ("task", "working"),
        ApprovalTaskReply::Works => ("complete", "working"),
        ApprovalTaskReply::Ended => ("complete", "failed"),
    };
    let created = at(task.created);
    let mut result = json!({
        "resultType": result_type,
        "taskId": task.ticket.to_string(),
        "status": status,
        "createdAt": created,
        "lastUpdatedAt": created,
        "ttlMs": millis(task.lasts),
        "pollIntervalMs": millis(POLL_EVERY),
    });
    match task.reply {
        ApprovalTaskReply::Ended => result["error"] = error,
        _ => result["statusMessage"] = "the call waits until somebody approves it".into(),
    }
    result
}

fn at(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
