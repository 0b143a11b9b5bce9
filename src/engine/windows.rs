//! Limits how much of a core's buffers the receive windows of its links may take together.
//!
//! Credit that was given to a peer cannot be taken back, so the windows of all links count as used from the moment when
//! they are granted. Together they get half of the core's buffers. The first links get what they ask for, later ones
//! less. A link that is held up by its window gets more while some is left. When little is left, links with more than
//! an equal share return it as they use it.

use std::cell::Cell;
use std::rc::Rc;

/// The windows of all links together may take one part in this many of the core's buffers.
const WINDOWS_SHARE: usize = 2;
/// If less than one part in this many is left, links with more than an equal share give it back.
const SCARCE_SHARE: usize = 4;
/// A link may take one part in this many of what is left at a time.
const STEP_SHARE: usize = 8;
/// The smallest initial window of a link, in bytes, however many links there are.
pub(super) const WINDOW_MIN: u32 = 32 * 1024;

/// The windows granted on one core.
pub(super) struct Windows {
    bytes_max: usize,
    granted: Cell<usize>,
    links: Cell<usize>,
}

impl Windows {
    pub(super) fn new(buffer_memory: usize) -> Rc<Windows> {
        Rc::new(Windows { bytes_max: buffer_memory / WINDOWS_SHARE, granted: Cell::new(0), links: Cell::new(0) })
    }

    pub(super) fn granted(&self) -> usize {
        self.granted.get()
    }

    /// The number of links that have a window.
    #[cfg(test)]
    pub(super) fn links(&self) -> usize {
        self.links.get()
    }

    /// The bytes that one link may take now.
    pub(super) fn step(&self) -> u32 {
        to_u32(self.left() / STEP_SHARE)
    }

    /// Adds a link with a window of `size` bytes.
    pub(super) fn add(&self, size: u32) {
        self.links.set(self.links.get() + 1);
        self.granted.set(self.granted.get() + size as usize);
    }

    /// Changes the window of a link from `before` to `after` bytes.
    pub(super) fn change(&self, before: u32, after: u32) {
        self.granted.set(self.granted.get() - before as usize + after as usize);
    }

    /// Removes a link with a window of `size` bytes.
    pub(super) fn remove(&self, size: u32) {
        self.change(size, 0);
        self.links.set(self.links.get() - 1);
    }

    fn left(&self) -> usize {
        self.bytes_max.saturating_sub(self.granted.get())
    }

    /// Whether so little is left that links with more than an equal share give it back.
    pub(super) fn is_scarce(&self) -> bool {
        self.left() < self.bytes_max / SCARCE_SHARE
    }

    /// An equal share of what can be granted without becoming scarce.
    pub(super) fn equal_share(&self) -> u32 {
        to_u32((self.bytes_max - self.bytes_max / SCARCE_SHARE) / self.links.get().max(1)).max(WINDOW_MIN)
    }
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
