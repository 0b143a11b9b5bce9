//! The keys of an issuer, which a fetcher publishes to the cores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::identity::key_set::KeySet;

/// The most calls that wait for keys at the same time, over all cores. More are refused.
const WAITING_MAX: usize = 1_024;

/// The current keys of an issuer, and the state of their fetches. A core holds the lock only while it copies a pointer.
pub struct KeyStore {
    shared: Mutex<Shared>,
    /// Increases with each change of the keys, so that a core detects changes without the lock.
    version: AtomicU64,
    /// The shortest time between a fetch and the next one for an unknown key.
    check_gap: Duration,
}

struct Shared {
    keys: Option<Arc<KeySet>>,
    /// Whether a fetcher serves this store.
    is_fetched: bool,
    is_asked: bool,
    /// How many fetches have ended, and when the last one did.
    checks: u64,
    checked_at: Option<Duration>,
    /// Whether the last fetch failed.
    has_failed: bool,
    waiting: Vec<Waker>,
    fetcher: Option<Waker>,
}

/// The number of a fetch in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysChecked(u64);

impl KeyStore {
    /// A store with a fetcher. The first fetch is requested at once.
    #[must_use]
    pub fn fetched(check_gap: Duration) -> KeyStore {
        KeyStore::new(None, true, check_gap)
    }

    /// A store with the fixed keys of a file.
    #[must_use]
    pub fn fixed(keys: KeySet) -> KeyStore {
        KeyStore::new(Some(Arc::new(keys)), false, Duration::ZERO)
    }

    fn new(keys: Option<Arc<KeySet>>, is_fetched: bool, check_gap: Duration) -> KeyStore {
        let (is_asked, checks, checked_at) = (is_fetched, 0, None);
        let (has_failed, waiting, fetcher) = (false, Vec::new(), None);
        let shared = Shared { keys, is_fetched, is_asked, checks, checked_at, has_failed, waiting, fetcher };
        KeyStore { shared: Mutex::new(shared), version: AtomicU64::new(0), check_gap }
    }

    /// The keys, if any are known, and their version.
    pub fn keys(&self) -> (Option<Arc<KeySet>>, u64) {
        let shared = self.lock();
        (shared.keys.clone(), self.version())
    }

    /// How often the keys have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Requests a fetch, because no known key matches. Returns the fetch to wait for; `None` if the last fetch was too
    /// recent, or there is no fetcher.
    pub fn ask(&self, now: Duration) -> Option<KeysChecked> {
        let mut shared = self.lock();
        // A wall clock may be set back.
        let was_lately =
            shared.checked_at.is_some_and(|checked| now >= checked && now < checked.saturating_add(self.check_gap));
        if !shared.is_fetched || (was_lately && !shared.is_asked) {
            return None;
        }
        shared.is_asked = true;
        if let Some(fetcher) = shared.fetcher.take() {
            fetcher.wake();
        }
        Some(KeysChecked(shared.checks + 1))
    }

    /// Whether the last fetch failed, so that the issuer may have unknown keys.
    pub fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Waits until a fetch has ended. Returns at once if too many calls wait.
    pub fn poll_checked(&self, check: KeysChecked, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        if shared.checks >= check.0 {
            return Poll::Ready(());
        }
        if shared.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        if shared.waiting.len() >= WAITING_MAX {
            return Poll::Ready(());
        }
        shared.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Called by the fetcher: waits until a fetch is requested.
    pub fn poll_asked(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        if shared.is_asked {
            return Poll::Ready(());
        }
        shared.fetcher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Replaces the keys after a fetch. Returns whether they have changed.
    pub fn publish(&self, keys: KeySet, now: Duration) -> bool {
        let mut shared = self.lock();
        let is_new = shared.keys.as_deref() != Some(&keys);
        if is_new {
            shared.keys = Some(Arc::new(keys));
            self.version.fetch_add(1, Ordering::Release);
        }
        shared.end_check(now, false);
        is_new
    }

    /// Records a failed fetch. The known keys stay in use.
    pub fn on_failed(&self, now: Duration) {
        self.lock().end_check(now, true);
    }

    /// Removes the keys after the grace period. Returns whether there were any.
    pub fn lose(&self) -> bool {
        let was_known = self.lock().keys.take().is_some();
        self.version.fetch_add(u64::from(was_known), Ordering::Release);
        was_known
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn end_check(&mut self, now: Duration, has_failed: bool) {
        self.is_asked = false;
        self.has_failed = has_failed;
        self.checks += 1;
        self.checked_at = Some(now);
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;
    use crate::base::Secret;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn keys(byte: u8) -> KeySet {
        KeySet::shared(&Secret::new(vec![byte; 32])).unwrap()
    }

    #[test]
    fn a_key_that_is_not_known_causes_a_fetch_but_not_one_after_the_other() {
        let store = KeyStore::fetched(at(15));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        // Requests before the end of the first fetch wait for that fetch.
        let first = store.ask(at(100)).unwrap();
        assert!(store.poll_asked(&cx).is_ready());
        assert!(store.poll_checked(first, &cx).is_pending() && store.poll_checked(first, &cx).is_pending());
        assert!(store.publish(keys(1), at(101)));
        assert!(store.poll_checked(first, &cx).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "each waits once");
        assert!(store.poll_asked(&cx).is_pending());
        assert_eq!(store.ask(at(115)), None);
        let second = store.ask(at(116)).unwrap();
        assert_eq!(store.ask(at(116)), Some(second), "one fetch for all");
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "the fetcher is woken");
        store.on_failed(at(117));
        assert!(store.poll_checked(second, &cx).is_ready() && store.keys().0.is_some());
        assert_eq!(store.ask(at(118)), None);
        assert!(store.ask(at(50)).is_some(), "the clock was set back");
    }

    #[test]
    fn the_version_changes_with_the_keys_and_only_with_them() {
        let store = KeyStore::fetched(at(15));
        let versions = [
            store.version(),
            (store.publish(keys(1), at(1)), store.version()).1,
            (store.publish(keys(1), at(2)), store.version()).1,
            (store.publish(keys(2), at(3)), store.version()).1,
            (store.lose(), store.version()).1,
            (store.lose(), store.version()).1,
        ];
        assert_eq!(versions, [0, 1, 1, 2, 3, 3]);
        assert!(store.keys().0.is_none());
    }

    #[test]
    fn waiting_calls_are_bounded_and_keys_of_a_file_need_no_wait() {
        assert_eq!(KeyStore::fixed(keys(1)).ask(at(1)), None);
        let store = KeyStore::fetched(at(15));
        let first = store.ask(at(1)).unwrap();
        let wakers: Vec<Waker> = (0..=WAITING_MAX).map(|_| Waker::from(Arc::new(Woken::default()))).collect();
        let waiting = wakers.iter().filter(|waker| store.poll_checked(first, &Context::from_waker(waker)).is_pending());
        assert_eq!(waiting.count(), WAITING_MAX);
        let cx = Context::from_waker(&wakers[0]);
        assert!(store.poll_checked(first, &cx).is_pending(), "calls that wait already continue to wait");
    }
}
