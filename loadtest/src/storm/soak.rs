//! Detects growth of resources over many storms, with restarts between them.

use std::time::Duration;

use serde_json::{Value, json};

use super::StormOutcome;
use super::ground::Part;
use super::report::{mib, ms};
use super::sides::Reading;
use crate::compare::series::median;

/// A side that has run for fewer rounds since its start is not checked.
pub(crate) const ROUNDS_MIN: usize = 4;
/// From this many rounds on, the first one is ignored, because it contains one-time allocations.
const ROUNDS_LONG: usize = 8;
/// The share by which a figure may be larger at the end.
const GROWTH_SHARE: f64 = 0.1;

/// A figure that must not grow.
struct Figure {
    name: &'static str,
    /// The growth that is allowed in addition to the share.
    allowance: f64,
    read: fn(&Reading) -> Option<f64>,
    show: fn(f64) -> String,
}

/// All figures that are checked. Figures that a side does not report are skipped.
const FIGURES: &[Figure] = &[
    Figure {
        name: "resident memory",
        allowance: 4096.0,
        read: |reading| Some(reading.rss_kib as f64),
        show: |kib| format!("{} MiB", mib(kib as u64)),
    },
    count("open descriptors", |reading| Some(reading.descriptors as f64)),
    count("sockets", |reading| reading.metric("adit_sockets_open")),
    count("calls in flight", |reading| reading.metric("adit_calls_open")),
    count("connections of agents", |reading| reading.metric("adit_agent_connections_open")),
    count("streams on links", |reading| reading.metric("adit_link_streams_open")),
    count("connections to upstreams", |reading| reading.metric("adit_upstream_connections_open")),
    count("tasks", |reading| reading.metric("adit_tasks_open")),
    Figure {
        name: "buffers in use",
        allowance: (1 << 20) as f64,
        read: |reading| reading.metric("adit_buffers_leased_bytes"),
        show: |bytes| format!("{} MiB", mib(bytes as u64 / 1024)),
    },
];

const fn count(name: &'static str, read: fn(&Reading) -> Option<f64>) -> Figure {
    Figure { name, allowance: 8.0, read, show: |count| format!("{count:.0}") }
}

/// One round: a storm, and the pause after it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// When it ended, relative to the start of the first.
    pub(crate) at: Duration,
    /// The process that was restarted before it.
    pub(crate) restarted: Option<Part>,
    /// The state of each side.
    pub(crate) sides: Vec<(String, Reading)>,
    /// Calls that must succeed: complete, cut, failed.
    pub(crate) bodies: [u64; 3],
    pub(crate) probe_calls: u64,
    pub(crate) probe_failed: u64,
    pub(crate) probe_p99: Duration,
    pub(crate) probe_worst: Duration,
    pub(crate) links_lost: Option<u64>,
    /// The faults of the round.
    pub(crate) faults: Vec<String>,
}

impl Round {
    /// The round of a storm.
    pub(crate) fn of(outcome: &StormOutcome, restarted: Option<Part>, at: Duration, faults: Vec<String>) -> Round {
        let owed = outcome.tallies.iter().filter(|(kind, _)| kind.must_succeed()).map(|(_, tally)| tally);
        let bodies = owed
            .fold([0; 3], |[whole, cut, failed], tally| [whole + tally.whole, cut + tally.cut, failed + tally.failed]);
        let side = |side: &super::SideOutcome| Some((side.name.clone(), side.settled.clone()?));
        Round {
            at,
            restarted,
            sides: outcome.sides.iter().filter_map(side).collect(),
            bodies,
            probe_calls: outcome.probe.calls,
            probe_failed: outcome.probe_failed(),
            probe_p99: outcome.probe.corrected.quantile(0.99),
            probe_worst: outcome.probe.corrected.max(),
            links_lost: outcome.links_lost(),
            faults,
        }
    }

    fn side(&self, name: &str) -> Option<&Reading> {
        self.sides.iter().find(|(side, _)| side == name).map(|(_, reading)| reading)
    }

