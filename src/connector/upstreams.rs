//! The upstreams of one core: a pool per route, kept while its settings are unchanged.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Budget, CallFailure, Clock, Time, Traffic};
use crate::connector::bridge::{BridgeMakings, RouteBridge};
use crate::connector::identity::Addresses;
use crate::connector::report::UpstreamReport;
use crate::connector::settings::{ConnectorRoute, ConnectorTables, FixedAnswer};
use crate::connector::shared::Connector;
use crate::dial::Resolver;
use crate::engine::Core;
use crate::identity::RouteAuth;
use crate::latency::{NoRetry, Reached, Retries, RetryBudget, StatusClass};
use crate::policy::{LeftOut, SafeRequests, ToolPolicy};
use crate::route::{Hostname, RouteName};
use crate::stdio::StdioSharing;
use crate::tls::{HandshakeError, ServerConfig};
use crate::upstream::{Upstream, UpstreamError};
use crate::wire::http1::{Method, RequestHead};

/// The shortest time between two log lines about failed inner TLS handshakes.
const SEAL_ERROR_EVERY: Duration = Duration::from_secs(10);

/// The shortest time between two log lines about failures to connect to an upstream.
const FAILING_EVERY: Duration = Duration::from_secs(10);

/// The most likely cause of the statuses 502, 503 and 504 of an upstream.
const GATEWAY_ANSWERS: &str = "a proxy answers for the upstream: check the server behind it";
/// The most routes that a log line names.
const ROUTES_LOGGED_MAX: usize = 8;

/// The routes and upstreams of one core.
pub(super) struct Upstreams {
    core: Core,
    connector: Arc<Connector>,
    resolver: Resolver,
    /// Memory for windows of HTTP/2 connections.
    windows: Budget,
    tables: RefCell<Arc<ConnectorTables>>,
    version: Cell<u64>,
    /// Whether any route has a policy or requires tokens, or the connector answers some requests itself.
    is_governed: Cell<bool>,
    served: RefCell<BTreeMap<RouteName, Rc<Served>>>,
    /// When a failed inner TLS handshake was last logged.
    seal_error_logged: Cell<Option<Time>>,
}

/// The upstream of one route.
pub(super) struct Served {
    pub(super) upstream: Upstream,
    /// For agents of another era of MCP, if the route has a bridge.
    bridge: Option<Box<RouteBridge>>,
    pub(super) addresses: Addresses,
    route: ConnectorRoute,
    /// The failure of the last attempt to connect, if it failed.
    failing: RefCell<Option<Failing>>,
    /// The status of the last answer, if it was that of a gateway in front of the upstream.
    gateway: Cell<Option<u16>>,
    /// The budget for retries of its calls.
    retry_budget: RefCell<RetryBudget>,
}

/// The tables by which a request was decided.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DecidedBy {
    version: u64,
    /// Whether any of its routes has a policy or requires tokens.
    is_governed: bool,
}

/// The rules that decide a request before it is forwarded.
pub(super) struct CallTerms {
    /// The authentication that its route requires, if any.
    pub(super) auth: Option<Arc<RouteAuth>>,
    /// The policy of its route, if it has one.
    pub(super) policy: Option<Arc<ToolPolicy>>,
    /// The answer of the connector itself, if no server gets the request.
    pub(super) answer: Option<FixedAnswer>,
    /// The tables that contain them.
    pub(super) by: DecidedBy,
}

/// A series of failures to connect.
struct Failing {
    why: String,
    /// The reason that was last logged, and when.
    logged: (String, Time),
}

impl Upstreams {
    pub(super) fn new(core: &Core, connector: &Arc<Connector>, resolver: Resolver, windows: &Budget) -> Upstreams {
        // The version is read first: tables that are replaced in between are then read again.
        let version = connector.tables_version();
        Upstreams {
            core: core.clone(),
            connector: Arc::clone(connector),
            resolver,
            windows: windows.clone(),
            version: Cell::new(version),
            is_governed: Cell::new(is_governed(&connector.tables())),
            tables: RefCell::new(connector.tables()),
            served: RefCell::default(),
            seal_error_logged: Cell::default(),
        }
    }

    /// Starts the child processes of routes that this core keeps: each core takes its share of them.
    pub(super) fn start_children(&self) {
        self.refresh_tables();
        let (cores, own) = (self.connector.core_count().max(1), usize::from(self.core.id().0));
        let tables = self.tables.borrow();
        let children = tables.routes.targets().filter_map(|route| route.upstream.stdio.as_ref());
        children.enumerate().filter(|(index, _)| index % cores == own).for_each(|(_, child)| child.open(&self.core));
    }

