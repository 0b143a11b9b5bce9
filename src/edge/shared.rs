use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam::utils::CachePadded;

use crate::base::{CoreId, Time, TunnelId, counters};
use crate::edge::cloudflared_places::CloudflaredPlaces;
use crate::edge::hedged_routes::ToolHints;
use crate::edge::message::{CoreMessage, EdgeCommand, EdgeEvent};
use crate::edge::presence::Presence;
use crate::edge::served_hosts::HostService;
use crate::edge::settings::{EdgeSettings, EdgeTables};
use crate::edge::source_permits::SourcePermits;
use crate::edge::usage::UsageLine;
use crate::engine::{MailReceiver, MailSender, mailbox};
use crate::exchange::EraNotes;
use crate::latency::{BreakerTable, LearnedTable, QueueReading, TaskTable};
use crate::policy::{KeyedLogLimit, LeftOut, SourceKey, SourceLimits};
use crate::serve::{AuditLog, RouteLimits, SessionOwners, SessionTable};
use crate::tls::ServerConfig;
use crate::wire::RegistrationRefusal;

/// The most messages that may wait for one core. A full mailbox refuses hand-overs, which then stay where they are.
const CORE_MESSAGES_MAX: usize = 1024;

/// The state that all cores of an edge share. Everything on the path of a call is per core; this is used when tables
/// change, links are added or removed, or a connection is on a core without a link for it.
pub struct Edge {
    pub(super) settings: EdgeSettings,
    /// A random number of this process, by which connectors notice a restart.
    pub(super) instance: u64,
    tables: RwLock<Arc<EdgeTables>>,
    /// TLS towards connectors. Read once per connection.
    connectors_tls: RwLock<Option<Arc<ServerConfig>>>,
    published: CachePadded<Published>,
    pub(super) presence: Arc<Presence>,
    /// The numbers of connections of cloudflared.
    pub(super) cloudflared_places: Arc<CloudflaredPlaces>,
    /// Which connector has which MCP session.
    pub(super) affinity: SessionTable,
    /// The owners of sessions, on routes that require tokens.
    pub(super) session_owners: SessionOwners,
    /// The learned latencies of each label, for all cores.
    pub(super) learned: Arc<LearnedTable>,
    /// The circuit breakers, which all cores share.
    pub(super) breakers: Arc<BreakerTable>,
    /// The concurrency limits of routes, with their queues.
    pub(super) limits: RouteLimits,
    /// The tool hints of servers, for routes with hedging.
    pub(super) tool_hints: ToolHints,
    /// The calls of each agent task; none if they are not counted.
    tasks: Option<TaskTable>,
    cores: Vec<MailSender<CoreMessage>>,
    slots: Mutex<Vec<Option<CoreSlot>>>,
    handshakes: Mutex<SourceLimits>,
    failed_registrations: Mutex<SourceLimits>,
    /// Limits log lines that unknown peers at the connectors' port can cause.
    stranger_log_limit: Mutex<KeyedLogLimit<(Option<SourceKey>, StrangerTrouble)>>,
    /// Limits log lines about agents and servers of different MCP eras.
    pub(super) eras: EraNotes,
    /// Open connections of each source at the agents' port.
    pub(super) agents: Arc<SourcePermits>,
    /// Open connections of each source at the connectors' port that are not registered yet.
    pub(super) unregistered: Arc<SourcePermits>,
    /// Usage of cores that have ended, until the control thread takes it.
    usage_left: Mutex<Vec<UsageLine>>,
    pub(super) counters: Counters,
}

/// The trouble of an unknown peer at the connectors' port, as log lines distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StrangerTrouble {
    /// The connection did not become a link, for an error of this kind.
    Setup(&'static str),
    /// The registration was refused.
    Refused(RegistrationRefusal),
}

/// State that every call and connection reads and only a reload writes. It has its own cache line, so that no core is
/// slowed by counters of another.
struct Published {
    /// Counts versions of the tables.
    tables_version: AtomicU64,
    /// Whether some route is passthrough or asks agents for a certificate, so that server names have to be read.
    reads_names: AtomicBool,
}

impl Published {
    fn new(tables: &EdgeTables) -> Published {
        Published { tables_version: AtomicU64::new(0), reads_names: AtomicBool::new(tables.routes.need_names()) }
    }
}

