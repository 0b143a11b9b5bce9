//! The links of each tunnel by core, for all cores of an edge.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::{CoreId, HostSet, Time, TunnelId};
use crate::edge::served_hosts::{HostService, Serves};
use crate::link::Loss;
use crate::route::CoreSet;
use crate::wire::mux::Hosts;

/// The most connectors whose recent loss is remembered.
const LOST_MAX: usize = 1_024;

/// The links of every tunnel by core, shared by all cores. It is used when a link is added or removed, when a
/// connection is on a core that has no link for it, and for a call whose connector is not on its core; never on the
/// path of an ordinary call.
pub(super) struct Presence {
    cores: usize,
    known: Mutex<PresenceState>,
}

#[derive(Default)]
struct PresenceState {
    tunnels: FxHashMap<TunnelId, ConnectorsOfTunnel>,
    /// Connectors whose last link was lost, most recent last.
    lost: VecDeque<(TunnelId, u64, ConnectorLoss)>,
}

/// When the last link of a connector was lost, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectorLoss {
    pub(super) at: Time,
    pub(super) loss: Loss,
}

/// The links of one tunnel, by connector.
#[derive(Default)]
struct ConnectorsOfTunnel {
    by_connector: HashMap<u64, ConnectorLinks>,
    /// When a link of one of them last ended.
    left_at: Option<Time>,
    /// The hosts that none of them serves, as last logged.
    unserved: HostSet,
    /// Whether a review of the hosts is scheduled.
    is_review_due: bool,
}

/// The links of one connector on each core.
#[derive(Default)]
struct ConnectorLinks {
    booked: Vec<u32>,
    /// Links that take new calls.
    usable: Vec<u32>,
    /// The hosts of the connector's routes, once it has reported them.
    hosts: Option<Hosts>,
}

/// Whether a host of a tunnel is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Connectors that take calls serve it, with this certainty.
    Served(Serves),
    /// No connector that takes calls, but one is draining or ended recently and may be replaced.
    Awaited,
    /// No connector of the tunnel serves it.
    Unserved,
}

impl ConnectorsOfTunnel {
    fn count(&self) -> u64 {
        self.by_connector.values().flat_map(|links| &links.booked).map(|links| u64::from(*links)).sum()
    }

    /// The connectors that take new calls.
    fn usable(&self) -> impl Iterator<Item = (u64, &ConnectorLinks)> {
        let usable = self.by_connector.iter().filter(|(_, links)| links.is_usable());
        usable.map(|(connector, links)| (*connector, links))
    }

    /// Whether connectors that may serve a host have links, none of which takes new calls.
    fn is_ending(&self, host: &str) -> bool {
        let mut serving = self.by_connector.values().filter(|links| links.serves(host) > Serves::No).peekable();
        serving.peek().is_some() && serving.all(|links| !links.is_usable() && !links.is_unused())
    }
}

impl ConnectorLinks {
    fn new(cores: usize) -> ConnectorLinks {
        ConnectorLinks { booked: vec![0; cores], usable: vec![0; cores], hosts: None }
    }

    fn is_usable(&self) -> bool {
        self.usable.iter().any(|links| *links > 0)
    }

    fn serves(&self, host: &str) -> Serves {
        Serves::of(self.hosts.as_ref(), host)
    }

    /// Whether the connector may have a route for a host of the tunnel, or for some hosts of a wildcard.
    fn may_serve(&self, pattern: &str) -> bool {
        match &self.hosts {
            Some(Hosts { listed, left_out: 0 }) => listed.meets(pattern),
            // Hosts that it has not reported may be served.
            _ => true,
        }
    }

    fn is_unused(&self) -> bool {
        !self.is_usable() && self.booked.iter().all(|links| *links == 0)
    }
}

/// A link's place on one core, which is freed on drop.
pub(super) struct Booking {
    presence: Arc<Presence>,
    tunnel: TunnelId,
    connector: u64,
    core: CoreId,
}

