use std::time::Duration;

use super::hello::{LINK_WINDOW_RANGE, PING_INTERVAL_MS_RANGE, STREAM_WINDOW_RANGE, STREAMS_MAX_RANGE};
use super::schedule::QUANTUM;

/// The settings of a link. The edge's values for streams, windows and pings reach the connector in WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most streams that may be open at the same time.
    pub streams_max: u32,
    /// The initial credit of a stream in each direction, in bytes.
    pub stream_window: u32,
    /// The initial credit of the link in each direction, in bytes: the most that the peer can make this side hold.
    pub link_window: u32,
    /// How many bytes a stream may have queued for sending before it is full.
    pub backlog: u32,
    /// How often data must arrive from the peer, in milliseconds.
    pub ping_interval_ms: u32,
    /// The number of silent intervals after which the link is closed.
    pub silent_intervals_max: u32,
    /// How long a reader may accept nothing while unread streams block the link, in milliseconds.
    pub slow_reader_ms: u32,
    /// How long the handshake may take, in milliseconds.
    pub hello_timeout_ms: u32,
    /// How many streams the edge may open and reset in a burst.
    pub resets_burst: u32,
    /// How many streams the edge may open and reset per second after that.
    pub resets_per_s: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            streams_max: 10_000,
            stream_window: 256 << 10,
            link_window: 4 << 20,
            backlog: 128 << 10,
            ping_interval_ms: 5_000,
            silent_intervals_max: 3,
            slow_reader_ms: 5_000,
            hello_timeout_ms: 5_000,
            resets_burst: 20_000,
            resets_per_s: 2_000,
        }
    }
}

impl Settings {
    /// The same settings, with every value that the protocol limits moved into its range.
    #[must_use]
    pub fn bounded(self) -> Settings {
        let within = |value: u32, (min, max): (u32, u32)| value.clamp(min, max);
        Settings {
            streams_max: within(self.streams_max, STREAMS_MAX_RANGE),
            stream_window: within(self.stream_window, STREAM_WINDOW_RANGE),
            link_window: within(self.link_window, LINK_WINDOW_RANGE),
            backlog: self.backlog.max(QUANTUM as u32),
            ping_interval_ms: within(self.ping_interval_ms, PING_INTERVAL_MS_RANGE),
            silent_intervals_max: self.silent_intervals_max.max(2),
            slow_reader_ms: self.slow_reader_ms.max(1),
            hello_timeout_ms: self.hello_timeout_ms.max(1),
            resets_burst: self.resets_burst.max(1),
            resets_per_s: self.resets_per_s.max(1),
        }
    }

    pub(super) fn ping_interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.ping_interval_ms))
    }

    pub(super) fn silence_max(&self) -> Duration {
        self.ping_interval() * self.silent_intervals_max
    }

    pub(super) fn slow_reader(&self) -> Duration {
        Duration::from_millis(u64::from(self.slow_reader_ms))
    }

    pub(super) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.hello_timeout_ms))
    }
}
