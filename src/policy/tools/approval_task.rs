//! A call that waits for approval, as a task of MCP (the extension `io.modelcontextprotocol/tasks` of revision 2026-07-28).

use std::time::Duration;

use crate::policy::tools::approval_ticket::ApprovalTicket;
use crate::policy::tools::approvals::{Approval, ApprovalState};
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, Denial, ToolDecision};
use crate::policy::tools::json_text::Value;
use crate::policy::tools::quotas::{CountedCaller, QuotaKey, QuotaTime};
use crate::policy::tools::tool_policy::ToolPolicy;

/// Where the capabilities of a client name the extension, in its requests.
const CAPABILITY: [&str; 5] =
    ["params", "_meta", "io.modelcontextprotocol/clientCapabilities", "extensions", "io.modelcontextprotocol/tasks"];

/// A task, as its caller is told of it. Its id is the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalTask {
    /// The ticket of the call, which identifies the task.
    pub ticket: ApprovalTicket,
    /// When approval was first requested, since 1970.
    pub created: Duration,
    /// How long after that the task is forgotten.
    pub lasts: Duration,
    /// What is asked of the task.
    pub reply: ApprovalTaskReply,
}

/// What a caller is told of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalTaskReply {
    /// That it was created, in place of the result of the call.
    Created,
    /// That nobody has decided yet.
    Works,
    /// How it has ended.
    Ended,
    /// That a request about it was received.
    Acknowledged,
}

impl ApprovalTask {
    /// The task of this call, and what is told of it in place of another answer.
    fn of(call: &Approval, method: &str, time: QuotaTime) -> (ApprovalTask, CeilingReached) {
        let ticket = call.ticket;
        let (ended, reached) = match call.state {
            ApprovalState::Waits => (false, CeilingReached::ApprovalWaits(ticket)),
            ApprovalState::Denied { .. } => (true, CeilingReached::ApprovalDenied(ticket)),
            ApprovalState::Approved { .. } => (true, CeilingReached::ApprovalGiven(ticket)),
        };
        let reply = match method {
            "tools/call" => ApprovalTaskReply::Created,
            "tasks/get" if ended => ApprovalTaskReply::Ended,
            "tasks/get" => ApprovalTaskReply::Works,
            _ => ApprovalTaskReply::Acknowledged,
        };
        let lasts = time.unix.saturating_sub(call.asked) + (call.ends - time.now);
        (ApprovalTask { ticket, created: call.asked, lasts, reply }, reached)
    }
}

impl ToolPolicy {
    /// The task in which a whole request waits for approval, if its client can handle tasks.
    #[must_use]
    pub fn task_of_call(
        &self,
        decision: &ToolDecision,
        asked: &Asked<'_>,
        message: &[u8],
        caller: &CountedCaller<'_>,
        time: QuotaTime,
    ) -> Option<ApprovalTask> {
        let ToolDecision::Denied { how: Denial::Ceiling(CeilingReached::ApprovalWaits(ticket)), .. } = decision else {
            return None;
        };
        // No other method has tasks.
        if asked.method != "tools/call" || !takes_tasks(message) {
            return None;
        }
        Some(ApprovalTask::of(&self.approval_of(*ticket, caller, time)?, asked.method, time).0)
    }

    /// Answers a request about the task of a call that waits for approval, or was decided. Only its caller is told of it.
    #[must_use]
    pub fn answer_task(
        &self,
        method: &str,
        ticket: ApprovalTicket,
        caller: &CountedCaller<'_>,
        time: QuotaTime,
    ) -> (ToolDecision, Option<ApprovalTask>) {
        let found = self.approval_of(ticket, caller, time).map(|call| ApprovalTask::of(&call, method, time));
        let (task, reached) = found.map_or((None, CeilingReached::ApprovalUnknown), |(task, how)| (Some(task), how));
        (ToolDecision::Denied { rule: None, how: Denial::Ceiling(reached) }, task)
    }

    fn approval_of(&self, ticket: ApprovalTicket, caller: &CountedCaller<'_>, time: QuotaTime) -> Option<Approval> {
        let key = QuotaKey::of(&self.place, "", caller, "");
        self.approvals.find(ticket, time.now).filter(|call| call.asker.key == key)
    }
}

/// Whether the client that sent this whole request can handle tasks.
fn takes_tasks(message: &[u8]) -> bool {
    let Ok(message) = Value::of(message) else { return false };
    let named = CAPABILITY.iter().try_fold(message, |value, name| Some(value.member(name).ok()??.value));
    named.is_some_and(|settings| settings.bytes().first() == Some(&b'{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_must_declare_the_tasks_extension() {
        let takes = |capabilities: &str| {
            let meta = format!(r#"{{"io.modelcontextprotocol/clientCapabilities":{capabilities}}}"#);
            takes_tasks(format!(r#"{{"method":"tools/call","params":{{"name":"a","_meta":{meta}}}}}"#).as_bytes())
        };
        assert!(takes(r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#));
        for capabilities in [
            "{}",
            "null",
            r#"{"extensions":{}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/tasks":null}}"#,
            r#"{"io.modelcontextprotocol/tasks":{}}"#,
        ] {
            assert!(!takes(capabilities), "{capabilities}");
        }
        assert!(!takes_tasks(b"{") && !takes_tasks(b"[]"));
    }
}
