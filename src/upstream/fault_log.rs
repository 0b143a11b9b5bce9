use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::Core;
use crate::route::UpstreamUrl;

/// The shortest time between two log lines about invalid responses of one upstream, on one core.
const FAULTS_EVERY: Duration = Duration::from_secs(60);

/// Logs the responses of one upstream that cannot be passed on.
pub(super) struct FaultLog {
    core: Core,
    upstream: UpstreamUrl,
    /// When one was last logged, and how many were not logged since.
    logged: Cell<(Option<Time>, u64)>,
}

impl FaultLog {
    pub(super) fn new(core: &Core, upstream: &UpstreamUrl) -> FaultLog {
        FaultLog { core: core.clone(), upstream: upstream.clone(), logged: Cell::default() }
    }

    /// Logs what is wrong with a response from `address`, at most once per `FAULTS_EVERY`.
    pub(super) fn log(&self, address: impl Display, why: &str) {
        let now = self.core.now();
        let (logged, unlogged) = self.logged.get();
        if logged.is_some_and(|logged| now - logged < FAULTS_EVERY) {
            return self.logged.set((logged, unlogged + 1));
        }
        self.logged.set((Some(now), 0));
        let (upstream, address) = (&self.upstream, address.to_string());
        tracing::warn!(%upstream, address, error = why, unlogged, "the upstream's answer cannot be passed on");
    }
}
