//! Whether the path of a connection over QUIC still carries anything.

use std::time::Duration;

use crate::base::Clock;
use crate::engine::Core;
use crate::wire::quic::QuicPath;

/// After so long a silence the edge is sent a PING. An edge that was started again answers it with a stateless reset.
pub(super) const PING_AFTER: Duration = Duration::from_millis(400);
/// A path on which nothing arrives for so long, and for some round trips, does not carry any more. QUIC itself has then sent the
/// PING again once or twice.
const SILENCE_MAX: Duration = Duration::from_millis(800);
const SILENT_ROUND_TRIPS: u32 = 4;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until nothing arrives on a path any more. Ready at once if the connection has ended; never if it is not one of QUIC.
pub(super) async fn silent(core: &Core, path: impl Fn() -> Option<QuicPath>) {
    let Some(mut last) = path() else { return std::future::pending().await };
    let mut heard_at = core.now();
    loop {
        core.sleep(LOOK_EVERY).await;
        let Some(path) = path() else { return };
        let now = core.now();
        if path.datagrams_received != last.datagrams_received {
            (last, heard_at) = (path, now);
        } else if now - heard_at >= SILENCE_MAX.max(PING_AFTER + last.round_trip * SILENT_ROUND_TRIPS) {
            return;
        }
    }
}

/// Waits until something arrives again, or the connection has ended.
pub(super) async fn heard_again(core: &Core, path: impl Fn() -> Option<QuicPath>) {
    let Some(last) = path() else { return };
    while path().is_some_and(|path| path.datagrams_received == last.datagrams_received) {
        core.sleep(LOOK_EVERY).await;
    }
}
