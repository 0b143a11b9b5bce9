//! Breakers, as `GET /v1/status` shows them, and the request that forces them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::GuardModeName;

/// One breaker: whether calls of a tool, or of a whole route, are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BreakerInfo {
    /// Which calls it refuses.
    pub breaker: BreakerKind,
    /// The name of the route.
    pub route: String,
    /// The MCP method; empty for the breaker of an upstream.
    pub method: String,
    /// The tool; empty for other methods.
    pub tool: String,
    /// What becomes of calls while it is open.
    pub mode: GuardModeName,
    /// Whether it lets calls through.
    pub state: BreakerStateName,
    /// In how many seconds calls are tried; null if it is not open.
    pub retry_after_s: Option<f64>,
    /// The calls that it judges by, or has opened for.
    pub calls: u64,
    /// How many of these failed.
    pub failed: u64,
    /// How many of these were answered after their deadline.
    pub late: u64,
    /// How often it has opened.
    pub opened: u64,
    /// How many calls it has refused.
    pub refused: u64,
    /// How many calls it would have refused if it were enforced.
    pub would_refuse: u64,
}

/// What is decided about a breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForceBreaker {
    /// The name of the route.
    #[schema(min_length = 1, max_length = 255)]
    pub route: String,
    /// The MCP method. Without it and without a tool, the breaker is that of the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub method: Option<String>,
    /// The tool, which is called with `tools/call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub tool: Option<String>,
    /// The state that it takes.
    pub state: ForcedStateName,
}

/// What an operator decides about a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForcedStateName {
    /// No call is made.
    Open,
    /// Each call is made.
    Closed,
    /// The results of calls decide, as in normal operation.
    Auto,
}

/// Which calls a breaker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerKind {
    /// All calls of a route.
    Upstream,
    /// Those of one tool, or of one method.
    Tool,
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerStateName {
    /// Calls are made, as in normal operation.
    Closed,
    /// No call is made.
    Open,
    /// A few calls are made to find out whether others succeed.
    HalfOpen,
    /// No call is made, because an operator has decided so.
    ForcedOpen,
    /// Each call is made, because an operator has decided so.
    ForcedClosed,
}
