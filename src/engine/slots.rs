//! The buffers of one class: which are in use, for which purpose, and which have memory.

use std::ptr::NonNull;

use crate::engine::sys::arena::Arena;
use crate::engine::sys::lease::References;

/// How many bytes the pool grows by at a time.
const SLAB_LEN: usize = 256 * 1024;

/// The purpose for which a buffer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BufferPurpose {
    /// To receive from agents, upstreams and connections of unknown kind.
    Receive,
    /// To send bytes that were already accepted.
    Send,
    /// To receive and send on a link.
    Link,
}

/// The buffers of one class.
pub(super) struct Slots {
    arena: Arena,
    references: Vec<References>,
    /// The purpose of each slot in use.
    purposes: Vec<BufferPurpose>,
    /// Unused slots with memory behind them.
    idle: Vec<u32>,
    /// Unused slots without memory behind them.
    bare: Vec<u32>,
}

impl Slots {
    pub(super) fn new(slot_len: usize) -> Slots {
        Slots {
            arena: Arena::new(slot_len, SLAB_LEN / slot_len),
            references: Vec::new(),
            purposes: Vec::new(),
            idle: Vec::new(),
            bare: Vec::new(),
        }
    }

    /// A slot for this purpose, with one reference.
    pub(super) fn take(&mut self, purpose: BufferPurpose) -> Option<u32> {
        if self.idle.is_empty() && self.bare.is_empty() {
            self.grow();
        }
        let index = self.idle.pop().or_else(|| self.bare.pop())?;
        self.references[index as usize].add();
        self.purposes[index as usize] = purpose;
        Some(index)
    }

    /// Whether an unused slot has memory.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// The first byte of a slot.
    pub(super) fn base(&self, index: u32) -> NonNull<u8> {
        self.arena.slot(index as usize)
    }

    /// The purpose of a slot in use.
    pub(super) fn purpose(&self, index: u32) -> BufferPurpose {
        self.purposes[index as usize]
    }

    /// Adds a reference to a slot in use.
    pub(super) fn retain(&self, index: u32) {
        self.references[index as usize].add();
    }

    fn grow(&mut self) {
        let from = self.arena.slots();
        self.arena.grow();
        let to = self.arena.slots();
        self.references.resize_with(to, References::default);
        self.purposes.resize(to, BufferPurpose::Send);
        // Low indices are handed out first, so that a lightly used pool touches few pages.
        self.bare.extend((from..to).rev().filter_map(|index| u32::try_from(index).ok()));
        // Neither list has to grow when a buffer is returned.
        self.idle.reserve(to - self.idle.len());
        self.bare.reserve(to - self.bare.len());
    }

    /// Removes a reference of a slot; returns its purpose if it was the last one.
    pub(super) fn release(&mut self, index: u32) -> Option<BufferPurpose> {
        let last = self.references[index as usize].remove();
        last.then(|| {
            self.idle.push(index);
            self.purposes[index as usize]
        })
    }

    /// Returns the memory of up to `count` unused buffers to the system, the longest unused first; returns how many.
    pub(super) fn release_memory(&mut self, count: usize) -> usize {
        let count = count.min(self.idle.len());
        for index in self.idle.drain(..count) {
            self.arena.release_memory(index as usize);
            self.bare.push(index);
        }
        count
    }
}
