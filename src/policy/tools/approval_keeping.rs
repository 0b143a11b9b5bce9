//! Persistence of approvals: which changes are in the file, who waits for a write, and the format of a record.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{hex, unhex};
use crate::policy::tools::approval_ticket::ApprovalTerms;
use crate::policy::tools::approvals::{APPROVALS_MAX, Approval, ApprovalCall, ApprovalState, Approvals, Asker};
use crate::policy::tools::quotas::QuotaTime;

/// Which changes of the approvals are in the file.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Whether approvals are kept in a file.
    has_file: bool,
    /// The number of changes so far.
    changes: u64,
    /// The last change that a task waits for.
    wanted: u64,
    /// The last change that is in the file.
    kept: u64,
    /// The last change whose write has failed.
    failed: u64,
    waiting: Vec<Waker>,
}

/// An approval that a call has used up. The call may be made once the use is [kept](UsedApproval::kept); otherwise it could be
/// made a second time after a restart.
#[derive(Debug)]
pub struct UsedApproval {
    approvals: Arc<Approvals>,
    approval: Approval,
    change: u64,
}

/// The stored form of an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    ticket: String,
    host: String,
    rule: String,
    caller: String,
    method: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argument_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argument_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arguments: Option<String>,
    state: KeptState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// In milliseconds since 1970.
    asked_ms: u64,
    ends_ms: u64,
    decide_within_ms: u64,
    use_within_ms: u64,
    /// The caller at this host, and whether it has an identity.
    asker: String,
    is_proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptState {
    Waiting,
    Approved,
    Denied,
}

impl Keeping {
    /// Counts a change. Returns its number if the caller must wait until the change is written.
    pub(super) fn changed(&mut self, is_waited_for: bool) -> Option<u64> {
        self.changes += 1;
        if !self.has_file || !is_waited_for {
            return None;
        }
        self.wanted = self.changes;
        // The task that writes the file is among the waiters.
        self.wake();
        Some(self.changes)
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Approvals {
    /// Enables the file. From now on a task must write [the unwritten changes](Approvals::unwritten).
    pub fn keep_in_file(&self) {
        self.lock().keeping.has_file = true;
    }

    /// The number of changes so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().keeping.changes
    }

    /// Waits until a task waits for a change to be written.
    pub fn wanted(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let keeping = &mut self.lock().keeping;
            if keeping.wanted > keeping.kept { Poll::Ready(()) } else { keeping.wait(cx) }
        })
    }

    /// Waits until all changes so far are in the file, if there is one. Returns false if they could not be written.
    pub fn all_kept(&self) -> impl Future<Output = bool> {
        let change = {
            let keeping = &mut self.lock().keeping;
            keeping.wanted = keeping.changes;
            keeping.wake();
            keeping.changes
        };
        self.kept(change)
    }

    fn kept(&self, change: u64) -> impl Future<Output = bool> {
        poll_fn(move |cx| {
            let keeping = &mut self.lock().keeping;
            match keeping {
                keeping if !keeping.has_file || keeping.kept >= change => Poll::Ready(true),
                keeping if keeping.failed >= change => Poll::Ready(false),
                keeping => keeping.wait(cx),
            }
        })
    }

    /// The number of the last change, and all records to write; `None` if the file is up to date.
    #[must_use]
    pub fn unwritten(&self, time: QuotaTime) -> Option<(u64, Vec<ApprovalRecord>)> {
        let table = self.lock();
        let keeping = &table.keeping;
        if keeping.kept == keeping.changes {
            return None;
        }
        let in_time = table.all.values().filter(|known| known.ends > time.now);
        Some((keeping.changes, in_time.map(|known| ApprovalRecord::of(known, time)).collect()))
    }

    /// Reports whether the changes up to this one were written.
    pub fn on_written(&self, change: u64, is_written: bool) {
        let keeping = &mut self.lock().keeping;
        let reached = if is_written { &mut keeping.kept } else { &mut keeping.failed };
        *reached = change.max(*reached);
        keeping.wake();
    }

    /// Restores the records that have not expired.
    ///
    /// # Errors
    ///
    /// The index of the first invalid record. Nothing is restored then.
    pub fn restore(&self, records: &[ApprovalRecord], time: QuotaTime) -> Result<(), usize> {
        let read = |(at, record): (usize, &ApprovalRecord)| record.read(time).ok_or(at);
        let all = records.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let in_time = all.into_iter().filter(|known| known.ends > time.now).take(APPROVALS_MAX);
        self.lock().all.extend(in_time.map(|known| (known.ticket, known)));
        Ok(())
    }
}

