//! The links of one core: registers them, chooses one for a call, and ends them.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use rustc_hash::FxHashMap;

use crate::base::{Clock, LinkId, Rng, Time, TunnelId};
use crate::edge::core_tables::CoreTables;
use crate::edge::credential::{CredentialStatus, Proof};
use crate::edge::message::{EdgeEvent, ReplacedLink, Reviewed};
use crate::edge::presence::ConnectorLoss;
use crate::edge::registration::Registered;
use crate::edge::report::LinkReport;
use crate::edge::served_hosts::{AllServe, Serves, Wanted};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::Edge;
use crate::edge::usage::{EndedUsage, LinkUsage, UsageLine};
use crate::engine::{Core, MailSender, Signal};
use crate::latency::{NoRetry, Reached, Recorder, Retries, RetryBudget};
use crate::link::{Carrier, CarrierStream, CloseReason, Liveness};
use crate::route::{LinkChoice, LinkLoad, Offline, STALLED_AFTER, choose_link};
use crate::wire::mux::Hosts;

/// When the versions of ingress rules were zero, in seconds since 1970. A version is a time, and has 31 bits.
const VERSIONS_BEGAN_S: u64 = 1_577_836_800;

/// The links of one core.
pub(super) struct LinkTable {
    core: Core,
    edge: Arc<Edge>,
    events: MailSender<EdgeEvent>,
    by_tunnel: RefCell<FxHashMap<TunnelId, Links>>,
    /// Raised when a link was added, was removed, or began to drain.
    changed: Signal,
    /// Raised when data arrived on a link on which calls were begun.
    heard: Rc<Signal>,
    /// Raised when the connector of a link was stalled for so long that connections give up waiting for it, and when
    /// another link was added after that.
    stood_still: Signal,
    ended_usage: RefCell<EndedUsage>,
    ids_given: Cell<u64>,
    calls_numbered: Cell<u64>,
    /// Randomness for the pauses of retries.
    rng: RefCell<Rng>,
}

/// The choice for a call, and the link if one was chosen.
pub(super) type Choice = (LinkChoice, Option<ChosenLink>);

/// A link that takes calls, and the counter for its calls.
#[derive(Clone)]
pub(super) struct ChosenLink {
    pub(super) carrier: Carrier,
    pub(super) usage: Rc<LinkUsage>,
}

/// The connectors of a tunnel that may take a call.
#[derive(Clone, Copy)]
pub(super) enum Connectors {
    All,
    Only(u64),
    Not(u64),
    /// All, but not over this link.
    NotOver(LinkId),
}

impl Connectors {
    /// Whether this link's connector is among them.
    fn have(self, entry: &Entry) -> bool {
        match self {
            Connectors::All => true,
            Connectors::Only(one) => entry.usage.connector() == one,
            Connectors::Not(one) => entry.usage.connector() != one,
            Connectors::NotOver(link) => entry.carrier.id() != link,
        }
    }
}

/// The links of one tunnel.
#[derive(Default)]
struct Links {
    entries: Vec<Entry>,
    /// The link of the last call that was free to take any.
    last: LinkId,
    /// Whether their connectors serve all hosts of the tunnel.
    all_serve: AllServe,
    /// The budget for retries of calls that are free to take any link.
    retry_budget: RetryBudget,
}

struct Entry {
    carrier: Carrier,
    /// The hosts of the connector's routes, once it has reported them.
    hosts: Option<Hosts>,
    proof: Proof,
    usage: Rc<LinkUsage>,
    software: Box<str>,
    /// Which of the connector's links it is.
    index: u16,
    since: Time,
}

impl LinkTable {
    pub(super) fn new(core: &Core, edge: &Arc<Edge>, events: MailSender<EdgeEvent>) -> LinkTable {
        LinkTable {
            core: core.clone(),
            edge: Arc::clone(edge),
            events,
            by_tunnel: RefCell::default(),
            changed: Signal::default(),
            heard: Rc::default(),
            stood_still: Signal::default(),
            ended_usage: RefCell::default(),
            ids_given: Cell::new(0),
            calls_numbered: Cell::new(0),
            rng: RefCell::new(Rng::new(edge.instance ^ u64::from(core.id().0).rotate_left(48))),
        }
    }

