//! On which cores of an edge the links of each tunnel are.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{CoreId, Time, TunnelId};
use crate::link::Loss;
use crate::route::CoreSet;

/// The most connectors of which it is known that they were lost lately.
const LOST_MAX: usize = 1_024;

/// The links of every tunnel by core, shared by all cores. It is asked when a link comes or goes, when a connection has
/// landed on a core that has no link for it, and for a call whose connector is not on its core; never on the way of an
/// ordinary call.
pub(super) struct Presence {
    cores: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tunnels: HashMap<TunnelId, ConnectorsOfTunnel>,
    /// Connectors whose last link was lost, the latest last.
    lost: VecDeque<(TunnelId, u64, Lost)>,
}

/// When the last link of a connector was lost, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) at: Time,
    pub(super) loss: Loss,
}

/// The links of one tunnel by the connector's process.
#[derive(Default)]
struct ConnectorsOfTunnel {
    by_connector: HashMap<u64, ConnectorLinks>,
}

/// The links of one connector on each core.
#[derive(Default)]
struct ConnectorLinks {
    booked: Vec<u32>,
    /// Those that take new calls.
    usable: Vec<u32>,
}

impl ConnectorsOfTunnel {
    fn count(&self) -> u64 {
        self.by_connector.values().flat_map(|links| &links.booked).map(|links| u64::from(*links)).sum()
    }
}

impl ConnectorLinks {
    fn new(cores: usize) -> ConnectorLinks {
        ConnectorLinks { booked: vec![0; cores], usable: vec![0; cores] }
    }

    fn is_usable(&self) -> bool {
        self.usable.iter().any(|links| *links > 0)
    }

    fn is_unused(&self) -> bool {
        !self.is_usable() && self.booked.iter().all(|links| *links == 0)
    }
}

/// A link's place on one core. Dropping it gives the place back.
pub(super) struct Booking {
    presence: Arc<Presence>,
    tunnel: TunnelId,
    connector: u64,
    core: CoreId,
}

impl Booking {
    /// The core on which the link is to run.
    pub(super) fn core(&self) -> CoreId {
        self.core
    }
}

impl Presence {
    pub(super) fn new(cores: usize) -> Presence {
        Presence { cores, known: Mutex::default() }
    }

