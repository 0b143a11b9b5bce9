//! `POST /v1/dashboard/codes`: log-ins to the dashboard.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A code that opens one session of the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DashboardCode {
    /// The code. It is a secret until it is used.
    pub code: String,
    /// The path that logs in, below the URL of the admin API; it contains the code.
    pub path: String,
    /// For how many seconds it can be used.
    pub ends_in_s: u64,
}