    /// The id for the next link of this core, unique within the edge.
    pub(super) fn next_id(&self) -> LinkId {
        let n = self.ids_given.get();
        self.ids_given.set(n + 1);
        LinkId(n * self.edge.core_count() as u64 + u64::from(self.core.id().0))
    }

    /// The number of the next call of this core, unique within the edge.
    pub(super) fn next_call(&self) -> u64 {
        let n = self.calls_numbered.get() + 1;
        self.calls_numbered.set(n);
        n * self.edge.core_count() as u64 + u64::from(self.core.id().0)
    }

    /// Counters of the changes that a waiting call depends on; [`LinkTable::changed_since`] waits for the next change.
    pub(super) fn changes(&self) -> (u64, u64) {
        (self.changed.count(), self.heard.count())
    }

    /// Waits until a link is added or removed or begins to drain after `changes`; with `or_heard` also until data
    /// arrives on one. Data arrives all the time, so use `or_heard` only if nothing else is awaited.
    pub(super) async fn changed_since(&self, (changes, heard): (u64, u64), or_heard: bool) {
        let heard = async { if or_heard { self.heard.after(heard).await } else { pending().await } };
        future::or(self.changed.after(changes), heard).await;
    }

    /// Withdraws unsent calls from a link whose connector is stalled, if another link of the tunnel responds. Later
    /// notifies those that wait for the connector and cannot be withdrawn. Never ends.
    pub(super) async fn relieve_stalls<T>(&self, tunnel: &TunnelId, carrier: &Carrier) -> T {
        carrier.watch_stalls(STALLED_AFTER);
        let give_up_after = self.edge.settings.stalled_connector_timeout;
        let mut stalls = 0;
        loop {
            stalls = carrier.stalled_after(stalls).await;
            while carrier.liveness().owing >= STALLED_AFTER {
                let seen = self.changes();
                if self.has_answering(tunnel, carrier.id()) {
                    carrier.withdraw();
                }
                let left = give_up_after.saturating_sub(carrier.liveness().owing);
                let given_up_at = if left.is_zero() { Time::NEVER } else { self.core.now() + left };
                if left.is_zero() {
                    self.stood_still.raise();
                }
                let again = async { stalls = carrier.stalled_after(stalls).await };
                let changes = future::or(self.changed_since(seen, false), again);
                future::or(changes, self.core.sleep_until(given_up_at)).await;
            }
        }
    }

    /// Whether the connector of a stream is stalled for so long that the stream is given up, because another connector
    /// that serves the host responds on this core.
    pub(super) fn is_given_up(&self, tunnel: &TunnelId, host: &str, stream: &CarrierStream) -> bool {
        if stream.liveness().owing < self.edge.settings.stalled_connector_timeout {
            return false;
        }
        let by_tunnel = self.by_tunnel.borrow();
        let Some(links) = by_tunnel.get(tunnel) else { return false };
        let connector_of = |entry: &Entry| entry.usage.connector();
        let stalled = links.entries.iter().find(|entry| entry.carrier.id() == stream.carrier_id()).map(connector_of);
        let wanted = Wanted::Of(host, Serves::Yes);
        links.entries.iter().any(|entry| {
            let answers = entry.carrier.is_open() && entry.carrier.liveness().owing < STALLED_AFTER;
            answers && Some(connector_of(entry)) != stalled && wanted.takes(entry.hosts.as_ref())
        })
    }

    /// How often the connector of some link was stalled for that long.
    pub(super) fn times_stalled(&self) -> u64 {
        self.stood_still.count()
    }

    /// Waits until the connector of some link was stalled for that long more than `seen` times. Returns the new count.
    pub(super) async fn stalled_after(&self, seen: u64) -> u64 {
        self.stood_still.after(seen).await;
        self.stood_still.count()
    }

