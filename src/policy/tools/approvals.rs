//! Calls that wait for approval, and the decisions about them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Time, hex, sha256, text_start};
use crate::policy::tools::approval_keeping::Keeping;
use crate::policy::tools::approval_ticket::{ApprovalTerms, ApprovalTicket, UndecidedTicket};
use crate::policy::tools::quotas::{CountedCaller, QuotaKey, QuotaTime};

/// The maximum number of approvals, pending or decided.
pub(super) const APPROVALS_MAX: usize = 1_024;
/// The maximum for callers without an identity, who can use any number of addresses.
const APPROVALS_UNPROVEN_MAX: usize = APPROVALS_MAX / 2;
/// The maximum for one caller of one host.
pub(super) const APPROVALS_OF_CALLER_MAX: usize = 32;
/// The maximum length of arguments kept for review, in bytes. Of longer ones the length and hash are shown.
pub(super) const SHOWN_ARGUMENTS_LEN_MAX: usize = 16 * 1024;
/// The maximum length of all arguments kept for review together, in bytes.
const SHOWN_ARGUMENTS_SUM_MAX: usize = 4 * 1024 * 1024;

/// How much of a name, method or caller is kept, in bytes. Of a longer one the start, the length and the hash are kept.
const TEXT_KEPT_LEN_MAX: usize = 256;

/// The calls of a process that require approval.
#[derive(Debug, Default)]
pub struct Approvals(Mutex<Table>);

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) all: HashMap<ApprovalTicket, Approval>,
    pub(super) keeping: Keeping,
}

/// A call that requires approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The ticket that identifies the call.
    pub ticket: ApprovalTicket,
    /// The call to be made.
    pub call: ApprovalCall,
    /// The state of the decision.
    pub state: ApprovalState,
    /// When approval was first requested, since 1970.
    pub asked: Duration,
    /// When the state expires, on the clock of the process.
    pub ends: Time,
    pub(super) terms: ApprovalTerms,
    pub(super) asker: Asker,
}

/// The caller that requests approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The caller, at one host.
    pub(super) key: QuotaKey,
    /// Whether the caller has an identity.
    pub(super) is_proven: bool,
}

/// The call that is to be approved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalCall {
    /// The host that is called.
    pub place: String,
    /// The name of the rule that requires approval.
    pub rule: String,
    /// The caller, in words for people.
    pub caller: String,
    /// The JSON-RPC method of the call.
    pub method: String,
    /// The tool, prompt or resource.
    pub name: String,
    /// The length and SHA-256 of the arguments as JSON without white space.
    pub arguments: Option<(u64, [u8; 32])>,
    /// The arguments as sent, unless they are too long to keep.
    pub shown: Option<String>,
}

/// The state of an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// No decision was made yet.
    Waits,
    /// The call may be made once.
    Approved {
        /// The name of the approver.
        by: String,
    },
    /// The call may not be made.
    Denied {
        /// The name of the person who denied the call.
        by: String,
    },
}

/// The result of a request for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// The call may be made.
    Approved(ApprovalTicket),
    Waits(ApprovalTicket),
    Denied(ApprovalTicket),
    /// Too many calls wait for approval.
    Full,
}

impl Approvals {
    /// Requests approval of a call. Records the call as pending if it is new.
    pub(super) fn ask(
        &self,
        call: impl FnOnce() -> ApprovalCall,
        (ticket, asker): (ApprovalTicket, Asker),
        terms: ApprovalTerms,
        time: QuotaTime,
    ) -> Asking {
        let mut table = self.lock();
        let Table { all, keeping } = &mut *table;
        match all.get(&ticket).filter(|known| known.ends > time.now).map(|known| &known.state) {
            Some(ApprovalState::Approved { .. }) => return Asking::Approved(ticket),
            Some(ApprovalState::Denied { .. }) => return Asking::Denied(ticket),
            Some(ApprovalState::Waits) => return Asking::Waits(ticket),
            None => {}
        }
        all.retain(|_, known| known.ends > time.now);
        let of_caller = all.values().filter(|known| known.asker == asker).count();
        let unproven = all.values().filter(|known| !known.asker.is_proven).count();
        let is_crowded = !asker.is_proven && unproven >= APPROVALS_UNPROVEN_MAX;
        if all.len() >= APPROVALS_MAX || of_caller >= APPROVALS_OF_CALLER_MAX || is_crowded {
            return Asking::Full;
        }
        let mut call = call();
        for text in [&mut call.name, &mut call.method, &mut call.caller] {
            keep_start(text);
        }
        let kept: usize = all.values().filter_map(|known| known.call.shown.as_ref()).map(String::len).sum();
        call.shown = call
            .shown
            .filter(|shown| shown.len() <= SHOWN_ARGUMENTS_LEN_MAX && kept + shown.len() <= SHOWN_ARGUMENTS_SUM_MAX);
        let (asked, ends) = (time.unix, time.now + terms.decide_within);
        all.insert(ticket, Approval { ticket, call, state: ApprovalState::Waits, asked, ends, terms, asker });
        keeping.changed(false);
        Asking::Waits(ticket)
    }

