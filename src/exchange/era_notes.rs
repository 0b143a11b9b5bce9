use std::sync::{Mutex, PoisonError};

use crate::base::Time;
use crate::policy::{KeyedLogLimit, LeftOut};
use crate::route::RouteName;
use crate::wire::mcp::Era;

/// Limits the log lines about agents whose MCP era the server does not support. Agents can cause these lines, so few
/// are written per route.
#[derive(Default)]
pub struct EraNotes(Mutex<KeyedLogLimit<(RouteName, Era)>>);

impl EraNotes {
    /// Logs that a request was refused with `status` if that suggests that agent and server speak different eras of
    /// MCP. Returns whether it does.
    pub fn note(&self, route: &RouteName, method: &str, status: u16, now: Time) -> bool {
        let Some(era) = Era::of_opening(method).filter(|_| Era::is_refusal(status)) else { return false };
        let allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner).allow((route.clone(), era), now);
        if let Some(LeftOut { same, others }) = allowed {
            tracing::info!(
                route = route.as_str(),
                same,
                others,
                "a request of MCP {} was refused, as a server of MCP {} would refuse it: agents that speak both retry on their own; \
                 for others, set `bridge` of the connector's route to auto, or update the server or the agent; and check the path",
                era.revisions(),
                era.other().revisions()
            );
        }
        true
    }
}
