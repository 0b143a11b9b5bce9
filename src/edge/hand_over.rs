//! Hands connections over to another core, which has a link for their next request.

use std::time::Duration;

use crate::base::{Clock, CoreId};
use crate::edge::edge_core::EdgeCore;
use crate::edge::message::CoreMessage;
use crate::edge::shared::Counters;

/// How often a hand-over to a core with a full mailbox is retried.
const TRY_AGAIN_EVERY: Duration = Duration::from_millis(10);

impl EdgeCore {
    /// Sends a connection to another core. If the mailbox of that core is full, waits for as long as a call waits for a
    /// connector.
    pub(super) async fn hand_over(&self, target: CoreId, connection: CoreMessage) {
        Counters::add(&self.edge.counters.handed_over);
        let deadline = self.core.now() + self.edge.settings.offline_wait;
        let mut message = connection;
        while let Err(returned) = self.edge.send_to(target, message) {
            if self.core.now() >= deadline {
                return tracing::warn!(core = %target, "connection dropped: the mailbox of the core with its link is full");
            }
            message = returned;
            self.core.sleep(TRY_AGAIN_EVERY).await;
        }
    }
}
