//! Concurrency limits, as `GET /v1/status` shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::bodies::GuardModeName;

/// The concurrency limit of one route, and its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitInfo {
    /// The name of the route.
    pub route: String,
    /// The mode of the limit.
    pub mode: GuardModeName,
    /// The current limit of calls in flight.
    pub limit: u64,
    /// The number of calls in flight.
    pub in_flight: u64,
    /// The number of calls that wait for a place.
    pub waiting: u64,
    /// The number of agents with calls in flight or waiting.
    pub agents: u64,
    /// The number of calls that got a place.
    pub admitted: u64,
    /// The number of calls that waited for a place.
    pub waited: u64,
    /// The number of calls that were refused.
    pub refused: u64,
    /// How many of these were refused because their agent had used its share while places were free.
    pub refused_for_share: u64,
    /// How many calls would have waited or been refused if the limit were enforced.
    pub would_refuse: u64,
}
