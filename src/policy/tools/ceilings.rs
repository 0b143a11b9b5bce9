//! The ceilings of a rule: rate, concurrency, arguments, answers and approval.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::rates::Rate;
use crate::policy::tools::answer_ceiling::{AnswerCeiling, BytesMax, Over, RowsMax};
use crate::policy::tools::approval_ticket::{ApprovalTerms, ApprovalTicket};
use crate::policy::tools::arguments::ArgumentSchema;

/// When a call that waits for approval may be retried.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// When a call may be retried if too many wait for approval.
const FULL_AFTER: Duration = Duration::from_secs(60);

/// What the audit log has as the limit of a call for which a policy in Cedar cannot be evaluated.
pub(super) const EVALUATION: &str = "evaluation";

/// The ceilings of a rule. An absent ceiling limits nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Ceilings {
    /// The schema of the arguments.
    pub(super) arguments: Option<Arc<ArgumentSchema>>,
    pub(super) quota: Quota,
    /// The approval timeouts; `None` if no approval is required.
    pub(super) approval: Option<ApprovalTerms>,
    /// The limits of the answers.
    pub(super) answer: Option<Arc<AnswerCeiling>>,
}

/// The limits of one caller's use of one tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) rate: Option<Rate>,
    pub(super) at_once: Option<u32>,
    /// Calls per day (UTC).
    pub(super) per_day: Option<u32>,
}

/// The ceiling of a rule that a call has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeilingReached {
    /// The arguments violate the schema, with the violation.
    Arguments(Arc<str>),
    /// A policy in Cedar cannot be evaluated for the arguments, with the reason. The caller is not told the reason.
    Evaluation(Arc<str>),
    /// The caller exceeds its rate.
    Rate {
        /// When the caller may call again.
        after: Duration,
    },
    /// The caller has the maximum number of calls in flight.
    AtOnce,
    /// The caller has used its calls of the day.
    Day {
        /// The time until the next day starts.
        after: Duration,
    },
    /// The table of counted callers is full.
    Crowded,
    /// The call waits for approval.
    ApprovalWaits(ApprovalTicket),
    /// The approval of the call was denied.
    ApprovalDenied(ApprovalTicket),
    /// The call was approved; it has not been made yet.
    ApprovalGiven(ApprovalTicket),
    /// The caller has no call with this ticket.
    ApprovalUnknown,
    /// Too many calls wait for approval.
    ApprovalsFull,
    /// The call was approved, but the use of the approval cannot be written to the file, and a restart would allow it again.
    ApprovalUnkept,
}

impl Ceilings {
    /// Whether there is no ceiling.
    pub(super) fn is_empty(&self) -> bool {
        self.arguments.is_none() && self.quota.is_empty() && self.approval.is_none() && self.answer.is_none()
    }
}

/// The text that `adit policy explain` shows.
impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quota { rate, at_once, per_day } = self.quota;
        let mut parts = Vec::new();
        if self.arguments.is_some() {
            parts.push("arguments as it says".to_owned());
        }
        if let Some(rate) = rate {
            parts.push(format!("{} calls a minute in bursts of {}", rate.per_minute(), rate.burst()));
        }
        parts.extend(at_once.map(|max| format!("{max} at once")));
        if let Some(ApprovalTerms { decide_within, use_within }) = self.approval {
            let (decide, once) = (decide_within.as_secs(), use_within.as_secs());
            parts.push(format!("approval, which is waited for {decide} s and holds {once} s"));
        }
        parts.extend(per_day.map(|max| format!("{max} a day")));
        if let Some(AnswerCeiling { bytes, rows }) = self.answer.as_deref() {
            let cut = |over| if over == Over::Cut { ", cut beyond that" } else { "" };
            parts.extend(bytes.map(|BytesMax { max, over }| format!("answers of at most {max} bytes{}", cut(over))));
            parts.extend(rows.iter().map(|RowsMax { max, at, over }| {
                format!("answers of at most {max} rows at {:?}{}", at.as_str(), cut(*over))
            }));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Ceilings {
    /// Whether the ceilings count calls or require approval, and so depend on the time since 1970.
    pub(super) fn need_wall_time(&self) -> bool {
        !self.quota.is_empty() || self.approval.is_some()
    }
}

impl Quota {
    /// Whether there is no limit.
    pub(super) fn is_empty(&self) -> bool {
        *self == Quota::default()
    }
}

impl CeilingReached {
    /// The key of the ceiling in the policy file, which the audit log uses.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            CeilingReached::Arguments(_) => "arguments",
            CeilingReached::Evaluation(_) => EVALUATION,
            CeilingReached::Rate { .. } => "calls_per_minute",
            CeilingReached::AtOnce => "calls_at_once_max",
            CeilingReached::Day { .. } => "calls_per_day",
            CeilingReached::Crowded => "callers_max",
            CeilingReached::ApprovalWaits(_) | CeilingReached::ApprovalDenied(_) => "approval",
            CeilingReached::ApprovalGiven(_) | CeilingReached::ApprovalUnknown => "approval",
            CeilingReached::ApprovalUnkept => "approval",
            CeilingReached::ApprovalsFull => "approvals_max",
        }
    }

    /// When a retry may succeed, if known.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        match self {
            CeilingReached::Rate { after } | CeilingReached::Day { after } => Some(*after),
            CeilingReached::AtOnce | CeilingReached::Crowded => Some(Duration::from_secs(1)),
            CeilingReached::ApprovalWaits(_) => Some(ASK_AGAIN_AFTER),
            CeilingReached::ApprovalsFull => Some(FULL_AFTER),
            CeilingReached::ApprovalUnkept => Some(ASK_AGAIN_AFTER),
            CeilingReached::Arguments(_) | CeilingReached::Evaluation(_) | CeilingReached::ApprovalDenied(_) => None,
            CeilingReached::ApprovalGiven(_) | CeilingReached::ApprovalUnknown => None,
        }
    }

    /// The ticket of the pending or denied approval.
    #[must_use]
    pub const fn ticket(&self) -> Option<ApprovalTicket> {
        match self {
            CeilingReached::ApprovalWaits(ticket)
            | CeilingReached::ApprovalDenied(ticket)
            | CeilingReached::ApprovalGiven(ticket) => Some(*ticket),
            _ => None,
        }
    }
}
