use std::collections::VecDeque;

use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::event::StreamId;
use super::flow::{Credit, Window};
use super::phases::{Phases, Stage};

/// The most items that a stream queues, however small they are.
pub(super) const QUEUE_ITEMS_MAX: usize = 64;

/// At most this many empty slots keep their buffers.
const WARM_SLOTS_MAX: usize = 64;
/// The most entries of a queue that an empty slot keeps. A large body needs more for a while.
const QUEUE_KEPT: usize = 16;
/// The most slots of a table that is kept while no stream is live.
const SLOTS_KEPT: usize = 256;

const NO_SLOT: u32 = u32::MAX;
const INDEX_SLACK: usize = 32;

/// How many reports each DATA allows: one for each stage.
const STAGES: u32 = 2;

/// Whether a stream may be withdrawn, to open it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// It is never withdrawn.
    Forbidden,
    /// It may be withdrawn until bytes that are queued from now on were handed out.
    UntilSent,
    /// It may be withdrawn at any time, because the other side cannot act on its bytes.
    Allowed,
}

/// An item in the send queue of a stream.
#[derive(Debug)]
pub(super) enum Item<B> {
    Bytes(B),
    Phases(Phases),
}

/// The state of this side's direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    Open,
    /// FIN follows the queued bytes.
    Finishing,
    /// FIN has been sent.
    Finished,
}

/// One stream, or an empty slot that keeps its buffers for the next one.
#[derive(Debug)]
pub(super) struct Stream<B> {
    /// The stream id on the wire; 0 for an empty slot.
    pub(super) id: u32,
    /// The payload of OPEN; at the edge without the caller's time.
    pub(super) opening: Vec<u8>,
    /// When the caller's time ends, if it is limited and the peer knows it.
    pub(super) until: Option<Time>,
    pub(super) queue: VecDeque<Item<B>>,
    /// Bytes of payload that wait in `queue`.
    pub(super) queued: usize,
    pub(super) sending: SendState,
    pub(super) credit: Credit,
    pub(super) window: Window,
    /// The peer has sent FIN.
    pub(super) peer_finished: bool,
    /// Bytes in flight: sent, and not returned as credit yet.
    pub(super) under_way: u32,
    /// It has used up its share of the link's window.
    pub(super) capped: bool,
    /// Whether the slot is in the list of capped streams, even if another stream uses the slot by now.
    pub(super) cap_listed: bool,
    /// Both sides have sent FIN, and the application has not consumed everything yet.
    pub(super) lingers: bool,
    pub(super) open_due: bool,
    pub(super) credit_due: bool,
    pub(super) reset_due: Option<Cause>,
    /// Whether it may be withdrawn.
    pub(super) withdrawal: Withdrawal,
    /// Whether the slot is in the queue of control frames.
    pub(super) listed: bool,
    /// Whether the stream is counted among those that can send now.
    pub(super) ready: bool,
    /// Whether the application waits for room in the queue.
    pub(super) wants_room: bool,
    /// The application is notified when at most this many bytes are queued.
    pub(super) room_below: usize,
    /// Bytes that its reader has read since the observation of readers began.
    pub(super) read_bytes: u32,
    /// At the connector: the stages that were reported since DATA was last sent or received.
    pub(super) stages: u8,
    /// At the edge: how many PHASES frames may still come.
    pub(super) phases_left: u32,
}

impl<B: Chunk> Stream<B> {
    fn empty() -> Stream<B> {
        Stream {
            id: 0,
            opening: Vec::new(),
            until: None,
            queue: VecDeque::new(),
            queued: 0,
            sending: SendState::Open,
            credit: Credit::new(0),
            window: Window::new(0),
            peer_finished: false,
            under_way: 0,
            capped: false,
            cap_listed: false,
            lingers: false,
            open_due: false,
            credit_due: false,
            reset_due: None,
            withdrawal: Withdrawal::Forbidden,
            listed: false,
            ready: false,
            wants_room: false,
            room_below: 0,
            read_bytes: 0,
            stages: 0,
            phases_left: 0,
        }
    }

    fn start(&mut self, id: u32, window: u32) {
        self.id = id;
        self.opening.clear();
        self.until = None;
        self.sending = SendState::Open;
        self.credit = Credit::new(window);
        self.window = Window::new(window);
        self.peer_finished = false;
        self.under_way = 0;
        self.capped = false;
        self.lingers = false;
        self.withdrawal = Withdrawal::Forbidden;
        self.read_bytes = 0;
        self.stages = 0;
        self.phases_left = STAGES;
    }

