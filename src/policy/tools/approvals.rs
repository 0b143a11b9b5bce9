//! Calls that wait for somebody to approve them, and what was decided about them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Hex, Time, sha256_start, unhex};
use crate::policy::tools::approval_keeping::Keeping;
use crate::policy::tools::quotas::{CountedCaller, QuotaKey, QuotaTime};

/// The most calls that wait, or were decided about, at the same time.
pub(super) const APPROVALS_MAX: usize = 1_024;
/// How many of them may be of callers without an identity, who can have as many addresses as they like.
const APPROVALS_UNPROVEN_MAX: usize = APPROVALS_MAX / 2;
/// How many of them may be of one caller of one host.
pub(super) const APPROVALS_OF_CALLER_MAX: usize = 32;
/// The longest arguments that are kept for those who decide, in bytes. Of longer ones they see the length and the hash.
pub(super) const SHOWN_ARGUMENTS_LEN_MAX: usize = 16 * 1024;
/// The most bytes of arguments that are kept of all calls together.
const SHOWN_ARGUMENTS_SUM_MAX: usize = 4 * 1024 * 1024;

/// What tickets begin with.
const PREFIX: &str = "apr_";

/// The calls of a process that have to be approved.
#[derive(Debug, Default)]
pub struct Approvals(Mutex<Table>);

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) all: HashMap<ApprovalTicket, Approval>,
    pub(super) keeping: Keeping,
}

/// By what a call is known to its caller and to those who decide: a part of the SHA-256 of what is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApprovalTicket([u8; 16]);

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApprovalTerms {
    /// How long a call waits for a decision, and how long a denial holds.
    pub(super) decide_within: Duration,
    /// How long a call may be made once it was approved.
    pub(super) use_within: Duration,
}

/// A call that has to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// By what it is known.
    pub ticket: ApprovalTicket,
    /// What is to be called.
    pub call: ApprovalCall,
    /// What was decided about it.
    pub state: ApprovalState,
    /// When it was first asked for, since 1970.
    pub asked: Duration,
    /// When what it says ends, on the clock of the process.
    pub ends: Time,
    pub(super) terms: ApprovalTerms,
    pub(super) asker: Asker,
}

/// Who asks for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The caller, at one host.
    pub(super) key: QuotaKey,
    /// Whether it has an identity.
    pub(super) is_proven: bool,
}

/// What somebody is asked to approve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalCall {
    /// The host that is called.
    pub place: String,
    /// The name of the rule that asks for it.
    pub rule: String,
    /// Who calls, for people.
    pub caller: String,
    /// The JSON-RPC method of the call.
    pub method: String,
    /// The tool, prompt or resource.
    pub name: String,
    /// The length of the arguments as JSON text without white space, and their SHA-256.
    pub arguments: Option<(u64, [u8; 32])>,
    /// The arguments as they were sent, unless they are too long to be kept.
    pub shown: Option<String>,
}

/// What was decided about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody has decided about it yet.
    Waits,
    /// It may be made once.
    Approved {
        /// Who says so.
        by: String,
    },
    /// It may not be made.
    Denied {
        /// Who says so.
        by: String,
    },
}

/// What becomes of a call that has to be approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// It may be made.
    Approved(ApprovalTicket),
    Waits(ApprovalTicket),
    Denied(ApprovalTicket),
    /// Too many calls wait already.
    Full,
}

/// Why nothing is decided about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndecidedTicket {
    /// There is none, or its time is over.
    #[error("no call with this ticket waits: its time is over, or it was made")]
    Unknown,
    /// It was decided about before.
    #[error("it was decided about this call already")]
    Decided,
}

impl Approvals {
    /// Asks whether a call may be made. If nobody was asked, it waits from now on.
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
        let kept: usize = all.values().filter_map(|known| known.call.shown.as_ref()).map(String::len).sum();
        call.shown = call
            .shown
            .filter(|shown| shown.len() <= SHOWN_ARGUMENTS_LEN_MAX && kept + shown.len() <= SHOWN_ARGUMENTS_SUM_MAX);
        let (asked, ends) = (time.unix, time.now + terms.decide_within);
        all.insert(ticket, Approval { ticket, call, state: ApprovalState::Waits, asked, ends, terms, asker });
        keeping.changed(false);
        Asking::Waits(ticket)
    }

    /// Uses up what was approved. None if it is not, or not any more. Returns also for which change the call has to wait, if that is
    /// kept in a file.
    pub(super) fn use_up(&self, ticket: ApprovalTicket, now: Time) -> Option<(Approval, Option<u64>)> {
        let Table { all, keeping } = &mut *self.lock();
        let is_good = |known: &Approval| matches!(known.state, ApprovalState::Approved { .. }) && known.ends > now;
        all.get(&ticket).filter(|known| is_good(known))?;
        let used = all.remove(&ticket)?;
        Some((used, keeping.changed(true)))
    }

    /// Decides about a call that waits. Returns it.
    ///
    /// # Errors
    ///
    /// If none waits with this ticket.
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

    /// The calls that wait, and those that were decided about and not made yet; the oldest first.
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
    /// Whether nothing was decided about it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == ApprovalState::Waits
    }
}

impl ApprovalTicket {
    /// The ticket of a call: the same for the same rule, caller, tool and arguments.
    #[must_use]
    pub fn of(counted: &QuotaKey, method: &str, arguments: Option<(u64, [u8; 32])>) -> ApprovalTicket {
        let (len, hash) = arguments.unwrap_or_default();
        let text = [format!("approval\n{counted}\n{method}\n{len}\n").as_bytes(), &hash].concat();
        ApprovalTicket(sha256_start(&text))
    }
}

/// `apr_` and 32 hexadecimal digits.
impl fmt::Display for ApprovalTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", Hex(&self.0))
    }
}

impl FromStr for ApprovalTicket {
    type Err = UndecidedTicket;

    fn from_str(text: &str) -> Result<ApprovalTicket, UndecidedTicket> {
        let digits = text.strip_prefix(PREFIX).and_then(|digits| unhex(digits.as_bytes()));
        digits.map(ApprovalTicket).ok_or(UndecidedTicket::Unknown)
    }
}

/// Who calls, for people.
pub(super) fn caller_told(caller: &CountedCaller<'_>) -> String {
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
    fn what_is_not_decided_or_not_used_in_time_is_forgotten() {
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
    fn what_waits_is_bounded_and_nobody_takes_the_room_of_all() {
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
    fn a_ticket_is_read_as_it_is_written() {
        let ticket = keys("a", 1).0;
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        for text in ["", "apr_", "apr_12", &format!("apr_{}", "g".repeat(32)), &format!("apr_+{}", "1".repeat(31))] {
            assert_eq!(text.parse::<ApprovalTicket>(), Err(UndecidedTicket::Unknown), "{text}");
        }
    }
}
