//! On which cores of an edge the links of each tunnel are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{CoreId, TunnelId};
use crate::route::CoreSet;

/// The links of every tunnel by core, shared by all cores. It is asked when a link comes or goes, and when a connection has
/// landed on a core that has no link for it; never on the way of an ordinary call.
pub(super) struct Presence {
    cores: usize,
    tunnels: Mutex<HashMap<TunnelId, TunnelLinks>>,
}

#[derive(Default)]
struct TunnelLinks {
    /// For each core, the links that take new calls.
    usable: Vec<u32>,
    /// For each connector process, the links booked on each core.
    booked: HashMap<u64, Vec<u32>>,
}

impl TunnelLinks {
    fn count(&self) -> u64 {
        self.booked.values().flatten().map(|links| u64::from(*links)).sum()
    }

    fn is_unused(&self) -> bool {
        self.booked.is_empty() && self.usable.iter().all(|links| *links == 0)
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
        Presence { cores, tunnels: Mutex::default() }
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
        let mut tunnels = self.lock();
        let count = tunnels.get(tunnel).map_or(0, TunnelLinks::count);
        if max.is_some_and(|max| count >= u64::from(max)) {
            return None;
        }
        let booked = tunnels.entry(tunnel.clone()).or_default().booked.entry(connector).or_default();
        booked.resize(self.cores, 0);
        let is_other = |index: usize| index != usize::from(preferred.0);
        let best = (0..booked.len()).min_by_key(|index| (booked[*index], is_other(*index))).unwrap_or(0);
        booked[best] += 1;
        let core = CoreId(best as u16);
        Some(Booking { presence: Arc::clone(self), tunnel: tunnel.clone(), connector, core })
    }

    /// Notes that a link on `core` has begun or has ceased to take new calls.
    pub(super) fn set_usable(&self, tunnel: &TunnelId, core: CoreId, usable: bool) {
        let mut tunnels = self.lock();
        let links = tunnels.entry(tunnel.clone()).or_default();
        links.usable.resize(self.cores, 0);
        if let Some(count) = links.usable.get_mut(usize::from(core.0)) {
            *count = if usable { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// The cores that have a link of the tunnel which takes new calls.
    pub(super) fn cores_with(&self, tunnel: &TunnelId) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        if let Some(links) = self.lock().get(tunnel) {
            for (index, _) in links.usable.iter().enumerate().filter(|(_, count)| **count > 0) {
                set.insert(CoreId(index as u16));
            }
        }
        set
    }

    fn give_back(&self, tunnel: &TunnelId, connector: u64, core: CoreId) {
        let mut tunnels = self.lock();
        let Some(links) = tunnels.get_mut(tunnel) else { return };
        if let Some(booked) = links.booked.get_mut(&connector) {
            if let Some(count) = booked.get_mut(usize::from(core.0)) {
                *count = count.saturating_sub(1);
            }
            if booked.iter().all(|count| *count == 0) {
                links.booked.remove(&connector);
            }
        }
        if links.is_unused() {
            tunnels.remove(tunnel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelId, TunnelLinks>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let booking = presence.book(&tunnel, 7, CoreId(2), None);
        assert!(presence.cores_with(&tunnel).is_empty(), "a link that is booked takes no calls yet");
        presence.set_usable(&tunnel, CoreId(2), true);
        presence.set_usable(&tunnel, CoreId(2), true);
        presence.set_usable(&tunnel, CoreId(2), false);
        let cores = presence.cores_with(&tunnel);
        assert!(cores.contains(CoreId(2)) && !cores.contains(CoreId(0)) && !cores.contains(CoreId(1)));
        presence.set_usable(&tunnel, CoreId(2), false);
        assert!(presence.cores_with(&tunnel).is_empty());
        drop(booking);
        assert!(presence.lock().is_empty(), "nothing is kept of a tunnel without links");
    }
}