    /// Drops everything that is still to be sent.
    pub(super) fn drop_output(&mut self) {
        self.queue.clear();
        self.queued = 0;
        self.open_due = false;
        self.credit_due = false;
        self.reset_due = None;
        self.wants_room = false;
    }

    /// Frees the memory of an empty slot. The slots that became empty last are used first, and keep theirs.
    fn drop_buffers(&mut self) {
        self.queue = VecDeque::new();
        self.opening = Vec::new();
    }

    /// Whether the stream has something to send and its own credit allows it.
    pub(super) fn can_send(&self) -> bool {
        self.reset_due.is_none()
            && match self.queue.front() {
                Some(Item::Bytes(_)) => self.credit.left() > 0 && !self.capped,
                Some(Item::Phases(_)) => true,
                None => self.sending == SendState::Finishing,
            }
    }

    /// Counts DATA in either direction, after which as many more reports may come.
    pub(super) fn allow_phases(&mut self) {
        self.phases_left = self.phases_left.saturating_add(STAGES);
    }

    /// Counts a received report; returns false if there were more than DATA allows. The receiver does not check the
    /// stages: DATA of the two directions can cross, so it does not know when the sender sent the report.
    pub(super) fn book_phases(&mut self) -> bool {
        let left = self.phases_left.checked_sub(1);
        self.phases_left = left.unwrap_or_default();
        left.is_some()
    }

    /// Records a stage to report; returns false if it, or a later one, was reported since DATA was last sent or
    /// received.
    pub(super) fn book_stage(&mut self, stage: Stage) -> bool {
        let bit = match stage {
            Stage::Head => 0b01,
            Stage::End => 0b10,
        };
        let fits = self.stages < bit;
        self.stages |= bit;
        fits
    }
}

/// The streams of a link: slots that are reused, and an index from wire id to slot.
///
/// Ids ascend, so the index is a sorted list that grows at its end, or close to it where frames overtake each other. A lookup is a binary search, without a hash
/// that a peer could attack with chosen ids. Ended streams are removed when they outnumber the others.
#[derive(Debug)]
pub(super) struct StreamTable<B> {
    slots: Vec<Stream<B>>,
    free: Vec<u32>,
    index: Vec<(u32, u32)>,
    live: usize,
}

