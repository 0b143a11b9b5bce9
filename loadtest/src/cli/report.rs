//! An outcome as text for people.

use std::fmt::Write;

use crate::latencies::{Latencies, micros};
use crate::outcome::Outcome;

/// The outcome of a run, in a few lines.
#[must_use]
pub fn report(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _ = writeln!(
        text,
        "{} calls in {:.2} s, {:.1}/s, {} failed",
        outcome.calls,
        outcome.measured.as_secs_f64(),
        outcome.rps(),
        outcome.failed.count()
    );
    let _ = writeln!(
        text,
        "\n  {:<22}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "µs", "p50", "p90", "p95", "p99", "p99.9", "max"
    );
    row(&mut text, "from the planned start", &outcome.corrected);
    row(&mut text, "from the actual start", &outcome.uncorrected);
    row(&mut text, "to the first event", &outcome.first_event);
    row(&mut text, "connecting", &outcome.connects);
    row(&mut text, "waited for connection", &outcome.waited);
    row(&mut text, "the generator's lag", &outcome.generator_lag);
    let _ = writeln!(
        text,
        "\n  sent {} bytes, received {}; the generator's thread was busy for {:.0} %",
        outcome.bytes_sent,
        outcome.bytes_received,
        outcome.generator_busy * 100.0
    );
    if let Some(cpu) = outcome.cpu_us_per_call() {
        let _ = writeln!(text, "  watched: {cpu:.1} µs CPU per call, {} KiB resident", outcome.usage.rss_kib_max);
    }
    for pid in &outcome.usage.gone {
        let _ = writeln!(text, "  watched process {pid} has ended");
    }
    for (cause, count) in outcome.failed.by_cause() {
        let _ = writeln!(text, "  failed: {count} by {cause}");
    }
    if let Some(first) = outcome.failed.first() {
        let _ = writeln!(text, "  the first: {first}");
    }
    if let Some(partial) = &outcome.partial {
        let _ = writeln!(text, "\nPARTIAL: {partial}");
    }
    if let Some(void) = &outcome.void {
        let _ = writeln!(text, "\nVOID, not to be reported: {void}");
    }
    text
}

fn row(text: &mut String, name: &str, latencies: &Latencies) {
    if latencies.count() == 0 {
        return;
    }
    let _ = write!(text, "  {name:<22}");
    for q in [0.5, 0.9, 0.95, 0.99, 0.999] {
        let _ = write!(text, "{:>10.1}", latencies.quantile_us(q));
    }
    let _ = writeln!(text, "{:>10.1}", micros(latencies.max()));
}
