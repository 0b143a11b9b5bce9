//! How much of a core's buffers the receive windows of its links may take together.
//!
//! What a link has been allowed to send cannot be taken back, so that the windows of all links count as used from the moment
//! when they are granted. Together they get half of the core's buffers: the first links get what they ask for, later ones
//! less. A link whose window holds it up gets more while there is some left, and when little is left links that have more
//! than an equal share give it back as they use it.

use std::cell::Cell;
use std::rc::Rc;

use crate::engine::pool::Pool;

/// The windows of all links together may take one part in this many of the core's buffers.
const WINDOWS_SHARE: usize = 2;
/// A link may take one part in this many of what is left at a time.
const STEP_SHARE: usize = 8;
/// If less than one part in this many is left, links with more than an equal share give it back.
const SCARCE_SHARE: usize = 4;
/// The smallest initial window of a link, in bytes, however many links there are.
const WINDOW_MIN: u32 = 32 * 1024;

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

    fn left(&self) -> usize {
        self.bytes_max.saturating_sub(self.granted.get())
    }

    fn is_scarce(&self) -> bool {
        self.left() < self.bytes_max / SCARCE_SHARE
    }

    /// An equal share of what can be granted without becoming scarce.
    fn equal_share(&self) -> u32 {
        to_u32((self.bytes_max - self.bytes_max / SCARCE_SHARE) / self.links.get().max(1)).max(WINDOW_MIN)
    }
}

/// The receive window of one link, which counts as used for as long as this is held.
pub struct WindowGrant {
    windows: Rc<Windows>,
    size: Cell<u32>,
}

impl WindowGrant {
    /// The window of a new link, of at most `size_max` bytes, as far as they are available.
    #[must_use]
    pub fn first(pool: &Pool, size_max: u32) -> WindowGrant {
        let left = to_u32(pool.windows().left() / STEP_SHARE);
        WindowGrant::of_size(pool, left.max(WINDOW_MIN).min(size_max))
    }

    /// The window of a new link whose size in bytes was decided elsewhere.
    #[must_use]
    pub fn of_size(pool: &Pool, size: u32) -> WindowGrant {
        let windows = Rc::clone(pool.windows());
        windows.links.set(windows.links.get() + 1);
        windows.granted.set(windows.granted.get() + size as usize);
        WindowGrant { windows, size: Cell::new(size) }
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size.get()
    }

    /// The size in bytes that the window should have now: larger, up to `size_max`, if it `is_short`; smaller if others
    /// need it.
    #[must_use]
    pub fn wanted(&self, is_short: bool, size_max: u32) -> u32 {
        let (windows, size) = (&self.windows, self.size.get());
        if windows.is_scarce() && size > windows.equal_share() {
            return windows.equal_share();
        }
        let more = to_u32(windows.left() / STEP_SHARE).min(size);
        if is_short && size < size_max { size.saturating_add(more).min(size_max) } else { size }
    }

    /// Records the current size in bytes.
    pub fn set(&self, size: u32) {
        let others = self.windows.granted.get() - self.size.get() as usize;
        self.windows.granted.set(others + size as usize);
        self.size.set(size);
    }
}

impl Drop for WindowGrant {
    fn drop(&mut self) {
        self.set(0);
        self.windows.links.set(self.windows.links.get() - 1);
    }
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BUFFER_MEMORY_DEFAULT;

    const SIZE_MAX: u32 = 4 << 20;

    #[test]
    fn few_links_get_what_they_ask_for_and_any_number_of_them_fits() {
        let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
        let mut grants = vec![WindowGrant::first(&pool, SIZE_MAX)];
        assert_eq!(grants[0].size(), SIZE_MAX);
        grants.extend((1..300).map(|_| WindowGrant::first(&pool, SIZE_MAX)));
        assert!(grants.iter().all(|grant| grant.size() >= WINDOW_MIN));
        assert!(pool.windows().granted() <= BUFFER_MEMORY_DEFAULT / 3 * 2, "{}", pool.windows().granted());
        drop(grants);
        assert_eq!((pool.windows().granted(), pool.windows().links.get()), (0, 0));
    }

    #[test]
    fn a_link_that_is_held_up_grows_while_there_is_some_left_and_gives_back_what_others_need() {
        let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
        let grants: Vec<WindowGrant> = (0..16).map(|_| WindowGrant::first(&pool, SIZE_MAX)).collect();
        let (first, last) = (&grants[0], &grants[15]);
        assert!(last.size() < first.size());
        assert_eq!(last.wanted(false, SIZE_MAX), last.size(), "one that is not held up stays as it is");
        // Now each shrinks or grows as it is used.
        for _ in 0..100 {
            grants.iter().for_each(|grant| grant.set(grant.wanted(true, SIZE_MAX)));
        }
        assert!(last.size() * 2 > first.size(), "{} and {}", last.size(), first.size());
        assert!(pool.windows().granted() <= BUFFER_MEMORY_DEFAULT / WINDOWS_SHARE);
        // Alone it may have all that it asks for.
        let mut grants = grants;
        grants.drain(..15);
        for _ in 0..10 {
            grants[0].set(grants[0].wanted(true, SIZE_MAX));
        }
        assert_eq!(grants[0].size(), SIZE_MAX);
    }
}
