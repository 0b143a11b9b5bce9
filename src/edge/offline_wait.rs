//! How long a call waits for a connector that is offline.

use std::time::Duration;

use crate::base::Time;
use crate::edge::edge_core::EdgeCore;
use crate::edge::open::CallTarget;

/// The time limit of a call's wait for a link.
pub(super) struct OfflineWait {
    until: Time,
    /// The limit of the wait while the connector is draining.
    latest: Time,
}

impl OfflineWait {
    /// The wait of a call that arrived now.
    pub(super) fn new(core: &EdgeCore) -> OfflineWait {
        let settings = &core.edge.settings;
        // Each call asks, and almost none waits: the time of the turn is exact enough.
        let until = core.core.turn_time() + settings.offline_wait;
        OfflineWait { until, latest: until + settings.restart_wait }
    }

    /// Whether the wait continues. It ends at once when this edge drains.
    pub(super) fn is_on(&self, core: &EdgeCore) -> bool {
        !core.is_draining() && core.core.turn_time() < self.until
    }

    /// The rest of the wait, at most until the caller has to be answered. While the only connectors that serve the host
    /// drain and finish their calls, the time for their replacements has not begun.
    pub(super) fn left(&mut self, core: &EdgeCore, target: CallTarget<'_>) -> Duration {
        let now = core.core.turn_time();
        if core.edge.presence.is_ending(&target.route.tunnel, target.host.as_str()) {
            self.until = (now + core.edge.settings.offline_wait).min(self.latest);
        }
        let left = if self.is_on(core) { self.until - now } else { Duration::ZERO };
        left.min(target.until - now)
    }
}
