//! What was counted, against the baseline.

use std::collections::{BTreeMap, BTreeSet};

/// A change of more than this either way shuts the gate.
pub(crate) const CHANGE_MAX_PERCENT: f64 = 3.0;

/// One case, here and in the baseline; none where it is missing.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict<'a> {
    name: &'a str,
    counted: Option<u64>,
    baseline: Option<u64>,
}

/// Puts both side by side; a case that only one of them has is a change.
pub(crate) fn judge<'a>(counts: &[(&'a str, u64)], baseline: &'a BTreeMap<String, u64>) -> Vec<Verdict<'a>> {
    let here: BTreeMap<&str, u64> = counts.iter().copied().collect();
    let names: BTreeSet<&str> = here.keys().copied().chain(baseline.keys().map(String::as_str)).collect();
    let verdict =
        |name: &'a str| Verdict { name, counted: here.get(name).copied(), baseline: baseline.get(name).copied() };
    names.into_iter().map(verdict).collect()
}

impl Verdict<'_> {
    /// By how much it is more than the baseline's, in percent.
    fn change_percent(&self) -> Option<f64> {
        let (counted, baseline) = (self.counted? as f64, self.baseline? as f64);
        Some((counted / baseline - 1.0) * 100.0)
    }

    pub(crate) fn is_change(&self) -> bool {
        self.change_percent().is_none_or(|percent| percent.abs() > CHANGE_MAX_PERCENT)
    }
}

pub(crate) fn print(verdicts: &[Verdict<'_>]) {
    let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    println!("\n{:<32} {:>12} {:>12} {:>9}", "instructions", "counted", "baseline", "change");
    for verdict in verdicts {
        let change = match verdict.change_percent() {
            Some(percent) => format!("{percent:+.2} %"),
            None if verdict.baseline.is_none() => "new".to_owned(),
            None => "gone".to_owned(),
        };
        let mark = if verdict.is_change() { "  <--" } else { "" };
        let (counted, baseline) = (number(verdict.counted), number(verdict.baseline));
        println!("{:<32} {counted:>12} {baseline:>12} {change:>9}{mark}", verdict.name);
    }
}
