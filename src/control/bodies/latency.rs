//! `GET /v1/latency`: the times of calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::BreakerStateName;
use crate::control::reading::RoleKind;

/// The times of calls, of all or of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LatencyBody {
    /// The role that measured them; null if none does.
    pub measured_by: Option<RoleKind>,
    /// The route of the query; null for all.
    pub route: Option<String>,
    /// The times of all calls together.
    pub total: CallTimesSummary,
    /// The times of calls by route, MCP method and tool.
    pub labels: Vec<CallTimesOfLabel>,
    /// The number of calls under the label `(other)`, because there were too many labels.
    pub over_cap: u64,
}

/// The calls with one label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallTimesOfLabel {
    /// The name of the route.
    pub route: String,
    /// The MCP method, or the kind of request if there is none.
    pub method: String,
    /// The tool; empty for other methods.
    pub tool: String,
    /// The times of the calls with this label.
    #[serde(flatten)]
    pub times: CallTimesSummary,
    /// The number of retries: on an edge to another connector, on a connector to its upstream.
    pub retries: u64,
    /// How many calls were sent a second time because the first try was slow.
    pub hedges: u64,
    /// How many of these the second try answered.
    pub hedges_won: u64,
    /// The state of their breaker; null if they have none, or no call was made yet.
    pub breaker: Option<BreakerStateName>,
    /// Their deadline; null for calls without one, such as notifications and event streams.
    pub deadline: Option<DeadlineOfLabel>,
}

/// The current deadline of calls with one label, and how many missed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadlineOfLabel {
    /// The mode of the deadline.
    pub mode: GuardModeName,
    /// The limit in milliseconds; null for none.
    pub limit_ms: Option<f64>,
    /// How the limit was determined.
    pub why: DeadlineWhy,
    /// The median duration of the last calls, in milliseconds; null if there were too few.
    pub p50_ms: Option<f64>,
    /// The 95th percentile of the last calls, in milliseconds; null if there were too few.
    pub p95_ms: Option<f64>,
    /// How many calls missed their deadline and were not cut.
    pub missed: u64,
    /// How many calls were cut because their deadline had passed.
    pub cut: u64,
}

/// The mode of a guard: deadline, breaker or concurrency limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardModeName {
    /// The guard is off.
    Off,
    /// Calls that the guard would cut or refuse are counted only.
    Observe,
    /// Calls are cut or refused, and get an error.
    Enforce,
}

/// How a deadline was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineWhy {
    /// There were too few calls, so it is the ceiling.
    Cold,
    /// It was computed from the last calls.
    Learned,
    /// The last calls were faster, so it is the floor.
    Floor,
    /// The last calls were slower, so it is the ceiling.
    Ceiling,
}

/// The outcomes of calls and the times of their phases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallTimesSummary {
    /// The number of calls that ended.
    pub calls: u64,
    /// The number of calls by outcome; outcomes without calls are omitted.
    pub outcomes: BTreeMap<String, u64>,
    /// The times of each phase; phases without calls are omitted.
    pub phases: BTreeMap<String, PhaseTimes>,
    /// Calls whose measured parts were longer than the whole.
    pub clock_disagreements: u64,
}

/// How long one phase took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseTimes {
    /// The number of calls with this phase.
    pub count: u64,
    /// The arithmetic mean over these calls.
    pub mean_us: f64,
    /// The median: half of the calls took no longer.
    pub p50_us: f64,
    /// The 95th percentile over these calls.
    pub p95_us: f64,
    /// The 99th percentile over these calls.
    pub p99_us: f64,
    /// The longest time of any call.
    pub max_us: f64,
}
