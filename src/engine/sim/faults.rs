use std::time::Duration;

use crate::base::Rng;
use crate::engine::BATCH_LEN_MAX;

/// The faults of a simulated network, and the properties of its paths.
///
/// [`Faults::none`] is a fast network without faults. [`Faults::draw`] draws the probabilities themselves from a seed,
/// many of them zero, so that each seed tries another mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// The shortest one-way delay of a path, in nanoseconds. The delay is drawn for each path and direction.
    pub delay_ns_min: u64,
    /// The longest one-way delay of a path, in nanoseconds.
    pub delay_ns_max: u64,
    /// The most that a segment may take longer than its path, in nanoseconds. Segments stay in order.
    pub jitter_ns_max: u64,
    /// The probability that a segment is held up for [`Faults::clog_ns`].
    pub clog_chance: f64,
    /// How long a held-up segment takes, in nanoseconds.
    pub clog_ns: u64,
    /// The bandwidth of each direction of a connection, in bytes per second; zero for no limit.
    pub bytes_per_second: u64,
    /// The largest segment, in bytes. The size of each segment is drawn up to this.
    pub segment_bytes_max: usize,
    /// The size of a sending host's buffer for a connection, in bytes.
    pub send_buffer_bytes: usize,
    /// The size of a receiving host's buffer for a connection, including bytes in flight, in bytes.
    pub receive_buffer_bytes: usize,
    /// The largest datagram that a path carries, in bytes; larger ones are lost.
    pub datagram_bytes_max: usize,
    /// The probability that a datagram is lost.
    pub datagram_loss_chance: f64,
    /// The probability that a datagram arrives twice.
    pub datagram_double_chance: f64,
    /// The probability that a datagram takes longer than others, up to [`Faults::datagram_late_ns_max`].
    pub datagram_late_chance: f64,
    /// The most that such a datagram takes longer, in nanoseconds.
    pub datagram_late_ns_max: u64,
    /// The probability that a datagram of a client comes from another port than the one before, as do all that follow. What is
    /// sent to the old port is lost.
    pub datagram_rebind_chance: f64,
    /// The probability that a driver reads fewer bytes from a host than are available.
    pub short_read_chance: f64,
    /// The probability that a driver writes fewer bytes to a host than it has room for.
    pub short_write_chance: f64,
    /// The probability that a driver ignores a readable socket for up to [`Faults::slow_read_ns_max`].
    pub slow_read_chance: f64,
    /// The longest time for which a slow reader ignores a socket, in nanoseconds.
    pub slow_read_ns_max: u64,
    /// The probability that a segment makes a middlebox reset the connection in both directions.
    pub reset_chance: f64,
    /// The probability that a connect is refused although something listens.
    pub refuse_chance: f64,
    /// The probability that a connect is never answered.
    pub lost_connect_chance: f64,
    /// The probability that an accept fails for lack of descriptors.
    pub accept_fail_chance: f64,
    /// The mean time between two partitions of random pairs of hosts, in nanoseconds; zero for none.
    pub cut_every_ns: u64,
    /// The longest duration of such a partition, in nanoseconds.
    pub cut_ns_max: u64,
    /// How long a host waits for an answer to a connect, in nanoseconds.
    pub connect_timeout_ns: u64,
    /// How long a host waits for an acknowledgement before it gives the connection up, in nanoseconds.
    pub stall_timeout_ns: u64,
    /// Whether the events of one turn are reported in random order of sockets, instead of by index.
    pub shuffle: bool,
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;

impl Faults {
    /// No faults: 10 µs each way, segments of 16 KiB, buffers of 256 KiB.
    #[must_use]
    pub fn none() -> Faults {
        Faults {
            delay_ns_min: 10 * US,
            delay_ns_max: 10 * US,
            jitter_ns_max: 0,
            clog_chance: 0.0,
            clog_ns: 0,
            bytes_per_second: 0,
            segment_bytes_max: 16 * 1024,
            send_buffer_bytes: 256 * 1024,
            receive_buffer_bytes: 256 * 1024,
            datagram_bytes_max: BATCH_LEN_MAX,
            datagram_loss_chance: 0.0,
            datagram_double_chance: 0.0,
            datagram_late_chance: 0.0,
            datagram_late_ns_max: 0,
            datagram_rebind_chance: 0.0,
            short_read_chance: 0.0,
            short_write_chance: 0.0,
            slow_read_chance: 0.0,
            slow_read_ns_max: 0,
            reset_chance: 0.0,
            refuse_chance: 0.0,
            lost_connect_chance: 0.0,
            accept_fail_chance: 0.0,
            cut_every_ns: 0,
            cut_ns_max: 0,
            connect_timeout_ns: 10 * SECOND,
            stall_timeout_ns: 10 * SECOND,
            shuffle: false,
        }
    }

