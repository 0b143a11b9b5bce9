use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::base::{CoreId, HostSet, Time, TunnelId, counters};
use crate::connector::edge_status::{EdgeStatus, SharedStatus};
use crate::connector::hosts::{EdgeHosts, MissingHosts};
use crate::connector::message::{ConnectorCommand, ConnectorEvent, CoreMessage};
use crate::connector::settings::{ConnectorSettings, ConnectorTables, EdgeAddress, LINKS_MAX};
use crate::engine::{MailReceiver, MailSender, mailbox};
use crate::exchange::EraNotes;
use crate::latency::{BreakerTable, LearnedTable, QueueReading, TaskTable};
use crate::policy::{KeyedLogLimit, LeftOut};
use crate::route::Hostname;
use crate::serve::{AuditLog, RouteLimits, SessionOwners};
use crate::wire::mux::Hosts;

/// The most messages that may wait for one core.
const CORE_MESSAGES_MAX: usize = 256;

/// The state that all cores of a connector share. Everything on the path of a call is per core.
pub struct Connector {
    pub(super) settings: ConnectorSettings,
    /// A random number of this process, by which edges know which links belong together.
    pub(super) instance: u64,
    tables: RwLock<Arc<ConnectorTables>>,
    /// The hosts of the routes in the tables.
    hosts: RwLock<HostSet>,
    /// Counts replacements of the tables, so that a core need not fetch them for each call.
    tables_version: AtomicU64,
    pub(super) edges: Vec<EdgeState>,
    /// The learned latencies of calls of agents whose TLS ends here, for all cores.
    pub(super) learned: Arc<LearnedTable>,
    /// The circuit breakers of these calls, shared by all cores.
    pub(super) breakers: Arc<BreakerTable>,
    /// The concurrency limits of these calls, by route.
    pub(super) limits: RouteLimits,
    /// The tasks that these calls belong to; none if they are not counted.
    tasks: Option<TaskTable>,
    cores: Vec<MailSender<CoreMessage>>,
    /// The number of cores whose calls have ended for good.
    drained: AtomicUsize,
    messages: Mutex<Vec<Option<MailReceiver<CoreMessage>>>>,
    pub(super) events: MailSender<ConnectorEvent>,
    /// The owners of sessions, on routes that require tokens.
    pub(super) session_owners: SessionOwners,
    pub(super) counters: Counters,
    /// Limits log lines about called hosts without a route, which agents can cause.
    unrouted_log_limit: Mutex<KeyedLogLimit<Hostname>>,
    /// Limits log lines about agents and servers of different MCP eras.
    pub(super) eras: EraNotes,
}

/// The state of one edge that all cores share.
#[derive(Default)]
pub(super) struct EdgeState {
    /// The configured number of links to it.
    links: AtomicU16,
    /// The last error that was logged since the last established link.
    last_error: Mutex<Option<LoggedError>>,
    /// The connector's status there.
    pub(super) status: SharedStatus,
    clock_skew: Mutex<Option<ClockSkew>>,
    hosts: Mutex<EdgeHosts>,
    /// Whether the last connection used the fallback port, because the first did not answer.
    pub(super) prefers_fallback_port: AtomicBool,
}

/// An error that was logged.
struct LoggedError {
    key: String,
    text: String,
}

/// The difference between this machine's wall clock and an edge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// Whether this machine's clock is ahead; otherwise it is behind.
    pub ahead: bool,
    /// The difference, accurate to about a second.
    pub by: Duration,
}

/// The state of one edge as this connector sees it, apart from links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    /// The address of the edge.
    pub edge: EdgeAddress,
    /// The connector's status there.
    pub status: EdgeStatus,
    /// The difference of the two wall clocks, if an enrolment measured it.
    pub clock_skew: Option<ClockSkew>,
    /// The last error since the last established link.
    pub last_error: Option<String>,
    /// The hosts of routes that the tunnel does not have there; none before the edge has sent its hosts.
    pub missing: Option<MissingHosts>,
}