counters! {
    /// Events off the path of a good call, counted over all cores.
    pub struct Counters {
        accepts_failed, "Accepts that the system refused";
        admission_denied, "Connections and calls that admission refused";
        admission_dry_run, "Connections and calls that admission would refuse if it were enforced";
        answers_cut_at_close, "Connections of agents that were reset before the agent had received all of its last answer";
        caller_timeouts_malformed, "Requests whose X-Request-Timeout or grpc-timeout is malformed and was ignored";
        calls_limited, "Calls refused because their source has too many in flight";
        calls_move_denied, "Calls not passed on by a connector and not sent to another one: the limit of retries, the retry budget or the time of the call was reached";
        calls_moved, "Calls sent to another connector or link, because a connector did not pass them on or its link stalled; each once";
        calls_moved_again, "Further times that such calls were sent to another connector or link";
        calls_unlimited, "Calls without a concurrency limit, because too many routes have one";
        certificates_refused, "Certificates of connectors that were refused: expired, of another authority or tunnel, or missing";
        connections_limited, "Connections refused because their source has too many open";
        connections_refused, "Connections of agents refused above the limit of the core";
        enrolments, "Certificates that edges issued to connectors";
        eras_differed, "Openings (initialize, server/discover) answered 400, 404 or 405, as by a server of the other era of MCP";
        greetings_refused, "Request heads and handshakes refused because incomplete ones took too much memory";
        handed_over, "Connections handed over to another core";
        handshakes_failed, "TLS handshakes that failed, with agents and connectors";
        handshakes_limited, "Connections refused because their source opens too many per second";
        hedges, "Calls that were sent a second time because they took longer than 95 % of the last ones";
        hedges_denied, "Calls that were not sent a second time: 2 % of the calls of the route were already, or the route had no place for another call in flight";
        hedges_won, "Calls that were answered by their second try";
        http2_connections, "Connections of agents that speak HTTP/2";
        http2_floods, "HTTP/2 connections ended because of too many resets, small frames or faulty requests";
        links_ended, "Links that ended, for any reason";
        quic_refused, "QUIC connections refused because their peer is not admitted or a limit is reached";
        quic_retried, "QUIC peers that were asked to show that they receive at their address";
        links_limited, "Links refused because their tunnel has as many as it may have";
        links_refused, "Links of connectors that were refused";
        texts_changed, "Parts of texts that the policies of their routes have had stripped or redacted";
        texts_flagged, "Parts of texts that policies look for, and that were passed on as they are";
        lists_crowded, "Answers that were withheld because no memory was left to filter them";
        passed_through, "Connections of agents passed through to the connector still encrypted";
        passed_through_given_up, "Passed-through connections that were ended or moved because their connector was stalled while another one responded";
        passed_through_stalled, "Passed-through connections that ended because their agent stopped reading";
        proxy_headers_refused, "Connections of proxies without a valid PROXY header";
        registrations_failed, "Links and enrolments of connectors that were refused, for any reason";
        registrations_limited, "Connections of connectors refused because their source failed to authenticate too often";
        requests_refused, "Requests that were refused before they became calls";
        answers_cut, "Answers of which a part was left out because they exceeded a ceiling of the rule that allows their calls";
        answers_over_ceiling, "Answers that were withheld because they exceeded a ceiling of the rule that allows their calls";
        calls_denied, "Calls that the policies of their routes denied";
        calls_over_ceiling, "Calls that were denied because they reached a ceiling of the rule that allows them";
        calls_unevaluated, "Calls that were denied because a policy in Cedar could not be evaluated";
        seals_failed, "Inner TLS sessions that could not be established";
        sessions_sealed, "Inner TLS sessions that were established";
        identities_unforwarded, "Calls refused because the identity of their caller is too long to be forwarded to the connector";
        tokens_unexchanged, "Calls refused because the token of their caller was not exchanged for one of the server";
    }
}

/// The mailbox ends of one core, kept here until the core runs.
pub(super) struct CoreSlot {
    pub(super) messages: MailReceiver<CoreMessage>,
    pub(super) events: MailSender<EdgeEvent>,
}