    /// Whether another link of this core takes calls of the tunnel, and its connector responds.
    fn has_answering(&self, tunnel: &TunnelId, link: LinkId) -> bool {
        let by_tunnel = self.by_tunnel.borrow();
        let answers = |Entry { carrier, .. }: &Entry| {
            carrier.id() != link && carrier.is_open() && carrier.liveness().owing < STALLED_AFTER
        };
        by_tunnel.get(tunnel).is_some_and(|links| links.entries.iter().any(answers))
    }

    /// Chooses the link for a call of `tunnel`, among the `wanted` ones of `connectors`. None if all of them have to
    /// serve all hosts and that is not known.
    pub(super) fn choose(&self, tunnel: &TunnelId, wanted: Wanted<'_>, connectors: Connectors) -> Option<Choice> {
        let by_tunnel = self.by_tunnel.borrow();
        let Some(links) = by_tunnel.get(tunnel) else {
            return (!matches!(wanted, Wanted::AllServe(_)))
                .then_some((LinkChoice::Offline(Offline::NoConnector), None));
        };
        if matches!(wanted, Wanted::AllServe(version) if !links.all_serve.is_known(version)) {
            return None;
        }
        let streams_max = self.edge.settings.link.streams_max;
        let is_wanted = |entry: &&Entry| connectors.have(entry) && wanted.takes(entry.hosts.as_ref());
        let loads = links.entries.iter().filter(is_wanted).map(|entry| entry.load(streams_max));
        let choice = choose_link(loads, links.last);
        let chosen = match choice {
            LinkChoice::Link(id) | LinkChoice::Silent(id) | LinkChoice::Stalled(id) => {
                links.entries.iter().find(|entry| entry.carrier.id() == id)
            }
            _ => None,
        };
        Some((choice, chosen.map(Entry::chosen)))
    }

    /// Whether the connectors with links on this core serve all hosts of the tunnel, by the current tables.
    pub(super) fn all_serve(&self, tunnel: &TunnelId, tables: &CoreTables) -> bool {
        let hosts = tables.get().hosts_of(tunnel);
        let mut by_tunnel = self.by_tunnel.borrow_mut();
        let Some(Links { entries, all_serve, .. }) = by_tunnel.get_mut(tunnel) else { return false };
        all_serve.look(tables.version(), &hosts, entries.iter().map(|entry| entry.hosts.as_ref()))
    }

    /// Whether a link of this core takes calls of the tunnel and its connector is `wanted`.
    pub(super) fn has_open(&self, tunnel: &TunnelId, wanted: Wanted<'_>) -> bool {
        let by_tunnel = self.by_tunnel.borrow();
        let takes = |entry: &Entry| wanted.takes(entry.hosts.as_ref()) && entry.carrier.is_open();
        by_tunnel.get(tunnel).is_some_and(|links| links.entries.iter().any(takes))
    }

    /// Whether another link of this core takes calls of the tunnel and its connector is `wanted`.
    pub(super) fn has_other(&self, tunnel: &TunnelId, link: LinkId, wanted: Wanted<'_>) -> bool {
        let by_tunnel = self.by_tunnel.borrow();
        let is_other =
            |entry: &Entry| entry.carrier.id() != link && wanted.takes(entry.hosts.as_ref()) && entry.carrier.is_open();
        by_tunnel.get(tunnel).is_some_and(|links| links.entries.iter().any(is_other))
    }

    /// Whether another connector than this one has a link on this core.
    pub(super) fn has_other_connector(&self, tunnel: &TunnelId, connector: u64) -> bool {
        let by_tunnel = self.by_tunnel.borrow();
        by_tunnel
            .get(tunnel)
            .is_some_and(|links| links.entries.iter().any(|entry| entry.usage.connector() != connector))
    }

