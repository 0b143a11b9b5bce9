//! Calls that wait for approval, as the admin API has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The calls that wait for approval, and those that were decided about and not made yet; the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalsBody {
    /// Those of all rules that ask for approval.
    pub approvals: Vec<ApprovalInfo>,
}

/// A call that has to be approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalInfo {
    /// The ticket by which its caller knows it.
    pub ticket: String,
    /// What was decided about it.
    pub state: ApprovalStateName,
    /// Who has decided it; null if nobody has.
    pub by: Option<String>,
    /// The host that is called.
    pub host: String,
    /// The rule of its policy that asks for approval.
    pub rule: String,
    /// Who calls, as far as that was proven.
    pub caller: String,
    /// The MCP method that is called.
    pub method: String,
    /// The tool, prompt or resource.
    pub name: String,
    /// The arguments as they were sent; null if there are none, or if they are too long to be kept.
    pub arguments: Option<String>,
    /// The length of the arguments as JSON text without white space, in bytes; null if there are none.
    pub argument_bytes: Option<u64>,
    /// Their SHA-256, as in the audit log.
    pub argument_sha256: Option<String>,
    /// When it was first asked for (RFC 3339).
    pub asked_at: String,
    /// In how many seconds it is forgotten, or what was decided does not hold any more.
    pub ends_in_s: u64,
}

/// What was decided about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStateName {
    /// Nobody has decided about it yet.
    Waiting,
    /// It may be made once.
    Approved,
    /// It may not be made.
    Denied,
}

/// Who decides about a call, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideApproval {
    /// Who decides, for the audit log.
    #[schema(min_length = 1, max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub by: String,
    /// Why, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}