impl EdgeState {
    fn logged(&self) -> MutexGuard<'_, Option<LoggedError>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts(&self) -> MutexGuard<'_, EdgeHosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_clock_skew(&self, ahead: bool, by: Duration) {
        *self.clock_skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(ClockSkew { ahead, by });
    }
}

counters! {
    /// Events off the path of a good call, counted over all cores.
    pub struct Counters {
        bridge_calls_parked, "Calls of agents of MCP 2026-07-28 that were kept while the agent was asked for input";
        bridge_calls_to_sessions, "Requests of agents of MCP 2026-07-28 that were translated for a server with sessions";
        bridge_calls_to_stateless, "Requests of agents with sessions that were translated for a server of MCP 2026-07-28";
        bridge_probes_other, "Probes that found a server that only speaks the other era of MCP";
        bridge_probes_same, "Probes that found a server that speaks the era of the agent";
        bridge_probes_unknown, "Probes that found nothing out about the eras of a server";
        bridge_refused_limits, "Requests that the era bridge refused because one of its limits was reached";
        bridge_refused_messages, "Messages that the era bridge refused because they are not allowed or have no equivalent";
        bridge_sessions_ended, "Sessions that the era bridge had with servers and that have ended";
        bridge_sessions_opened, "Sessions that the era bridge has opened with servers";
        calls_cancelled, "Calls whose agent left or whose link ended before the answer was complete";
        calls_cut_unread, "Calls over HTTP/2 that were cut because their answers came in very small frames that were not read";
        calls_failed, "Calls that the upstream did not answer completely";
        caller_timeouts_malformed, "Requests whose X-Request-Timeout or grpc-timeout is malformed and was ignored";
        calls_out_of_time, "Calls stopped because their caller's time was over";
        calls_overloaded, "Calls refused because too many were in flight";
        calls_unlimited, "Calls without a concurrency limit, because too many routes have one";
        calls_unrouted, "Calls for hosts without a route";
        cancellations_failed, "Cancel notifications (notifications/cancelled) for calls whose caller's time was over that upstreams did not accept";
        cancellations_sent, "Cancel notifications (notifications/cancelled) that were sent for calls whose caller's time was over";
        dials_failed, "Attempts to open a link that failed";
        enrolments, "Certificates that edges issued to connectors";
        enrolments_failed, "Attempts to get a certificate that failed";
        eras_differed, "Openings (initialize, server/discover) answered 400, 404 or 405, as by a server of the other era of MCP";
        links_ended, "Links that ended, for any reason";
        links_back_on_quic, "Links that were moved back from TCP to QUIC, after QUIC had been proven to carry them";
        links_made, "Links that were established";
        links_silent, "Links over QUIC on which nothing arrived any more, so that another one was dialled";
        texts_changed, "Parts of texts that the policies of their routes have had stripped or redacted";
        texts_flagged, "Parts of texts that policies look for, and that were passed on as they are";
        lists_crowded, "Answers that were withheld because no memory was left to filter them";
        requests_refused, "Requests that were refused before they became calls";
        answers_cut, "Answers of which a part was left out because they exceeded a ceiling of the rule that allows their calls";
        answers_over_ceiling, "Answers that were withheld because they exceeded a ceiling of the rule that allows their calls";
        calls_denied, "Calls that the policies of their routes denied";
        calls_over_ceiling, "Calls that were denied because they reached a ceiling of the rule that allows them";
        calls_unevaluated, "Calls that were denied because a policy in Cedar could not be evaluated";
        requests_resent, "Requests sent again after a connection ended or refused them without an answer";
        resends_denied, "Requests not sent again because the retry budget of their route was used up";
        resends_safe, "POST requests of MCP that were sent again because `resend` is mcp-safe";
        resends_spent, "Requests not sent again because the limit of retries was reached";
        resends_unread, "Requests sent again of which nothing had reached the upstream";
        seals_failed, "Inner TLS sessions that could not be established";
        sessions_sealed, "Inner TLS sessions that were established";
        edge_identities_refused, "Calls refused because an edge has not said who calls, or what it says is not accepted";
        tokens_unexchanged, "Calls refused because the token of their caller was not exchanged for one of the server";
    }
}

