use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crossbeam::utils::CachePadded;

use crate::base::{CoreId, TunnelId, counters};
use crate::edge::message::{CoreMessage, EdgeCommand, EdgeEvent};
use crate::edge::places::Places;
use crate::edge::settings::{EdgeSettings, EdgeTables};
use crate::edge::usage::UsageLine;
use crate::engine::{MailReceiver, MailSender, mailbox};
use crate::policy::SourceLimits;
use crate::route::CoreSet;
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
    published: CachePadded<Published>,
    /// TLS towards connectors. Asked for once for a connection.
    connectors_tls: RwLock<Option<Arc<ServerConfig>>>,
    presence: Mutex<HashMap<TunnelId, Presence>>,
    cores: Vec<MailSender<CoreMessage>>,
    seats: Mutex<Vec<Option<Seat>>>,
    handshakes: Mutex<SourceLimits>,
    failed_registrations: Mutex<SourceLimits>,
    /// Who has how many connections open at the agents' port.
    pub(super) agents: Arc<Places>,
    /// The same at the connectors' port, of those who have not said who they are.
    pub(super) strangers: Arc<Places>,
    /// What cores that have ended had not told yet.
    usage_left: Mutex<Vec<UsageLine>>,
    pub(super) counters: Counters,
}

/// What every call and connection reads, and only a reload writes: on a cache line of its own, so that no core waits for
/// another one's counters.
struct Published {
    /// Counts versions of the tables.
    tables_version: AtomicU64,
    /// Whether some route's TLS ends in its connector, so that names are looked for at all.
    passes_through: AtomicBool,
}

impl Published {
    fn new(tables: &EdgeTables) -> Published {
        Published { tables_version: AtomicU64::new(0), passes_through: AtomicBool::new(tables.pass_through()) }
    }
}

counters! {
    /// Events off the path of a good call, counted for all cores together.
    pub struct Counters {
        accepts_failed, "Accepts that the system refused";
        admission_denied, "Connections and calls that admission turned away";
        admission_dry_run, "Connections and calls that admission would turn away if it were enforced";
        answers_cut_at_close, "Connections of agents that were reset before they had taken all of their last answer";
        calls_limited, "Calls refused because their source has too many in flight";
        certificates_refused, "Certificates of connectors that were refused: expired, of another authority or tunnel, or missing";
        connections_limited, "Connections refused because their source has too many open";
        connections_refused, "Connections of agents refused above the limit of the core";
        enrolments, "Certificates that edges issued to connectors";
        greetings_refused, "Request heads and handshakes refused because unfinished ones took too much memory";
        handed_over, "Connections handed over to another core";
        handshakes_failed, "TLS handshakes that failed, with agents and connectors";
        handshakes_limited, "Connections refused because their source opens too many per second";
        links_ended, "Links that ended, for any reason";
        links_limited, "Links refused because their tunnel has as many as it may have";
        links_refused, "Links of connectors that were refused";
        passed_through, "Connections of agents passed through to the connector still encrypted";
        passed_through_stalled, "Passed-through connections that ended because their agent took nothing for too long";
        proxy_headers_refused, "Connections of proxies without a valid PROXY header";
        registrations_failed, "Links and enrolments of connectors that were refused, for any reason";
        registrations_limited, "Connections of connectors refused because their source failed to authenticate too often";
        requests_refused, "Requests that were refused before they became calls";
        seals_failed, "Inner TLS sessions that could not be established";
        sessions_sealed, "Inner TLS sessions that were established";
    }
}

/// What belongs to one core before it runs.
pub(super) struct Seat {
    pub(super) messages: MailReceiver<CoreMessage>,
    pub(super) events: MailSender<EdgeEvent>,
}

/// Where the links of one tunnel are.
#[derive(Default)]
struct Presence {
    /// Links on each core that take new streams.
    usable: Vec<u32>,
    /// For each connector, links on each core.
    placed: HashMap<u64, Vec<u32>>,
}

impl Presence {
    fn placed_links(&self) -> u64 {
        self.placed.values().flatten().map(|links| u64::from(*links)).sum()
    }
}

