//! `GET /v1/latency`: the times of calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::BreakerStateName;
use crate::control::reading::RoleKind;

/// The times of calls, of all or of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LatencyBody {
    /// The role that measured them; null where none does.
    pub measured_by: Option<RoleKind>,
    /// The route that was asked for; null for all.
    pub route: Option<String>,
    /// The times of all calls together.
    pub total: CallTimesSummary,
    /// The same by route, MCP method and tool.
    pub labels: Vec<CallTimesOfLabel>,
    /// Calls that are counted under the label `(other)`, because there were too many labels.
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
    /// How often calls were sent again: on an edge to another connector, on a connector to its upstream.
    pub retries: u64,
    /// How many of its calls were sent a second time because the first try was slow.
    pub hedges: u64,
    /// How many of those the second try answered.
    pub hedges_won: u64,
    /// The state of their breaker; null if they have none, or none was called yet.
    pub breaker: Option<BreakerStateName>,
    /// Their deadline; null for calls that have none, such as notifications and streams of events.
    pub deadline: Option<DeadlineOfLabel>,
}

/// How long a call may take that begins now, and how many took longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadlineOfLabel {
    /// What becomes of a call that misses it.
    pub mode: GuardModeName,
    /// How long a call may take, in milliseconds; null for any time.
    pub limit_ms: Option<f64>,
    /// Why it may take so long.
    pub why: DeadlineWhy,
    /// How long half of the last calls took at the most, in milliseconds; null if too few were seen.
    pub p50_ms: Option<f64>,
    /// How long 95 % of the last calls took at the most, in milliseconds; null if too few were seen.
    pub p95_ms: Option<f64>,
    /// How many calls missed their deadline and were not cut.
    pub missed: u64,
    /// How many calls were cut because their deadline had passed.
    pub cut: u64,
}

/// What becomes of calls that miss their deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardModeName {
    /// Nothing is learned, and nothing is cut.
    Off,
    /// They are counted, and run on.
    Observe,
    /// They are cut, and get an error.
    Enforce,
}

/// Why a deadline is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineWhy {
    /// Too few calls were seen, so that it is the longest.
    Cold,
    /// It follows from the last calls.
    Learned,
    /// The last calls were quicker than the shortest deadline.
    Floor,
    /// The last calls were slower than the longest deadline allows.
    Ceiling,
}

/// How calls ended and how long their phases took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallTimesSummary {
    /// How many calls ended.
    pub calls: u64,
    /// How many ended in each way; ways in which none ended are left out.
    pub outcomes: BTreeMap<String, u64>,
    /// How long each phase took; phases that no call had are left out.
    pub phases: BTreeMap<String, PhaseTimes>,
    /// Calls whose parts were measured longer than the whole.
    pub clock_disagreements: u64,
}

/// How long one phase took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseTimes {
    /// How many calls had it.
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
