//! The report of a storm as text and JSON, and its faults.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::sides::Reading;
use super::{Kind, SideOutcome, Tally};
use crate::compare::table::table_of;
use crate::outcome::Outcome;

/// The memory that a side may use in addition to its buffers, in KiB.
const BESIDE_BUFFERS_KIB: u64 = 32 << 10;
/// The memory that it may use per connection, in KiB.
const PER_CONNECTION_KIB: u64 = 16;
/// The share by which memory may be larger after the settle time than before.
const SETTLED_SHARE: f64 = 0.1;

/// What makes a storm fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FailOn {
    /// A download, upload or event stream that was cut or failed
    Bodies,
    /// A call of the probe that failed, or took longer than it may
    Probe,
    /// A side that takes more memory than its buffers, 32 MiB, and 16 KiB for each connection
    Memory,
    /// A side whose memory is more than a tenth larger than before, after the settle time
    Settled,
    /// A link that was lost
    Links,
}

/// The result of a storm.
#[derive(Clone, Debug)]
pub(crate) struct StormOutcome {
    /// The number of agents of all kinds.
    pub(crate) agents: usize,
    pub(crate) lasted: Duration,
    pub(crate) settle: Duration,
    pub(crate) tallies: BTreeMap<Kind, Tally>,
    pub(crate) probe: Outcome,
    pub(crate) sides: Vec<SideOutcome>,
    /// The message about a process that ended.
    pub(crate) died: Option<String>,
    pub(crate) interrupted: bool,
}

impl StormOutcome {
    /// Calls of the probe that failed, or were not made because too many were waiting.
    pub(crate) fn probe_failed(&self) -> u64 {
        self.probe.failed.count() + self.probe.overflowed
    }

    /// Links that ended during the storm: the larger number of both sides; none if neither reports it.
    pub(crate) fn links_lost(&self) -> Option<u64> {
        let ended = |reading: &Reading| reading.metric("adit_links_ended_total");
        let of = |side: &SideOutcome| {
            let after = side.settled.as_ref().or(side.at_end.as_ref()).and_then(ended)?;
            Some((after - ended(&side.before).unwrap_or(0.0)).max(0.0) as u64)
        };
        self.sides.iter().filter_map(of).max()
    }

    /// The memory that a side may use, in KiB; none if it does not report its limit of buffers.
    fn memory_max_kib(&self, side: &SideOutcome) -> Option<u64> {
        let buffers = side.before.metric("adit_buffers_limit_bytes")? as u64 / 1024;
        Some(buffers + BESIDE_BUFFERS_KIB + PER_CONNECTION_KIB * self.agents as u64)
    }

    /// The faults of the result.
    pub(crate) fn faults(&self, fail_on: &[FailOn], probe_max: Duration) -> Vec<String> {
        let mut faults: Vec<String> = self.died.iter().cloned().collect();
        for fail_on in fail_on {
            match fail_on {
                FailOn::Bodies => faults.extend(self.bodies_at_fault()),
                FailOn::Probe => faults.extend(self.probe_at_fault(probe_max)),
                FailOn::Memory => faults.extend(self.sides.iter().filter_map(|side| {
                    let max = self.memory_max_kib(side)?;
                    let (name, peak) = (&side.name, side.peak_kib);
                    (peak > max)
                        .then(|| format!("{name}: {} MiB of memory, above the limit of {}", mib(peak), mib(max)))
                })),
                FailOn::Settled => faults.extend(self.sides.iter().filter_map(|side| {
                    let (name, before) = (&side.name, side.before.rss_kib);
                    let after = side.settled.as_ref()?.rss_kib;
                    let is_over = after as f64 > before as f64 * (1.0 + SETTLED_SHARE);
                    let (before, after) = (mib(before), mib(after));
                    is_over.then(|| format!("{name}: {after} MiB of memory after the settle time, {before} before"))
                })),
                FailOn::Links => {
                    let lost = self.links_lost().filter(|lost| *lost > 0);
                    faults.extend(lost.map(|lost| format!("{lost} links were lost")));
                }
            }
        }
        faults
    }

    fn bodies_at_fault(&self) -> Vec<String> {
        let owed = self.tallies.iter().filter(|(kind, tally)| kind.must_succeed() && tally.cut + tally.failed > 0);
        let fault = |(kind, tally): (&Kind, &Tally)| {
            let first = tally.first.as_deref().unwrap_or_default();
            let Tally { asked, cut, failed, .. } = tally;
            format!("{}: of {asked}, {cut} were cut and {failed} failed; the first: {first}", kind.name())
        };
        owed.map(fault).collect()
    }

    fn probe_at_fault(&self, probe_max: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        if self.probe_failed() > 0 {
            let first = self.probe.failed.first().unwrap_or("too many were waiting");
            faults.push(format!("probe: {} calls failed; the first: {first}", self.probe_failed()));
        }
        if self.probe.calls == 0 {
            faults.push("probe: no call succeeded".to_owned());
        }
        if self.probe.corrected.max() > probe_max {
            faults.push(format!(
                "probe: the slowest call took {:.1} ms, above the limit of {:.1}",
                ms(self.probe.corrected.max()),
                ms(probe_max)
            ));
        }
        faults
    }

