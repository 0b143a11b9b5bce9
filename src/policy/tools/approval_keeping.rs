//! Approvals over a restart: what of them is in a file, who waits for that, and what the file says.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{hex, unhex};
use crate::policy::tools::approvals::{
    APPROVALS_MAX, Approval, ApprovalCall, ApprovalState, ApprovalTerms, Approvals, Asker,
};
use crate::policy::tools::quotas::QuotaTime;

/// Which changes of the approvals are in a file.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Whether there is a file.
    has_file: bool,
    /// How many changes there were.
    changes: u64,
    /// Up to which of them somebody waits.
    wanted: u64,
    /// Up to which they are in the file.
    kept: u64,
    /// Up to which it was tried in vain.
    failed: u64,
    waiting: Vec<Waker>,
}

/// An approval that a call has used up. The call may be made once that is [kept](UsedApproval::kept): otherwise it could be made a
/// second time after a restart.
#[derive(Debug)]
pub struct UsedApproval {
    approvals: Arc<Approvals>,
    approval: Approval,
    change: u64,
}

/// A call that waits or was decided about, as it is kept in a file.
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
    /// Something has changed. Returns which change it is, if somebody has to wait until it is kept.
    pub(super) fn changed(&mut self, is_waited_for: bool) -> Option<u64> {
        self.changes += 1;
        if !self.has_file || !is_waited_for {
            return None;
        }
        self.wanted = self.changes;
        // Who writes the file is among them.
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
    /// Says that changes are written to a file from now on, by whoever asks for [what to write](Approvals::unwritten).
    pub fn keep_in_file(&self) {
        self.lock().keeping.has_file = true;
    }

    /// Waits until somebody waits for a change to be written.
    pub fn wanted(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let keeping = &mut self.lock().keeping;
            if keeping.wanted > keeping.kept { Poll::Ready(()) } else { keeping.wait(cx) }
        })
    }

    /// Waits until all that was changed so far is in the file, if there is one. False if it could not be written.
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

    /// What has to be written, if the file lacks any change, and which change is the last one in it.
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

    /// Says whether the file was written, up to this change.
    pub fn on_written(&self, change: u64, is_written: bool) {
        let keeping = &mut self.lock().keeping;
        let reached = if is_written { &mut keeping.kept } else { &mut keeping.failed };
        *reached = change.max(*reached);
        keeping.wake();
    }

    /// Takes over what a file says, as far as its time is not over.
    ///
    /// # Errors
    ///
    /// The place of the first record that is none. Nothing is taken over then.
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

    /// Waits until it is kept that this was used. False if that cannot be written.
    pub fn kept(&self) -> impl Future<Output = bool> {
        self.approvals.kept(self.change)
    }

    /// The call is not made after all.
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
        // A clock that was set back does not make it longer than its rule says.
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
    use crate::policy::tools::approvals::{ApprovalTicket, Asking};
    use crate::policy::tools::quotas::{CountedCaller, QuotaKey};

    const TERMS: ApprovalTerms =
        ApprovalTerms { decide_within: Duration::from_secs(60), use_within: Duration::from_secs(10) };

    /// A process has its own clock, and shares that of the wall.
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
    fn what_waits_and_what_was_decided_holds_over_a_restart_until_its_time_is_over() {
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
        let told =
            |all: &Approvals, now| -> Vec<ApprovalCall> { all.all(now).into_iter().map(|one| one.call).collect() };
        assert_eq!(told(&next, at(5, 4).now), told(&approvals, at(102, 2).now));
        // The approval ends ten seconds after it was given, of which three are over, whatever the clock of the process says.
        assert!(next.use_up(tickets[1], at(12, 11).now).is_none() && next.use_up(tickets[1], at(11, 10).now).is_some());
        // Nor does a clock that was set back prolong it.
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