    /// Books a place for a new link of a connector: on the core with the fewest links of that connector, `preferred` among
    /// equals. None when the tunnel has `max` links already.
    pub(super) fn book(
        self: &Arc<Self>,
        tunnel: &TunnelId,
        connector: u64,
        preferred: CoreId,
        max: Option<u32>,
    ) -> Option<Booking> {
        let mut known = self.lock();
        let count = known.tunnels.get(tunnel).map_or(0, ConnectorsOfTunnel::count);
        if max.is_some_and(|max| count >= u64::from(max)) {
            return None;
        }
        let booked = &mut known.links(tunnel, connector, self.cores).booked;
        let is_other = |index: usize| index != usize::from(preferred.0);
        let best = (0..booked.len()).min_by_key(|index| (booked[*index], is_other(*index))).unwrap_or(0);
        booked[best] += 1;
        let core = CoreId(best as u16);
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
    pub(super) fn on_unusable(&self, tunnel: &TunnelId, connector: u64, core: CoreId, lost: Option<Lost>) {
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

    /// The cores that have a link which takes new calls, of a connector of the tunnel that `fits`.
    pub(super) fn cores_with(&self, tunnel: &TunnelId, fits: impl Fn(u64) -> bool) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        let known = self.lock();
        let connectors = known.tunnels.get(tunnel).into_iter().flat_map(|links| &links.by_connector);
        for (_, links) in connectors.filter(|(connector, _)| fits(**connector)) {
            for (index, _) in links.usable.iter().enumerate().filter(|(_, count)| **count > 0) {
                set.insert(CoreId(index as u16));
            }
        }
        set
    }

    /// Whether the tunnel has links, and none that takes new calls: its connectors are about to end, or have only just come.
    pub(super) fn is_ending(&self, tunnel: &TunnelId) -> bool {
        let known = self.lock();
        let links = known.tunnels.get(tunnel);
        links.is_some_and(|links| links.count() > 0 && !links.by_connector.values().any(ConnectorLinks::is_usable))
    }

    /// One of the connectors of the tunnel that take new calls: the same for the same number, as long as it is there
    /// (rendezvous hashing).
    pub(super) fn connector_for(&self, tunnel: &TunnelId, number: u64) -> Option<u64> {
        let known = self.lock();
        let connectors = known.tunnels.get(tunnel)?.by_connector.iter().filter(|(_, links)| links.is_usable());
        connectors.map(|(connector, _)| *connector).max_by_key(|connector| (mix(number ^ mix(*connector)), *connector))
    }

    /// How and when the last link of a connector was lost; none if it has links, has said goodbye, or was lost long ago.
    pub(super) fn lost(&self, tunnel: &TunnelId, connector: u64) -> Option<Lost> {
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

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn links(&mut self, tunnel: &TunnelId, connector: u64, cores: usize) -> &mut ConnectorLinks {
        let of_tunnel = self.tunnels.entry(tunnel.clone()).or_default();
        of_tunnel.by_connector.entry(connector).or_insert_with(|| ConnectorLinks::new(cores))
    }

    /// Keeps nothing of a connector without links, nor of a tunnel without connectors.
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
        assert_eq!(cores, [1, 0, 2, 1], "the accepting core first, then each of the others, then again");
        assert_eq!(book(8).core(), CoreId(1), "another connector begins anew");
    }

    #[test]
    fn a_tunnel_has_at_most_so_many_links_over_all_its_connectors() {
        let (presence, tunnel) = presence(2);
        let book = |connector| presence.book(&tunnel, connector, CoreId(0), Some(2));
        let (first, second) = (book(7), book(8));
        assert!(first.is_some() && second.is_some() && book(7).is_none() && book(9).is_none());
        assert!(presence.book(&"tnl_b".parse().unwrap(), 7, CoreId(0), Some(2)).is_some());
        drop(first);
        assert!(book(9).is_some(), "a place that was given back can be booked again");
    }

    #[test]
    fn only_cores_whose_links_take_calls_are_named() {
        let (presence, tunnel) = presence(3);
        let cores_with = |fits: fn(u64) -> bool| {
            let cores = presence.cores_with(&tunnel, fits);
            [0, 1, 2].map(|core| cores.contains(CoreId(core)))
        };
        let booking = presence.book(&tunnel, 7, CoreId(2), None);
        assert_eq!(cores_with(|_| true), [false; 3], "a link that is booked takes no calls yet");
        presence.on_usable(&tunnel, 7, CoreId(2));
        presence.on_usable(&tunnel, 7, CoreId(2));
        presence.on_usable(&tunnel, 8, CoreId(0));
        presence.on_unusable(&tunnel, 7, CoreId(2), None);
        assert_eq!(cores_with(|_| true), [true, false, true]);
        assert_eq!(cores_with(|connector| connector == 7), [false, false, true]);
        presence.on_unusable(&tunnel, 7, CoreId(2), None);
        presence.on_unusable(&tunnel, 8, CoreId(0), None);
        assert_eq!(cores_with(|_| true), [false; 3]);
        assert!(presence.is_ending(&tunnel), "a link is there, and takes no calls");
        drop(booking);
        assert!(!presence.is_ending(&tunnel));
        assert!(presence.lock().tunnels.is_empty(), "nothing is kept of a tunnel without links");
    }

    #[test]
    fn a_connector_is_lost_with_its_last_link_until_it_is_back() {
        let (presence, tunnel) = presence(2);
        let at = |s| Lost { at: Time::ZERO + std::time::Duration::from_secs(s), loss: Loss::Closed };
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
        assert_eq!(lost(), None, "it has said goodbye");
        for connector in 0..2 * LOST_MAX as u64 {
            presence.on_usable(&tunnel, connector, CoreId(0));
            presence.on_unusable(&tunnel, connector, CoreId(0), Some(at(3)));
        }
        assert_eq!(presence.lock().lost.len(), LOST_MAX);
    }

    #[test]
    fn a_number_keeps_its_connector_while_others_come_and_go() {
        let (presence, tunnel) = presence(1);
        let connectors_of = || (0..1_000).map(|number| presence.connector_for(&tunnel, number)).collect::<Vec<_>>();
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
}