impl UsedApproval {
    pub(super) fn new(approvals: &Arc<Approvals>, approval: Approval, change: u64) -> UsedApproval {
        UsedApproval { approvals: Arc::clone(approvals), approval, change }
    }

    /// Waits until the use of the approval is in the file. Returns false if it cannot be written.
    pub fn kept(&self) -> impl Future<Output = bool> {
        self.approvals.kept(self.change)
    }

    /// Gives the approval back, if the call is not made after all.
    pub fn put_back(self) {
        let mut table = self.approvals.lock();
        table.all.insert(self.approval.ticket, self.approval);
        table.keeping.changed(false);
    }
}

impl ApprovalRecord {
    fn of(known: &Approval, time: QuotaTime) -> ApprovalRecord {
        let (state, by) = match &known.state {
            ApprovalState::Waits => (KeptState::Waiting, None),
            ApprovalState::Approved { by } => (KeptState::Approved, Some(by.clone())),
            ApprovalState::Denied { by } => (KeptState::Denied, Some(by.clone())),
        };
        let call = known.call.clone();
        ApprovalRecord {
            ticket: known.ticket.to_string(),
            host: call.place,
            rule: call.rule,
            caller: call.caller,
            method: call.method,
            name: call.name,
            argument_bytes: call.arguments.map(|(len, _)| len),
            argument_sha256: call.arguments.map(|(_, hash)| hex(&hash)),
            arguments: call.shown,
            state,
            by,
            asked_ms: ms(known.asked),
            ends_ms: ms(time.unix + (known.ends - time.now)),
            decide_within_ms: ms(known.terms.decide_within),
            use_within_ms: ms(known.terms.use_within),
            asker: known.asker.key.to_string(),
            is_proven: known.asker.is_proven,
        }
    }

