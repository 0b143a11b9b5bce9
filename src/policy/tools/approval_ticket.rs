//! The ticket of a call that requires approval, and the timeouts of approvals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::{Hex, sha256_start, unhex};
use crate::policy::tools::quotas::QuotaKey;

/// The prefix of every ticket.
const PREFIX: &str = "apr_";

/// The identifier of a call for its caller and its approvers: a prefix of the SHA-256 of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApprovalTicket([u8; 16]);

/// The timeouts of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApprovalTerms {
    /// How long a call waits for a decision, and how long a denial is valid.
    pub(super) decide_within: Duration,
    /// How long an approved call may be made.
    pub(super) use_within: Duration,
}

/// Why a decision was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndecidedTicket {
    /// No call has this ticket, or it has expired.
    #[error("no call with this ticket waits: it has expired, or it was made")]
    Unknown,
    /// The call was already decided.
    #[error("this call was already decided")]
    Decided,
}

impl ApprovalTicket {
    /// The ticket of a call. The same rule, caller, tool and arguments have the same ticket.
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
