use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::base::CoreId;
use crate::edge::message::{CoreMessage, EdgeCommand, EdgeEvent};
use crate::edge::places::Places;
use crate::edge::presence::Presence;
use crate::edge::settings::{EdgeSettings, EdgeTables};
use crate::edge::usage::UsageLine;
use crate::engine::{MailReceiver, MailSender, mailbox};
use crate::policy::SourceLimits;
use crate::tls::ServerConfig;

/// Messages that may wait for one core. A full mailbox refuses a hand-over, which then stays where it is.
const CORE_MESSAGES_MAX: usize = 1024;

/// One edge: what its cores share. Everything on the way of a call is per core; this is asked when tables change, links
/// come and go, or a connection has landed on a core without a link for it.
pub struct Edge {
    pub(super) settings: EdgeSettings,
    /// A random number of this process, so that connectors see that it was restarted.
    pub(super) instance: u64,
    tables: RwLock<Arc<EdgeTables>>,
    /// TLS towards connectors. Read once per connection.
    connectors_tls: RwLock<Option<Arc<ServerConfig>>>,
    /// Whether the TLS of some route ends in its connector, so that server names have to be read.
    passes_through: AtomicBool,
    pub(super) presence: Arc<Presence>,
    cores: Vec<MailSender<CoreMessage>>,
    slots: Mutex<Vec<Option<CoreSlot>>>,
    calls: AtomicU64,
    handshakes: Mutex<SourceLimits>,
    failed_registrations: Mutex<SourceLimits>,
    /// Connections that each source has open at the agents' port.
    pub(super) agents: Arc<Places>,
    /// Connections that each source has open at the connectors' port and that are not registered yet.
    pub(super) unregistered: Arc<Places>,
    /// Usage of cores that have ended, until the control thread takes it.
    usage_left: Mutex<Vec<UsageLine>>,
    pub(super) counters: Counters,
}

/// What happened and how often, all cores together. Counted only off the way of a good call.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections of agents that were cut off before they had all that was sent last, as they took nothing for too long.
    pub answers_cut_at_close: AtomicU64,
    /// Connections of agents that were refused because there were too many.
    pub connections_refused: AtomicU64,
    /// Accepts that the system refused.
    pub accepts_failed: AtomicU64,
    /// TLS handshakes that failed, with agents and connectors.
    pub handshakes_failed: AtomicU64,
    /// Connections that were handed to another core.
    pub handed_over: AtomicU64,
    /// Certificates of connectors that were refused: out of date, of another authority or tunnel, or missing.
    pub certificates_refused: AtomicU64,
    /// Certificates that connectors were given.
    pub enrolments: AtomicU64,
    /// Links and enrolments of connectors that were refused, for whatever reason.
    pub registrations_failed: AtomicU64,
    /// Links of connectors that were not let in.
    pub links_refused: AtomicU64,
    /// Links that ended, for whatever reason.
    pub links_ended: AtomicU64,
    /// Requests that were refused before they became calls.
    pub requests_refused: AtomicU64,
    /// Connections and calls that admission turned away.
    pub admission_denied: AtomicU64,
    /// Connections and calls that it would turn away if it were not only tried out.
    pub admission_dry_run: AtomicU64,
    /// Connections that were turned away as their source makes too many.
    pub handshakes_limited: AtomicU64,
    /// Connections of connectors that were turned away as others of their source failed to prove themselves too often.
    pub registrations_limited: AtomicU64,
    /// Connections that were turned away as their source has too many open.
    pub connections_limited: AtomicU64,
    /// Calls that were refused as their source has too many in flight.
    pub calls_limited: AtomicU64,
    /// Links that were refused as their tunnel has as many as it may have.
    pub links_limited: AtomicU64,
    /// Heads and handshakes that were refused as too much of others was under way.
    pub greetings_refused: AtomicU64,
    /// Connections of agents that went on to the connector unread.
    pub passed_through: AtomicU64,
    /// Of these, those that ended as their agent took nothing for too long.
    pub passed_through_stalled: AtomicU64,
    /// Sealed sessions with connectors that came about.
    pub sessions_sealed: AtomicU64,
    /// Sealed sessions with connectors that did not.
    pub seals_failed: AtomicU64,
    /// Connections of proxies that did not say for whom they speak.
    pub proxy_headers_refused: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The ends of the mailboxes of one core, kept here until the core runs.
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
        let agents = Arc::<Places>::default();
        agents.limit_calls(tables.admission.calls_per_source);
        Arc::new(Edge {
            connectors_tls: RwLock::new(settings.connectors_tls.clone()),
            settings,
            instance,
            passes_through: AtomicBool::new(tables.pass_through()),
            tables: RwLock::new(Arc::new(tables)),
            presence: Arc::new(Presence::new(cores)),
            cores: senders,
            slots: Mutex::new(slots),
            calls: AtomicU64::new(1),
            handshakes: Mutex::new(SourceLimits::new(instance)),
            failed_registrations: Mutex::new(SourceLimits::new(instance.rotate_left(32))),
            agents,
            unregistered: Arc::default(),
            usage_left: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Replaces what is served. Connections and links live on; the next call sees the new tables.
    pub fn reload(&self, tables: EdgeTables) {
        self.passes_through.store(tables.pass_through(), Ordering::Relaxed);
        self.agents.limit_calls(tables.admission.calls_per_source);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
    }

    /// What is served now.
    #[must_use]
    pub fn tables(&self) -> Arc<EdgeTables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces TLS towards connectors, as when the authority changes. Links live on; the next connection uses the new one.
    pub fn replace_connectors_tls(&self, config: Arc<ServerConfig>) {
        *self.connectors_tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    pub(super) fn connectors_tls(&self) -> Option<Arc<ServerConfig>> {
        self.connectors_tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn passes_through(&self) -> bool {
        self.passes_through.load(Ordering::Relaxed)
    }

    /// Sends a command to every core. Cores that have ended, or whose mailbox is full, are left out; returns how many were
    /// reached.
    pub fn command(&self, command: impl Fn() -> EdgeCommand) -> usize {
        self.cores.iter().filter(|core| core.send(CoreMessage::Command(command())).is_ok()).count()
    }

    /// Takes out the usage that cores left when they ended.
    #[must_use]
    pub fn take_usage_left(&self) -> Vec<UsageLine> {
        std::mem::take(&mut *self.usage_left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn leave_usage(&self, lines: Vec<UsageLine>) {
        self.usage_left.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
    }

    /// What happened, all cores together.
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

    /// How often each source connects. Held for a few instructions, once for a connection.
    pub(super) fn handshakes(&self) -> MutexGuard<'_, SourceLimits> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often connectors of each source fail to prove themselves.
    pub(super) fn failed_registrations(&self) -> MutexGuard<'_, SourceLimits> {
        self.failed_registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next call.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}
