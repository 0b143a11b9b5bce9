//! How long a call waits for a connector that is away.

use std::time::Duration;

use crate::base::Time;
use crate::edge::edge_core::EdgeCore;
use crate::edge::open::CallTarget;

/// Until when a call waits for a link.
pub(super) struct OfflineWait {
    until: Time,
    /// It waits no longer than until then for a connector that is ending.
    latest: Time,
}

impl OfflineWait {
    /// The wait of a call that came now.
    pub(super) fn new(core: &EdgeCore) -> OfflineWait {
        let settings = &core.edge.settings;
        // Each call asks, and almost none waits: the time of the turn is exact enough.
        let until = core.core.turn_time() + settings.offline_wait;
        OfflineWait { until, latest: until + settings.restart_wait }
    }

    /// Whether it is not over. It is at once when this edge is to end.
    pub(super) fn is_on(&self, core: &EdgeCore) -> bool {
        !core.is_draining() && core.core.turn_time() < self.until
    }

    /// How long it still is, at most until the caller has to be answered. As long as the only connectors that serve the host are
    /// about to end, and finish their calls first, the time for those that take their place has not begun.
    pub(super) fn left(&mut self, core: &EdgeCore, target: CallTarget<'_>) -> Duration {
        let now = core.core.turn_time();
        if core.edge.presence.is_ending(&target.route.tunnel, target.host.as_str()) {
            self.until = (now + core.edge.settings.offline_wait).min(self.latest);
        }
        let left = if self.is_on(core) { self.until - now } else { Duration::ZERO };
        left.min(target.until - now)
    }
}
