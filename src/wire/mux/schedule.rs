/// How many bytes of a stream, including headers, are sent before the next stream has its turn.
pub const QUANTUM: usize = 16 * 1_024;

const NONE: u32 = u32::MAX;

/// Decides which stream sends next.
///
/// It has two lists, like fq_codel (RFC 8290 section 4.2). A stream that was idle and has something to send joins
/// `fresh`, which is served before `old`. When its turn ends, because its quantum is used up or it has nothing more to
/// send, it moves to the end of `old`, the only list that it can leave. A small message is therefore sent before all
/// bulk data, and a stream that sends little and often cannot starve bulk data. Since data can be cut anywhere, a turn
/// is exactly one quantum and no deficit is carried over.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    nodes: Vec<Node>,
    fresh: List,
    old: List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Fresh,
    Old,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    place: Place,
    allowance: u32,
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> List {
        List { first: NONE, last: NONE }
    }
}

impl Schedule {
    /// Adds a stream that was idle and has something to send.
    pub(super) fn wake(&mut self, slot: u32) {
        self.join(slot, Place::Fresh);
    }

    /// Adds a stream that was blocked by its credit. It does not count as fresh.
    pub(super) fn resume(&mut self, slot: u32) {
        self.join(slot, Place::Old);
    }

    /// The stream at turn, and how many bytes of the turn are left.
    pub(super) fn turn(&self) -> Option<(u32, usize)> {
        let slot = if self.fresh.first == NONE { self.old.first } else { self.fresh.first };
        let node = self.nodes.get(slot as usize)?;
        Some((slot, node.allowance as usize))
    }

    /// Counts what the stream at turn has sent; the turn ends with its quantum.
    pub(super) fn spend(&mut self, slot: u32, bytes: usize) {
        let node = &mut self.nodes[slot as usize];
        node.allowance = node.allowance.saturating_sub(bytes as u32);
        if node.allowance == 0 {
            self.end_turn(slot);
        }
    }

    /// Ends the turn of a stream that has more to send.
    pub(super) fn end_turn(&mut self, slot: u32) {
        self.leave(slot);
        self.join(slot, Place::Old);
    }

    /// Skips a stream that has nothing to send at its turn.
    pub(super) fn pass(&mut self, slot: u32) {
        let was_fresh = self.nodes[slot as usize].place == Place::Fresh;
        self.leave(slot);
        if was_fresh && self.old.first != NONE {
            self.join(slot, Place::Old);
        }
    }

    /// Removes a stream, whichever list it is in.
    pub(super) fn leave(&mut self, slot: u32) {
        let Some(node) = self.nodes.get_mut(slot as usize) else { return };
        let Node { place, before, after, .. } = *node;
        node.place = Place::Nowhere;
        let list = match place {
            Place::Nowhere => return,
            Place::Fresh => &mut self.fresh,
            Place::Old => &mut self.old,
        };
        match before {
            NONE => list.first = after,
            _ => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => list.last = before,
            _ => self.nodes[after as usize].before = before,
        }
    }

    fn join(&mut self, slot: u32, place: Place) {
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, Node { place: Place::Nowhere, allowance: 0, before: NONE, after: NONE });
        }
        if self.nodes[index].place != Place::Nowhere {
            return;
        }
        let list = if place == Place::Fresh { &mut self.fresh } else { &mut self.old };
        let before = list.last;
        list.last = slot;
        match before {
            NONE => list.first = slot,
            _ => self.nodes[before as usize].after = slot,
        }
        self.nodes[index] = Node { place, allowance: QUANTUM as u32, before, after: NONE };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn order(schedule: &mut Schedule) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some((slot, _)) = schedule.turn() {
            seen.push(slot);
            schedule.leave(slot);
        }
        seen
    }

    #[test]
    fn newcomers_go_before_those_that_had_their_turn() {
        let mut schedule = Schedule::default();
        schedule.wake(1);
        schedule.wake(2);
        schedule.spend(1, QUANTUM);
        schedule.spend(2, QUANTUM);
        schedule.wake(3);
        schedule.resume(4);
        assert_eq!(order(&mut schedule), [3, 1, 2, 4]);
    }

    #[test]
    fn a_newcomer_that_ran_dry_must_pass_through_the_old_list() {
        let mut schedule = Schedule::default();
        schedule.wake(1);
        schedule.spend(1, QUANTUM);
        schedule.wake(2);
        schedule.spend(2, 10);
        schedule.pass(2);
        schedule.wake(2);
        assert_eq!(schedule.turn(), Some((1, QUANTUM)));
        assert_eq!(order(&mut schedule), [1, 2]);
    }

    #[test]
    fn the_rest_of_a_turn_is_kept_while_a_new_stream_is_sent_first() {
        let mut schedule = Schedule::default();
        schedule.wake(1);
        schedule.spend(1, QUANTUM);
        schedule.spend(1, 1_000);
        schedule.wake(2);
        assert_eq!(schedule.turn(), Some((2, QUANTUM)));
        schedule.leave(2);
        assert_eq!(schedule.turn(), Some((1, QUANTUM - 1_000)));
    }

    #[test]
    fn the_lists_survive_any_sequence() {
        let mut rng = Rng::new(5);
        let mut schedule = Schedule::default();
        for _ in 0..20_000 {
            let slot = rng.below(12) as u32;
            match rng.below(6) {
                0 => schedule.wake(slot),
                1 => schedule.resume(slot),
                2 => schedule.leave(slot),
                _ => {
                    let Some((turn, left)) = schedule.turn() else { continue };
                    assert!(left > 0 && left <= QUANTUM);
                    match rng.below(3) {
                        0 => schedule.spend(turn, rng.below(20_000) as usize),
                        1 => schedule.end_turn(turn),
                        _ => schedule.pass(turn),
                    }
                }
            }
        }
        let mut seen = order(&mut schedule);
        let listed = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), listed, "a stream was in a list twice");
    }
}
