//! Which connection of a connector of cloudflared has which number, for all cores of an edge.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{CoreId, LinkId, TunnelId};
use crate::wire::cloudflared::TunnelUuid;

/// The number of a connection among those of its connector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlaceKey {
    pub(super) tunnel: TunnelId,
    pub(super) connector: TunnelUuid,
    pub(super) index: u8,
}

/// The registered connections. There is one entry for each, so that the limits of links bound them.
#[derive(Default)]
pub(super) struct CloudflaredPlaces(Mutex<HashMap<PlaceKey, (CoreId, LinkId)>>);

impl CloudflaredPlaces {
    fn lock(&self) -> MutexGuard<'_, HashMap<PlaceKey, (CoreId, LinkId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, which is freed on drop.
pub(super) struct CloudflaredPlace {
    places: Arc<CloudflaredPlaces>,
    key: PlaceKey,
    link: LinkId,
}

impl CloudflaredPlace {
    /// Takes the place for a connection. Also returns the connection that had it.
    pub(super) fn take(
        places: &Arc<CloudflaredPlaces>,
        key: PlaceKey,
        core: CoreId,
        link: LinkId,
    ) -> (CloudflaredPlace, Option<(CoreId, LinkId)>) {
        let older = places.lock().insert(key.clone(), (core, link));
        (CloudflaredPlace { places: Arc::clone(places), key, link }, older)
    }
}

impl Drop for CloudflaredPlace {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        // A newer connection may have it.
        if places.get(&self.key).is_some_and(|(_, link)| *link == self.link) {
            places.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_connection_has_the_place_until_it_ends() {
        let places = Arc::<CloudflaredPlaces>::default();
        let key = |index| PlaceKey { tunnel: "tnl_a".parse().unwrap(), connector: TunnelUuid([1; 16]), index };
        let take = |index, link| CloudflaredPlace::take(&places, key(index), CoreId(0), LinkId(link));
        let (first, older) = take(0, 1);
        assert_eq!(older, None);
        let (other, older) = take(1, 2);
        assert_eq!(older, None);
        let (second, older) = take(0, 3);
        assert_eq!(older, Some((CoreId(0), LinkId(1))));
        drop(first);
        assert_eq!(places.lock().len(), 2, "the place is that of the second");
        drop((second, other));
        assert!(places.lock().is_empty());
    }
}