    fn read(&self, time: QuotaTime) -> Option<Approval> {
        let by = || self.by.clone();
        let terms = ApprovalTerms {
            decide_within: Duration::from_millis(self.decide_within_ms),
            use_within: Duration::from_millis(self.use_within_ms),
        };
        let (state, longest) = match self.state {
            KeptState::Waiting => (ApprovalState::Waits, terms.decide_within),
            KeptState::Approved => (ApprovalState::Approved { by: by()? }, terms.use_within),
            KeptState::Denied => (ApprovalState::Denied { by: by()? }, terms.decide_within),
        };
        // A clock that was set back does not extend the time that the rule sets.
        let left = Duration::from_millis(self.ends_ms).saturating_sub(time.unix).min(longest);
        let arguments = match (self.argument_bytes, &self.argument_sha256) {
            (Some(len), Some(hash)) => Some((len, unhex(hash.as_bytes())?)),
            (None, None) => None,
            _ => return None,
        };
        Some(Approval {
            ticket: self.ticket.parse().ok()?,
            call: ApprovalCall {
                place: self.host.clone(),
                rule: self.rule.clone(),
                caller: self.caller.clone(),
                method: self.method.clone(),
                name: self.name.clone(),
                arguments,
                shown: self.arguments.clone(),
            },
            state,
            asked: Duration::from_millis(self.asked_ms),
            ends: time.now + left,
            terms,
            asker: Asker { key: self.asker.parse().ok()?, is_proven: self.is_proven },
        })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::base::Time;
    use crate::policy::tools::approval_ticket::ApprovalTicket;
    use crate::policy::tools::approvals::Asking;
    use crate::policy::tools::quotas::{CountedCaller, QuotaKey};

    const TERMS: ApprovalTerms =
        ApprovalTerms { decide_within: Duration::from_secs(60), use_within: Duration::from_secs(10) };

    /// Each process has its own monotonic clock; the wall clock is shared.
    fn at(now: u64, unix: u64) -> QuotaTime {
        QuotaTime { now: Time::ZERO + Duration::from_secs(now), unix: Duration::from_secs(1_800_000_000 + unix) }
    }

    fn ask(approvals: &Approvals, tool: &str, time: QuotaTime) -> (Asking, ApprovalTicket) {
        let key = QuotaKey::of("a.test", "r", &CountedCaller { identity: None, address: None }, tool);
        let ticket = ApprovalTicket::of(&key, "tools/call", Some((2, [7; 32])));
        let call = || ApprovalCall {
            name: tool.to_owned(),
            arguments: Some((2, [7; 32])),
            shown: Some("{}".to_owned()),
            ..ApprovalCall::default()
        };
        (approvals.ask(call, (ticket, Asker { key, is_proven: true }), TERMS, time), ticket)
    }

    fn again(approvals: &Approvals, before: QuotaTime, after: QuotaTime) -> Arc<Approvals> {
        let (_, records) = approvals.unwritten(before).expect("something has changed");
        let text = serde_json::to_string(&records).unwrap();
        let next = Arc::<Approvals>::default();
        next.restore(&serde_json::from_str::<Vec<_>>(&text).unwrap(), after).unwrap();
        next
    }

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn pending_and_decided_approvals_survive_a_restart_until_they_expire() {
        let approvals = Approvals::default();
        let tickets = ["waits", "approved", "denied"].map(|tool| ask(&approvals, tool, at(100, 0)).1);
        approvals.decide(tickets[1], true, "bob", at(101, 1).now).unwrap();
        approvals.decide(tickets[2], false, "bob", at(101, 1).now).unwrap();
        let next = again(&approvals, at(102, 2), at(5, 4));
        assert_eq!(next.all(at(5, 4).now).len(), 3);
        let kept = |tool| ask(&next, tool, at(5, 4)).0;
        assert_eq!(kept("waits"), Asking::Waits(tickets[0]));
        assert_eq!(kept("approved"), Asking::Approved(tickets[1]));
        assert_eq!(kept("denied"), Asking::Denied(tickets[2]));
        let listed =
            |all: &Approvals, now| -> Vec<ApprovalCall> { all.all(now).into_iter().map(|one| one.call).collect() };
        assert_eq!(listed(&next, at(5, 4).now), listed(&approvals, at(102, 2).now));
        // The approval expires ten seconds after it was given, three of which have passed, whatever the monotonic clock.
        assert!(next.use_up(tickets[1], at(12, 11).now).is_none() && next.use_up(tickets[1], at(11, 10).now).is_some());
        // A clock that was set back does not extend it.
        let back = again(&approvals, at(102, 2), QuotaTime { now: Time::ZERO, unix: Duration::from_secs(1) });
        assert!(back.use_up(tickets[1], at(10, 0).now).is_none());
        let late = again(&approvals, at(102, 2), at(0, 60));
        assert_eq!(late.all(Time::ZERO).iter().map(|one| one.ticket).collect::<Vec<_>>(), [tickets[2]]);
    }

    #[test]
    fn a_call_that_was_approved_is_made_once_it_is_kept_that_it_was() {
        let approvals = Arc::<Approvals>::default();
        approvals.keep_in_file();
        let (_, ticket) = ask(&approvals, "a", at(0, 0));
        assert!(poll(approvals.wanted()).is_pending(), "what only waits need not be written at once");
        approvals.decide(ticket, true, "bob", at(0, 0).now).unwrap();
        assert!(poll(approvals.wanted()).is_ready() && poll(approvals.all_kept()).is_pending());
        let (change, _) = approvals.unwritten(at(0, 0)).unwrap();
        approvals.on_written(change, true);
        assert!(poll(approvals.all_kept()) == Poll::Ready(true) && approvals.unwritten(at(0, 0)).is_none());

        let (approval, change) = approvals.use_up(ticket, at(1, 1).now).unwrap();
        let used = UsedApproval::new(&approvals, approval, change.expect("there is a file"));
        assert!(poll(used.kept()).is_pending());
        assert!(
            approvals.unwritten(at(1, 1)).unwrap().1.is_empty(),
            "it is gone from the file before the call is made"
        );
        approvals.on_written(change.unwrap(), false);
        assert_eq!(poll(used.kept()), Poll::Ready(false));
        used.put_back();
        assert_eq!(ask(&approvals, "a", at(2, 2)).0, Asking::Approved(ticket), "the call was not made");
        let (approval, change) = approvals.use_up(ticket, at(2, 2).now).unwrap();
        let used = UsedApproval::new(&approvals, approval, change.unwrap());
        approvals.on_written(change.unwrap(), true);
        assert_eq!(poll(used.kept()), Poll::Ready(true));
    }

    #[test]
    fn a_file_that_holds_something_else_is_not_taken_over() {
        let approvals = Approvals::default();
        ask(&approvals, "a", at(0, 0));
        let good = approvals.unwritten(at(0, 0)).unwrap().1.remove(0);
        for wrong in [
            ApprovalRecord { ticket: "apr_x".into(), ..good.clone() },
            ApprovalRecord { state: KeptState::Approved, by: None, ..good.clone() },
            ApprovalRecord { argument_sha256: None, ..good.clone() },
            ApprovalRecord { asker: "é".into(), ..good.clone() },
        ] {
            let next = Approvals::default();
            assert_eq!(next.restore(&[good.clone(), wrong], at(0, 0)), Err(1));
            assert!(next.all(Time::ZERO).is_empty());
        }
        let far = ApprovalRecord { ends_ms: u64::MAX, decide_within_ms: u64::MAX, ..good };
        assert_eq!(Approvals::default().restore(&[far], at(0, 0)), Ok(()));
    }
}
