//! Access rules of a route: which callers may use which tools.

mod answer_ceiling;
mod answer_cut;
mod answer_filter;
mod answer_note;
mod approval_keeping;
mod approval_task;
mod approval_ticket;
mod approvals;
mod argument_check;
mod arguments;
mod awaited;
mod canonical;
mod case;
mod cedar;
mod cedar_tier;
mod ceilings;
mod changes;
mod check;
mod decision;
mod event_filter;
mod file;
mod file_ceilings;
mod file_reader;
mod file_sanitise;
mod held_results;
mod hints;
mod inventory;
mod json_text;
mod known_lists;
mod later_answers;
mod list_filter;
mod method_default;
mod number;
mod pattern;
mod pins;
mod quota_state;
mod quotas;
mod replay;
mod replay_unknown;
mod request;
mod result_schema;
mod roles;
mod rule;
mod sanitise;
mod tool_policy;
mod tool_record;
mod uri;

pub use answer_filter::AnswerFilter;
pub use answer_note::{AnswerNote, AnswerWithheld};
pub use approval_keeping::{ApprovalRecord, UsedApproval};
pub use approval_task::{ApprovalTask, ApprovalTaskReply};
pub use approval_ticket::{ApprovalTicket, UndecidedTicket};
pub use approvals::{Approval, ApprovalCall, ApprovalState, Approvals};
pub use case::CaseOutcome;
pub use cedar::{CEDAR_ABSENT, CallerFacts, CedarCaller, CedarRules, cedar_schema};
pub use ceilings::CeilingReached;
pub use decision::{Asked, Denial, PolicyDigest, RuleId, Target, ToolDecision};
pub use file::POLICY_FILE_LEN_MAX;
pub use file_reader::PolicyFault;
pub use held_results::{ANSWER_TOO_LARGE, ANSWER_TOO_LARGE_CODE, ANSWER_TOO_LARGE_MESSAGE};
pub use hints::ToolHints;
pub use inventory::{INVENTORY_OTHERS_MAX, INVENTORY_TOOLS_MAX, InventoryMemory, ToolApproval, ToolInventory};
pub use later_answers::AnsweredRequest;
pub use list_filter::{LIST_LEN_MAX, ListFilter, UnreadableList};
pub use method_default::MethodDefault;
pub use pins::{PinMode, ToolPins};
pub use quota_state::{QUOTA_STATE_LEN_MAX, QuotaStateError};
pub use quotas::{COUNTED_MAX, CountedCaller, QuotaKey, QuotaPermit, QuotaTime, Quotas};
pub use replay::{CallFate, RecordedCall, ReplayedCall};
pub use replay_unknown::ReplayUnknown;
pub use request::{BodyKind, Reads, check_message, read_request};
pub use roles::{CallerOrigin, RoleSet};
pub use sanitise::{SanitiseFound, SanitiseKind, redacted_arguments};
pub use tool_policy::{ToolPolicy, UnreadableArguments};
pub use tool_record::{ApprovedRecord, NotApproved, OfferKind, ToolDigest, ToolNews, ToolRecord, ToolStanding};

#[cfg(test)]
mod ceilings_tests;
#[cfg(test)]
mod inventory_tests;
#[cfg(test)]
mod list_filter_tests;
#[cfg(test)]
mod tests;