impl Connector {
    /// A connector for `cores` cores. `instance` is a random number; the jitter of each core follows from it. The
    /// cores send their events to `events`.
    #[must_use]
    pub fn new(
        settings: ConnectorSettings,
        tables: ConnectorTables,
        cores: usize,
        instance: u64,
        events: &MailSender<ConnectorEvent>,
    ) -> Arc<Connector> {
        let (senders, messages): (Vec<_>, Vec<_>) = (0..cores).map(|_| mailbox(CORE_MESSAGES_MAX)).unzip();
        let links = match settings.links {
            0 => u16::try_from(cores).unwrap_or(LINKS_MAX),
            links => links,
        };
        let edge = |_: &_| EdgeState { links: links.clamp(1, LINKS_MAX).into(), ..EdgeState::default() };
        let edges = settings.edges.iter().map(edge).collect();
        let tasks = TaskTable::new(settings.tasks.clone());
        Arc::new(Connector {
            settings,
            instance,
            hosts: RwLock::new(tables.hosts()),
            tables: RwLock::new(Arc::new(tables)),
            tables_version: AtomicU64::new(0),
            edges,
            learned: Arc::default(),
            breakers: Arc::new(BreakerTable::new(instance)),
            limits: RouteLimits::default(),
            tasks,
            cores: senders,
            drained: AtomicUsize::new(0),
            messages: Mutex::new(messages.into_iter().map(Some).collect()),
            events: events.clone(),
            session_owners: SessionOwners::default(),
            counters: Counters::default(),
            unrouted_log_limit: Mutex::default(),
            eras: EraNotes::default(),
        })
    }

