//! The number of open connections of each source, and of its calls in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::SourceKey;

/// The open connections of each source at one port, over all cores. A source without connections has no entry.
#[derive(Default)]
pub(super) struct SourcePermits {
    by_source: Mutex<HashMap<SourceKey, SourceUse>>,
    /// The most calls of one source in flight; 0 for no limit. Not part of the tables, because every call reads it.
    calls_max: AtomicU32,
}

#[derive(Default)]
struct SourceUse {
    connections: u32,
    calls: Arc<AtomicU32>,
}

/// The permit of one open connection, released on drop.
pub(super) struct ConnectionPermit {
    all: Arc<SourcePermits>,
    source: SourceKey,
    calls: Arc<AtomicU32>,
}

/// The permit of one call, released on drop.
pub(super) struct CallPermit(Arc<AtomicU32>);

impl SourcePermits {
    /// Sets the limit of one source's calls in flight.
    pub(super) fn limit_calls(&self, max: Option<u32>) {
        self.calls_max.store(max.unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes a permit for a connection of this source; none if the source already has `max` connections.
    pub(super) fn take(self: &Arc<Self>, source: SourceKey, max: Option<u32>) -> Option<ConnectionPermit> {
        let mut by_source = self.lock();
        let of_source = match by_source.entry(source) {
            Entry::Occupied(of_source) => of_source.into_mut(),
            Entry::Vacant(_) if max == Some(0) => return None,
            Entry::Vacant(free) => free.insert(SourceUse::default()),
        };
        if max.is_some_and(|max| of_source.connections >= max) {
            return None;
        }
        of_source.connections += 1;
        Some(ConnectionPermit { all: Arc::clone(self), source, calls: Arc::clone(&of_source.calls) })
    }

    /// The lock is held for a few instructions, twice per connection.
    fn lock(&self) -> MutexGuard<'_, HashMap<SourceKey, SourceUse>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Takes a permit for a call; none if the source has its maximum in flight.
    pub(super) fn begin_call(&self) -> Option<CallPermit> {
        // Counted before the check, so that calls on several cores cannot exceed the limit together.
        let permit = CallPermit(Arc::clone(&self.calls));
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        let max = self.all.calls_max.load(Ordering::Relaxed);
        (max == 0 || before < max).then_some(permit)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_source = self.all.lock();
        if let Some(of_source) = by_source.get_mut(&self.source) {
            of_source.connections -= 1;
            if of_source.connections == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

impl Drop for CallPermit {
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
    fn each_source_has_so_many_permits_and_gets_them_back() {
        let permits = Arc::<SourcePermits>::default();
        let first = permits.take(key("192.0.2.1"), Some(2)).unwrap();
        let second = permits.take(key("192.0.2.1"), Some(2)).unwrap();
        assert!(permits.take(key("192.0.2.1"), Some(2)).is_none());
        assert!(permits.take(key("192.0.2.1"), None).is_some() && permits.take(key("192.0.2.2"), Some(2)).is_some());
        drop(first);
        assert!(permits.take(key("192.0.2.1"), Some(2)).is_some());
        drop(second);
        assert!(permits.lock().is_empty(), "sources without connections have no entry");
    }

    #[test]
    fn calls_are_counted_over_all_connections_of_a_source() {
        let permits = Arc::<SourcePermits>::default();
        let [one, two] = [(); 2].map(|()| permits.take(key("192.0.2.1"), None).unwrap());
        let other = permits.take(key("192.0.2.2"), None).unwrap();
        permits.limit_calls(Some(2));
        let held = (one.begin_call().unwrap(), two.begin_call().unwrap());
        assert!(one.begin_call().is_none() && two.begin_call().is_none() && other.begin_call().is_some());
        permits.limit_calls(None);
        assert!(one.begin_call().is_some());
        drop(held);
        permits.limit_calls(Some(1));
        assert!(two.begin_call().is_some());
    }
}
