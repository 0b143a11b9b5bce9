//! Floor 1: decides about admission, callers' permissions, and the destinations of calls, from addresses, identities and times.
//! Other modules act on the decisions.

mod admission;
mod asns;
mod identity;
mod keyed_log_limit;
mod lists;
mod log_rate_limit;
mod network;
mod networks;
mod rates;
mod resend;
mod sources;
mod tools;
mod upstreams;

pub use admission::{Admission, AdmissionVerdict, Members, Rules, Why};
pub use asns::{AsnTable, AsnTableError};
pub use identity::{AgentIdentity, FORWARDED_BY, FORWARDED_PROOF, IdentityProof};
pub use keyed_log_limit::{KeyedLogLimit, LeftOut};
pub use lists::{Member, MemberError, SetName, Sets, TunnelLists, Unmet};
pub use log_rate_limit::LogRateLimit;
pub use network::{Network, NetworkError};
pub use networks::Networks;
pub use rates::{Rate, SOURCES_MAX, SourceLimits};
pub use resend::SafeRequests;
pub use sources::{Asn, Source, SourceKey};
pub use tools::{
    ANSWER_TOO_LARGE, ANSWER_TOO_LARGE_CODE, ANSWER_TOO_LARGE_MESSAGE, AnswerFilter, AnswerNote, AnswerWithheld,
    AnsweredRequest, Approval, ApprovalCall, ApprovalRecord, ApprovalState, ApprovalTask, ApprovalTaskReply,
    ApprovalTicket, Approvals, ApprovedRecord, Asked, BodyKind, CEDAR_ABSENT, COUNTED_MAX, CallFate, CallerFacts,
    CallerOrigin, CaseOutcome, CedarCaller, CedarRules, CeilingReached, CountedCaller, Denial, INVENTORY_OTHERS_MAX,
    INVENTORY_TOOLS_MAX, InventoryMemory, LIST_LEN_MAX, ListFilter, MethodDefault, NotApproved, OfferKind,
    POLICY_FILE_LEN_MAX, PinMode, PolicyDigest, PolicyFault, QUOTA_STATE_LEN_MAX, QuotaKey, QuotaPermit,
    QuotaStateError, QuotaTime, Quotas, Reads, RecordedCall, ReplayUnknown, ReplayedCall, RoleSet, RuleId,
    SanitiseFound, SanitiseKind, Target, ToolApproval, ToolDecision, ToolDigest, ToolHints, ToolInventory, ToolNews,
    ToolPins, ToolPolicy, ToolRecord, ToolStanding, UndecidedTicket, UnreadableArguments, UnreadableList, UsedApproval,
    cedar_schema, check_message, read_request, redacted_arguments,
};
pub use upstreams::{AllowedUpstreams, NotAllowed, private_networks};