    /// Replaces the tables. Links continue, and so do connections to unchanged upstreams; the next call uses the new
    /// tables.
    pub fn reload(&self, tables: ConnectorTables) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = tables.hosts();
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        self.tables_version.fetch_add(1, Ordering::Release);
        // If the mailbox of a core is full, its edges are informed at the next change.
        self.cores.iter().for_each(|core| drop(core.send(CoreMessage::RoutesChanged)));
        (0..self.edges.len()).for_each(|edge| self.compare_hosts(edge, None));
    }

    /// The hosts for which there are routes.
    pub(super) fn hosts(&self) -> HostSet {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares the routes with the hosts that the tunnel has at an edge. `reported` are new hosts from that edge.
    pub(super) fn compare_hosts(&self, edge: usize, reported: Option<Hosts>) {
        let (Some(state), Some(address)) = (self.edges.get(edge), self.settings.edges.get(edge)) else { return };
        let mut known = state.hosts();
        if let Some(reported) = reported {
            known.set(reported);
        }
        known.log_missing(address, &self.settings.tunnel, &self.hosts());
    }

    /// Asks whether a log line about a called host without a route may be written.
    pub(super) fn unrouted_line(&self, host: &Hostname, now: Time) -> Option<LeftOut> {
        let mut lines = self.unrouted_log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        lines.allow(*host, now)
    }

    /// The tables that are current now.
    #[must_use]
    pub fn tables(&self) -> Arc<ConnectorTables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a command to every core. Skips cores that have ended or whose mailbox is full; returns how many were
    /// reached.
    pub fn command(&self, command: impl Fn() -> ConnectorCommand) -> usize {
        self.cores.iter().filter(|core| core.send(CoreMessage::Command(command())).is_ok()).count()
    }

    /// The circuit breakers of calls of agents whose TLS ends here.
    #[must_use]
    pub fn breakers(&self) -> &BreakerTable {
        &self.breakers
    }

    /// The concurrency limits of routes that have had such calls, by route name.
    #[must_use]
    pub fn limits(&self) -> Vec<(String, QueueReading)> {
        self.limits.readings()
    }

    /// The tasks of such calls; none if they are not counted.
    #[must_use]
    pub fn tasks(&self) -> Option<&TaskTable> {
        self.tasks.as_ref()
    }

    /// The audit log for calls, if there is one.
    #[must_use]
    pub fn audit(&self) -> Option<&AuditLog> {
        self.settings.audit.as_ref()
    }

    /// The event counters of all cores.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn tables_version(&self) -> u64 {
        self.tables_version.load(Ordering::Acquire)
    }

    /// Takes note that the calls of a core have ended for good.
    pub(super) fn on_drained(&self) {
        self.drained.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the calls of all cores have ended for good.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed) >= self.core_count()
    }

    pub(super) fn core_count(&self) -> usize {
        self.cores.len()
    }

    pub(super) fn take_messages(&self, core: CoreId) -> Option<MailReceiver<CoreMessage>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(core.0))?.take()
    }

    /// The configured number of links to an edge.
    pub(super) fn links_wanted(&self, edge: usize) -> u16 {
        self.edges.get(edge).map_or(0, |state| state.links.load(Ordering::Relaxed))
    }

    /// Stores the number of an edge's cores. If more links are needed, each core is asked to open its own.
    pub(super) fn on_edge_cores(&self, edge: usize, cores: u16) {
        let Some(state) = self.edges.get(edge).filter(|_| self.settings.links == 0) else { return };
        let cores = cores.min(LINKS_MAX);
        if state.links.fetch_max(cores, Ordering::Relaxed) < cores {
            // A core whose mailbox is full, or that has ended, continues with the links that it has.
            self.cores.iter().for_each(|core| drop(core.send(CoreMessage::MoreLinks)));
        }
    }

    /// The tunnel that it serves.
    #[must_use]
    pub fn tunnel(&self) -> &TunnelId {
        &self.settings.tunnel
    }

    /// The state of each edge.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeView> {
        let hosts = self.hosts();
        let view = |(edge, state): (&EdgeAddress, &EdgeState)| EdgeView {
            edge: edge.clone(),
            status: state.status.get().1,
            clock_skew: *state.clock_skew.lock().unwrap_or_else(PoisonError::into_inner),
            last_error: state.logged().as_ref().map(|error| error.text.clone()),
            missing: state.hosts().view(&self.settings.tunnel, &hosts),
        };
        self.settings.edges.iter().zip(&self.edges).map(view).collect()
    }

    /// The core that keeps the certificate for an edge up to date.
    pub(super) fn core_for_certificates(&self, edge: usize) -> CoreId {
        CoreId(u16::try_from(edge % self.core_count().max(1)).unwrap_or_default())
    }

    /// Sets this connector's status at an edge, and notifies every core.
    pub(super) fn set_status(&self, edge: usize, status: EdgeStatus) {
        if let Some(state) = self.edges.get(edge) {
            state.status.set(status);
            self.send_status(edge);
        }
    }

    /// Discards the certificate of status change number `seen`, which the edge refused.
    pub(super) fn invalidate_status(&self, edge: usize, seen: u64) {
        if self.edges.get(edge).is_some_and(|state| state.status.invalidate(seen)) {
            self.send_status(edge);
        }
    }

    fn send_status(&self, edge: usize) {
        // A core whose mailbox is full checks again after a timeout.
        self.cores.iter().for_each(|core| drop(core.send(CoreMessage::EdgeStatus(edge))));
    }

    /// Whether an error differs, by its key, from the last one that was logged for this edge, which it replaces.
    pub(super) fn is_new_error(&self, edge: usize, key: String, text: String) -> bool {
        let Some(state) = self.edges.get(edge) else { return false };
        let mut logged = state.logged();
        let is_new = logged.as_ref().is_none_or(|last| last.key != key);
        *logged = Some(LoggedError { key, text });
        is_new
    }

    /// Notes that a link to the edge was established: the next failure begins a new series.
    pub(super) fn on_linked(&self, edge: usize) {
        if let Some(state) = self.edges.get(edge) {
            *state.logged() = None;
        }
    }

    /// Sends an event to the control thread. If its mailbox is full, the event is lost.
    pub(super) fn send(&self, event: ConnectorEvent) {
        let _ = self.events.send(event);
    }
}
