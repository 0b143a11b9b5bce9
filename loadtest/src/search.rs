//! Finds the highest rate that meets an objective, by doubling and then bisection.
//!
//! The decisions use no clock and no socket: they request one run after another.

use serde_json::{Value, json};

use crate::latencies::round;
use crate::outcome::Outcome;
use crate::slo::Slo;

/// The most runs at the same rate.
pub const REPEATS_MAX: u32 = 99;

/// The settings of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSettings {
    /// The objective that a rate must meet.
    pub slo: Slo,
    /// The lowest rate, in calls per second.
    pub rate_min: f64,
    /// The highest rate, in calls per second.
    pub rate_max: f64,
    /// How many runs decide about a rate, by majority.
    pub repeats: u32,
    /// How close, as a share, the highest good rate and the lowest bad one must be.
    pub tolerance: f64,
}

/// The verdict of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The objective was met.
    Met,
    /// The objective was not met.
    Missed,
    /// Calls failed, so that the rate counts as too high.
    Failed,
    /// The generator was not good enough, so nothing is known about the target.
    Void,
}

impl Verdict {
    /// The verdict of this run. A run that ended early has no other verdict.
    #[must_use]
    pub fn of(outcome: &Outcome, slo: &Slo) -> Verdict {
        if outcome.failed.count() > 0 || outcome.partial.is_some() {
            Verdict::Failed
        } else if outcome.void.is_some() {
            Verdict::Void
        } else if slo.is_met(&outcome.corrected) {
            Verdict::Met
        } else {
            Verdict::Missed
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Failed => "failed",
            Verdict::Void => "void",
        }
    }
}

/// A rate that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The rate in calls per second.
    pub rate: f64,
    /// The verdict of each run; fewer than all if the majority was clear before.
    pub verdicts: Vec<Verdict>,
    /// The value of the quantile in each run, in microseconds.
    pub values_us: Vec<f64>,
}

impl Step {
    /// The verdict of the majority.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let count = |verdict| self.verdicts.iter().filter(|other| **other == verdict).count();
        if count(Verdict::Met) * 2 > self.verdicts.len() {
            return Verdict::Met;
        }
        let reasons = [Verdict::Missed, Verdict::Failed, Verdict::Void];
        reasons.into_iter().rev().max_by_key(|reason| count(*reason)).unwrap_or(Verdict::Missed)
    }

    fn to_json(&self) -> Value {
        let verdicts: Vec<&str> = self.verdicts.iter().map(|verdict| verdict.name()).collect();
        let values: Vec<f64> = self.values_us.iter().map(|us| round(*us)).collect();
        json!({ "rate": round(self.rate), "verdict": self.verdict().name(), "runs": verdicts, "values_us": values })
    }
}

/// What prevents a higher rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The target: at a higher rate it misses the objective.
    Target,
    /// The generator: the target may handle more.
    Generator,
    /// The highest rate that may be tried, [`SearchSettings::rate_max`].
    RateMax,
}

/// The state or result of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    /// The highest rate that was good, in calls per second.
    pub best: Option<f64>,
    /// What prevents a higher rate; none while that is unknown.
    pub bound: Option<Bound>,
    /// All rates that were tried.
    pub steps: Vec<Step>,
}

/// Why a search has no result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError<E> {
    /// Even the lowest rate is not good.
    #[error(
        "{slo} is not met even at the lowest rate, {rate} calls per second ({}): give a lower --rate-min, \
         or an objective that can be met", why(.step)
    )]
    NotMet {
        /// The objective that is not met.
        slo: Slo,
        /// The lowest rate, in calls per second.
        rate: f64,
        /// The step at the lowest rate.
        step: Step,
    },
    /// A run could not be made.
    #[error("{0}")]
    Run(E),
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(&'static str),
}

fn why(step: &Step) -> String {
    let worst = step.values_us.iter().copied().fold(0.0, f64::max);
    match step.verdict() {
        Verdict::Void => "the generator itself is too slow at that rate".to_owned(),
        Verdict::Failed => "calls fail at that rate".to_owned(),
        Verdict::Met | Verdict::Missed => format!("it was up to {worst:.1} µs at that rate"),
    }
}

impl Search {
    /// Searches. `probe` makes one run at a rate, and returns the verdict and the value of the quantile in
    /// microseconds. If it fails, `self` keeps the steps so far.
    ///
    /// # Errors
    ///
    /// If no rate is good, or a run could not be made.
    pub fn run<E>(
        &mut self,
        settings: &SearchSettings,
        mut probe: impl FnMut(f64) -> Result<(Verdict, f64), E>,
    ) -> Result<(), SearchError<E>> {
        let SearchSettings { slo, rate_min, rate_max, repeats, tolerance } = *settings;
        if !(rate_min > 0.0 && rate_max >= rate_min && rate_max.is_finite()) {
            return Err(SearchError::Settings("the rates contradict each other: 0 < --rate-min <= --rate-max"));
        }
        if !((1..=REPEATS_MAX).contains(&repeats) && tolerance > 0.0 && tolerance < 1.0) {
            return Err(SearchError::Settings("give --repeats from 1 to 99, and --tolerance between 0 and 1"));
        }
        let mut good = rate_min;
        let step = self.try_rate(good, repeats, &mut probe)?;
        if step.verdict() != Verdict::Met {
            return Err(SearchError::NotMet { slo, rate: rate_min, step });
        }
        let mut bad = None;
        while bad.is_none() && good < rate_max {
            let rate = (good * 2.0).min(rate_max);
            match self.try_rate(rate, repeats, &mut probe)?.verdict() {
                Verdict::Met => good = rate,
                _ => bad = Some(rate),
            }
        }
        let Some(mut bad) = bad else {
            self.bound = Some(Bound::RateMax);
            return Ok(());
        };
        while bad > good * (1.0 + tolerance) {
            // The geometric mean of the two.
            let rate = (good * bad).sqrt();
            match self.try_rate(rate, repeats, &mut probe)?.verdict() {
                Verdict::Met => good = rate,
                _ => bad = rate,
            }
        }
        let is_void = |step: &&Step| step.rate == bad && step.verdict() == Verdict::Void;
        let generator = self.steps.iter().any(|step| is_void(&step));
        self.bound = Some(if generator { Bound::Generator } else { Bound::Target });
        Ok(())
    }

