//! The upstreams of one core: a pool for each route, kept while its settings stay.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Time, Traffic};
use crate::connector::connector_core::{ConnectorCore, UpstreamReport};
use crate::connector::settings::{ConnectorRoute, ConnectorTables};
use crate::route::{Hostname, RouteName};
use crate::tls::{HandshakeError, ServerConfig};
use crate::upstream::{Upstream, UpstreamError, UpstreamSettings};
use crate::wire::http1::RequestHead;
use crate::wire::mux::Cause;

/// How often people are told that sealed sessions do not come about.
const SEAL_TROUBLE_EVERY: Duration = Duration::from_secs(10);

/// What one core knows of the upstreams.
pub(super) struct Upstreams {
    tables: RefCell<Arc<ConnectorTables>>,
    version: Cell<u64>,
    served: RefCell<BTreeMap<RouteName, Rc<Served>>>,
    /// When people were last told of a sealed session that did not come about.
    seal_told: Cell<Option<Time>>,
}

/// The upstream of a route.
pub(super) struct Served {
    pub(super) pool: Upstream,
    route: ConnectorRoute,
    /// Why it takes no connections, since it last did, and what the edge is told then.
    failing: RefCell<Option<(Cause, String)>>,
}

impl Upstreams {
    pub(super) fn new(tables: Arc<ConnectorTables>, version: u64) -> Upstreams {
        Upstreams {
            tables: RefCell::new(tables),
            version: Cell::new(version),
            served: RefCell::default(),
            seal_told: Cell::default(),
        }
    }

    pub(super) fn close_idle(&self) {
        self.served.borrow().values().for_each(|served| served.pool.close_idle());
    }

    pub(super) fn report(&self) -> Vec<UpstreamReport> {
        let report = |served: &Rc<Served>| UpstreamReport {
            route: served.route.name.clone(),
            upstream: served.route.upstream.url.to_string(),
            connections_open: served.pool.open(),
            failing: served.failing.borrow().as_ref().map(|(_, why)| why.clone()),
        };
        self.served.borrow().values().map(report).collect()
    }
}

impl ConnectorCore {
    /// What serves a request, if anything does.
    pub(super) fn upstream_for(&self, head: &RequestHead) -> Option<Rc<Served>> {
        self.see_tables();
        let host: Hostname = head.host()?.parse().ok()?;
        let tables = self.upstreams.tables.borrow();
        let route = tables.routes.lookup(&host)?;
        let mut served = self.upstreams.served.borrow_mut();
        match served.get(&route.name) {
            Some(served) if served.is_of(route) => Some(Rc::clone(served)),
            _ => {
                let fresh = Rc::new(Served::new(self, route));
                served.insert(route.name.clone(), Rc::clone(&fresh));
                Some(fresh)
            }
        }
    }

    /// With what a sealed session for a host is served.
    ///
    /// # Errors
    ///
    /// When its route is not sealed so, or there is none.
    pub(super) fn sealing_of(&self, host: &Hostname, traffic: Traffic) -> Result<Arc<ServerConfig>, Cause> {
        self.see_tables();
        let tables = self.upstreams.tables.borrow();
        let route = tables.routes.lookup(host).ok_or(Cause::NoRoute)?;
        if route.traffic != traffic {
            return Err(Cause::SealMismatch);
        }
        let sealing = tables.sealing.as_ref().ok_or(Cause::SealMismatch)?;
        match traffic {
            Traffic::Plain => Err(Cause::SealMismatch),
            Traffic::Resealed => Ok(Arc::clone(&sealing.resealed)),
            Traffic::Passthrough => Ok(Arc::clone(&sealing.passthrough)),
        }
    }

    /// Looks at how the route of a host is called, if it has one.
    pub(super) fn route_of<T>(&self, host: &Hostname, look: impl FnOnce(&str) -> T) -> Option<T> {
        self.upstreams.tables.borrow().routes.lookup(host).map(|route| look(route.name.as_str()))
    }

