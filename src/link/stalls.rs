use std::cell::Cell;
use std::time::Duration;

use crate::base::Time;
use crate::engine::Signal;

/// Counts how often the peer of a link did not answer for too long. Each such period counts once.
#[derive(Default)]
pub(super) struct Stalls {
    /// The length that counts as a stall; nothing is counted until it is set.
    after: Cell<Option<Duration>>,
    /// When the last counted stall began.
    counted: Cell<Option<Time>>,
    signal: Signal,
}

impl Stalls {
    pub(super) fn watch(&self, after: Duration) {
        self.after.set(Some(after));
    }

    pub(super) fn is_watched(&self) -> bool {
        self.after.get().is_some()
    }

    /// When the current stall will count in [`Stalls::look`].
    pub(super) fn due_at(&self, owing_since: Option<Time>) -> Time {
        match (self.after.get(), owing_since) {
            (Some(after), Some(since)) if self.counted.get() != Some(since) => since + after,
            _ => Time::NEVER,
        }
    }

    pub(super) fn look(&self, owing_since: Option<Time>, now: Time) {
        if self.due_at(owing_since) <= now {
            self.counted.set(owing_since);
            self.signal.raise();
        }
    }

    pub(super) async fn after(&self, seen: u64) -> u64 {
        self.signal.after(seen).await;
        self.signal.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stall_is_counted_once_and_only_if_it_is_watched() {
        let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
        let stalls = Stalls::default();
        stalls.look(Some(at(0)), at(9_000));
        assert_eq!((stalls.signal.count(), stalls.due_at(Some(at(0)))), (0, Time::NEVER));
        stalls.watch(Duration::from_secs(1));
        assert_eq!((stalls.due_at(None), stalls.due_at(Some(at(500)))), (Time::NEVER, at(1_500)));
        for (now, count) in [(1_499, 0), (1_500, 1), (1_600, 1)] {
            stalls.look(Some(at(500)), at(now));
            assert_eq!(stalls.signal.count(), count, "{now}");
        }
        stalls.look(None, at(9_000));
        stalls.look(Some(at(8_000)), at(9_000));
        assert_eq!(stalls.signal.count(), 2);
    }
}
