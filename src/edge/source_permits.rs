//! The number of open connections of each source, and of its calls in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::SourceKey;

/// The connections that each source has open at one port, all cores together. A source without connections is not kept.
#[derive(Default)]
pub(super) struct Places {
    by_source: Mutex<HashMap<SourceKey, OfSource>>,
    /// The most calls of one source; 0 for any number. It is read at every call, and so not in the tables.
    calls_max: AtomicU32,
}

#[derive(Default)]
struct OfSource {
    places: u32,
    calls: Arc<AtomicU32>,
}

/// The place of one connection. Dropping it frees the place.
pub(super) struct Place {
    all: Arc<Places>,
    source: SourceKey,
    calls: Arc<AtomicU32>,
}

/// The place of one call on a connection that has a place. Dropping it frees the place.
pub(super) struct CallPlace(Arc<AtomicU32>);

impl Places {
    /// Limits the calls that one source may have in flight from now on.
    pub(super) fn limit_calls(&self, max: Option<u32>) {
        self.calls_max.store(max.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes a place for a connection of this source; none when it has `max` already.
    pub(super) fn take(self: &Arc<Self>, source: SourceKey, max: Option<u32>) -> Option<Place> {
        let mut by_source = self.lock();
        let of_source = match by_source.entry(source) {
            Entry::Occupied(of_source) => of_source.into_mut(),
            Entry::Vacant(_) if max == Some(0) => return None,
            Entry::Vacant(free) => free.insert(OfSource::default()),
        };
        if max.is_some_and(|max| of_source.places >= max) {
            return None;
        }
        of_source.places += 1;
        Some(Place { all: Arc::clone(self), source, calls: Arc::clone(&of_source.calls) })
    }

    /// The lock is held for a few instructions, twice per connection.
    fn lock(&self) -> MutexGuard<'_, HashMap<SourceKey, OfSource>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes a place for a call; none when the source has its maximum in flight.
    pub(super) fn begin_call(&self) -> Option<CallPlace> {
        // Counted before the check, so that calls of one source on several cores cannot exceed the limit together.
        let place = CallPlace(Arc::clone(&self.calls));
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        let max = self.all.calls_max.load(Ordering::Relaxed);
        (max == 0 || before < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_source = self.all.lock();
        if let Some(of_source) = by_source.get_mut(&self.source) {
            of_source.places -= 1;
            if of_source.places == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SourceKey {
        SourceKey::of(text.parse().unwrap())
    }

    #[test]
    fn each_source_has_so_many_places_and_gets_them_back() {
        let places = Arc::<Places>::default();
        let first = places.take(key("192.0.2.1"), Some(2)).unwrap();
        let second = places.take(key("192.0.2.1"), Some(2)).unwrap();
        assert!(places.take(key("192.0.2.1"), Some(2)).is_none());
        assert!(places.take(key("192.0.2.1"), None).is_some() && places.take(key("192.0.2.2"), Some(2)).is_some());
        drop(first);
        assert!(places.take(key("192.0.2.1"), Some(2)).is_some());
        drop(second);
        assert!(places.lock().is_empty(), "nothing is kept of sources without connections");
    }

    #[test]
    fn calls_are_counted_over_all_connections_of_a_source() {
        let places = Arc::<Places>::default();
        let [one, two] = [(); 2].map(|()| places.take(key("192.0.2.1"), None).unwrap());
        let other = places.take(key("192.0.2.2"), None).unwrap();
        places.limit_calls(Some(2));
        let held = (one.begin_call().unwrap(), two.begin_call().unwrap());
        assert!(one.begin_call().is_none() && two.begin_call().is_none() && other.begin_call().is_some());
        places.limit_calls(None);
        assert!(one.begin_call().is_some());
        drop(held);
        places.limit_calls(Some(1));
        assert!(two.begin_call().is_some());
    }
}