    /// Makes runs at one rate until the majority is clear.
    fn try_rate<E>(
        &mut self,
        rate: f64,
        repeats: u32,
        probe: &mut impl FnMut(f64) -> Result<(Verdict, f64), E>,
    ) -> Result<Step, SearchError<E>> {
        let mut step = Step { rate, verdicts: Vec::new(), values_us: Vec::new() };
        let majority = (repeats / 2 + 1) as usize;
        while step.verdicts.len() < repeats as usize {
            let (verdict, value_us) = probe(rate).map_err(SearchError::Run)?;
            step.verdicts.push(verdict);
            step.values_us.push(value_us);
            let met = step.verdicts.iter().filter(|verdict| **verdict == Verdict::Met).count();
            if met >= majority || step.verdicts.len() - met > repeats as usize - majority {
                break;
            }
        }
        if step.verdict() == Verdict::Met {
            self.best = Some(self.best.map_or(rate, |best| best.max(rate)));
        }
        self.steps.push(step.clone());
        Ok(step)
    }

    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let bound = self.bound.map(|bound| match bound {
            Bound::Target => "target",
            Bound::Generator => "generator",
            Bound::RateMax => "rate_max",
        });
        let steps: Vec<Value> = self.steps.iter().map(Step::to_json).collect();
        json!({ "rate": self.best.map(round), "bound": bound, "steps": steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit::base::Rng;

    fn settings(repeats: u32) -> SearchSettings {
        let slo = "p95<5ms".parse().unwrap();
        SearchSettings { slo, rate_min: 10.0, rate_max: 1e6, repeats, tolerance: 0.05 }
    }

    /// A target that is good below this rate.
    fn limit(limit: f64) -> impl FnMut(f64) -> Result<(Verdict, f64), &'static str> {
        move |rate| Ok(if rate <= limit { (Verdict::Met, 1.0) } else { (Verdict::Missed, 9_000.0) })
    }

    #[test]
    fn the_highest_good_rate_is_found_to_within_the_tolerance() {
        let mut rng = Rng::new(2);
        for _ in 0..200 {
            let true_limit = 10.0 * 10_f64.powf(rng.unit() * 4.9);
            let mut search = Search::default();
            search.run(&settings(3), limit(true_limit)).unwrap();
            let best = search.best.unwrap();
            assert!(best <= true_limit && best * 1.05 >= true_limit, "{best} of {true_limit}");
            assert_eq!(search.bound, Some(Bound::Target));
            assert!(search.steps.len() < 40 && search.steps.iter().all(|step| step.verdicts.len() == 2));
        }
    }

    #[test]
    fn a_majority_outvotes_a_bad_run() {
        for (pattern, is_met) in [
            (&[Verdict::Met, Verdict::Missed, Verdict::Met][..], true),
            (&[Verdict::Void, Verdict::Met, Verdict::Met], true),
            (&[Verdict::Met, Verdict::Missed, Verdict::Failed], false),
        ] {
            let mut runs = pattern.iter();
            let mut search = Search::default();
            let step = search.try_rate(1.0, 3, &mut |_| Ok::<_, ()>((*runs.next().unwrap(), 1.0))).unwrap();
            assert_eq!(step.verdict() == Verdict::Met, is_met, "{pattern:?}");
        }
    }

    #[test]
    fn a_generator_that_is_too_slow_is_distinguished() {
        let mut search = Search::default();
        let probe = |rate: f64| Ok::<_, ()>((if rate <= 500.0 { Verdict::Met } else { Verdict::Void }, 1.0));
        search.run(&settings(1), probe).unwrap();
        assert_eq!(search.bound, Some(Bound::Generator));
        assert_eq!(search.to_json()["bound"], "generator");
    }

    #[test]
    fn a_target_without_limit_ends_at_the_highest_rate() {
        let mut search = Search::default();
        search.run(&settings(1), limit(f64::INFINITY)).unwrap();
        assert_eq!((search.best, search.bound), (Some(1e6), Some(Bound::RateMax)));
    }

    #[test]
    fn an_objective_that_cannot_be_met_is_an_error_with_the_value_seen() {
        let error = Search::default().run(&settings(3), limit(1.0)).unwrap_err().to_string();
        assert!(error.contains("p95<5ms") && error.contains("9000.0 µs") && error.contains("--rate-min"), "{error}");
    }

    #[test]
    fn steps_are_kept_when_a_run_fails() {
        let mut search = Search::default();
        let probe = |rate: f64| if rate < 100.0 { Ok((Verdict::Met, 1.0)) } else { Err("gone") };
        assert!(matches!(search.run(&settings(1), probe), Err(SearchError::Run("gone"))));
        assert_eq!((search.best, search.bound), (Some(80.0), None));
    }

    #[test]
    fn settings_that_contradict_themselves_are_refused() {
        for (rate_min, rate_max, repeats) in [(0.0, 1.0, 1), (2.0, 1.0, 1), (1.0, 2.0, 0), (1.0, f64::NAN, 1)] {
            let settings = SearchSettings { rate_min, rate_max, repeats, ..settings(1) };
            assert!(matches!(Search::default().run(&settings, limit(1.0)), Err(SearchError::Settings(_))));
        }
    }
}