impl Edge {
    /// An edge for `cores` cores. The cores send their events to `events`.
    #[must_use]
    pub fn new(
        settings: EdgeSettings,
        tables: EdgeTables,
        cores: usize,
        instance: u64,
        events: &MailSender<EdgeEvent>,
    ) -> Arc<Edge> {
        let (senders, slots) = (0..cores)
            .map(|_| {
                let (sender, messages) = mailbox(CORE_MESSAGES_MAX);
                (sender, Some(CoreSlot { messages, events: events.clone() }))
            })
            .unzip();
        let agents = Arc::<SourcePermits>::default();
        agents.limit_calls(tables.admission.calls_per_source);
        let tasks = TaskTable::new(settings.tasks.clone());
        Arc::new(Edge {
            connectors_tls: RwLock::new(settings.connectors_tls.clone()),
            affinity: SessionTable::new(settings.session_idle_timeout),
            session_owners: SessionOwners::default(),
            settings,
            instance,
            published: CachePadded::new(Published::new(&tables)),
            tables: RwLock::new(Arc::new(tables)),
            presence: Arc::new(Presence::new(cores)),
            cloudflared_places: Arc::default(),
            learned: Arc::default(),
            breakers: Arc::new(BreakerTable::new(instance)),
            limits: RouteLimits::default(),
            tool_hints: ToolHints::default(),
            tasks,
            cores: senders,
            slots: Mutex::new(slots),
            handshakes: Mutex::new(SourceLimits::new(instance)),
            failed_registrations: Mutex::new(SourceLimits::new(instance.rotate_left(32))),
            stranger_log_limit: Mutex::default(),
            eras: EraNotes::default(),
            agents,
            unregistered: Arc::default(),
            usage_left: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// The calls of each agent task; none if they are not counted.
    #[must_use]
    pub fn tasks(&self) -> Option<&TaskTable> {
        self.tasks.as_ref()
    }

    /// The audit log for calls, if there is one.
    #[must_use]
    pub fn audit(&self) -> Option<&AuditLog> {
        self.settings.audit.as_ref()
    }

    /// Replaces the tables. Connections and links continue; the next call uses the new tables.
    pub fn reload(&self, tables: EdgeTables) {
        self.replace_tables(tables);
        for core in &self.cores {
            // A core whose mailbox is full, or that has ended, does not inform its connectors.
            let _ = core.send(CoreMessage::HostsChanged(None));
        }
    }

    /// Like [`Edge::reload`], if only this tunnel changed.
    pub fn reload_tunnel(&self, tables: EdgeTables, tunnel: &TunnelId) {
        self.replace_tables(tables);
        let linked = self.presence.cores_with(tunnel, |_, _| true);
        for (_, core) in self.cores.iter().enumerate().filter(|(index, _)| linked.contains(CoreId(*index as u16))) {
            let _ = core.send(CoreMessage::HostsChanged(Some(tunnel.clone())));
        }
    }

    fn replace_tables(&self, tables: EdgeTables) {
        self.published.reads_names.store(tables.routes.need_names(), Ordering::Relaxed);
        self.agents.limit_calls(tables.admission.calls_per_source);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        self.published.tables_version.fetch_add(1, Ordering::Release);
    }

    /// The current tables. Cores keep their own reference, and call this only when the version has changed.
    #[must_use]
    pub fn tables(&self) -> Arc<EdgeTables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces TLS towards connectors, for example when the authority changes. Links continue; the next connection
    /// uses the new configuration.
    pub fn replace_connectors_tls(&self, config: Arc<ServerConfig>) {
        *self.connectors_tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    pub(super) fn connectors_tls(&self) -> Option<Arc<ServerConfig>> {
        self.connectors_tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reads_names(&self) -> bool {
        self.published.reads_names.load(Ordering::Relaxed)
    }

    /// The version of the current tables.
    pub(super) fn tables_version(&self) -> u64 {
        self.published.tables_version.load(Ordering::Acquire)
    }

    /// The tunnels that have connectors, with their hosts and which connectors serve each.
    #[must_use]
    pub fn service(&self) -> Vec<(TunnelId, Vec<HostService>)> {
        let tables = self.tables();
        let service = |tunnel: TunnelId| {
            let hosts = self.presence.service(&tunnel, &tables.hosts_of(&tunnel))?;
            Some((tunnel, hosts))
        };
        self.presence.tunnels().into_iter().filter_map(service).collect()
    }

    /// Sends a command to every core. Skips cores that have ended or whose mailbox is full; returns how many were
    /// reached.
    pub fn command(&self, command: impl Fn() -> EdgeCommand) -> usize {
        self.cores.iter().filter(|core| core.send(CoreMessage::Command(command())).is_ok()).count()
    }

    /// Takes the usage that cores left when they ended.
    #[must_use]
    pub fn take_usage_left(&self) -> Vec<UsageLine> {
        std::mem::take(&mut *self.usage_left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn leave_usage(&self, lines: Vec<UsageLine>) {
        self.usage_left.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
    }

    /// The circuit breakers of all routes.
    #[must_use]
    pub fn breakers(&self) -> &BreakerTable {
        &self.breakers
    }

    /// The concurrency limits of routes that have had calls, by route name.
    #[must_use]
    pub fn limits(&self) -> Vec<(String, QueueReading)> {
        self.limits.readings()
    }

    /// The event counters of all cores.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn core_count(&self) -> usize {
        self.cores.len()
    }

    pub(super) fn take_slot(&self, core: CoreId) -> Option<CoreSlot> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(core.0))?.take()
    }

    pub(super) fn send_to(&self, core: CoreId, message: CoreMessage) -> Result<(), CoreMessage> {
        match self.cores.get(usize::from(core.0)) {
            Some(sender) => sender.send(message),
            None => Err(message),
        }
    }

    /// The connection rates of sources. The lock is held for a few instructions, once per connection.
    pub(super) fn handshakes(&self) -> MutexGuard<'_, SourceLimits> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rates of failed registrations, by source.
    pub(super) fn failed_registrations(&self) -> MutexGuard<'_, SourceLimits> {
        self.failed_registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a log line about an unregistered peer at the connectors' port may be written.
    pub(super) fn stranger_line(&self, peer: Option<IpAddr>, trouble: StrangerTrouble, now: Time) -> Option<LeftOut> {
        let mut lines = self.stranger_log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        lines.allow((peer.map(SourceKey::of), trouble), now)
    }
}