    /// The report as JSON.
    pub(crate) fn to_json(&self, faults: &[String]) -> Value {
        let kind = |(kind, tally): (&Kind, &Tally)| {
            let figures = json!({
                "asked": tally.asked,
                "whole": tally.whole,
                "cut": tally.cut,
                "failed": tally.failed,
                "held": (!kind.is_active()).then_some(tally.held),
                "ended": (!kind.is_active()).then_some(tally.ended),
                "slowest_ms": ms(tally.slowest),
                "first": tally.first,
            });
            (kind.name().to_owned(), figures)
        };
        let side = |side: &SideOutcome| {
            json!({
                "name": side.name,
                "before": side.before.to_json(),
                "peak_kib": side.peak_kib,
                "peak_max_kib": self.memory_max_kib(side),
                "at_end": side.at_end.as_ref().map(Reading::to_json),
                "settled": side.settled.as_ref().map(Reading::to_json),
            })
        };
        json!({
            "lasted_s": self.lasted.as_secs_f64(),
            "settle_s": self.settle.as_secs_f64(),
            "agents": self.tallies.iter().map(kind).collect::<serde_json::Map<_, _>>(),
            "probe": {
                "calls": self.probe.calls,
                "failed": self.probe_failed(),
                "first": self.probe.failed.first(),
                "latency": self.probe.corrected.to_json(),
                "generator_lag": self.probe.generator_lag.to_json(),
            },
            "links_lost": self.links_lost(),
            "sides": self.sides.iter().map(side).collect::<Vec<_>>(),
            "interrupted": self.interrupted,
            "faults": faults,
        })
    }

    /// The report as tables of text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} agents, {:.1} s\n", self.agents, self.lasted.as_secs_f64());
        let heads = ["agents", "asked", "whole", "cut", "failed", "held", "ended", "slowest ms"];
        let line = |(kind, tally): (&Kind, &Tally)| {
            let (ends, holds) = (kind.is_active(), !kind.is_active());
            let only = |shown: bool, count: u64| if shown { count.to_string() } else { "–".to_owned() };
            vec![
                kind.name().to_owned(),
                tally.asked.to_string(),
                only(ends, tally.whole),
                only(ends, tally.cut),
                tally.failed.to_string(),
                only(holds, tally.held),
                only(holds, tally.ended),
                format!("{:.0}", ms(tally.slowest)),
            ]
        };
        // Writing to memory cannot fail.
        let _ = writeln!(text, "{}", table_of(&heads, 1, self.tallies.iter().map(line)));
        for (kind, tally) in &self.tallies {
            if let Some(first) = &tally.first {
                let _ = writeln!(text, "  {}, the first: {first}", kind.name());
            }
        }
        let latency = &self.probe.corrected;
        let quantile = |q: f64| ms(latency.quantile(q));
        let _ = writeln!(
            text,
            "probe: {} calls, {} failed; p50 {:.2} ms, p99 {:.2} ms, worst {:.1} ms (its own delay: p99 {:.2} ms, worst {:.1} ms)",
            self.probe.calls + self.probe_failed(),
            self.probe_failed(),
            quantile(0.5),
            quantile(0.99),
            ms(latency.max()),
            ms(self.probe.generator_lag.quantile(0.99)),
            ms(self.probe.generator_lag.max()),
        );
        if let Some(first) = self.probe.failed.first() {
            let _ = writeln!(text, "  probe, the first: {first}");
        }
        let lost = self.links_lost().map_or_else(|| "–".to_owned(), |lost| lost.to_string());
        let _ = writeln!(text, "links lost: {lost}");
        let after = format!("after {} s", self.settle.as_secs());
        let heads = ["RSS MiB", "before", "most", "may take", "at the end", &after, "descriptors", "buffers MiB"];
        let line = |side: &SideOutcome| {
            let or = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let bytes = |reading: &Reading| {
                let bytes = reading.metric("adit_buffers_leased_bytes");
                bytes.map(|bytes| format!("{:.1}", bytes / f64::from(1 << 20)))
            };
            vec![
                side.name.clone(),
                mib(side.before.rss_kib),
                mib(side.peak_kib),
                or(self.memory_max_kib(side).map(mib)),
                or(side.at_end.as_ref().map(|reading| mib(reading.rss_kib))),
                or(side.settled.as_ref().map(|reading| mib(reading.rss_kib))),
                or(side.settled.as_ref().map(|reading| reading.descriptors.to_string())),
                or(side.settled.as_ref().and_then(bytes)),
            ]
        };
        let _ = writeln!(text, "{}", table_of(&heads, 1, self.sides.iter().map(line)));
        text
    }
}

/// The causes of failure, in order and without duplicates.
pub(crate) fn judged(fail_on: &[FailOn]) -> Vec<FailOn> {
    let mut judged = fail_on.to_vec();
    judged.sort_unstable();
    judged.dedup();
    judged
}

pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

pub(super) fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
