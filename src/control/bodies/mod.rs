//! The bodies of the admin API's requests and responses. Server, command line and tests share one type for each, and
//! the OpenAPI document is generated from them.

mod approvals;
mod breakers;
mod calls;
mod certificates;
mod dashboard;
mod error;
mod health;
mod keys;
mod latency;
mod limits;
mod list;
mod numbers;
mod records;
mod status;
mod tasks;
mod tools;
mod tunnels;

pub use approvals::{ApprovalInfo, ApprovalStateName, ApprovalsBody, DecideApproval};
pub use breakers::{BreakerInfo, BreakerKind, BreakerStateName, ForceBreaker, ForcedStateName};
pub use calls::{AnsweredInfo, CallDecision, CallInfo, CallStageName, CallsBody, DecisionKind};
pub use certificates::{AddCertificate, CertificateInfo};
pub use dashboard::DashboardCode;
pub use error::{ErrorBody, ErrorDetail};
pub use health::{HealthBody, HealthStatus, ReadyBody, ReadyStatus, SilentRole};
pub use keys::{CreateKey, CreatedKey, KeyInfo, NamedHostText};
pub use latency::{
    CallTimesOfLabel, CallTimesSummary, DeadlineOfLabel, DeadlineWhy, GuardModeName, LatencyBody, PhaseTimes,
};
pub use limits::LimitInfo;
pub use list::{LIMIT_MAX, ListPart};
pub use records::{EventInfo, UsageEntry, UsageReport};
pub use status::{
    BuffersStatus, CoreStatus, DriverStatus, LinkStatus, OfRole, ProcessState, QuicStatus, ReloadStatus, StatusBody,
    TunnelLinks,
};
pub use tasks::{TaskInfo, TaskNamedBy, TaskSummary, TasksBody};
pub use tools::{
    AlikeTools, ApproveTools, ApprovedTool, ListedTool, OfferName, PinName, ServerToolsInfo, StandingName, ToolPlace,
    ToolsBody,
};
pub use tunnels::{
    ConnectionInfo, CreateTunnel, CreatedTunnel, CredentialInfo, HostPatternText, IssuedToken, MemberText, NetworkText,
    Reason, Revocation, RevokeToken, RotateToken, TrafficKind, TunnelInfo, TunnelState, UpdateTunnel, UpdatedTunnel,
};