    /// Whether a connector has a link on this core.
    pub(super) fn has(&self, tunnel: &TunnelId, connector: u64) -> bool {
        let by_tunnel = self.by_tunnel.borrow();
        by_tunnel
            .get(tunnel)
            .is_some_and(|links| links.entries.iter().any(|entry| entry.usage.connector() == connector))
    }

    /// Notes that a call begins on a link. If the call was free to take any link, the turn passes to the next link.
    pub(super) fn on_call(&self, tunnel: &TunnelId, carrier: &Carrier, is_free: bool) {
        carrier.on_call();
        if is_free && let Some(links) = self.by_tunnel.borrow_mut().get_mut(tunnel) {
            links.last = carrier.id();
            links.retry_budget.on_call();
        }
    }

    /// Whether a call that did not reach an upstream is retried on another link, and after which pause. `left` is the
    /// rest of its time, if that is limited.
    pub(super) fn again(
        &self,
        tunnel: &TunnelId,
        retries_max: u32,
        retries: &mut Retries,
        left: Option<Duration>,
    ) -> Result<Duration, NoRetry> {
        let random = self.rng.borrow_mut().unit();
        let mut by_tunnel = self.by_tunnel.borrow_mut();
        // A tunnel without links on this core has no other link for a retry.
        let links = by_tunnel.get_mut(tunnel).ok_or(NoRetry::Spent)?;
        retries.again(retries_max, Reached::Never, false, &mut links.retry_budget, left, random)
    }

    /// Adds a link of a connector, which takes calls from now on.
    pub(super) fn add(&self, registered: &Registered<'_>, carrier: &Carrier) {
        let Registered { tunnel, instance: connector, index, software, proof } = *registered;
        carrier.set_heard_signal(Rc::clone(&self.heard));
        let entry = Entry {
            carrier: carrier.clone(),
            hosts: None,
            proof: proof.clone(),
            usage: Rc::new(LinkUsage::new(tunnel.clone(), connector, proof.credential.id.clone())),
            software: software.into(),
            index,
            since: self.core.now(),
        };
        let mut by_tunnel = self.by_tunnel.borrow_mut();
        let links = by_tunnel.entry(tunnel.clone()).or_default();
        links.entries.push(entry);
        links.all_serve = AllServe::default();
        drop(by_tunnel);
        self.edge.presence.on_usable(tunnel, connector, self.core.id());
        self.changed.raise();
        let (core, tunnel, software) = (self.core.id(), tunnel.clone(), software.into());
        self.send(EdgeEvent::Linked { core, link: carrier.id(), tunnel, software });
    }

    /// Drains the link in whose place its connector has made another one over the other transport. Two connectors that have the same
    /// number by mistake use the same transport, and so leave each other's links alone.
    pub(super) fn drain_replaced(&self, by: &ReplacedLink) {
        let is_replaced = |entry: &&Entry| {
            (entry.usage.connector(), entry.index) == (by.connector, by.index) && entry.carrier.is_quic() != by.is_quic
        };
        let replaced: Vec<Carrier> = match self.by_tunnel.borrow().get(&by.tunnel) {
            Some(links) => links.entries.iter().filter(is_replaced).map(|entry| entry.carrier.clone()).collect(),
            None => return,
        };
        replaced.iter().for_each(Carrier::drain);
    }

    /// Stores the hosts of the routes of a link's connector.
    pub(super) fn on_hosts(&self, tunnel: &TunnelId, connector: u64, carrier: &Carrier) {
        let Some(hosts) = carrier.peer_hosts() else { return };
        if let Some(links) = self.by_tunnel.borrow_mut().get_mut(tunnel) {
            let found = links.entries.iter_mut().find(|entry| entry.carrier.id() == carrier.id());
            found.into_iter().for_each(|entry| entry.hosts = Some(hosts.clone()));
            links.all_serve = AllServe::default();
        }
        self.edge.presence.on_hosts(tunnel, connector, hosts);
        self.changed.raise();
    }

