//! Retries after a failed connection to an edge, and the log lines about failures.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{CoreId, Rng};
use crate::connector::connect_error::ConnectError;
use crate::connector::message::ConnectorEvent;
use crate::connector::shared::Connector;
use crate::link::Backoff;

/// The shortest wait after a final refusal, even if shorter waits are configured.
const REFUSED_WAIT_MIN: Duration = Duration::from_secs(5);

/// The longest wait after a name could not be resolved.
const NAME_WAIT_MAX: Duration = Duration::from_secs(1);

/// The retries of one core, for links and enrolments.
pub(super) struct Retry {
    connector: Arc<Connector>,
    rng: RefCell<Rng>,
}

impl Retry {
    pub(super) fn new(core: CoreId, connector: &Arc<Connector>) -> Retry {
        let rng = Rng::new(connector.instance ^ u64::from(core.0).rotate_left(48));
        Retry { connector: Arc::clone(connector), rng: RefCell::new(rng) }
    }

    /// A backoff with the limits of the settings.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.connector.settings.backoff_min, self.connector.settings.backoff_max)
    }

    /// The next wait of a backoff.
    pub(super) fn next_wait(&self, backoff: &mut Backoff) -> Duration {
        backoff.next(&mut self.rng.borrow_mut())
    }

    /// How long to wait after an error.
    pub(super) fn wait_after(&self, error: &ConnectError, backoff: &mut Backoff) -> Duration {
        let mut rng = self.rng.borrow_mut();
        if error.refusal().is_some() {
            // The edge may accept the connector later, but not soon.
            let max = self.connector.settings.backoff_max.max(REFUSED_WAIT_MIN);
            let early_ns = u64::try_from((max / 4).as_nanos()).unwrap_or(u64::MAX);
            return max.saturating_sub(Duration::from_nanos(rng.between(0, early_ns)));
        }
        let wait = backoff.next(&mut rng) + error.retry_after();
        // Requests of many links for a name share one query.
        if matches!(error, ConnectError::Name(_)) { wait.min(NAME_WAIT_MAX) } else { wait }
    }

    /// A random number from 0 to 1.
    pub(super) fn random_fraction(&self) -> f64 {
        self.rng.borrow_mut().unit()
    }

    /// Logs an error and sends it to the control thread, unless it is the same as the last one for this edge.
    pub(super) fn log_error(&self, edge: usize, error: &ConnectError) {
        if !self.connector.is_new_error(edge, error.key(), error.to_string()) {
            return;
        }
        let edge = self.connector.settings.edges[edge].clone();
        if let Some(refusal) = error.refusal() {
            tracing::error!(%edge, %error, "the edge refuses this connector");
            self.connector.send(ConnectorEvent::Refused { edge, refusal, why: error.to_string() });
        } else {
            tracing::warn!(%edge, %error, "connection attempt failed");
            self.connector.send(ConnectorEvent::Failed { edge, why: error.to_string() });
        }
    }
}