    /// Uses up an approval; `None` if the call is not approved or the approval has expired. Also returns the change that the call
    /// must wait for, if approvals are kept in a file.
    pub(super) fn use_up(&self, ticket: ApprovalTicket, now: Time) -> Option<(Approval, Option<u64>)> {
        let Table { all, keeping } = &mut *self.lock();
        let is_good = |known: &Approval| matches!(known.state, ApprovalState::Approved { .. }) && known.ends > now;
        all.get(&ticket).filter(|known| is_good(known))?;
        let used = all.remove(&ticket)?;
        Some((used, keeping.changed(true)))
    }

    /// Decides about a pending call, and returns it.
    ///
    /// # Errors
    ///
    /// If no call with this ticket is pending.
    pub fn decide(
        &self,
        ticket: ApprovalTicket,
        may_call: bool,
        by: &str,
        now: Time,
    ) -> Result<Approval, UndecidedTicket> {
        let Table { all, keeping } = &mut *self.lock();
        let known = all.get_mut(&ticket).filter(|known| known.ends > now).ok_or(UndecidedTicket::Unknown)?;
        if known.state != ApprovalState::Waits {
            return Err(UndecidedTicket::Decided);
        }
        let by = by.to_owned();
        (known.state, known.ends) = match may_call {
            true => (ApprovalState::Approved { by }, now + known.terms.use_within),
            false => (ApprovalState::Denied { by }, now + known.terms.decide_within),
        };
        keeping.changed(true);
        Ok(known.clone())
    }

    /// The call with this ticket, pending or decided, until its time is over or it was made.
    #[must_use]
    pub fn find(&self, ticket: ApprovalTicket, now: Time) -> Option<Approval> {
        self.lock().all.get(&ticket).filter(|known| known.ends > now).cloned()
    }