impl<B: Chunk> StreamTable<B> {
    pub(super) fn new() -> StreamTable<B> {
        StreamTable { slots: Vec::new(), free: Vec::new(), index: Vec::new(), live: 0 }
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Assigns a slot to a stream, whose id was not used before.
    pub(super) fn insert(&mut self, id: u32, window: u32) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::empty());
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].start(id, window);
        if self.index.last().is_none_or(|(last, _)| *last < id) {
            self.index.push((id, slot));
        } else {
            let at = self.index.partition_point(|(other, _)| *other < id);
            self.index.insert(at, (id, slot));
        }
        self.live += 1;
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let stream = &mut self.slots[slot as usize];
        let id = std::mem::take(&mut stream.id);
        stream.drop_output();
        if self.free.len() >= WARM_SLOTS_MAX {
            stream.drop_buffers();
        } else {
            stream.queue.shrink_to(QUEUE_KEPT);
        }
        self.free.push(slot);
        self.live -= 1;
        if let Ok(at) = self.index.binary_search_by_key(&id, |entry| entry.0) {
            self.index[at].1 = NO_SLOT;
        }
        while self.index.last().is_some_and(|(_, slot)| *slot == NO_SLOT) {
            self.index.pop();
        }
        if self.index.len() > 2 * self.live + INDEX_SLACK {
            self.index.retain(|(_, slot)| *slot != NO_SLOT);
        }
    }

    /// Frees the memory of a table that was large, if no stream is live; returns whether it did. No other table may
    /// refer to a slot then.
    pub(super) fn shrink(&mut self) -> bool {
        let is_due = self.live == 0 && self.slots.len() > SLOTS_KEPT;
        if is_due {
            *self = StreamTable::new();
        }
        is_due
    }

    /// The slot of a live stream.
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let at = self.index.binary_search_by_key(&id, |entry| entry.0).ok()?;
        Some(self.index[at].1).filter(|slot| *slot != NO_SLOT)
    }

    /// The stream in a slot that is or was in use.
    pub(super) fn at(&mut self, slot: u32) -> &mut Stream<B> {
        &mut self.slots[slot as usize]
    }

    /// A live stream by its handle.
    pub(super) fn get(&self, stream: StreamId) -> Option<&Stream<B>> {
        self.slots.get(stream.slot as usize).filter(|found| found.id == stream.id && stream.id != 0)
    }

    /// The slots of the live streams, by ascending id.
    pub(super) fn slots_by_id(&self) -> impl Iterator<Item = u32> + '_ {
        self.index.iter().map(|(_, slot)| *slot).filter(|slot| *slot != NO_SLOT)
    }

    #[cfg(test)]
    pub(super) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn index_len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn slots_are_used_again_and_the_index_stays_small() {
        let mut streams: StreamTable<Vec<u8>> = StreamTable::new();
        let mut rng = Rng::new(1);
        let keeper = streams.insert(1, 10);
        let mut live = Vec::new();
        for n in 1..5_000_u32 {
            let id = 2 * n + 1;
            live.push((id, streams.insert(id, 10)));
            while live.len() > rng.below(20) as usize {
                let (id, slot) = live.swap_remove(rng.below(live.len() as u64) as usize);
                assert_eq!(streams.find(id), Some(slot));
                streams.remove(slot);
                assert_eq!(streams.find(id), None);
            }
            assert!(live.iter().all(|(id, slot)| streams.find(*id) == Some(*slot)));
        }
        assert_eq!(streams.find(1), Some(keeper));
        assert!(streams.slots_len() <= 22, "{}", streams.slots_len());
        assert!(streams.index_len() <= 2 * 22 + INDEX_SLACK);
    }

    #[test]
    fn only_a_few_empty_slots_keep_their_buffers() {
        let mut streams: StreamTable<Vec<u8>> = StreamTable::new();
        for round in 0..2 {
            let slots: Vec<u32> = (0..1_000).map(|n| streams.insert(round * 1_000 + n + 1, 10)).collect();
            for slot in slots {
                streams.at(slot).opening.extend_from_slice(b"opening");
                streams.at(slot).queue.push_back(Item::Bytes(vec![1]));
                streams.remove(slot);
            }
            let kept = streams.slots.iter().filter(|slot| slot.queue.capacity() + slot.opening.capacity() > 0);
            assert!(kept.count() <= WARM_SLOTS_MAX);
        }
        assert_eq!(streams.slots_len(), 1_000);
    }

    #[test]
    fn a_table_that_was_large_gives_its_memory_back_when_no_stream_is_live() {
        let mut streams: StreamTable<Vec<u8>> = StreamTable::new();
        let slots: Vec<u32> = (1..1_000).map(|id| streams.insert(id, 10)).collect();
        for (at, slot) in slots.iter().enumerate() {
            assert_eq!(streams.slots_len(), 999, "{at} were removed");
            streams.remove(*slot);
            assert_eq!(streams.shrink(), at == slots.len() - 1);
        }
        assert_eq!((streams.slots_len(), streams.slots.capacity(), streams.live()), (0, 0, 0));
        let old = StreamId { id: 500, slot: slots[499] };
        assert!(streams.get(old).is_none());
        assert_eq!(streams.find(500), None);
        assert_eq!(streams.insert(1_001, 10), 0);
    }

    #[test]
    fn an_empty_slot_keeps_no_large_queue() {
        let mut streams: StreamTable<Vec<u8>> = StreamTable::new();
        let slot = streams.insert(1, 10);
        streams.at(slot).queue.extend((0..QUEUE_ITEMS_MAX).map(|_| Item::Bytes(vec![1])));
        streams.remove(slot);
        assert!(streams.at(slot).queue.capacity() <= QUEUE_KEPT);
    }

    #[test]
    fn an_old_name_does_not_reach_the_new_stream_in_its_slot() {
        let mut streams: StreamTable<Vec<u8>> = StreamTable::new();
        let slot = streams.insert(1, 10);
        streams.remove(slot);
        assert_eq!(streams.insert(3, 10), slot);
        assert!(streams.get(StreamId { id: 1, slot }).is_none());
        assert!(streams.get(StreamId { id: 3, slot }).is_some());
    }
}