    /// Notes that a link takes no new calls: it drains, or has ended.
    pub(super) fn on_draining(&self, tunnel: &TunnelId, connector: u64, carrier: &Carrier) {
        let lost = carrier.loss().map(|loss| ConnectorLoss { at: self.core.now(), loss });
        self.edge.presence.on_unusable(tunnel, connector, self.core.id(), lost);
        self.changed.raise();
    }

    /// Removes a link that has ended.
    pub(super) fn remove(&self, tunnel: &TunnelId, carrier: &Carrier, recorder: &Recorder) {
        let mut by_tunnel = self.by_tunnel.borrow_mut();
        if let Some(Links { entries, all_serve, .. }) = by_tunnel.get_mut(tunnel) {
            *all_serve = AllServe::default();
            if let Some(at) = entries.iter().position(|entry| entry.carrier.id() == carrier.id()) {
                let ended = entries.swap_remove(at);
                self.ended_usage.borrow_mut().add(&ended.usage, recorder, self.core.now());
            }
            if entries.is_empty() {
                by_tunnel.remove(tunnel);
            }
        }
        drop(by_tunnel);
        self.edge.presence.on_left(tunnel, self.core.now());
        self.changed.raise();
        self.send(EdgeEvent::Unlinked { core: self.core.id(), link: carrier.id(), tunnel: tunnel.clone() });
    }

    /// Ends the links whose credential is no longer valid by the current tables.
    pub(super) fn review(&self) -> Reviewed {
        let (tables, now) = (self.edge.tables(), self.core.now());
        let mut reviewed = Reviewed { core: self.core.id(), ended: 0, draining: 0 };
        let by_tunnel = self.by_tunnel.borrow();
        let entries =
            by_tunnel.iter().flat_map(|(tunnel, links)| links.entries.iter().map(move |entry| (tunnel, entry)));
        let found: Vec<(Carrier, CredentialStatus)> =
            entries.map(|(tunnel, entry)| (entry.carrier.clone(), tables.status(tunnel, &entry.proof, now))).collect();
        drop(by_tunnel);
        // A link that has ended stays in the table until its task removes it.
        for (carrier, status) in found.into_iter().filter(|(carrier, _)| carrier.ended().is_none()) {
            match status {
                CredentialStatus::Valid => continue,
                CredentialStatus::Revoked => reviewed.ended += 1,
                CredentialStatus::Expired if carrier.is_draining() => continue,
                CredentialStatus::Expired => reviewed.draining += 1,
            }
            self.enforce(&carrier, status);
        }
        reviewed
    }

    /// Ends a link whose credential is no longer valid: at once if it was revoked, after the calls in flight if it expired.
    pub(super) fn enforce(&self, carrier: &Carrier, status: CredentialStatus) {
        match status {
            CredentialStatus::Valid => {}
            CredentialStatus::Revoked => carrier.close(CloseReason::Revoked),
            // An earlier review has begun the drain.
            CredentialStatus::Expired if carrier.is_draining() => {}
            CredentialStatus::Expired => {
                carrier.drain();
                let (core, timeout) = (self.core.clone(), self.edge.settings.drain_timeout);
                let carrier = carrier.clone();
                self.core.spawn(async move {
                    // The link ends after the timeout even if calls are in flight.
                    let _ = core.timeout(timeout, carrier.drained()).await;
                    carrier.close(CloseReason::Revoked);
                });
            }
        }
    }

    /// Sends the hosts of their tunnel to the connectors of one tunnel, or of all. Returns the tunnels with links on
    /// this core.
    pub(super) fn send_hosts(&self, tables: &EdgeTables, tunnel: Option<&TunnelId>) -> Vec<TunnelId> {
        let by_tunnel = self.by_tunnel.borrow();
        let concerned = by_tunnel.iter().filter(|(id, _)| tunnel.is_none_or(|tunnel| tunnel == *id));
        let tell = |(id, links): (&TunnelId, &Links)| {
            let hosts = tables.hosts_of(id);
            links.entries.iter().for_each(|entry| entry.carrier.set_hosts(&hosts));
            links.entries.iter().for_each(|entry| self.send_service(tables, id, &entry.carrier));
            id.clone()
        };
        concerned.map(tell).collect()
    }

