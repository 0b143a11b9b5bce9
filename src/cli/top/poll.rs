//! What `adit top` asks a process for.

use std::time::Duration;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::control::bodies::{CallsBody, LatencyBody, StatusBody};

/// How many of the last calls are asked for.
pub(super) const CALLS_ASKED: usize = 200;

/// The answers of the admin API at one time.
#[derive(Clone, Debug)]
pub(super) struct TopSample {
    /// When it was taken, since `adit top` began.
    pub(super) at: Duration,
    /// The state of the process.
    pub(super) status: StatusBody,
    /// The times of calls by tool.
    pub(super) latency: LatencyBody,
    /// The last calls, the newest first.
    pub(super) calls: CallsBody,
}

impl TopSample {
    pub(super) async fn take(client: &AdminClient, at: Duration) -> Result<TopSample, AdminError> {
        let limit = [("limit", CALLS_ASKED.to_string())];
        Ok(TopSample {
            at,
            status: client.get(&["status"], &[]).await?,
            latency: client.get(&["latency"], &[]).await?,
            calls: client.get(&["calls"], &limit).await?,
        })
    }
}
