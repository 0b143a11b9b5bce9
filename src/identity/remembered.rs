//! What is known by names that others choose, in bounded memory: the oldest gives way.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// The most entries. The oldest gives way.
pub(super) const ENTRIES_MAX: usize = 4_096;
/// The most bytes that all entries have together, by what was told of each.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries by their names, in the order in which these were first entered.
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

    /// Enters a value that takes about this many bytes, in place of the one with the same name.
    pub(super) fn enter(&mut self, name: N, value: V, len: usize) {
        self.bytes += len;
        match self.known.insert(name, (value, len)) {
            // It keeps its place in the order.
            Some((_, len_before)) => self.bytes -= len_before,
            None => self.order.push_back(name),
        }
        while self.order.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.known.remove(&oldest).map_or(0, |(_, len)| len);
        }
    }

    /// Removes an entry, if there is one.
    pub(super) fn forget(&mut self, name: &N) {
        if let Some((_, len)) = self.known.remove(name) {
            self.bytes -= len;
            self.order.retain(|other| other != name);
        }
    }

    /// How many entries there are, and of how many bytes.
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