impl Booking {
    /// The core on which the link will run.
    pub(super) fn core(&self) -> CoreId {
        self.core
    }
}

impl Presence {
    pub(super) fn new(cores: usize) -> Presence {
        Presence { cores, known: Mutex::default() }
    }

    /// Books a place for a new link of a connector: on the core with the fewest links of that connector, `preferred`
    /// among equals. None if the tunnel already has `max` links.
    pub(super) fn book(
        self: &Arc<Self>,
        tunnel: &TunnelId,
        connector: u64,
        preferred: CoreId,
        max: Option<u32>,
    ) -> Option<Booking> {
        let mut known = self.lock();
        if known.is_full(tunnel, max) {
            return None;
        }
        let booked = &mut known.links(tunnel, connector, self.cores).booked;
        let is_other = |index: usize| index != usize::from(preferred.0);
        let best = (0..booked.len()).min_by_key(|index| (booked[*index], is_other(*index))).unwrap_or(0);
        booked[best] += 1;
        let core = CoreId(best as u16);
        Some(Booking { presence: Arc::clone(self), tunnel: tunnel.clone(), connector, core })
    }

    /// Books a place for a new link of a connector on `core`. None if the tunnel already has `max` links.
    pub(super) fn book_on(
        self: &Arc<Self>,
        tunnel: &TunnelId,
        connector: u64,
        core: CoreId,
        max: Option<u32>,
    ) -> Option<Booking> {
        let mut known = self.lock();
        if known.is_full(tunnel, max) {
            return None;
        }
        if let Some(booked) = known.links(tunnel, connector, self.cores).booked.get_mut(usize::from(core.0)) {
            *booked += 1;
        }
        Some(Booking { presence: Arc::clone(self), tunnel: tunnel.clone(), connector, core })
    }

    /// Notes that a link on `core` takes new calls.
    pub(super) fn on_usable(&self, tunnel: &TunnelId, connector: u64, core: CoreId) {
        let mut known = self.lock();
        known.lost.retain(|(of, lost, _)| (*lost, of) != (connector, tunnel));
        if let Some(count) = known.links(tunnel, connector, self.cores).usable.get_mut(usize::from(core.0)) {
            *count += 1;
        }
    }

    /// Notes that a link on `core` takes no new calls: it drains, or was `lost`.
    pub(super) fn on_unusable(&self, tunnel: &TunnelId, connector: u64, core: CoreId, lost: Option<ConnectorLoss>) {
        let mut known = self.lock();
        let links = known.links(tunnel, connector, self.cores);
        if let Some(count) = links.usable.get_mut(usize::from(core.0)) {
            *count = count.saturating_sub(1);
        }
        let is_gone = !links.is_usable();
        known.tidy(tunnel, connector);
        if let Some(lost) = lost.filter(|_| is_gone) {
            if known.lost.len() >= LOST_MAX {
                known.lost.pop_front();
            }
            known.lost.push_back((tunnel.clone(), connector, lost));
        }
    }

