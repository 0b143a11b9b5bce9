//! The ceilings of a rule: how often, how many at once, with which arguments, and whether somebody has to approve.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::rates::Rate;
use crate::policy::tools::answer_ceiling::AnswerCeiling;
use crate::policy::tools::approval_ticket::{ApprovalTerms, ApprovalTicket};
use crate::policy::tools::arguments::ArgumentSchema;

/// After how long a call that waits for approval may be tried again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// The same where too many wait.
const FULL_AFTER: Duration = Duration::from_secs(60);

/// What a rule asks of the calls that it allows. What it does not say is not limited.
#[derive(Clone, Debug, Default)]
pub(super) struct Ceilings {
    /// What the arguments have to be.
    pub(super) arguments: Option<Arc<ArgumentSchema>>,
    pub(super) quota: Quota,
    /// How long is waited for approval; none if none is asked for.
    pub(super) approval: Option<ApprovalTerms>,
    /// How much the answers may have.
    pub(super) answer: Option<Arc<AnswerCeiling>>,
}

/// How much one caller may use one tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) rate: Option<Rate>,
    pub(super) at_once: Option<u32>,
    /// Per day of UTC.
    pub(super) per_day: Option<u32>,
}

/// A ceiling of a rule that a call has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeilingReached {
    /// Its arguments are not those that the rule allows. This is wrong with them.
    Arguments(Arc<str>),
    /// Its caller has called too often in the last time.
    Rate {
        /// When it may call again.
        after: Duration,
    },
    /// As many calls of its caller as may be are under way.
    AtOnce,
    /// Its caller has made all calls of this day.
    Day {
        /// When the next day begins.
        after: Duration,
    },
    /// So many callers are counted that this one cannot be.
    Crowded,
    /// Nobody has approved it yet.
    ApprovalWaits(ApprovalTicket),
    /// Whoever decides about it has denied it.
    ApprovalDenied(ApprovalTicket),
    /// Too many calls wait for approval.
    ApprovalsFull,
    /// It was approved, but the file of the approvals cannot be written, so that it could be made again after a restart.
    ApprovalUnkept,
}

impl Ceilings {
    /// Whether it limits nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.arguments.is_none() && self.quota.is_empty() && self.approval.is_none() && self.answer.is_none()
    }
}

/// As `adit policy explain` tells them.
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
        if let Some(AnswerCeiling { bytes_max, rows }) = self.answer.as_deref() {
            parts.extend(bytes_max.map(|max| format!("answers of at most {max} bytes")));
            let rows =
                rows.as_ref().map(|rows| format!("answers of at most {} rows at {:?}", rows.max, rows.at.as_str()));
            parts.extend(rows);
        }
        f.write_str(&parts.join(", "))
    }
}

impl Ceilings {
    /// Whether they count calls or ask for approval, so that they depend on the time since 1970.
    pub(super) fn need_wall_time(&self) -> bool {
        !self.quota.is_empty() || self.approval.is_some()
    }
}

impl Quota {
    /// Whether it limits nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Quota::default()
    }
}

impl CeilingReached {
    /// The key of the file that sets it, by which the audit log names it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            CeilingReached::Arguments(_) => "arguments",
            CeilingReached::Rate { .. } => "calls_per_minute",
            CeilingReached::AtOnce => "calls_at_once_max",
            CeilingReached::Day { .. } => "calls_per_day",
            CeilingReached::Crowded => "callers_max",
            CeilingReached::ApprovalWaits(_) | CeilingReached::ApprovalDenied(_) => "approval",
            CeilingReached::ApprovalUnkept => "approval",
            CeilingReached::ApprovalsFull => "approvals_max",
        }
    }

    /// When the same call may succeed, if that is known.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        match self {
            CeilingReached::Rate { after } | CeilingReached::Day { after } => Some(*after),
            CeilingReached::AtOnce | CeilingReached::Crowded => Some(Duration::from_secs(1)),
            CeilingReached::ApprovalWaits(_) => Some(ASK_AGAIN_AFTER),
            CeilingReached::ApprovalsFull => Some(FULL_AFTER),
            CeilingReached::ApprovalUnkept => Some(ASK_AGAIN_AFTER),
            CeilingReached::Arguments(_) | CeilingReached::ApprovalDenied(_) => None,
        }
    }

    /// By which ticket the call waits, or was denied.
    #[must_use]
    pub const fn ticket(&self) -> Option<ApprovalTicket> {
        match self {
            CeilingReached::ApprovalWaits(ticket) | CeilingReached::ApprovalDenied(ticket) => Some(*ticket),
            _ => None,
        }
    }
}
