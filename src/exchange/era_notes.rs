use std::sync::{Mutex, PoisonError};

use crate::base::Time;
use crate::policy::{KeyedLogLimit, LeftOut};
use crate::route::RouteName;
use crate::wire::mcp::Era;

/// Log lines about agents of one era of MCP that a server refuses as one of the other does. Agents can cause them, so that there
/// are few for each route.
#[derive(Default)]
pub struct EraNotes(Mutex<KeyedLogLimit<(RouteName, Era)>>);

impl EraNotes {
    /// Notes that a request with this method was answered with `status`; whether an agent and a server of different eras have met,
    /// as far as that can be told.
    pub fn note(&self, route: &RouteName, method: &str, status: u16, now: Time) -> bool {
        let Some(era) = Era::of_opening(method).filter(|_| Era::is_refusal(status)) else { return false };
        let allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner).allow((route.clone(), era), now);
        if let Some(LeftOut { same, others }) = allowed {
            tracing::info!(
                route = route.as_str(),
                same,
                others,
                "an agent of MCP {} was refused, as by a server of {}: agents that speak both try the other way by themselves; for \
                 the rest, update the server or the agent, and check the path",
                era.revisions(),
                era.other().revisions()
            );
        }
        true
    }
}
