//! Waits for a point in time more exactly than a timer does.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::Core;

/// Waits until `at`: sleeps first, and for the last `spin` polls the clock while the core polls its sockets. If `at`
/// has passed it returns at once, or after one such poll if `yields`.
pub(super) async fn wait_until(core: &Core, at: Time, spin: Duration, yields: bool) {
    if spin.is_zero() {
        core.sleep_until(at).await;
    } else {
        if core.now() + spin < at {
            core.sleep_until(Time::from_nanos(at.as_nanos() - nanos(spin))).await;
        }
        while core.now() < at {
            yield_now().await;
        }
    }
    if yields {
        yield_now().await;
    }
}

/// Lets other tasks and the driver run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
