//! Where calls that wait for approval are decided about, and where that is recorded.

use std::sync::Arc;

use crate::audit::ActionLine;
use crate::base::Clock;
use crate::control::audit::written_in_time;
use crate::engine::MonotonicClock;
use crate::policy::{Approval, ApprovalTicket, Approvals, UndecidedTicket};
use crate::serve::AuditLog;

/// The calls of a process that wait for approval, and its audit log.
#[derive(Clone)]
pub struct ApprovalDesk {
    approvals: Arc<Approvals>,
    audit: Option<AuditLog>,
}

/// Why nothing was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undecided {
    /// No call waits with this ticket.
    #[error(transparent)]
    Ticket(#[from] UndecidedTicket),
    /// The decision could not be written to the audit log.
    #[error(
        "the decision is not in force, because it cannot be written to the audit log: see the log of the process, and try again"
    )]
    Unrecorded,
}

/// What somebody decides about a call.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    /// Whether the call may be made.
    pub(super) may_call: bool,
    /// The name of whoever decides.
    pub(super) by: String,
    /// Why it is decided so, in their words.
    pub(super) reason: Option<String>,
}

impl ApprovalDesk {
    /// The desk of these calls, which records in this log.
    #[must_use]
    pub fn new(approvals: &Arc<Approvals>, audit: Option<AuditLog>) -> ApprovalDesk {
        ApprovalDesk { approvals: Arc::clone(approvals), audit }
    }

    /// The calls that wait, and those that were decided about and not made yet; the oldest first.
    pub(super) fn all(&self) -> Vec<Approval> {
        self.approvals.all(MonotonicClock.now())
    }

    /// Decides about a call, once that is recorded. Waits for the log.
    ///
    /// # Errors
    ///
    /// If nothing is decided.
    pub(super) fn decide(&self, ticket: ApprovalTicket, decision: &Decision) -> Result<Approval, Undecided> {
        let Decision { may_call, by, reason } = decision;
        let known = self.all().into_iter().find(|known| known.ticket == ticket).ok_or(UndecidedTicket::Unknown)?;
        if let Some(audit) = &self.audit
            && known.is_waiting()
        {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let ticket = ticket.to_string();
            let line = ActionLine {
                action: if *may_call { "call.approved" } else { "call.refused" },
                tunnel: None,
                subject: Some(&ticket),
                reason: Some(&format!("by {by}{why}")),
            };
            if !written_in_time(audit, audit.submit(line.body())) && audit.is_required() {
                return Err(Undecided::Unrecorded);
            }
        }
        let decided = self.approvals.decide(ticket, *may_call, by, MonotonicClock.now())?;
        tracing::info!(
            %ticket,
            by,
            may_call,
            rule = decided.call.rule,
            method = decided.call.method,
            name = decided.call.name,
            caller = decided.call.caller,
            "it was decided about a call that waited for approval"
        );
        Ok(decided)
    }
}