    /// The round on one line.
    pub(crate) fn line(&self, n: usize) -> String {
        let [whole, cut, failed] = self.bodies;
        let side = |(name, reading): &(String, Reading)| {
            let metric =
                |name: &str| reading.metric(name).map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
            let leased = reading.metric("adit_buffers_leased_bytes");
            let leased = leased.map_or_else(|| "–".to_owned(), |bytes| mib(bytes as u64 / 1024));
            let (rss, files, sockets) = (mib(reading.rss_kib), reading.descriptors, metric("adit_sockets_open"));
            format!("{name}: RSS {rss} MiB, {files} files, {sockets} sockets, buffers {leased} MiB")
        };
        let restarted = self.restarted.map(|part| format!(" ({} restarted)", part.name())).unwrap_or_default();
        format!(
            "{n:4}{restarted} at {} s: {whole} whole, {cut} cut, {failed} failed; probe {} calls, {} failed, p99 {:.1} ms, worst \
             {:.1} ms; {}",
            self.at.as_secs(),
            self.probe_calls + self.probe_failed,
            self.probe_failed,
            ms(self.probe_p99),
            ms(self.probe_worst),
            self.sides.iter().map(side).collect::<Vec<_>>().join("; ")
        )
    }

    fn to_json(&self) -> Value {
        let [whole, cut, failed] = self.bodies;
        let sides = self.sides.iter().map(|(name, reading)| (name.clone(), reading.to_json()));
        json!({
            "at_s": self.at.as_secs_f64(),
            "restarted": self.restarted.map(Part::name),
            "whole": whole,
            "cut": cut,
            "failed": failed,
            "probe_calls": self.probe_calls,
            "probe_failed": self.probe_failed,
            "probe_p99_ms": ms(self.probe_p99),
            "probe_worst_ms": ms(self.probe_worst),
            "links_lost": self.links_lost,
            "sides": sides.collect::<serde_json::Map<_, _>>(),
            "faults": self.faults,
        })
    }
}

/// One figure of one side, at the beginning and at the end of its run.
#[derive(Clone, Debug)]
pub(crate) struct Trend {
    pub(crate) side: String,
    figure: &'static str,
    rounds: usize,
    first: f64,
    last: f64,
    may_be: f64,
    show: fn(f64) -> String,
}

impl Trend {
    /// Whether it grew by more than the limit.
    pub(crate) fn grew(&self) -> bool {
        self.last > self.may_be
    }

    fn to_json(&self) -> Value {
        json!({
            "side": self.side,
            "figure": self.figure,
            "rounds": self.rounds,
            "first_quarter": self.first,
            "last_quarter": self.last,
            "may_be": self.may_be,
            "grew": self.grew(),
        })
    }

    /// The columns of the table.
    pub(crate) fn columns(&self) -> Vec<String> {
        let word = if self.grew() { "grew" } else { "steady" };
        let show = self.show;
        vec![
            self.side.clone(),
            self.figure.to_owned(),
            self.rounds.to_string(),
            show(self.first),
            show(self.last),
            show(self.may_be),
            word.to_owned(),
        ]
    }

    /// The fault of the figure, if it grew too much.
    pub(crate) fn fault(&self) -> Option<String> {
        let show = self.show;
        self.grew().then(|| {
            format!(
                "{}: {} grew from {} in the first quarter of {} rounds to {} in the last, above the limit of {}",
                self.side,
                self.figure,
                show(self.first),
                self.rounds,
                show(self.last),
                show(self.may_be)
            )
        })
    }
}

/// The side to restart before this round, by the share of the time that is over: in the first half the connector, so
/// that the edge runs through it, then the edge.
pub(crate) fn restart_before(round: usize, every: usize, share: f64) -> Option<Part> {
    (every > 0 && round > 0 && round.is_multiple_of(every)).then_some(if share < 0.5 {
        Part::Connector
    } else {
        Part::Edge
    })
}

/// Compares the medians of the first and the last quarter of the rounds, for each side between its restarts that are
/// furthest apart.
///
/// # Errors
///
/// If a side has run for too few rounds.
pub(crate) fn trends(rounds: &[Round]) -> Result<Vec<Trend>, String> {
    let mut trends = Vec::new();
    for part in [Part::Edge, Part::Connector] {
        let life = longest_life(rounds, part);
        if life.len() < ROUNDS_MIN {
            let (name, len) = (part.name(), life.len());
            return Err(format!(
                "{name}: it lived through {len} rounds, and growth needs {ROUNDS_MIN} or more: give a longer --for or a larger \
                 --restart-every"
            ));
        }
        let life = if life.len() >= ROUNDS_LONG { &life[1..] } else { life };
        trends.extend(FIGURES.iter().filter_map(|figure| trend(life, part, figure)));
    }
    Ok(trends)
}