    /// The cores with a link that takes new calls, of a connector of the tunnel that `fits`.
    pub(super) fn cores_with(&self, tunnel: &TunnelId, fits: impl Fn(u64, Option<&Hosts>) -> bool) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        let known = self.lock();
        let connectors = known.tunnels.get(tunnel).into_iter().flat_map(|links| &links.by_connector);
        for (_, links) in connectors.filter(|(connector, links)| fits(**connector, links.hosts.as_ref())) {
            for (index, _) in links.usable.iter().enumerate().filter(|(_, count)| **count > 0) {
                set.insert(CoreId(index as u16));
            }
        }
        set
    }

    /// Whether the tunnel has links of connectors that may serve a host, but none that takes new calls: its connectors
    /// are draining, or have only just connected.
    pub(super) fn is_ending(&self, tunnel: &TunnelId, host: &str) -> bool {
        self.lock().tunnels.get(tunnel).is_some_and(|links| links.is_ending(host))
    }

    /// The connector of the tunnel that `number` hashes to, among those that take new calls and may serve the host
    /// (rendezvous hashing: it stays the same while that connector is linked).
    pub(super) fn connector_for(&self, tunnel: &TunnelId, host: &str, number: u64) -> Option<u64> {
        let known = self.lock();
        let connectors = known.tunnels.get(tunnel)?.usable().filter(|(_, links)| links.serves(host) > Serves::No);
        connectors.map(|(connector, _)| connector).max_by_key(|connector| (mix(number ^ mix(*connector)), *connector))
    }

    /// Stores the hosts of a connector's routes.
    pub(super) fn on_hosts(&self, tunnel: &TunnelId, connector: u64, hosts: Hosts) {
        let mut known = self.lock();
        let links = known.tunnels.get_mut(tunnel).and_then(|links| links.by_connector.get_mut(&connector));
        links.into_iter().for_each(|links| links.hosts = Some(hosts.clone()));
    }

    /// Notes that a link of a connector of the tunnel ended.
    pub(super) fn on_left(&self, tunnel: &TunnelId, now: Time) {
        if let Some(links) = self.lock().tunnels.get_mut(tunnel) {
            links.left_at = Some(now);
        }
    }

    /// Whether a host of a tunnel is served. A connector that has ended is awaited for `patience`.
    pub(super) fn reach(&self, tunnel: &TunnelId, host: &str, now: Time, patience: Duration) -> Reach {
        let known = self.lock();
        let Some(links) = known.tunnels.get(tunnel) else { return Reach::Unserved };
        match links.usable().map(|(_, links)| links.serves(host)).max() {
            Some(serves @ (Serves::Yes | Serves::Unknown)) => Reach::Served(serves),
            Some(Serves::No) if links.is_ending(host) => Reach::Awaited,
            Some(Serves::No) if links.left_at.is_some_and(|at| now - at < patience) => Reach::Awaited,
            _ => Reach::Unserved,
        }
    }

    /// Which of the connectors that take new calls serve each of these hosts of a tunnel. None without such connectors.
    pub(super) fn service(&self, tunnel: &TunnelId, hosts: &HostSet) -> Option<Vec<HostService>> {
        let known = self.lock();
        let links = known.tunnels.get(tunnel)?;
        links.usable().next()?;
        let connectors = |host: &str| {
            let meets = |links: &ConnectorLinks| links.hosts.as_ref().is_some_and(|hosts| hosts.listed.meets(host));
            let mut found: Vec<u64> = links.usable().filter(|(_, links)| meets(links)).map(|(of, _)| of).collect();
            found.sort_unstable();
            found
        };
        let service = |host: &str| HostService {
            host: host.to_owned(),
            connectors: connectors(host),
            unserved: !links.usable().any(|(_, links)| links.may_serve(host)),
        };
        Some(hosts.iter().map(service).collect())
    }

    /// The tunnels that have links.
    pub(super) fn tunnels(&self) -> Vec<TunnelId> {
        let mut tunnels: Vec<TunnelId> = self.lock().tunnels.keys().cloned().collect();
        tunnels.sort_unstable();
        tunnels
    }

    /// Marks a review of a tunnel's hosts as scheduled; false if the tunnel has no links, or a review is already
    /// scheduled.
    pub(super) fn begin_review(&self, tunnel: &TunnelId) -> bool {
        let mut known = self.lock();
        known.tunnels.get_mut(tunnel).is_some_and(|links| !std::mem::replace(&mut links.is_review_due, true))
    }

    /// The hosts of a tunnel that no connector serves, if they changed since the last review.
    pub(super) fn review(&self, tunnel: &TunnelId, hosts: &HostSet) -> Option<HostSet> {
        let mut known = self.lock();
        let links = known.tunnels.get_mut(tunnel)?;
        links.is_review_due = false;
        links.usable().next()?;
        let unserved = hosts.only(|host| !links.usable().any(|(_, links)| links.may_serve(host)));
        let is_changed = unserved != links.unserved;
        is_changed.then(|| {
            links.unserved = unserved.clone();
            unserved
        })
    }

    /// How and when the last link of a connector was lost; none if it has links, has shut down, or was lost long ago.
    pub(super) fn lost(&self, tunnel: &TunnelId, connector: u64) -> Option<ConnectorLoss> {
        let known = self.lock();
        let found = known.lost.iter().rev().find(|(of, id, _)| (*id, of) == (connector, tunnel));
        found.map(|(_, _, lost)| *lost)
    }

    fn give_back(&self, tunnel: &TunnelId, connector: u64, core: CoreId) {
        let mut known = self.lock();
        let links = known.links(tunnel, connector, self.cores);
        if let Some(count) = links.booked.get_mut(usize::from(core.0)) {
            *count = count.saturating_sub(1);
        }
        known.tidy(tunnel, connector);
    }

    fn lock(&self) -> MutexGuard<'_, PresenceState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceState {
    /// Whether a tunnel has `max` links.
    fn is_full(&self, tunnel: &TunnelId, max: Option<u32>) -> bool {
        let count = self.tunnels.get(tunnel).map_or(0, ConnectorsOfTunnel::count);
        max.is_some_and(|max| count >= u64::from(max))
    }

    fn links(&mut self, tunnel: &TunnelId, connector: u64, cores: usize) -> &mut ConnectorLinks {
        let of_tunnel = self.tunnels.entry(tunnel.clone()).or_default();
        of_tunnel.by_connector.entry(connector).or_insert_with(|| ConnectorLinks::new(cores))
    }

    /// Removes a connector without links, and a tunnel without connectors.
    fn tidy(&mut self, tunnel: &TunnelId, connector: u64) {
        let Some(links) = self.tunnels.get_mut(tunnel) else { return };
        if links.by_connector.get(&connector).is_some_and(ConnectorLinks::is_unused) {
            links.by_connector.remove(&connector);
        }
        if links.by_connector.is_empty() {
            self.tunnels.remove(tunnel);
        }
    }
}

