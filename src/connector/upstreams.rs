//! The upstreams of one core: a pool for each route, kept while its settings stay.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::connector::here::{Here, UpstreamReport};
use crate::connector::settings::{ConnectorRoute, ConnectorTables};
use crate::route::{Hostname, RouteName};
use crate::upstream::{Upstream, UpstreamError, UpstreamSettings};
use crate::wire::http1::RequestHead;
use crate::wire::mux::Cause;

/// What one core knows of the upstreams.
pub(super) struct Upstreams {
    tables: RefCell<Arc<ConnectorTables>>,
    version: Cell<u64>,
    served: RefCell<BTreeMap<RouteName, Rc<Served>>>,
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
        Upstreams { tables: RefCell::new(tables), version: Cell::new(version), served: RefCell::default() }
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

impl Here {
    /// What serves a request, if anything does.
    pub(super) fn upstream_for(&self, head: &RequestHead) -> Option<Rc<Served>> {
        self.see_tables();
        let host: Hostname = head.host()?.parse().ok()?;
        let tables = self.upstreams.tables.borrow();
        let route = tables.routes.lookup(&host)?;
        let mut served = self.upstreams.served.borrow_mut();
        match served.get(&route.name) {
            Some(served) if same(&served.route.upstream, &route.upstream) => Some(Rc::clone(served)),
            _ => {
                let fresh = Rc::new(Served::new(self, route));
                served.insert(route.name.clone(), Rc::clone(&fresh));
                Some(fresh)
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
        upstreams
            .served
            .borrow_mut()
            .retain(|name, served| kept.get(name).is_some_and(|route| same(&route.upstream, &served.route.upstream)));
        drop(kept);
        upstreams.tables.replace(tables);
    }
}

impl Served {
    fn new(here: &Here, route: &ConnectorRoute) -> Served {
        let pool = Upstream::new(&here.core, route.upstream.clone(), here.resolver.clone());
        Served { pool, route: route.clone(), failing: RefCell::new(None) }
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
