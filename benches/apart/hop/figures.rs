//! What was measured, and how it is shown.

use std::time::Duration;

use crate::Row;
use crate::hops::{Hop, OURS, RIVALS};

/// A rival is ahead when it needs less than this share of what ours needs.
const AHEAD: f64 = 0.97;

/// The figures of one hop in one round; times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    p50: f64,
    p99: f64,
    /// CPU time of the hop for one request.
    cpu: f64,
    per_s: f64,
}

/// The figures of all hops, in their order.
pub(crate) type Round = Vec<Figures>;

type Pick = fn(&Figures) -> f64;

/// What is compared.
const COMPARED: [(&str, Pick); 3] = [("p50", |f| f.p50), ("p99", |f| f.p99), ("CPU", |f| f.cpu)];

impl Figures {
    /// None when nothing was answered.
    pub(crate) fn of(mut took_ns: Vec<u64>, cpu_ns: u64, counted: Duration) -> Option<Figures> {
        took_ns.sort_unstable();
        let last = took_ns.len().checked_sub(1)?;
        let at = |quantile: f64| took_ns[(last as f64 * quantile).round() as usize] as f64 / 1e3;
        let requests = took_ns.len() as f64;
        let per_s = requests / counted.as_secs_f64();
        Some(Figures { p50: at(0.50), p99: at(0.99), cpu: cpu_ns as f64 / 1e3 / requests, per_s })
    }
}

/// Prints a row of the bench: each hop's medians, and the medians of the rounds' ratios to ours.
pub(crate) fn print_row(row: Row, hops: &[Hop], rounds: &[Round]) {
    let Row { connections, response_len } = row;
    println!("\n{connections} in flight, answers of {} KiB; µs", response_len / 1024);
    println!(
        "  {:<12} {:>9} {:>9} {:>9} {:>9}   {:>8} {:>8} {:>8}",
        "", "p50", "p99", "CPU/req", "req/s", "p50 ×", "p99 ×", "CPU ×"
    );
    for (at, hop) in hops.iter().enumerate() {
        let of = |pick: Pick| median(rounds.iter().map(|round| pick(&round[at])));
        let ratios = COMPARED.map(|(_, pick)| match ratio(hops, rounds, at, pick) {
            Some(ratio) => format!("{ratio:.2}"),
            None => "-".to_owned(),
        });
        println!(
            "  {:<12} {:>9.1} {:>9.1} {:>9.2} {:>9.0}   {:>8} {:>8} {:>8}",
            hop.name,
            of(|f| f.p50),
            of(|f| f.p99),
            of(|f| f.cpu),
            of(|f| f.per_s),
            ratios[0],
            ratios[1],
            ratios[2]
        );
    }
}

/// Prints where rivals are ahead of ours.
pub(crate) fn print_losses(hops: &[Hop], rounds: &[Round]) {
    for (at, hop) in hops.iter().enumerate().filter(|(_, hop)| RIVALS.contains(&hop.name)) {
        for (what, pick) in COMPARED {
            if let Some(ratio) = ratio(hops, rounds, at, pick).filter(|ratio| *ratio < AHEAD) {
                println!("  {OURS} loses: {} needs {ratio:.2} of its {what}", hop.name);
            }
        }
    }
}

/// The median over the rounds of what a hop needs against what ours needs in the same round.
fn ratio(hops: &[Hop], rounds: &[Round], at: usize, pick: Pick) -> Option<f64> {
    let ours = hops.iter().position(|hop| hop.name == OURS)?;
    Some(median(rounds.iter().map(|round| pick(&round[at]) / pick(&round[ours]))))
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