    /// Whether any route has a child process.
    pub(super) fn has_children(&self) -> bool {
        self.tables.borrow().routes.targets().any(|route| route.upstream.stdio.is_some())
    }

    pub(super) fn close_idle(&self) {
        self.served.borrow().values().for_each(|served| served.upstream.close_idle());
    }

    pub(super) fn report(&self) -> Vec<UpstreamReport> {
        let report = |served: &Rc<Served>| {
            let (http2_connections_open, http2_streams_open) = served.upstream.open_http2();
            UpstreamReport {
                route: served.route.name.clone(),
                upstream: served.route.upstream.url.to_string(),
                connections_open: served.upstream.open(),
                http2_connections_open,
                http2_streams_open,
                failing: served.failing(),
            }
        };
        self.served.borrow().values().map(report).collect()
    }

    /// The upstream for a request; none if no route has its host.
    pub(super) fn for_request(&self, head: &RequestHead) -> Option<Rc<Served>> {
        self.refresh_tables();
        let host: Hostname = head.host()?.parse().ok()?;
        let tables = self.tables.borrow();
        let Some(route) = tables.route(&host, head.path()) else {
            self.log_unrouted(&host, &tables);
            return None;
        };
        let mut served = self.served.borrow_mut();
        match served.get(&route.name) {
            Some(served) if served.is_of(route) => Some(Rc::clone(served)),
            _ => {
                let (settings, resolver) = (route.upstream.clone(), self.resolver.clone());
                let upstream = Upstream::new(&self.core, settings, resolver, &self.windows);
                let bridge = route.upstream.bridge.as_ref().map(|bridge| {
                    let makings = BridgeMakings {
                        core: &self.core,
                        connector: &self.connector,
                        resolver: &self.resolver,
                        windows: &self.windows,
                    };
                    Box::new(RouteBridge::new(bridge, &makings))
                });
                let fresh = Rc::new(Served {
                    upstream,
                    bridge,
                    addresses: Addresses::new(&route.identity, &route.upstream.url),
                    route: route.clone(),
                    failing: RefCell::new(None),
                    gateway: Cell::new(None),
                    retry_budget: RefCell::default(),
                });
                served.insert(route.name.clone(), Rc::clone(&fresh));
                Some(fresh)
            }
        }
    }

    /// The TLS configuration for an inner session with a host, and whether it asks agents for a certificate.
    ///
    /// # Errors
    ///
    /// If the host has no route, or its route has other traffic.
    pub(super) fn sealing_of(
        &self,
        host: &Hostname,
        traffic: Traffic,
    ) -> Result<(Arc<ServerConfig>, bool), CallFailure> {
        self.refresh_tables();
        let tables = self.tables.borrow();
        let Some(route) = tables.routes.lookup(host) else {
            self.log_unrouted(host, &tables);
            return Err(CallFailure::NoRoute);
        };
        if route.traffic != traffic {
            return Err(CallFailure::SealMismatch);
        }
        let sealing = tables.sealing.as_ref().ok_or(CallFailure::SealMismatch)?;
        let asks = route.auth.as_ref().is_some_and(|auth| auth.certificates().is_some());
        match traffic {
            Traffic::Plain => Err(CallFailure::SealMismatch),
            Traffic::Resealed => Ok((Arc::clone(&sealing.resealed), false)),
            Traffic::Passthrough if asks => Ok((Arc::clone(&sealing.passthrough_asking), true)),
            Traffic::Passthrough => Ok((Arc::clone(&sealing.passthrough), false)),
        }
    }

    /// Logs a call for a host of the tunnel that has no route in this connector. Only the operators know which of the
    /// two is wrong.
    fn log_unrouted(&self, host: &Hostname, tables: &ConnectorTables) {
        let Some(LeftOut { same, others }) = self.connector.unrouted_line(host, self.core.now()) else { return };
        let mut routes: Vec<String> =
            tables.routes.iter().take(ROUTES_LOGGED_MAX).map(|(host, _)| host.to_string()).collect();
        if tables.routes.iter().nth(ROUTES_LOGGED_MAX).is_some() {
            routes.push("…".to_owned());
        }
        let (tunnel, routes) = (&self.connector.settings.tunnel, routes.join(", "));
        tracing::warn!(
            %host, %tunnel, same, others, routes,
            "no route for a host of the tunnel: add one with --route or [[route]], or remove the host from the tunnel"
        );
    }

    /// Passes a host's route to `look`, if the host has one.
    pub(super) fn route_of<T>(&self, host: &Hostname, look: impl FnOnce(&ConnectorRoute) -> T) -> Option<T> {
        self.refresh_tables();
        self.tables.borrow().routes.lookup(host).map(look)
    }