    /// Draws a random mixture of faults. Many of them are absent.
    pub fn draw(rng: &mut Rng) -> Faults {
        let delay_ns_min = pick(rng, &[5 * US, 50 * US, 500 * US, 5 * MS]);
        Faults {
            delay_ns_min,
            delay_ns_max: delay_ns_min * pick(rng, &[1, 2, 10]),
            jitter_ns_max: pick(rng, &[0, delay_ns_min / 2, delay_ns_min * 4]),
            clog_chance: maybe(rng, 0.02),
            clog_ns: rng.between(MS, 200 * MS),
            bytes_per_second: pick(rng, &[0, 0, 1 << 20, 100 << 20]),
            segment_bytes_max: pick(rng, &[97, 1460, 16 * 1024, 64 * 1024]),
            send_buffer_bytes: pick(rng, &[4 * 1024, 16 * 1024, 256 * 1024]),
            receive_buffer_bytes: pick(rng, &[4 * 1024, 64 * 1024, 256 * 1024]),
            short_read_chance: maybe(rng, 0.5),
            short_write_chance: maybe(rng, 0.5),
            slow_read_chance: maybe(rng, 0.05),
            slow_read_ns_max: pick(rng, &[100 * US, 5 * MS, 50 * MS]),
            reset_chance: maybe(rng, 0.004),
            refuse_chance: maybe(rng, 0.1),
            lost_connect_chance: maybe(rng, 0.05),
            accept_fail_chance: maybe(rng, 0.05),
            cut_every_ns: pick(rng, &[0, 0, 0, SECOND, 5 * SECOND]),
            cut_ns_max: pick(rng, &[5 * MS, 500 * MS, 5 * SECOND, 20 * SECOND]),
            connect_timeout_ns: rng.between(SECOND, 10 * SECOND),
            stall_timeout_ns: rng.between(SECOND, 20 * SECOND),
            shuffle: rng.chance(0.5),
            ..Faults::none()
        }
        .with_datagram_faults()
    }

    /// Draws the faults of datagrams. Their seed follows from the other faults, so that those stay as they are for each seed.
    fn with_datagram_faults(self) -> Faults {
        let mut rng = Rng::new(self.clog_ns ^ self.stall_timeout_ns.rotate_left(32) ^ self.delay_ns_min);
        Faults {
            datagram_bytes_max: pick(&mut rng, &[1252, 1472, 8_972, BATCH_LEN_MAX]),
            datagram_loss_chance: maybe(&mut rng, 0.1),
            datagram_double_chance: maybe(&mut rng, 0.05),
            datagram_late_chance: maybe(&mut rng, 0.1),
            datagram_late_ns_max: pick(&mut rng, &[self.delay_ns_min, 4 * self.delay_ns_min, 20 * MS]),
            datagram_rebind_chance: maybe(&mut rng, 0.001),
            ..self
        }
    }

    /// The delay of one segment on a path whose own delay is `path_ns`.
    pub(super) fn delay(&self, path_ns: u64, rng: &mut Rng) -> Duration {
        let mut ns = path_ns + rng.below(self.jitter_ns_max.saturating_add(1));
        if self.clog_chance > 0.0 && rng.chance(self.clog_chance) {
            ns += self.clog_ns;
        }
        Duration::from_nanos(ns)
    }

    /// How long `bytes` occupy a direction of a connection.
    pub(super) fn occupied(&self, bytes: usize) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let ns = u128::from(SECOND) * bytes as u128 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

/// Draws one of `choices`, each with the same probability.
fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize]
}

/// A probability up to `max`; zero half of the time.
fn maybe(rng: &mut Rng, max: f64) -> f64 {
    let present = rng.chance(0.5);
    let share = rng.unit();
    if present { share * max } else { 0.0 }
}
