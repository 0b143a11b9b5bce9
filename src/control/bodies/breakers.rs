//! Breakers, as `GET /v1/status` shows them, and the request that forces them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::GuardModeName;

/// One circuit breaker, of a tool or of a whole route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BreakerInfo {
    /// The scope of the breaker.
    pub breaker: BreakerKind,
    /// The name of the route.
    pub route: String,
    /// The MCP method; empty for the breaker of an upstream.
    pub method: String,
    /// The tool; empty for other methods.
    pub tool: String,
    /// The mode of the breaker.
    pub mode: GuardModeName,
    /// The state of the breaker.
    pub state: BreakerStateName,
    /// The time until probes are sent, in seconds; null if it is not open.
    pub retry_after_s: Option<f64>,
    /// The number of calls in its window, or in the window that opened it.
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

/// A request to force a breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForceBreaker {
    /// The name of the route.
    #[schema(min_length = 1, max_length = 255)]
    pub route: String,
    /// The MCP method. Without method and tool, the breaker of the upstream is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub method: Option<String>,
    /// The tool, which is called with `tools/call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub tool: Option<String>,
    /// The state to set.
    pub state: ForcedStateName,
}

/// The state of a breaker as set by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForcedStateName {
    /// All calls are refused.
    Open,
    /// No call is refused.
    Closed,
    /// The results of calls decide, as in normal operation.
    Auto,
}

/// The scope of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerKind {
    /// All calls of a route.
    Upstream,
    /// The calls of one tool, or of one method.
    Tool,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerStateName {
    /// Calls are allowed, as in normal operation.
    Closed,
    /// All calls are refused.
    Open,
    /// A few calls are sent as probes; others are refused.
    HalfOpen,
    /// An operator has forced it open: all calls are refused.
    ForcedOpen,
    /// An operator has forced it closed: no call is refused.
    ForcedClosed,
}
