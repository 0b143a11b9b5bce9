//! Concurrency limits, as `GET /v1/status` shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::GuardModeName;

/// How many calls of one route are in flight, and how many may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitInfo {
    /// The name of the route.
    pub route: String,
    /// What becomes of calls beyond the limit.
    pub mode: GuardModeName,
    /// How many calls may be in flight at the moment.
    pub limit: u64,
    /// How many calls are in flight.
    pub in_flight: u64,
    /// How many calls wait for a place.
    pub waiting: u64,
    /// How many agents have calls in flight or waiting.
    pub agents: u64,
    /// How many calls got a place so far.
    pub admitted: u64,
    /// How many calls waited for one.
    pub waited: u64,
    /// How many calls were refused.
    pub refused: u64,
    /// How many of these were refused because their agent had its share, while there were free places.
    pub refused_for_share: u64,
    /// How many calls would have waited or been refused if the limit were enforced.
    pub would_refuse: u64,
}
