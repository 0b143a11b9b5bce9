//! Routes with hedging: which of their tools are read-only, and the budget for second tries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::base::TunnelId;
use crate::latency::HedgeBudget;
use crate::policy::SafeRequests;
use crate::route::{Route, RouteName};

/// The most routes with hedging. Calls of other routes are not sent twice.
const ROUTES_MAX: usize = 1_024;

/// The tool hints of the servers of routes, for all cores. It is kept across a reload for routes that stay in their
/// tunnel.
#[derive(Default)]
pub(super) struct ToolHints(Mutex<HashMap<RouteName, (TunnelId, Arc<SafeRequests>)>>);

/// The routes with hedging that one core has used.
#[derive(Default)]
pub(super) struct HedgedRoutes(RefCell<FxHashMap<RouteName, (TunnelId, Rc<HedgedRoute>)>>);

/// The state of a route with hedging on one core.
pub(super) struct HedgedRoute {
    /// The tool hints of its server.
    pub(super) hints: Arc<SafeRequests>,
    /// The budget for second tries on this core.
    pub(super) budget: RefCell<HedgeBudget>,
}

impl ToolHints {
    /// The tool hints of a route; none if the table is full.
    fn of(&self, route: &Route) -> Option<Arc<SafeRequests>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hints)) = known.get(&route.name).filter(|(tunnel, _)| *tunnel == route.tunnel) {
            return Some(Arc::clone(hints));
        }
        if known.len() >= ROUTES_MAX {
            // Remove those that no core uses.
            known.retain(|_, (_, hints)| Arc::strong_count(hints) > 1);
        }
        if known.len() >= ROUTES_MAX && !known.contains_key(&route.name) {
            return None;
        }
        let hints = Arc::<SafeRequests>::default();
        known.insert(route.name.clone(), (route.tunnel.clone(), Arc::clone(&hints)));
        Some(hints)
    }
}

impl HedgedRoutes {
    /// The state of a route on this core; none if the table is full.
    pub(super) fn of(&self, all: &ToolHints, route: &Route) -> Option<Rc<HedgedRoute>> {
        let mut known = self.0.borrow_mut();
        if let Some((_, of)) = known.get(&route.name).filter(|(tunnel, _)| *tunnel == route.tunnel) {
            return Some(Rc::clone(of));
        }
        if known.len() >= ROUTES_MAX {
            known.clear();
        }
        let of = Rc::new(HedgedRoute { hints: all.of(route)?, budget: RefCell::default() });
        known.insert(route.name.clone(), (route.tunnel.clone(), Rc::clone(&of)));
        Some(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Traffic;
    use crate::route::RouteOverrides;

    const LIST: &[u8] = br#"{"result":{"tools":[{"name":"look","annotations":{"readOnlyHint":true}}]}}"#;

    fn route(nth: usize, tunnel: &str) -> Route {
        Route {
            name: format!("route-{nth}").parse().unwrap(),
            tunnel: tunnel.parse().unwrap(),
            traffic: Traffic::Plain,
            own: RouteOverrides::default(),
        }
    }

    #[test]
    fn cores_share_tool_hints_and_a_route_of_another_tunnel_starts_empty() {
        let (all, cores) = (ToolHints::default(), [HedgedRoutes::default(), HedgedRoutes::default()]);
        let knows = |core: usize, tunnel: &str| {
            cores[core].of(&all, &route(1, tunnel)).is_some_and(|of| of.hints.is_read_only("look"))
        };
        cores[0].of(&all, &route(1, "tnl_a")).unwrap().hints.learn(LIST, false, true);
        assert!(knows(0, "tnl_a") && knows(1, "tnl_a"));
        assert!(!knows(0, "tnl_b") && !knows(1, "tnl_b"), "it is another server");
        assert!(!knows(1, "tnl_a"), "which was forgotten");
    }

    #[test]
    fn so_many_routes_are_known_and_those_that_are_gone_make_room() {
        let (all, core) = (ToolHints::default(), HedgedRoutes::default());
        for nth in 0..ROUTES_MAX {
            assert!(core.of(&all, &route(nth, "tnl_a")).is_some());
        }
        let other = HedgedRoutes::default();
        assert!(other.of(&all, &route(ROUTES_MAX, "tnl_a")).is_none(), "a core uses all of them");
        let held = core.of(&all, &route(7, "tnl_a"));
        assert!(core.of(&all, &route(ROUTES_MAX, "tnl_a")).is_some(), "the core discards its table and starts again");
        assert!(held.is_some() && all.0.lock().unwrap().len() == 2, "the new one, and the one that is in use");
    }
}
