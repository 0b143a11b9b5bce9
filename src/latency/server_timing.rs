use std::time::Duration;

use super::phases::{CallPhases, ConnectorTimes, Phase};

/// The name of the header.
pub const SERVER_TIMING: &str = "Server-Timing";

/// The most bytes that [`server_timing`] appends. With that much spare capacity it does not allocate.
pub const SERVER_TIMING_LEN_MAX: usize = 5 * (", ".len() + "upstream_connect".len() + ";dur=".len() + MS_LEN_MAX);

/// Digits of the whole milliseconds of 2^64 ns, the point and three decimals.
const MS_LEN_MAX: usize = 14 + 1 + 3;
/// The phases in the header: those that are known when the head is written.
const SHOWN: [Phase; 6] =
    [Phase::Edge, Phase::Tunnel, Phase::BeyondEdge, Phase::Connector, Phase::UpstreamConnect, Phase::Upstream];

/// Appends the value of a `Server-Timing` header (W3C Server Timing, `name;dur=milliseconds`), such as `edge;dur=0.021,
/// tunnel;dur=0.040, connector;dur=0.015, upstream;dur=20.113`.
///
/// A phase that the call did not have is omitted.
pub fn server_timing(phases: &CallPhases, out: &mut Vec<u8>) {
    append(SHOWN.map(|phase| (phase, phases.get(phase))), out);
}

/// Appends the value for a call that only the connector measures, because the agent's TLS ends there.
pub fn connector_timing(times: &ConnectorTimes, out: &mut Vec<u8>) {
    let parts = [
        (Phase::Connector, Some(times.connector)),
        (Phase::UpstreamConnect, times.upstream_connect),
        (Phase::Upstream, Some(times.upstream)),
    ];
    append(parts, out);
}

/// Appends the value for a response of the role itself, for which only that role's own time is known.
pub fn own_timing(phase: Phase, took: Duration, out: &mut Vec<u8>) {
    append([(phase, Some(took))], out);
}

fn append(parts: impl IntoIterator<Item = (Phase, Option<Duration>)>, out: &mut Vec<u8>) {
    let mut between: &[u8] = b"";
    for (phase, duration) in parts {
        let Some(duration) = duration else { continue };
        out.extend_from_slice(between);
        out.extend_from_slice(phase.name().as_bytes());
        out.extend_from_slice(b";dur=");
        append_ms(duration, out);
        between = b", ";
    }
}

/// Appends milliseconds with three decimals, rounded to the nearest microsecond.
fn append_ms(duration: Duration, out: &mut Vec<u8>) {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let us = ns / 1_000 + u64::from(ns % 1_000 >= 500);
    let (mut whole, fraction) = (us / 1_000, (us % 1_000) as u32);
    let digit = |number: u32| b'0' + (number % 10) as u8;
    let mut digits = [b'.'; MS_LEN_MAX];
    let mut at = digits.len() - ".000".len();
    digits[at + 1..].copy_from_slice(&[digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    loop {
        at -= 1;
        digits[at] = b'0' + (whole % 10) as u8;
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::latency::{ConnectorTimes, EdgeTimes};

    fn value_of(phases: &CallPhases) -> String {
        let mut out = Vec::new();
        server_timing(phases, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_value_is_as_the_standard_has_it() {
        let edge = EdgeTimes {
            edge: Duration::from_nanos(21_400),
            total: Duration::from_millis(25),
            total_last: None,
            ..EdgeTimes::default()
        };
        let mut far = ConnectorTimes {
            connector: Duration::from_nanos(14_500),
            upstream_connect: Some(Duration::ZERO),
            upstream: Duration::from_micros(20_113),
            upstream_last: None,
        };
        assert_eq!(
            value_of(&CallPhases::split(edge, Some(far))),
            "edge;dur=0.021, tunnel;dur=4.851, connector;dur=0.015, upstream_connect;dur=0.000, upstream;dur=20.113"
        );
        far.upstream_connect = None;
        assert!(!value_of(&CallPhases::split(edge, Some(far))).contains("upstream_connect"));
        let unknown = EdgeTimes { is_handed_over: true, ..edge };
        assert_eq!(value_of(&CallPhases::split(unknown, None)), "edge;dur=0.021, beyond_edge;dur=24.979");
    }

    #[test]
    fn every_duration_is_written_as_a_float_would_be() {
        let mut rng = Rng::new(2);
        for _ in 0..10_000 {
            let us = rng.next_u64() >> rng.between(14, 63);
            let mut out = Vec::new();
            append_ms(Duration::from_micros(us), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{}.{:03}", us / 1_000, us % 1_000));
        }
    }

    #[test]
    fn the_longest_value_fits_its_bound() {
        let edge = EdgeTimes { edge: Duration::MAX, total: Duration::MAX, total_last: None, ..EdgeTimes::default() };
        let far = ConnectorTimes {
            connector: Duration::MAX,
            upstream_connect: Some(Duration::MAX),
            upstream: Duration::MAX,
            upstream_last: None,
        };
        let value = value_of(&CallPhases::split(edge, Some(far)));
        assert!(value.len() <= SERVER_TIMING_LEN_MAX);
        assert!(value.contains("edge;dur=18446744073709.552"));
    }
}
