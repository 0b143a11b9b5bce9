//! The receive window of one link, as a part of the core's buffers.

use std::cell::Cell;
use std::rc::Rc;

use crate::engine::pool::Pool;
use crate::engine::windows::{WINDOW_MIN, Windows};

/// The receive window of one link, which counts as used for as long as this is held.
pub struct WindowGrant {
    windows: Rc<Windows>,
    size: Cell<u32>,
}

impl WindowGrant {
    /// The window of a new link, of at most `size_max` bytes, as far as they are available.
    #[must_use]
    pub fn first(pool: &Pool, size_max: u32) -> WindowGrant {
        WindowGrant::of_size(pool, pool.windows().step().max(WINDOW_MIN).min(size_max))
    }

    /// The window of a new link whose size in bytes was decided elsewhere.
    #[must_use]
    pub fn of_size(pool: &Pool, size: u32) -> WindowGrant {
        let windows = Rc::clone(pool.windows());
        windows.add(size);
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
        let more = windows.step().min(size);
        if is_short && size < size_max { size.saturating_add(more).min(size_max) } else { size }
    }

    /// Records the current size in bytes.
    pub fn set(&self, size: u32) {
        self.windows.change(self.size.replace(size), size);
    }
}

impl Drop for WindowGrant {
    fn drop(&mut self) {
        self.windows.remove(self.size.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BUFFER_MEMORY_DEFAULT;

    const SIZE_MAX: u32 = 4 << 20;

    #[test]
    fn few_links_get_the_window_they_ask_for_and_many_share_the_memory() {
        let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
        let mut grants = vec![WindowGrant::first(&pool, SIZE_MAX)];
        assert_eq!(grants[0].size(), SIZE_MAX);
        grants.extend((1..300).map(|_| WindowGrant::first(&pool, SIZE_MAX)));
        assert!(grants.iter().all(|grant| grant.size() >= WINDOW_MIN));
        assert!(pool.windows().granted() <= BUFFER_MEMORY_DEFAULT / 3 * 2, "{}", pool.windows().granted());
        drop(grants);
        assert_eq!((pool.windows().granted(), pool.windows().links()), (0, 0));
    }

    #[test]
    fn a_stalled_link_grows_into_free_memory_and_returns_it_when_others_need_it() {
        let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
        let grants: Vec<WindowGrant> = (0..16).map(|_| WindowGrant::first(&pool, SIZE_MAX)).collect();
        let (first, last) = (&grants[0], &grants[15]);
        assert!(last.size() < first.size());
        assert_eq!(last.wanted(false, SIZE_MAX), last.size(), "one that is not held up stays as it is");
        // Now each window shrinks or grows as it is used.
        for _ in 0..100 {
            grants.iter().for_each(|grant| grant.set(grant.wanted(true, SIZE_MAX)));
        }
        assert!(last.size() * 2 > first.size(), "{} and {}", last.size(), first.size());
        assert!(pool.windows().granted() <= BUFFER_MEMORY_DEFAULT / 2);
        // A single link may have all that it requests.
        let mut grants = grants;
        grants.drain(..15);
        for _ in 0..10 {
            grants[0].set(grants[0].wanted(true, SIZE_MAX));
        }
        assert_eq!(grants[0].size(), SIZE_MAX);
    }
}
