//! The routes of agents' calls.

use std::ops::Deref;

use crate::base::Traffic;
use crate::route::{HostPattern, Route, RouteTable};

/// Which tunnel serves which host, and for how many routes the server name has to be read before the TLS handshake. The number is kept
/// because each change of the tables asks for it, at a cost that must not depend on their size.
#[derive(Clone, Default)]
pub struct AgentRoutes {
    table: RouteTable<Route>,
    named: usize,
}

impl AgentRoutes {
    /// Adds a route, as [`RouteTable::insert`] does.
    pub fn insert(&mut self, pattern: HostPattern, place: &str, route: Route) -> bool {
        let is_named = is_named(&route);
        let is_new = self.table.insert(pattern, place, route);
        self.named += usize::from(is_new && is_named);
        is_new
    }

    /// Removes the route of a pattern, if there is one.
    pub fn remove(&mut self, pattern: &HostPattern) {
        self.named -= usize::from(self.table.get(pattern).is_some_and(is_named));
        self.table.remove(pattern);
    }

    /// Whether some route is passthrough, or asks agents for a certificate, so that server names have to be read.
    pub(super) fn need_names(&self) -> bool {
        self.named > 0
    }
}

impl From<RouteTable<Route>> for AgentRoutes {
    fn from(table: RouteTable<Route>) -> AgentRoutes {
        let named = table.targets().filter(|route| is_named(route)).count();
        AgentRoutes { table, named }
    }
}

impl Deref for AgentRoutes {
    type Target = RouteTable<Route>;

    fn deref(&self) -> &RouteTable<Route> {
        &self.table
    }
}

fn is_named(route: &Route) -> bool {
    route.traffic == Traffic::Passthrough || asks_for_certificate(route)
}

/// Whether a route asks agents for a certificate.
pub(super) fn asks_for_certificate(route: &Route) -> bool {
    route.own.auth.as_ref().is_some_and(|auth| auth.certificates().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::route::{RouteName, RouteOverrides};

    #[test]
    fn the_table_contains_the_counts() {
        let mut rng = Rng::new(7);
        let mut routes = AgentRoutes::default();
        let mut seen = [0, 0];
        for _ in 0..2_000 {
            let pattern: HostPattern = format!("h{}.test", rng.below(8)).parse().unwrap();
            if rng.chance(0.5) {
                let traffic = if rng.chance(0.2) { Traffic::Passthrough } else { Traffic::Plain };
                let (name, tunnel) = (RouteName::of_host(&pattern), "tnl_a".parse().unwrap());
                routes.insert(pattern, "here", Route { name, tunnel, traffic, own: RouteOverrides::default() });
            } else {
                routes.remove(&pattern);
            }
            let fresh = AgentRoutes::from(routes.table.clone());
            assert_eq!(routes.named, fresh.named);
            assert_eq!(routes.need_names(), routes.targets().any(is_named));
            seen[usize::from(routes.need_names())] += 1;
        }
        assert!(seen.iter().all(|times| *times > 100), "{seen:?}");
    }
}