    /// Sends a connector of cloudflared the service of its tunnel, if that is set.
    pub(super) fn send_service(&self, tables: &EdgeTables, tunnel: &TunnelId, carrier: &Carrier) {
        if let Some(service) = tables.cloudflared_service(tunnel) {
            // Connectors apply rules with a higher version, also after this edge was restarted.
            let since = self.edge.settings.clock.now().as_secs().saturating_sub(VERSIONS_BEGAN_S);
            carrier.set_service(service, i32::try_from(since).unwrap_or(i32::MAX));
        }
    }

    /// Drains every link: calls in flight may finish, and new ones are refused.
    pub(super) fn drain(&self) {
        self.all().iter().for_each(Carrier::drain);
    }

    /// Ends every link now.
    pub(super) fn close(&self) {
        self.all().iter().for_each(|carrier| carrier.close(CloseReason::Ended));
    }

    /// Ends a link that its connector has replaced.
    pub(super) fn close_one(&self, link: LinkId) {
        let found = self.all().into_iter().find(|carrier| carrier.id() == link);
        found.into_iter().for_each(|carrier| carrier.close(CloseReason::Ended));
    }

    /// Takes the usage of the links, also of ended ones, or a part of it.
    pub(super) fn take_usage(&self, recorder: &Recorder) -> Vec<UsageLine> {
        let by_tunnel = self.by_tunnel.borrow();
        let usage = by_tunnel.values().flat_map(|links| &links.entries).map(|entry| &*entry.usage);
        self.ended_usage.borrow_mut().take(usage, recorder, self.core.now())
    }

    pub(super) fn report(&self) -> Vec<LinkReport> {
        let now = self.core.now();
        let by_tunnel = self.by_tunnel.borrow();
        let reports = by_tunnel.iter().flat_map(|(tunnel, links)| {
            links.entries.iter().map(|entry| LinkReport {
                id: entry.carrier.id(),
                core: self.core.id(),
                tunnel: tunnel.clone(),
                connector: entry.usage.connector(),
                hosts: entry.hosts.as_ref().map(|hosts| hosts.listed.clone()),
                credential: entry.proof.credential.id.clone(),
                streams: entry.carrier.streams_live(),
                round_trip: entry.carrier.round_trip(),
                quic: entry.carrier.quic_path(),
                software: entry.software.clone(),
                age: now - entry.since,
                idle: entry.idle(now),
                draining: entry.carrier.is_draining(),
            })
        });
        reports.collect()
    }

    fn all(&self) -> Vec<Carrier> {
        self.by_tunnel.borrow().values().flat_map(|links| &links.entries).map(|entry| entry.carrier.clone()).collect()
    }

    /// Sends an event to the control thread, which reads until the last core has ended. If its mailbox is full, the
    /// event is dropped.
    fn send(&self, event: EdgeEvent) {
        let _ = self.events.send(event);
    }
}

impl Entry {
    fn chosen(&self) -> ChosenLink {
        ChosenLink { carrier: self.carrier.clone(), usage: Rc::clone(&self.usage) }
    }

    /// How long the link has had no call.
    fn idle(&self, now: Time) -> Duration {
        match self.carrier.streams_live() {
            0 => now - self.usage.last().unwrap_or(self.since),
            _ => Duration::ZERO,
        }
    }

    fn load(&self, streams_max: u32) -> LinkLoad {
        let Liveness { silent, owing, unproven } = self.carrier.liveness();
        LinkLoad {
            id: self.carrier.id(),
            open_streams: self.carrier.streams_live() as u32,
            streams_max,
            draining: !self.carrier.is_open(),
            silent,
            owing,
            unproven,
        }
    }
}

#[cfg(test)]
#[path = "link_table_tests.rs"]
mod tests;