    /// The pending and the decided calls, oldest first. Calls that were made are not included.
    #[must_use]
    pub fn all(&self, now: Time) -> Vec<Approval> {
        let mut all: Vec<Approval> = self.lock().all.values().filter(|known| known.ends > now).cloned().collect();
        all.sort_by_key(|known| (known.asked, known.ticket));
        all
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Approval {
    /// Whether the call is still pending.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == ApprovalState::Waits
    }
}

/// Cuts a long text to its start, its length and its hash. The ticket holds for the whole text.
fn keep_start(text: &mut String) {
    if text.len() > TEXT_KEPT_LEN_MAX {
        let (start, len, hash) = (text_start(text, TEXT_KEPT_LEN_MAX), text.len(), hex(&sha256(text.as_bytes())));
        *text = format!("{start}… ({len} bytes, SHA-256 {hash})");
    }
}

/// The caller, in words for people.
pub(super) fn caller_text(caller: &CountedCaller<'_>) -> String {
    match (caller.identity, caller.address) {
        (Some(identity), _) => match &identity.issuer {
            Some(issuer) => format!("{} ({issuer})", identity.subject),
            None => format!("{} ({})", identity.subject, identity.proof.name()),
        },
        (None, Some(address)) => format!("nobody known, from {address}"),
        (None, None) => "nobody known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: ApprovalTerms =
        ApprovalTerms { decide_within: Duration::from_secs(60), use_within: Duration::from_secs(10) };

    fn at(s: u64) -> QuotaTime {
        QuotaTime { now: Time::ZERO + Duration::from_secs(s), unix: Duration::from_secs(1_000_000 + s) }
    }

    fn keys(caller: &str, arguments: u8) -> (ApprovalTicket, Asker) {
        let of = |tool: &str| QuotaKey::of(caller, "r", &CountedCaller { identity: None, address: None }, tool);
        (ApprovalTicket::of(&of("t"), "tools/call", Some((1, [arguments; 32]))), Asker { key: of(""), is_proven: true })
    }

    fn ask(approvals: &Approvals, caller: &str, arguments: u8, s: u64) -> Asking {
        approvals.ask(ApprovalCall::default, keys(caller, arguments), TERMS, at(s))
    }

    #[test]
    fn a_call_that_was_approved_passes_once_within_its_time() {
        let approvals = Approvals::default();
        let ticket = keys("a", 1).0;
        assert_eq!(ask(&approvals, "a", 1, 0), Asking::Waits(ticket));
        assert_eq!(ask(&approvals, "a", 1, 5), Asking::Waits(ticket), "it is asked for once");
        assert!(approvals.use_up(ticket, at(5).now).is_none());
        let approved = approvals.decide(ticket, true, "bob", at(10).now).unwrap();
        assert_eq!(approved.state, ApprovalState::Approved { by: "bob".to_owned() });
        assert_eq!(approvals.decide(ticket, false, "eve", at(10).now), Err(UndecidedTicket::Decided));
        assert!(matches!(ask(&approvals, "a", 2, 11), Asking::Waits(_)), "other arguments");
        assert!(matches!(ask(&approvals, "b", 1, 11), Asking::Waits(_)), "another caller");
        assert_eq!(ask(&approvals, "a", 1, 11), Asking::Approved(ticket));
        let used = || approvals.use_up(ticket, at(11).now).is_some();
        assert!(used() && !used(), "once");
        assert_eq!(ask(&approvals, "a", 1, 12), Asking::Waits(ticket));
    }

    #[test]
    fn undecided_and_unused_approvals_expire() {
        let approvals = Approvals::default();
        let ticket = keys("a", 1).0;
        ask(&approvals, "a", 1, 0);
        assert_eq!(approvals.decide(ticket, true, "bob", at(60).now), Err(UndecidedTicket::Unknown));
        ask(&approvals, "a", 1, 60);
        approvals.decide(ticket, true, "bob", at(61).now).unwrap();
        assert!(approvals.use_up(ticket, at(71).now).is_none(), "it was approved for ten seconds");
        assert_eq!(ask(&approvals, "a", 1, 71), Asking::Waits(ticket));
        approvals.decide(ticket, false, "bob", at(72).now).unwrap();
        assert_eq!(ask(&approvals, "a", 1, 131), Asking::Denied(ticket));
        assert_eq!(ask(&approvals, "a", 1, 132), Asking::Waits(ticket), "a denial ends as well");
        assert_eq!((approvals.all(at(132).now).len(), approvals.all(at(999).now).len()), (1, 0));
    }

    #[test]
    fn pending_approvals_are_bounded_in_total_and_per_caller() {
        let approvals = Approvals::default();
        let shown = || ApprovalCall { shown: Some("x".repeat(SHOWN_ARGUMENTS_LEN_MAX)), ..ApprovalCall::default() };
        let mut waiting = 0;
        for caller in 0..100 {
            for arguments in 0..100 {
                let asking = approvals.ask(shown, keys(&caller.to_string(), arguments), TERMS, at(0));
                waiting += usize::from(matches!(asking, Asking::Waits(_)));
            }
            assert!(caller > 0 || waiting == APPROVALS_OF_CALLER_MAX);
        }
        assert_eq!(waiting, APPROVALS_MAX);
        let kept: usize =
            approvals.all(at(0).now).iter().filter_map(|known| known.call.shown.as_ref()).map(String::len).sum();
        assert_eq!(kept, SHOWN_ARGUMENTS_SUM_MAX);
        assert_eq!(ask(&approvals, "new", 1, 1), Asking::Full);
        assert!(matches!(ask(&approvals, "new", 1, 60), Asking::Waits(_)), "their time is over");
    }

    #[test]
    fn callers_without_identity_leave_half_of_the_room_to_others() {
        let approvals = Approvals::default();
        let unproven = |caller: usize, arguments: u8| {
            let (ticket, asker) = keys(&caller.to_string(), arguments);
            let asker = Asker { is_proven: false, ..asker };
            approvals.ask(ApprovalCall::default, (ticket, asker), TERMS, at(0))
        };
        let all = (0..64).flat_map(|caller| (0..32).map(move |arguments| (caller, arguments)));
        let waiting = all.filter(|(caller, arguments)| unproven(*caller, *arguments) != Asking::Full).count();
        assert_eq!(waiting, APPROVALS_MAX / 2);
        assert!(matches!(ask(&approvals, "somebody", 1, 1), Asking::Waits(_)));
    }

    #[test]
    fn long_names_are_kept_by_their_start_and_their_digest() {
        let approvals = Approvals::default();
        let long = ApprovalCall {
            name: "\u{e9}".repeat(32 * 1024),
            caller: "c".repeat(16 * 1024),
            method: "m".repeat(16 * 1024),
            ..ApprovalCall::default()
        };
        let short = ApprovalCall { name: "n".repeat(TEXT_KEPT_LEN_MAX), ..ApprovalCall::default() };
        approvals.ask(|| long.clone(), keys("a", 1), TERMS, at(0));
        approvals.ask(|| short.clone(), keys("a", 2), TERMS, at(1));
        let all = approvals.all(at(1).now);
        let name = &all[0].call.name;
        assert!(
            name.starts_with(&"\u{e9}".repeat(TEXT_KEPT_LEN_MAX / 2)) && name.contains("65536 bytes, SHA-256 "),
            "{name}"
        );
        let other = ApprovalCall { name: format!("{}x", "\u{e9}".repeat(32 * 1024 - 1)), ..long };
        approvals.ask(|| other, keys("a", 3), TERMS, at(2));
        assert_ne!(&approvals.all(at(2).now)[2].call.name, name, "names that differ are shown as such");
        assert_eq!(all[1].call, short);
        let kept = |call: &ApprovalCall| call.name.len() + call.caller.len() + call.method.len();
        assert!(all.iter().all(|one| kept(&one.call) < 3 * (TEXT_KEPT_LEN_MAX + 128)));
    }

    #[test]
    fn a_ticket_is_read_as_it_is_written() {
        let ticket = keys("a", 1).0;
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        for text in ["", "apr_", "apr_12", &format!("apr_{}", "g".repeat(32)), &format!("apr_+{}", "1".repeat(31))] {
            assert_eq!(text.parse::<ApprovalTicket>(), Err(UndecidedTicket::Unknown), "{text}");
        }
    }
}
