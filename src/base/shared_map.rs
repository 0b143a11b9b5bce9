//! A hash map whose copies share the parts that are equal, so that a copy and a change are cheap.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

/// The number of buckets of a map. A copy increments one reference count for each; with ten thousand entries a change
/// copies about forty entries.
const BUCKETS: usize = 256;

/// A hash map that is cheap to copy and cheap to change in one copy, whatever its size: a copy shares all buckets, and
/// a change replaces one bucket. It suits tables that many threads read while one thread makes the next version.
///
/// Entries have no order. The keys must come from operators: a stranger who chose them could have them fall into one bucket.
pub struct SharedMap<K, V> {
    buckets: Box<[Bucket<K, V>; BUCKETS]>,
    len: usize,
}

/// The entries of one bucket; `None` until the bucket is used, so that an empty map is small.
type Bucket<K, V> = Option<Arc<Vec<Entry<K, V>>>>;

#[derive(Clone)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> SharedMap<K, V> {
    /// The number of entries.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks, and a build without `internals` would say so")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flatten().flat_map(|bucket| bucket.iter()).map(|entry| (&entry.key, &entry.value))
    }

    /// All keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Hash + Eq, V> SharedMap<K, V> {
    /// The value of a key, if it has one.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.len == 0 {
            return None;
        }
        let hash = FxBuildHasher.hash_one(key);
        let mut entries = self.buckets[bucket_of(hash)].as_ref()?.iter();
        entries.find(|entry| entry.hash == hash && entry.key.borrow() == key).map(|entry| &entry.value)
    }

    /// Whether the key has a value.
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// Sets the value of a key, and returns the previous one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = FxBuildHasher.hash_one(&key);
        let bucket = Arc::make_mut(self.buckets[bucket_of(hash)].get_or_insert_default());
        match bucket.iter_mut().find(|entry| entry.hash == hash && entry.key == key) {
            Some(entry) => Some(std::mem::replace(&mut entry.value, value)),
            None => {
                bucket.push(Entry { hash, key, value });
                self.len += 1;
                None
            }
        }
    }

    /// The value of a key, for changing it in this copy only.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let hash = FxBuildHasher.hash_one(key);
        let bucket = Arc::make_mut(self.buckets[bucket_of(hash)].as_mut()?);
        let mut entries = bucket.iter_mut();
        entries.find(|entry| entry.hash == hash && entry.key.borrow() == key).map(|entry| &mut entry.value)
    }

    /// Removes a key, and returns its value if it had one.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = FxBuildHasher.hash_one(key);
        let bucket = self.buckets[bucket_of(hash)].as_mut()?;
        let at = bucket.iter().position(|entry| entry.hash == hash && entry.key.borrow() == key)?;
        self.len -= 1;
        Some(Arc::make_mut(bucket).swap_remove(at).value)
    }
}

fn bucket_of(hash: u64) -> usize {
    (hash % BUCKETS as u64) as usize
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> SharedMap<K, V> {
        SharedMap { buckets: self.buckets.clone(), len: self.len }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap { buckets: Box::new([const { None }; BUCKETS]), len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SharedMap<K, V> {
        let mut map = SharedMap::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Hash + Eq + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> SharedMap<K, V> {
        entries.into_iter().collect()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::Rng;

    #[test]
    fn it_equals_an_ordinary_map_and_copies_do_not_change() {
        let mut rng = Rng::new(7);
        let (mut map, mut model) = (SharedMap::default(), HashMap::new());
        let mut copies = Vec::new();
        for round in 0..4_000_u64 {
            let key = format!("k{}", rng.below(900));
            if rng.below(3) == 0 {
                assert_eq!(map.remove(key.as_str()), model.remove(&key));
            } else {
                assert_eq!(map.insert(key.clone(), round), model.insert(key, round));
            }
            if round % 500 == 0 {
                copies.push((map.clone(), model.clone()));
            }
        }
        copies.push((map, model));
        for (map, model) in copies {
            assert_eq!(map.len(), model.len());
            assert_eq!(map.iter().map(|(key, value)| (key.clone(), *value)).collect::<HashMap<_, _>>(), model);
            assert!(model.iter().all(|(key, value)| map.get(key.as_str()) == Some(value)));
            assert!(!map.contains_key("none"));
        }
    }

    #[test]
    fn a_change_copies_one_bucket() {
        let map: SharedMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let mut changed = map.clone();
        changed.insert(10_000, 1);
        let shared = map.buckets.iter().zip(changed.buckets.iter());
        let shared =
            shared.filter(|(one, other)| one.as_ref().zip(other.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b)));
        assert_eq!(shared.count(), BUCKETS - 1);
    }
}
