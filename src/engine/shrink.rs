//! Tables that give memory back when they have become much smaller than they were.

/// A table of at most this many entries keeps its memory.
const ENTRIES_KEPT: usize = 256;
/// A table gives memory back when it uses one part in this many of it.
const USE_SHARE: usize = 4;

/// Frees half of the unused memory of a table that uses little of it. If this is called whenever an entry is removed,
/// it costs nothing on average: a table must first lose as many entries as it keeps.
pub(in crate::engine) fn shrink_spare<T>(table: &mut Vec<T>) {
    let capacity = table.capacity();
    if capacity > ENTRIES_KEPT && table.len() < capacity / USE_SHARE {
        table.shrink_to((capacity / 2).max(ENTRIES_KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_has_become_small_keeps_little() {
        let mut table: Vec<u64> = (0..10_000).collect();
        let mut moves = 0;
        while !table.is_empty() {
            table.pop();
            let before = table.capacity();
            shrink_spare(&mut table);
            moves += usize::from(table.capacity() != before);
            assert!(table.capacity() <= (USE_SHARE * (table.len() + 1)).max(ENTRIES_KEPT), "{} entries", table.len());
        }
        assert!(moves < 10, "{moves}");
    }
}
