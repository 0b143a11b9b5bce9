//! Which connector or caller holds which MCP session: the connector whose server created it, or the caller for whom it
//! was created.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::base::Time;

/// The most sessions of a table. When it is full, the one that was idle for longest is forgotten.
const SESSIONS_MAX: usize = 65_536;
/// Parts of the table, each with its own lock.
const PARTS: usize = 64;
const PART_SESSIONS_MAX: usize = SESSIONS_MAX / PARTS;
/// When a part is full, a scope with at least this many sessions in it loses one of its own, rather than one of another
/// scope.
const SCOPE_SESSIONS_FREE: usize = PART_SESSIONS_MAX / 8;

/// Sessions and their holders, shared by all cores.
pub struct SessionTable {
    hasher: RandomState,
    idle_max: Duration,
    parts: Box<[CachePadded<Mutex<Part>>]>,
}

type Part = SessionMap<Bound>;

/// A map by session. A key is already a keyed hash, which outsiders cannot choose.
pub type SessionMap<T> = HashMap<SessionKey, T, BuildHasherDefault<KeyHasher>>;

/// Uses the key itself as hash.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A session of a scope, as a keyed hash of both names, so that the table does not grow with the length of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u64);

struct Bound {
    holder: u64,
    scope: u64,
    used_at: Time,
}

impl SessionTable {
    /// A table that forgets sessions which were idle for `idle_max`.
    #[must_use]
    pub fn new(idle_max: Duration) -> SessionTable {
        SessionTable {
            hasher: RandomState::new(),
            idle_max,
            parts: (0..PARTS).map(|_| CachePadded::default()).collect(),
        }
    }

    /// The key of a session of this scope.
    #[must_use]
    pub fn key(&self, scope: &str, session: &[u8]) -> SessionKey {
        SessionKey(self.hasher.hash_one((scope, session)))
    }

    /// A holder with these names.
    #[must_use]
    pub fn holder(&self, names: (&str, &str)) -> u64 {
        self.hasher.hash_one(names)
    }

    /// The holder of a session, which counts as used now.
    #[must_use]
    pub fn holder_of(&self, key: SessionKey, now: Time) -> Option<u64> {
        let mut part = self.part(key);
        let bound = part.get_mut(&key).filter(|bound| now - bound.used_at < self.idle_max)?;
        bound.used_at = now;
        Some(bound.holder)
    }

    /// Binds a session to its holder. When the table is full, a scope with many sessions loses one of its own.
    pub fn bind(&self, key: SessionKey, scope: impl Hash, holder: u64, now: Time) {
        let scope = self.hasher.hash_one(scope);
        let mut part = self.part(key);
        if part.len() >= PART_SESSIONS_MAX && !part.contains_key(&key) {
            self.make_room(&mut part, scope, now);
        }
        part.insert(key, Bound { holder, scope, used_at: now });
    }

    /// Forgets a session that has ended.
    pub fn release(&self, key: SessionKey) {
        self.part(key).remove(&key);
    }

    /// Removes sessions that were idle for too long; if there are none, the one that was idle for longest.
    fn make_room(&self, part: &mut Part, scope: u64, now: Time) {
        part.retain(|_, bound| now - bound.used_at < self.idle_max);
        if part.len() < PART_SESSIONS_MAX {
            return;
        }
        let crowded = part.values().filter(|bound| bound.scope == scope).count() >= SCOPE_SESSIONS_FREE;
        let of_scope = part.iter().filter(|(_, bound)| !crowded || bound.scope == scope);
        let idlest = of_scope.min_by_key(|(_, bound)| bound.used_at).map(|(key, _)| *key);
        idlest.map(|key| part.remove(&key));
    }

    /// The lock is held for a few instructions, or for one scan of a part that is full.
    fn part(&self, key: SessionKey) -> MutexGuard<'_, Part> {
        // Neither the lowest nor the highest bits, which the part's own map uses.
        let at = (key.0 >> 32) as usize % self.parts.len();
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// The time after `s` seconds.
    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    /// Keys that all fall into the same part.
    fn keys() -> impl Iterator<Item = SessionKey> {
        (0..).map(|nth| SessionKey(nth * PARTS as u64))
    }

    #[test]
    fn a_session_belongs_to_its_scope_and_is_forgotten_when_it_ends() {
        let table = SessionTable::new(HOUR);
        let (one, other) = ("tnl_a", "tnl_b");
        let key = table.key(one, b"s");
        table.bind(key, one, 7, at(0));
        assert_eq!(table.holder_of(table.key(one, b"s"), at(1)), Some(7));
        assert_eq!(table.holder_of(table.key(other, b"s"), at(1)), None);
        assert_eq!(table.holder_of(table.key(one, b"t"), at(1)), None);
        table.bind(key, one, 8, at(1));
        assert_eq!(table.holder_of(key, at(1)), Some(8), "another holds it now");
        table.release(key);
        assert_eq!(table.holder_of(key, at(1)), None);
    }

    #[test]
    fn a_session_that_is_idle_for_too_long_is_forgotten_and_use_keeps_it() {
        let table = SessionTable::new(HOUR);
        let key = SessionKey(1);
        table.bind(key, "tnl_a", 7, at(0));
        assert_eq!(table.holder_of(key, at(3_599)), Some(7));
        assert_eq!(table.holder_of(key, at(7_000)), Some(7));
        assert_eq!(table.holder_of(key, at(10_600)), None);
    }

    #[test]
    fn a_full_table_evicts_the_session_that_was_idle_longest() {
        let table = SessionTable::new(HOUR);
        for (nth, key) in keys().take(PART_SESSIONS_MAX).enumerate() {
            table.bind(key, "tnl_a", 7, at(nth as u64 / 100));
        }
        assert_eq!(table.holder_of(SessionKey(0), at(100)), Some(7), "the oldest was used again");
        let mut more = keys().skip(PART_SESSIONS_MAX);
        table.bind(more.next().unwrap(), "tnl_a", 7, at(100));
        assert_eq!(table.part(SessionKey(0)).len(), PART_SESSIONS_MAX);
        assert_eq!(table.holder_of(SessionKey(0), at(100)), Some(7));
        let first = keys().take(100).filter(|key| table.part(*key).contains_key(key)).count();
        assert_eq!(first, 99, "one of the first hundred made room");
        // All but the two that were used lately have expired.
        table.bind(more.next().unwrap(), "tnl_a", 7, at(3_650));
        assert_eq!(table.part(SessionKey(0)).len(), 3);
    }

    #[test]
    fn a_scope_with_many_sessions_makes_room_for_its_own() {
        let table = SessionTable::new(HOUR);
        let (small, large) = ("tnl_small", "tnl_large");
        let mut keys = keys();
        let old: Vec<SessionKey> = keys.by_ref().take(SCOPE_SESSIONS_FREE - 1).collect();
        old.iter().for_each(|key| table.bind(*key, small, 1, at(0)));
        keys.by_ref().take(3 * PART_SESSIONS_MAX).for_each(|key| table.bind(key, large, 2, at(1)));
        assert!(old.iter().all(|key| table.holder_of(*key, at(2)) == Some(1)));
        assert_eq!(table.part(SessionKey(0)).len(), PART_SESSIONS_MAX);
        table.bind(keys.next().unwrap(), small, 1, at(3));
        assert!(old.iter().all(|key| table.holder_of(*key, at(4)) == Some(1)), "a small scope displaces the large one");
    }
}