impl Edge {
    /// An edge for `cores` cores. What the cores have to tell goes to `events`.
    #[must_use]
    pub fn new(
        settings: EdgeSettings,
        tables: EdgeTables,
        cores: usize,
        instance: u64,
        events: &MailSender<EdgeEvent>,
    ) -> Arc<Edge> {
        let (senders, seats) = (0..cores)
            .map(|_| {
                let (sender, messages) = mailbox(CORE_MESSAGES_MAX);
                (sender, Some(Seat { messages, events: events.clone() }))
            })
            .unzip();
        let agents = Arc::<Places>::default();
        agents.limit_calls(tables.admission.calls_per_source);
        Arc::new(Edge {
            connectors_tls: RwLock::new(settings.connectors_tls.clone()),
            settings,
            instance,
            published: CachePadded::new(Published::new(&tables)),
            tables: RwLock::new(Arc::new(tables)),
            presence: Mutex::default(),
            cores: senders,
            seats: Mutex::new(seats),
            handshakes: Mutex::new(SourceLimits::new(instance)),
            failed_registrations: Mutex::new(SourceLimits::new(instance.rotate_left(32))),
            agents,
            strangers: Arc::default(),
            usage_left: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Replaces what is served. Connections and links live on; the next call sees the new tables.
    pub fn reload(&self, tables: EdgeTables) {
        self.published.passes_through.store(tables.pass_through(), Ordering::Relaxed);
        self.agents.limit_calls(tables.admission.calls_per_source);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tables);
        self.published.tables_version.fetch_add(1, Ordering::Release);
    }

    /// What is served now. Cores keep a reference of their own and ask again only when the version has changed.
    #[must_use]
    pub fn tables(&self) -> Arc<EdgeTables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces TLS towards connectors, as when another authority vouches for them. Links live on; the next connection is
    /// made by the new.
    pub fn replace_connectors_tls(&self, config: Arc<ServerConfig>) {
        *self.connectors_tls.write().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    pub(super) fn connectors_tls(&self) -> Option<Arc<ServerConfig>> {
        self.connectors_tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn passes_through(&self) -> bool {
        self.published.passes_through.load(Ordering::Relaxed)
    }

    /// Counts versions of the tables.
    pub(super) fn tables_version(&self) -> u64 {
        self.published.tables_version.load(Ordering::Acquire)
    }

    /// Asks every core something. Cores that have ended, or whose mailbox is full, are passed over; returns how many were
    /// asked.
    pub fn command(&self, command: impl Fn() -> EdgeCommand) -> usize {
        self.cores.iter().filter(|core| core.send(CoreMessage::Command(command())).is_ok()).count()
    }

    /// What was called and not told by cores that have ended.
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

    pub(super) fn take_seat(&self, core: CoreId) -> Option<Seat> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).get_mut(usize::from(core.0))?.take()
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

    /// The cores that have a link of the tunnel which takes new streams.
    pub(super) fn cores_with(&self, tunnel: &TunnelId) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        if let Some(presence) = self.presence().get(tunnel) {
            for (index, _) in presence.usable.iter().enumerate().filter(|(_, links)| **links > 0) {
                set.insert(CoreId(index as u16));
            }
        }
        set
    }

    /// Decides on which core a connector's new link should be, and books it there: the core with the fewest links of that
    /// connector, `here` among equals. None when the tunnel has `max` links already.
    pub(super) fn place_link(
        &self,
        tunnel: &TunnelId,
        connector: u64,
        here: CoreId,
        max: Option<u32>,
    ) -> Option<CoreId> {
        let mut presence = self.presence();
        let links = presence.get(tunnel).map_or(0, Presence::placed_links);
        if max.is_some_and(|max| links >= u64::from(max)) {
            return None;
        }
        let placed = presence.entry(tunnel.clone()).or_default().placed.entry(connector).or_default();
        placed.resize(self.cores.len(), 0);
        let best = (0..placed.len()).min_by_key(|index| (placed[*index], *index != usize::from(here.0))).unwrap_or(0);
        placed[best] += 1;
        Some(CoreId(best as u16))
    }

    /// Takes the booking back.
    pub(super) fn unplace_link(&self, tunnel: &TunnelId, connector: u64, core: CoreId) {
        let mut all = self.presence();
        let Some(presence) = all.get_mut(tunnel) else { return };
        if let Some(placed) = presence.placed.get_mut(&connector) {
            if let Some(links) = placed.get_mut(usize::from(core.0)) {
                *links = links.saturating_sub(1);
            }
            if placed.iter().all(|links| *links == 0) {
                presence.placed.remove(&connector);
            }
        }
        if presence.placed.is_empty() && presence.usable.iter().all(|links| *links == 0) {
            all.remove(tunnel);
        }
    }

    /// Says that a link on `core` takes new streams, or does no longer.
    pub(super) fn set_usable(&self, tunnel: &TunnelId, core: CoreId, usable: bool) {
        let mut all = self.presence();
        let presence = all.entry(tunnel.clone()).or_default();
        presence.usable.resize(self.cores.len(), 0);
        if let Some(links) = presence.usable.get_mut(usize::from(core.0)) {
            *links = if usable { *links + 1 } else { links.saturating_sub(1) };
        }
    }

    fn presence(&self) -> MutexGuard<'_, HashMap<TunnelId, Presence>> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
