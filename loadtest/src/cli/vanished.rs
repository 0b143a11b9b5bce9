//! The rows of vanished agents in the report of `adit-loadtest fault`.

use serde_json::{Value, json};

use crate::compare::series::median;
use crate::compare::table::table_of;
use crate::fault::{Vanished, ms};

/// The meaning of the columns.
const LEGEND: &str = "\
Vanished agents; times in s from when their packets were dropped, medians of the rounds.
  streams  silent event streams, one for each agent
  first    until the upstream saw the end of the first of them
  all      until it saw the end of the last; worst: in the worst round
";

/// All rounds of one peer.
pub(super) struct VanishedRow {
    pub(super) peer: String,
    /// For each round the result, or the reason for its lack.
    pub(super) rounds: Vec<Result<Vanished, String>>,
}

impl VanishedRow {
    /// The faults of the results, round by round.
    pub(super) fn faults(&self) -> impl Iterator<Item = String> {
        let fault = |round: &Result<Vanished, String>| match round {
            Ok(vanished) => vanished.fault(),
            Err(error) => Some(error.clone()),
        };
        let faults = self.rounds.iter().map(fault).enumerate();
        faults.filter_map(|(i, fault)| Some(format!("{}: agents vanished, round {}: {}", self.peer, i + 1, fault?)))
    }

    pub(super) fn to_json(&self) -> Value {
        let rounds = self.rounds.iter().map(|round| match round {
            Ok(vanished) => vanished.to_json(),
            Err(error) => json!({ "error": error }),
        });
        json!({
            "peer": self.peer,
            "rounds": rounds.collect::<Vec<_>>(),
            "errors": self.faults().collect::<Vec<_>>(),
        })
    }

    fn line(&self) -> Vec<String> {
        let good = || self.rounds.iter().flatten();
        let seconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{:.1}", value / 1e3));
        let first = median(good().filter_map(|vanished| vanished.first).map(ms));
        let all = || good().filter_map(|vanished| vanished.all).map(ms);
        let streams = good().next().map_or_else(|| "–".to_owned(), |vanished| vanished.agents.to_string());
        vec![self.peer.clone(), streams, seconds(first), seconds(median(all())), seconds(all().reduce(f64::max))]
    }
}

/// The table of all peers; empty without any.
pub(super) fn text(rows: &[VanishedRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["peer", "streams", "first", "all", "worst"];
    format!("{}\n{LEGEND}", table_of(&heads, 1, rows.iter().map(VanishedRow::line)))
}
