//! Large answers and uploads: bytes per second, and CPU time per byte.

use serde_json::{Value, json};

use crate::load::{CallKind, Load};
use crate::outcome::Outcome;
use crate::units::show_bytes;

/// The direction of a bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the upstream to the caller, in the bodies of answers.
    Down,
    /// From the caller to the upstream, in the bodies of requests.
    Up,
}

impl Direction {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Down => "down",
            Direction::Up => "up",
        }
    }
}

/// The load of bodies of `size` bytes, one after another on each connection of `base`, whose target must be the root of
/// an `adit-loadtest serve`.
#[must_use]
pub fn bulk_load(base: &Load, direction: Direction, size: u64) -> Load {
    let mut load = base.clone();
    match direction {
        Direction::Down => {
            load.call.kind = CallKind::Get;
            load.target.url.set_path(&format!("/bytes/{size}"));
        }
        Direction::Up => {
            load.call.kind = CallKind::Post;
            load.call.payload = size;
            load.target.url.set_path("/");
        }
    }
    load
}

/// The result of a bulk load.
#[derive(Clone, Debug)]
pub struct BulkRow {
    /// The direction in which the bytes went.
    pub direction: Direction,
    /// The length of one body in bytes.
    pub size: u64,
    /// The number of connections at the same time.
    pub connections: usize,
    /// The outcome of the run.
    pub outcome: Outcome,
}

impl BulkRow {
    /// Bytes per second, in units of 1,000,000,000, on all connections together; `None` if no body was complete.
    ///
    /// Computed from the time that bodies took and not from the number that ended in the measured time, which is
    /// inexact for few bodies.
    #[must_use]
    pub fn gb_per_s(&self) -> Option<f64> {
        let mean_s = self.outcome.corrected.mean().as_secs_f64();
        (mean_s > 0.0).then(|| self.size as f64 / mean_s * self.connections as f64 / 1e9)
    }

    /// CPU time of the watched processes for 1,000,000,000 bytes, in seconds.
    #[must_use]
    pub fn cpu_s_per_gb(&self) -> Option<f64> {
        let moved_gb = self.gb_per_s()? * self.outcome.measured.as_secs_f64();
        (self.outcome.usage.is_watched() && moved_gb > 0.0).then(|| self.outcome.usage.cpu.as_secs_f64() / moved_gb)
    }

    /// Whether all bodies arrived completely.
    #[must_use]
    pub fn is_good(&self) -> bool {
        // The generator's lag does not matter for a body that takes milliseconds.
        let whole = self.direction == Direction::Up || self.outcome.bytes_received >= self.size * self.outcome.calls;
        let outcome = &self.outcome;
        whole && outcome.calls > 0 && outcome.failed.count() == 0 && outcome.partial.is_none()
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "direction": self.direction.name(),
            "size": self.size,
            "connections": self.connections,
            "gb_per_s": self.gb_per_s(),
            "cpu_s_per_gb": self.cpu_s_per_gb(),
            "run": self.outcome.to_json(),
        })
    }

    /// One line of a table; see [`BulkRow::header`].
    #[must_use]
    pub fn line(&self) -> String {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let (size, name) = (show_bytes(self.size), self.direction.name());
        let (calls, failed) = (self.outcome.calls, self.outcome.failed.count());
        format!(
            "{size:>10}  {name:<5}{:>10}{:>14}{calls:>9}{failed:>8}",
            figure(self.gb_per_s()),
            figure(self.cpu_s_per_gb())
        )
    }

    /// The head of a table of lines.
    #[must_use]
    pub fn header() -> String {
        format!("{:>10}  {:<5}{:>10}{:>14}{:>9}{:>8}", "size", "way", "GB/s", "CPU s per GB", "bodies", "failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn throughput_is_by_how_long_bodies_take() {
        let mut outcome = Outcome { calls: 2, measured: Duration::from_secs(1), ..Outcome::default() };
        outcome.bytes_received = 2_000_000_100;
        [400, 600].iter().for_each(|ms| outcome.corrected.record(Duration::from_millis(*ms)));
        let mut row = BulkRow { direction: Direction::Down, size: 1_000_000_000, connections: 3, outcome };
        assert!((row.gb_per_s().unwrap() - 6.0).abs() < 1e-9);
        assert_eq!(row.cpu_s_per_gb(), None);
        assert!(row.is_good());
        row.outcome.bytes_received = 5;
        assert!(!row.is_good(), "the answers are shorter than requested");
    }

    #[test]
    fn the_load_asks_for_the_size() {
        let base = Load::of("http://a:1/mcp".parse().unwrap());
        let down = bulk_load(&base, Direction::Down, 1 << 20);
        assert_eq!((down.target.path().as_str(), down.call.kind), ("/bytes/1048576", CallKind::Get));
        let up = bulk_load(&base, Direction::Up, 1 << 20);
        assert_eq!((up.target.path().as_str(), up.call.kind, up.call.payload), ("/", CallKind::Post, 1 << 20));
    }
}
