//! Hosts of a tunnel for which none of its connectors has a route: found after each change, and logged.

use std::sync::Arc;
use std::time::Duration;

use crate::base::TunnelId;
use crate::edge::edge_core::EdgeCore;
use crate::edge::shared::Edge;

/// The delay after a change before hosts are reviewed, so that changes at the same time, as after a restart, cause one
/// log line.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// The most hosts that a log line names.
const HOSTS_LOGGED_MAX: usize = 16;

impl EdgeCore {
    /// Schedules a review of a tunnel's hosts, after the hosts of it or of a connector changed.
    pub(super) fn review_hosts_soon(&self, tunnel: &TunnelId) {
        if !self.edge.presence.begin_review(tunnel) {
            return;
        }
        let (core, edge, tunnel) = (self.core.clone(), Arc::clone(&self.edge), tunnel.clone());
        self.core.spawn(async move {
            core.sleep(SETTLE_TIME).await;
            edge.review_hosts(&tunnel);
        });
    }
}

impl Edge {
    fn review_hosts(&self, tunnel: &TunnelId) {
        let hosts = self.tables().hosts_of(tunnel);
        let Some(unserved) = self.presence.review(tunnel, &hosts) else { return };
        if unserved.is_empty() {
            return tracing::info!(%tunnel, "connectors have routes for all hosts of the tunnel now");
        }
        let hosts = unserved.listed(HOSTS_LOGGED_MAX);
        tracing::warn!(
            %tunnel, hosts,
            "no connector of the tunnel has a route for these hosts, so calls for them fail with no_route: add --route or \
             [[route]] to a connector, or give the tunnel other hosts (`adit tunnel update {tunnel} --host …`)"
        );
    }
}
