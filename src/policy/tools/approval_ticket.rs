//! By what a call that has to be approved is known, and how long is waited for that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::{Hex, sha256_start, unhex};
use crate::policy::tools::quotas::QuotaKey;

/// What tickets begin with.
const PREFIX: &str = "apr_";

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