    /// Tells people once in a while that a sealed session did not come about, and asks then who the edges are by now.
    pub(super) fn on_seal_failed(&self, host: &Hostname, traffic: Traffic, error: &HandshakeError) {
        // An agent may be anybody; an edge that is refused is news.
        if traffic == Traffic::Passthrough {
            return tracing::debug!(%host, %error, "no TLS with an agent");
        }
        let now = self.core.now();
        if self.upstreams.seal_told.get().is_some_and(|told| now - told < SEAL_TROUBLE_EVERY) {
            return;
        }
        self.upstreams.seal_told.set(Some(now));
        tracing::warn!(%host, %error, "no sealed session with the edge: it must be one of the authority that certified us");
        if matches!(error, HandshakeError::Tls(_)) {
            // It may have got another authority since.
            for (edge, state) in self.connector.edges.iter().enumerate() {
                self.connector.doubt_standing(edge, state.standing.get().0);
            }
        }
    }

    /// Takes the tables in anew when they were replaced. Pools of what is not served any more go when their last call has
    /// ended.
    fn see_tables(&self) {
        let upstreams = &self.upstreams;
        let version = self.connector.tables_version();
        if upstreams.version.replace(version) == version {
            return;
        }
        let tables = self.connector.tables();
        let kept: BTreeMap<&RouteName, &ConnectorRoute> =
            tables.routes.iter().map(|(_, route)| (&route.name, route)).collect();
        upstreams.served.borrow_mut().retain(|name, served| kept.get(name).is_some_and(|route| served.is_of(route)));
        drop(kept);
        upstreams.tables.replace(tables);
    }
}

impl Served {
    fn new(here: &ConnectorCore, route: &ConnectorRoute) -> Served {
        let pool = Upstream::new(&here.core, route.upstream.clone(), here.resolver.clone());
        Served { pool, route: route.clone(), failing: RefCell::new(None) }
    }

    /// How its calls come.
    pub(super) fn traffic(&self) -> Traffic {
        self.route.traffic
    }

    /// Whether it serves this route as it is now.
    fn is_of(&self, route: &ConnectorRoute) -> bool {
        self.route.traffic == route.traffic && same(&self.route.upstream, &route.upstream)
    }

    /// It took a connection.
    pub(super) fn on_connected(&self) {
        if self.failing.take().is_some() {
            tracing::info!(route = %self.route.name, upstream = %self.route.upstream.url, "the upstream is back");
        }
    }

    /// It took none: what the edge is told. People are told of each kind of trouble once, until it is back.
    pub(super) fn on_failed(&self, error: &UpstreamError) -> Cause {
        let cause = cause_of(error);
        let told = self.failing.borrow().as_ref().is_some_and(|(before, _)| *before == cause);
        if !told {
            tracing::warn!(route = %self.route.name, upstream = %self.route.upstream.url, %error, "no upstream");
            self.failing.replace(Some((cause, error.to_string())));
        }
        cause
    }
}

fn cause_of(error: &UpstreamError) -> Cause {
    match error {
        UpstreamError::NotAllowed { .. } => Cause::UpstreamNotAllowed,
        UpstreamError::Refused { .. } => Cause::UpstreamRefused,
        UpstreamError::Unreachable { .. } | UpstreamError::Name(_) => Cause::UpstreamUnreachable,
        UpstreamError::Timeout(_) => Cause::UpstreamConnectTimeout,
        UpstreamError::Tls(_) => Cause::UpstreamTls,
        UpstreamError::Busy(_) => Cause::Overloaded,
    }
}

/// Whether connections made under `a` serve under `b` as well.
fn same(a: &UpstreamSettings, b: &UpstreamSettings) -> bool {
    let same_tls = match (&a.tls, &b.tls) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    let figures = |settings: &UpstreamSettings| {
        let UpstreamSettings { connections_max, connect_timeout, idle_timeout, queue_timeout, .. } = *settings;
        (connections_max, connect_timeout, idle_timeout, queue_timeout)
    };
    same_tls && a.allowed == b.allowed && a.url == b.url && figures(a) == figures(b)
}