fn trend(life: &[Round], part: Part, figure: &Figure) -> Option<Trend> {
    let values: Vec<f64> = life.iter().filter_map(|round| (figure.read)(round.side(part.name())?)).collect();
    let quarter = (values.len() / 4).max(1);
    let first = median(values.iter().take(quarter).copied())?;
    let last = median(values.iter().rev().take(quarter).copied())?;
    let may_be = first * (1.0 + GROWTH_SHARE) + figure.allowance;
    let (side, rounds) = (part.name().to_owned(), life.len());
    Some(Trend { side, figure: figure.name, rounds, first, last, may_be, show: figure.show })
}

/// The most rounds in a row between two restarts of a side.
fn longest_life(rounds: &[Round], part: Part) -> &[Round] {
    let mut lives = Vec::new();
    let mut from = 0;
    for (n, _) in rounds.iter().enumerate().filter(|(_, round)| round.restarted == Some(part)) {
        lives.push(&rounds[from..n]);
        from = n;
    }
    lives.push(&rounds[from..]);
    lives.into_iter().max_by_key(|life| life.len()).unwrap_or_default()
}

/// The report as JSON.
pub(crate) fn to_json(rounds: &[Round], trends: &[Trend], faults: &[String]) -> Value {
    json!({
        "rounds": rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
        "trends": trends.iter().map(Trend::to_json).collect::<Vec<_>>(),
        "faults": faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(edge_kib: u64, connector_files: u64, restarted: Option<Part>) -> Round {
        let edge = Reading { rss_kib: edge_kib, descriptors: 20, ..Reading::default() };
        let connector = Reading { rss_kib: 20_000, descriptors: connector_files, ..Reading::default() };
        Round {
            at: Duration::ZERO,
            restarted,
            sides: vec![("edge".to_owned(), edge), ("connector".to_owned(), connector)],
            bodies: [1, 0, 0],
            probe_calls: 1,
            probe_failed: 0,
            probe_p99: Duration::ZERO,
            probe_worst: Duration::ZERO,
            links_lost: None,
            faults: Vec::new(),
        }
    }

    fn faults(rounds: &[Round]) -> Vec<String> {
        trends(rounds).unwrap().iter().filter_map(Trend::fault).collect()
    }

    #[test]
    fn constant_figures_are_steady() {
        let rounds: Vec<Round> = (0..20).map(|n| round(30_000 + n % 3 * 500, 20 + n % 4, None)).collect();
        assert_eq!(faults(&rounds), Vec::<String>::new());
        // One-time allocations do not count as growth.
        let mut first = rounds;
        first[0].sides[0].1.rss_kib = 10_000;
        assert_eq!(faults(&first), Vec::<String>::new());
    }

    #[test]
    fn growth_is_reported_in_words() {
        let rounds: Vec<Round> = (0..20).map(|n| round(30_000 + n * 1_000, 20 + n, None)).collect();
        let faults = faults(&rounds);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].starts_with("edge: resident memory grew from 31.7 MiB in the first quarter of 19 rounds"),
            "{faults:?}"
        );
        assert!(faults[1].starts_with("connector: open descriptors grew from 22"), "{faults:?}");
    }

    #[test]
    fn a_side_is_judged_in_the_longest_of_its_lives() {
        // A restart frees everything, and would hide growth.
        let mut rounds: Vec<Round> = (0..8).map(|n| round(30_000, 20 + n * 4, None)).collect();
        rounds.extend((0..5).map(|n| round(30_000, 20, (n == 0).then_some(Part::Connector))));
        let faults = faults(&rounds);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with("connector: open descriptors") && faults[0].contains("of 7 rounds"),
            "{faults:?}"
        );
        assert!(trends(&rounds[8..11]).unwrap_err().contains("edge: it lived through 3 rounds"));
    }

    #[test]
    fn the_connector_is_restarted_first_and_then_the_edge() {
        let restarts: Vec<Option<Part>> = (0..8).map(|n| restart_before(n, 2, n as f64 / 8.0)).collect();
        let (connector, edge) = (Some(Part::Connector), Some(Part::Edge));
        assert_eq!(restarts, [None, None, connector, None, edge, None, edge, None]);
        assert!((0..8).all(|n| restart_before(n, 0, 0.0).is_none()));
    }
}
