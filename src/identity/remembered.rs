//! A bounded cache whose keys are chosen by others. The oldest entry is evicted first.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// The most entries that are kept.
pub(super) const ENTRIES_MAX: usize = 4_096;
/// The most bytes of all entries together, by the lengths passed to `enter`.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries by name, in the order of their first insertion.
pub(super) struct Remembered<N, V> {
    known: FxHashMap<N, (V, usize)>,
    order: VecDeque<N>,
    bytes: usize,
}

impl<N: Copy + Eq + Hash, V> Remembered<N, V> {
    pub(super) fn get(&self, name: &N) -> Option<&V> {
        self.known.get(name).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, name: &N) -> Option<&mut V> {
        self.known.get_mut(name).map(|(value, _)| value)
    }

    /// Inserts a value of about this many bytes, and replaces the one with the same name.
    pub(super) fn enter(&mut self, name: N, value: V, len: usize) {
        self.bytes += len;
        match self.known.insert(name, (value, len)) {
            // A replaced entry keeps its place in the order.
            Some((_, len_before)) => self.bytes -= len_before,
            None => self.order.push_back(name),
        }
        while self.order.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.known.remove(&oldest).map_or(0, |(_, len)| len);
        }
    }

    /// Removes an entry, if it exists.
    pub(super) fn forget(&mut self, name: &N) {
        if let Some((_, len)) = self.known.remove(name) {
            self.bytes -= len;
            self.order.retain(|other| other != name);
        }
    }

    /// The number of entries, and their total length in bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        assert_eq!(self.known.len(), self.order.len());
        (self.known.len(), self.bytes)
    }
}

impl<N, V> Default for Remembered<N, V> {
    fn default() -> Remembered<N, V> {
        Remembered { known: FxHashMap::default(), order: VecDeque::new(), bytes: 0 }
    }
}
