//! Decides about calls that wait for approval, and records the decisions in the audit log.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::ActionLine;
use crate::base::Clock;
use crate::control::recorded::recorded;
use crate::engine::MonotonicClock;
use crate::policy::{Approval, ApprovalTicket, Approvals, UndecidedTicket};
use crate::serve::AuditLog;

/// How long a decision waits for the approvals file to be written.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

/// The calls of a process that wait for approval, and its audit log.
#[derive(Clone)]
pub struct ApprovalDesk {
    approvals: Arc<Approvals>,
    audit: Option<AuditLog>,
    /// Held from the audit line until the decision takes effect, so that both have the same order.
    deciding: Arc<tokio::sync::Mutex<()>>,
}

/// Why a decision was not made.
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
    /// The decision is in effect, but would be lost by a restart.
    #[error(
        "decided until the process ends, because the decision cannot be written to its directory: see the log of the process"
    )]
    NotKept,
}

/// A decision about a call, as an approver submits it.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    /// Whether the call may be made.
    pub(super) may_call: bool,
    /// The name of the approver.
    pub(super) by: String,
    /// The reason, in the approver's words.
    pub(super) reason: Option<String>,
}

impl ApprovalDesk {
    /// Creates a desk for these approvals that records in this log.
    #[must_use]
    pub fn new(approvals: &Arc<Approvals>, audit: Option<AuditLog>) -> ApprovalDesk {
        ApprovalDesk { approvals: Arc::clone(approvals), audit, deciding: Arc::default() }
    }

    /// The pending and the decided calls, oldest first. Calls that were made are not included.
    pub(super) fn all(&self) -> Vec<Approval> {
        self.approvals.all(MonotonicClock.now())
    }

    /// The call with this ticket, pending or decided.
    pub(super) fn find(&self, ticket: ApprovalTicket) -> Option<Approval> {
        self.approvals.find(ticket, MonotonicClock.now())
    }

    /// Decides about a call, once the audit log has recorded the decision.
    ///
    /// # Errors
    ///
    /// If the decision was not made, or would be lost by a restart.
    pub(super) async fn decide(&self, ticket: ApprovalTicket, decision: &Decision) -> Result<Approval, Undecided> {
        let Decision { may_call, by, reason } = decision;
        let _alone = self.deciding.lock().await;
        let known = self.find(ticket).ok_or(UndecidedTicket::Unknown)?;
        if !known.is_waiting() {
            return Err(UndecidedTicket::Decided.into());
        }
        let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let action = if *may_call { "call.approved" } else { "call.denied" };
        let (subject, reason) = (ticket.to_string(), format!("by {by}{why}"));
        let line = ActionLine { action, subject: Some(&subject), reason: Some(&reason), ..ActionLine::default() };
        let decided = match recorded(self.audit.as_ref(), line).await {
            true => self.approvals.decide(ticket, *may_call, by, MonotonicClock.now()).map_err(Undecided::from),
            false => Err(Undecided::Unrecorded),
        };
        let decided = decided.inspect_err(|_| self.take_back(ticket))?;
        tracing::info!(
            %ticket,
            by,
            may_call,
            rule = decided.call.rule,
            method = decided.call.method,
            name = decided.call.name,
            caller = decided.call.caller,
            "a call that waited for approval was decided"
        );
        // A decision is confirmed only once it is sure to survive a restart.
        match tokio::time::timeout(KEPT_WITHIN, self.approvals.all_kept()).await {
            Ok(true) => Ok(decided),
            _ => Err(Undecided::NotKept),
        }
    }

    /// Records in the audit log that the decision, if it was logged, is not in effect.
    fn take_back(&self, ticket: ApprovalTicket) {
        let Some(audit) = &self.audit else { return };
        let ticket = ticket.to_string();
        let reason = "nothing was decided: the time of the call was over, or the decision could not be written";
        let action = "call.decision_failed";
        audit
            .write(ActionLine { action, subject: Some(&ticket), reason: Some(reason), ..ActionLine::default() }.body());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::policy::{Asked, CountedCaller, QuotaTime, RoleSet, ToolPolicy};
    use crate::serve::AuditEntry;

    /// Approvals with one pending call.
    fn waiting() -> (Arc<Approvals>, ApprovalTicket) {
        let approvals = Arc::<Approvals>::default();
        let mut policy = ToolPolicy::parse("[[rule]]\nname = 'r'\neffect = 'approve'\ntools = ['pay']\n").unwrap();
        policy.count_in(&Arc::default(), &approvals, "a.test");
        let (asked, caller) = (Asked::tool("pay"), CountedCaller { identity: None, address: None });
        let time = QuotaTime { now: MonotonicClock.now(), unix: Duration::from_secs(1_800_000_000) };
        let decision = policy.decide(RoleSet::default(), &asked);
        let message = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
        policy.ask_approval(decision, &asked, &caller, time, (None, message)).unwrap();
        let ticket = approvals.all(MonotonicClock.now())[0].ticket;
        (approvals, ticket)
    }

    #[test]
    fn a_decision_that_cannot_be_written_takes_no_effect_and_is_logged() {
        for is_written in [true, false] {
            let (approvals, ticket) = waiting();
            let (log, entries) = AuditLog::new(true);
            let desk = ApprovalDesk::new(&approvals, Some(log.clone()));
            let writer = thread::spawn(move || {
                let (mut bodies, mut taken) = (Vec::new(), Vec::new());
                loop {
                    entries.take(&mut taken, Duration::from_secs(60));
                    for entry in taken.drain(..) {
                        let AuditEntry::Line { body, written } = entry else { return bodies };
                        bodies.push(String::from_utf8(body).unwrap());
                        if let Some(written) = written.filter(|_| is_written) {
                            let _ = written.send(());
                        }
                    }
                }
            });
            let decision = Decision { may_call: true, by: "bob".to_owned(), reason: None };
            let decide = || async { desk.decide(ticket, &decision).await.map(drop) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (decided, again) = runtime.block_on(async { (decide().await, decide().await) });
            assert!(log.close());
            let bodies = writer.join().unwrap();
            let count = |action: &str| bodies.iter().filter(|body| body.contains(action)).count();
            if is_written {
                assert_eq!((decided, again), (Ok(()), Err(Undecided::Ticket(UndecidedTicket::Decided))));
                assert_eq!((count("call.approved"), count("call.decision_failed")), (1, 0));
            } else {
                assert_eq!((decided, again), (Err(Undecided::Unrecorded), Err(Undecided::Unrecorded)));
                assert!(approvals.all(MonotonicClock.now())[0].is_waiting());
                assert_eq!((count("call.approved"), count("call.decision_failed")), (2, 2));
            }
        }
    }
}
