//! The results as a table, with ratios.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::comparison::DIRECT;
use crate::latencies::Latencies;

/// What was measured of a peer with so many calls in flight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) in_flight: usize,
    pub(crate) measured: Measured,
}

/// The figures of one measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    p50_us: f64,
    p99_us: f64,
    per_second: f64,
}

impl Measured {
    pub(crate) fn new(latencies: &Latencies, measured: Duration) -> Measured {
        Measured {
            p50_us: latencies.quantile_us(0.5),
            p99_us: latencies.quantile_us(0.99),
            per_second: latencies.count() as f64 / measured.as_secs_f64().max(f64::EPSILON),
        }
    }
}

/// The median of all rounds of a peer.
fn medians(rows: &[Row]) -> Vec<Row> {
    let mut found = Vec::<Row>::new();
    for row in rows {
        if found.iter().any(|other| (other.peer, other.in_flight) == (row.peer, row.in_flight)) {
            continue;
        }
        let of = |read: fn(&Measured) -> f64| {
            let same = rows.iter().filter(|other| (other.peer, other.in_flight) == (row.peer, row.in_flight));
            let mut values: Vec<f64> = same.map(|other| read(&other.measured)).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let measured = Measured {
            p50_us: of(|measured| measured.p50_us),
            p99_us: of(|measured| measured.p99_us),
            per_second: of(|measured| measured.per_second),
        };
        found.push(Row { measured, ..row.clone() });
    }
    found.sort_by_key(|row| row.in_flight);
    found
}

/// The medians as a table: what each peer adds to pipes, and how many calls it carries for each call of adit.
pub(crate) fn text(rows: &[Row]) -> String {
    let rows = medians(rows);
    let of = |name: &str, in_flight: usize| {
        rows.iter().find(|row| row.peer == name && row.in_flight == in_flight).map(|row| row.measured)
    };
    let mut out = format!(
        "{:14} {:>9} {:>10} {:>10} {:>10} {:>12} {:>12}\n",
        "peer", "in flight", "p50 µs", "p99 µs", "calls/s", "p50 - direct", "adit's rate"
    );
    for Row { peer, in_flight, measured } in &rows {
        let added = of(DIRECT, *in_flight).map(|direct| format!("{:+.0}", measured.p50_us - direct.p50_us));
        let rate = of("adit", *in_flight).map(|adit| format!("{:.1}x", adit.per_second / measured.per_second));
        let Measured { p50_us, p99_us, per_second } = measured;
        // Writing to memory does not fail.
        let _ = writeln!(
            out,
            "{peer:14} {in_flight:>9} {p50_us:>10.0} {p99_us:>10.0} {per_second:>10.0} {:>12} {:>12}",
            added.unwrap_or_default(),
            rate.unwrap_or_default()
        );
    }
    out
}

/// All measurements and notes as JSON.
pub(crate) fn to_json(rows: &[Row], notes: &[String]) -> Value {
    let row = |row: &Row| {
        let Measured { p50_us, p99_us, per_second } = row.measured;
        json!({ "peer": row.peer, "in_flight": row.in_flight, "p50_us": p50_us, "p99_us": p99_us, "calls_per_second": per_second })
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>(), "notes": notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_shown_by_its_median_and_beside_pipes_and_adit() {
        let row = |peer, p50_us, per_second| Row {
            peer,
            in_flight: 1,
            measured: Measured { p50_us, p99_us: 2.0 * p50_us, per_second },
        };
        let rows = [
            row(DIRECT, 10.0, 90.0),
            row("adit", 900.0, 1.0),
            row("adit", 50.0, 60.0),
            row("adit", 40.0, 70.0),
            row("mcp-proxy", 500.0, 20.0),
        ];
        let table = text(&rows);
        let fields = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).expect("it has a line");
            line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(fields("adit"), ["50", "100", "60", "+40", "1.0x"]);
        assert_eq!(fields("mcp-proxy"), ["500", "1000", "20", "+490", "3.0x"]);
        assert_eq!(to_json(&rows, &[])["rows"][4]["p50_us"], 500.0);
    }
}