    /// The rules for a request that arrives now. If no route has any, its head is not read.
    pub(super) fn terms_of(&self, head: &RequestHead) -> CallTerms {
        let by = self.decided_by();
        let none = CallTerms { by, auth: None, policy: None, answer: None };
        if !by.is_governed {
            return none;
        }
        let Some(host) = head.host().and_then(|host| host.parse::<Hostname>().ok()) else { return none };
        let tables = self.tables.borrow();
        let Some(route) = tables.route(&host, head.path()) else {
            return CallTerms { answer: tables.answer(&host, head.path()), ..none };
        };
        CallTerms { auth: route.auth.clone(), policy: route.policy.clone(), by, answer: None }
    }

    /// The version of the tables.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    fn decided_by(&self) -> DecidedBy {
        self.refresh_tables();
        DecidedBy { version: self.version.get(), is_governed: self.is_governed.get() }
    }

    /// Whether a decision by these tables is still valid for the current ones. It always is if no route has a policy or
    /// requires tokens.
    pub(super) fn holds(&self, before: DecidedBy) -> bool {
        let now = self.decided_by();
        now.version == before.version || !(now.is_governed || before.is_governed)
    }

    /// Logs a failed inner TLS handshake, at most every [`SEAL_ERROR_EVERY`], and then asks the edges for their authorities
    /// again.
    pub(super) fn on_seal_failed(&self, host: &Hostname, traffic: Traffic, error: &HandshakeError) {
        // An unknown agent may fail. A failure with an edge is unexpected.
        if traffic == Traffic::Passthrough {
            return tracing::debug!(%host, %error, "TLS handshake with an agent failed");
        }
        let now = self.core.now();
        if self.seal_error_logged.get().is_some_and(|logged| now - logged < SEAL_ERROR_EVERY) {
            return;
        }
        self.seal_error_logged.set(Some(now));
        tracing::warn!(%host, %error, "inner TLS handshake with the edge failed: its certificate must come from the authority that issued this connector's certificate");
        if matches!(error, HandshakeError::Tls(_)) {
            // The edge may have another authority now.
            for (edge, state) in self.connector.edges.iter().enumerate() {
                self.connector.invalidate_status(edge, state.status.get().0);
            }
        }
    }

    /// Reads the tables again if they were replaced. The pool of a removed route is dropped after its last call.
    fn refresh_tables(&self) {
        let version = self.connector.tables_version();
        if self.version.replace(version) == version {
            return;
        }
        let tables = self.connector.tables();
        let kept: BTreeMap<&RouteName, &ConnectorRoute> = tables.all().map(|route| (&route.name, route)).collect();
        self.served.borrow_mut().retain(|name, served| kept.get(name).is_some_and(|route| served.is_of(route)));
        drop(kept);
        self.is_governed.set(is_governed(&tables));
        self.tables.replace(tables);
    }
}

impl Served {
    /// How the calls of its route are carried.
    pub(super) fn traffic(&self) -> Traffic {
        self.route.traffic
    }

    /// The limit for the first byte of an answer, if the route has one.
    pub(super) fn first_byte_timeout(&self) -> Option<Duration> {
        self.route.first_byte_timeout
    }

    /// The name by which children are kept apart that have one caller each; none on other routes.
    pub(super) fn caller_key(&self, number: Option<u64>) -> Option<Box<str>> {
        let stdio_upstream = self.route.upstream.stdio.as_ref()?;
        let is_per_identity = stdio_upstream.settings().sessions == StdioSharing::PerIdentity;
        number.filter(|_| is_per_identity).map(|number| format!("{number:016x}").into())
    }

    /// Whether the rest of the caller's time is sent to the upstream.
    pub(super) fn sends_timeout(&self) -> bool {
        self.route.sends_timeout
    }

    /// Which POST requests may run twice, if any may.
    pub(super) fn resend(&self) -> Option<&SafeRequests> {
        self.route.resend.as_deref()
    }

    /// Whether an answer to this request may say which tools may be called twice.
    pub(super) fn learns(&self, head: &RequestHead) -> bool {
        self.route.resend.is_some() && head.method() == Method::Post
    }

    /// Counts a call, which adds to the retry budget.
    pub(super) fn on_call(&self) {
        self.retry_budget.borrow_mut().on_call();
    }

    /// Whether a failed call is retried, and after which pause. `left` is the rest of the caller's time, if known.
    pub(super) fn again(
        &self,
        retries_max: u32,
        retries: &mut Retries,
        reached: Reached,
        may_run_twice: bool,
        left: Option<Duration>,
        random: f64,
    ) -> Result<Duration, NoRetry> {
        retries.again(retries_max, reached, may_run_twice, &mut self.retry_budget.borrow_mut(), left, random)
    }