/// Spreads the bits of a number (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.presence.give_back(&self.tunnel, self.connector, self.core);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(cores: usize) -> (Arc<Presence>, TunnelId) {
        (Arc::new(Presence::new(cores)), "tnl_a".parse().unwrap())
    }

    #[test]
    fn links_of_one_connector_are_spread_over_all_cores() {
        let (presence, tunnel) = presence(3);
        let book = |connector| presence.book(&tunnel, connector, CoreId(1), None).unwrap();
        let links: Vec<Booking> = (0..4).map(|_| book(7)).collect();
        let cores: Vec<u16> = links.iter().map(|link| link.core().0).collect();
        assert_eq!(cores, [1, 0, 2, 1], "the accepting core first, then each of the others, then the first again");
        assert_eq!(book(8).core(), CoreId(1), "another connector starts with its own core");
    }

    #[test]
    fn a_tunnel_has_at_most_so_many_links_over_all_its_connectors() {
        let (presence, tunnel) = presence(2);
        let book = |connector| presence.book(&tunnel, connector, CoreId(0), Some(2));
        let (first, second) = (book(7), book(8));
        assert!(first.is_some() && second.is_some() && book(7).is_none() && book(9).is_none());
        assert!(presence.book(&"tnl_b".parse().unwrap(), 7, CoreId(0), Some(2)).is_some());
        drop(first);
        assert!(book(9).is_some(), "a freed place can be booked again");
    }

    #[test]
    fn only_cores_whose_links_take_calls_are_named() {
        let (presence, tunnel) = presence(3);
        let cores_with = |fits: fn(u64) -> bool| {
            let cores = presence.cores_with(&tunnel, |of, _| fits(of));
            [0, 1, 2].map(|core| cores.contains(CoreId(core)))
        };
        let booking = presence.book(&tunnel, 7, CoreId(2), None);
        assert_eq!(cores_with(|_| true), [false; 3], "a booked link takes no calls yet");
        presence.on_usable(&tunnel, 7, CoreId(2));
        presence.on_usable(&tunnel, 7, CoreId(2));
        presence.on_usable(&tunnel, 8, CoreId(0));
        presence.on_unusable(&tunnel, 7, CoreId(2), None);
        assert_eq!(cores_with(|_| true), [true, false, true]);
        assert_eq!(cores_with(|connector| connector == 7), [false, false, true]);
        presence.on_unusable(&tunnel, 7, CoreId(2), None);
        presence.on_unusable(&tunnel, 8, CoreId(0), None);
        assert_eq!(cores_with(|_| true), [false; 3]);
        assert!(presence.is_ending(&tunnel, "a.test"), "there is a link, and it takes no calls");
        drop(booking);
        assert!(!presence.is_ending(&tunnel, "a.test"));
        assert!(presence.lock().tunnels.is_empty(), "nothing is kept of a tunnel without links");
    }

    #[test]
    fn a_connector_is_lost_with_its_last_link_until_it_is_back() {
        let (presence, tunnel) = presence(2);
        let at = |s| ConnectorLoss { at: Time::ZERO + std::time::Duration::from_secs(s), loss: Loss::Closed };
        let lost = || presence.lost(&tunnel, 7);
        presence.on_usable(&tunnel, 7, CoreId(0));
        presence.on_usable(&tunnel, 7, CoreId(1));
        presence.on_unusable(&tunnel, 7, CoreId(0), Some(at(1)));
        assert_eq!(lost(), None, "it has another link");
        presence.on_unusable(&tunnel, 7, CoreId(1), Some(at(2)));
        assert_eq!(lost(), Some(at(2)));
        assert_eq!(presence.lost(&tunnel, 8), None);
        presence.on_usable(&tunnel, 7, CoreId(0));
        assert_eq!(lost(), None, "it is back");
        presence.on_unusable(&tunnel, 7, CoreId(0), None);
        assert_eq!(lost(), None, "it has shut down");
        for connector in 0..2 * LOST_MAX as u64 {
            presence.on_usable(&tunnel, connector, CoreId(0));
            presence.on_unusable(&tunnel, connector, CoreId(0), Some(at(3)));
        }
        assert_eq!(presence.lock().lost.len(), LOST_MAX);
    }

    #[test]
    fn a_number_keeps_its_connector_while_others_come_and_go() {
        let (presence, tunnel) = presence(1);
        let connectors_of =
            || (0..1_000).map(|number| presence.connector_for(&tunnel, "a.test", number)).collect::<Vec<_>>();
        assert_eq!(connectors_of(), [None; 1_000]);
        let add = |connector| presence.on_usable(&tunnel, connector, CoreId(0));
        [11, 12, 13].into_iter().for_each(add);
        let before = connectors_of();
        for connector in [11, 12, 13] {
            let share = before.iter().filter(|of| **of == Some(connector)).count();
            assert!((200..500).contains(&share), "{share} of 1000 for {connector}");
        }
        presence.on_unusable(&tunnel, 12, CoreId(0), None);
        let after = connectors_of();
        assert!(before.iter().zip(&after).all(|(before, after)| *before == Some(12) || before == after));
        assert!(after.iter().all(|of| matches!(of, Some(11 | 13))));
    }

    fn hosts_of(hosts: &[&str]) -> Hosts {
        Hosts { listed: set(hosts), left_out: 0 }
    }

    fn set(hosts: &[&str]) -> HostSet {
        hosts.iter().map(|host| host.parse::<crate::base::HostPattern>().unwrap()).collect()
    }

    #[test]
    fn a_host_is_reached_where_it_is_served_and_awaited_while_its_connector_is_replaced() {
        let (presence, tunnel) = presence(1);
        let (at, patience) = (|s| Time::ZERO + Duration::from_secs(s), Duration::from_secs(2));
        let reach = |host, s| presence.reach(&tunnel, host, at(s), patience);
        assert_eq!(reach("a.test", 0), Reach::Unserved);
        let bookings = [7, 8].map(|connector| presence.book(&tunnel, connector, CoreId(0), None));
        presence.on_usable(&tunnel, 7, CoreId(0));
        presence.on_hosts(&tunnel, 7, hosts_of(&["a.test"]));
        assert_eq!((reach("a.test", 0), reach("b.test", 0)), (Reach::Served(Serves::Yes), Reach::Awaited));
        presence.on_usable(&tunnel, 8, CoreId(0));
        assert_eq!(reach("b.test", 0), Reach::Served(Serves::Unknown));
        presence.on_hosts(&tunnel, 8, hosts_of(&["*.test"]));
        assert_eq!([reach("a.test", 0), reach("b.test", 0)], [Reach::Served(Serves::Yes); 2]);
        assert_eq!(reach("x.y.test", 0), Reach::Unserved);
        let for_all = |host| (0..100).map(|number| presence.connector_for(&tunnel, host, number)).collect::<Vec<_>>();
        assert_eq!((for_all("b.test"), for_all("x.y.test")), (vec![Some(8); 100], vec![None; 100]));

        presence.on_unusable(&tunnel, 8, CoreId(0), None);
        assert_eq!(reach("b.test", 5), Reach::Awaited, "it drains");
        assert!(presence.is_ending(&tunnel, "b.test") && !presence.is_ending(&tunnel, "a.test"));
        let [first, second] = bookings;
        presence.on_left(&tunnel, at(6));
        drop(second);
        assert_eq!([reach("b.test", 7), reach("b.test", 8)], [Reach::Awaited, Reach::Unserved]);
        assert_eq!(reach("a.test", 8), Reach::Served(Serves::Yes));
        presence.on_unusable(&tunnel, 7, CoreId(0), None);
        drop(first);
        assert!(presence.tunnels().is_empty(), "nothing is kept of a tunnel without links");
    }

    #[test]
    fn each_change_of_unserved_hosts_is_reported_once() {
        let (presence, tunnel) = presence(1);
        let hosts = set(&["a.test", "b.test", "*.c.test"]);
        assert!(!presence.begin_review(&tunnel), "it has no links");
        assert_eq!((presence.review(&tunnel, &hosts), presence.service(&tunnel, &hosts)), (None, None));
        presence.on_usable(&tunnel, 7, CoreId(0));
        assert!(presence.begin_review(&tunnel) && !presence.begin_review(&tunnel));
        assert_eq!(presence.review(&tunnel, &hosts), None, "the connector has not reported hosts yet");
        let unserved = || {
            let service = presence.service(&tunnel, &hosts).unwrap();
            service.into_iter().filter(|of| of.unserved).map(|of| of.host).collect::<Vec<_>>()
        };
        assert_eq!(unserved(), [""; 0]);
        assert!(presence.begin_review(&tunnel));
        presence.on_hosts(&tunnel, 7, hosts_of(&["a.test", "x.c.test"]));
        assert_eq!(presence.review(&tunnel, &hosts), Some(set(&["b.test"])));
        assert_eq!((presence.review(&tunnel, &hosts), unserved()), (None, vec!["b.test".to_owned()]));
        presence.on_usable(&tunnel, 8, CoreId(0));
        presence.on_hosts(&tunnel, 8, hosts_of(&["b.test", "a.test"]));
        assert_eq!(presence.review(&tunnel, &hosts), Some(HostSet::default()));
        let service = presence.service(&tunnel, &hosts).unwrap();
        let service: Vec<(&str, &[u64])> = service.iter().map(|of| (&*of.host, &*of.connectors)).collect();
        assert_eq!(service, [("*.c.test", &[7][..]), ("a.test", &[7, 8]), ("b.test", &[8])]);
        presence.on_unusable(&tunnel, 8, CoreId(0), None);
        assert_eq!(presence.review(&tunnel, &hosts), Some(set(&["b.test"])));
    }
}