    /// Whether it serves this route with its current settings.
    fn is_of(&self, route: &ConnectorRoute) -> bool {
        self.route.traffic == route.traffic
            && self.route.identity == route.identity
            && self.route.first_byte_timeout == route.first_byte_timeout
            && self.route.sends_timeout == route.sends_timeout
            && self.route.resend.is_some() == route.resend.is_some()
            && self.route.upstream.connects_as(&route.upstream)
    }

    /// The way for a request: to the server, or to the bridge if agent and server speak different eras of MCP.
    pub(super) fn way_for(&self, head: &RequestHead, now: Time) -> &Upstream {
        let bridged = self.bridge.as_ref().and_then(|bridge| bridge.way_for(head, now));
        bridged.unwrap_or(&self.upstream)
    }

    /// Notes the status of the answer to a request that may have met a server of another era.
    pub(super) fn on_era(&self, head: &RequestHead, status: Option<u16>) {
        if let (Some(bridge), Some(status)) = (&self.bridge, status) {
            bridge.on_answer(head, status);
        }
    }

    /// Notes that connecting succeeded.
    pub(super) fn on_connected(&self) {
        if self.failing.take().is_some() {
            self.bridge.iter().for_each(|bridge| bridge.forget());
            tracing::info!(route = %self.route.name, upstream = %self.route.upstream.url, "upstream reachable again");
        }
    }

    /// Notes the status of an answer, if one came. A gateway in front of the upstream accepts connections while the
    /// upstream is down, so a connection proves nothing. Each change is logged once.
    pub(super) fn on_answer(&self, status: Option<u16>) {
        let Some(status) = status else { return };
        let gateway = Some(status).filter(|status| StatusClass::of(*status) == StatusClass::Gateway);
        let (route, upstream) = (&self.route.name, &self.route.upstream.url);
        // What a child's own server answers, it has logged, or an agent is the cause.
        if self.route.upstream.stdio.is_some() {
            return;
        }
        match (self.gateway.replace(gateway), gateway) {
            (None, Some(status)) => tracing::warn!(%route, %upstream, status, "{GATEWAY_ANSWERS}"),
            (Some(_), None) => tracing::info!(%route, %upstream, status, "upstream answers again"),
            _ => {}
        }
    }

    /// Why calls to the upstream fail, if the last one failed.
    fn failing(&self) -> Option<String> {
        let connecting = self.failing.borrow().as_ref().map(|failing| failing.why.clone());
        let down = || self.route.upstream.stdio.as_ref().and_then(|child| child.stats().down().map(String::from));
        connecting
            .or_else(down)
            .or_else(|| self.gateway.get().map(|status| format!("{GATEWAY_ANSWERS} (status {status})")))
    }

    /// Notes that connecting failed; returns the failure for the edge. A reason is logged once until connecting
    /// succeeds, and another one at the earliest after [`FAILING_EVERY`].
    pub(super) fn on_failed(&self, error: &UpstreamError, now: Time) -> CallFailure {
        let why = error.to_string();
        let mut failing = self.failing.borrow_mut();
        let last = failing.take().map(|before| before.logged);
        let is_known = |(last, at): &(String, Time)| *last == why || now - *at < FAILING_EVERY;
        let logged = last.filter(is_known).unwrap_or_else(|| {
            tracing::warn!(route = %self.route.name, upstream = %self.route.upstream.url, %error, "cannot connect to the upstream");
            (why.clone(), now)
        });
        *failing = Some(Failing { why, logged });
        failure_of(error)
    }
}

fn is_governed(tables: &ConnectorTables) -> bool {
    tables.has_answers() || tables.all().any(|route| route.policy.is_some() || route.auth.is_some())
}

fn failure_of(error: &UpstreamError) -> CallFailure {
    match error {
        UpstreamError::NotAllowed { .. } => CallFailure::UpstreamNotAllowed,
        UpstreamError::Refused { .. } | UpstreamError::NotRunning { .. } => CallFailure::UpstreamRefused,
        UpstreamError::Unreachable { .. } | UpstreamError::Name(_) | UpstreamError::Http2 { .. } => {
            CallFailure::UpstreamUnreachable
        }
        UpstreamError::Timeout { .. } => CallFailure::UpstreamConnectTimeout,
        UpstreamError::Tls { .. } | UpstreamError::TlsTimeout { .. } => CallFailure::UpstreamTls,
        UpstreamError::Busy(_) => CallFailure::Overloaded,
    }
}
