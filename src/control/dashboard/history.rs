//! The times of calls over time: what was measured between two samples, and the last of these intervals.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::base::Time;
use crate::control::report::micros;
use crate::control::wall_time::WallTime;
use crate::latency::{Distribution, Label, LabelFigures, Outcome, Phase, Snapshot};

/// The intervals that are kept: with one every two seconds, a quarter of an hour.
pub(super) const INTERVALS_MAX: usize = 450;
/// The labels with figures of their own in each interval: those with the most calls. A label takes 50 KiB between two samples, and
/// some 150 bytes in each interval.
pub(super) const LABELS_MAX: usize = 16;

/// The calls that ended in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct IntervalFigures {
    calls: u64,
    failed: u64,
    tunnel: Option<Spread>,
    upstream: Option<Spread>,
}

/// Two quantiles of a phase, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    p50_us: f64,
    p95_us: f64,
}

/// One interval, with its busiest labels.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Interval {
    at_ms: i64,
    seconds: f64,
    total: IntervalFigures,
    labels: Vec<IntervalOfLabel>,
}

#[derive(Clone, Debug, Serialize)]
struct IntervalOfLabel {
    route: Box<str>,
    method: Box<str>,
    tool: Box<str>,
    #[serde(flatten)]
    figures: IntervalFigures,
}

/// The intervals of all calls, or of one label, as columns; the oldest first.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Series {
    at_ms: Vec<i64>,
    calls_per_s: Vec<f64>,
    failed_per_s: Vec<f64>,
    tunnel_p50_us: Vec<Option<f64>>,
    tunnel_p95_us: Vec<Option<f64>>,
    upstream_p50_us: Vec<Option<f64>>,
    upstream_p95_us: Vec<Option<f64>>,
}

/// The last intervals, the oldest first.
#[derive(Default)]
pub(super) struct History {
    before: Option<Before>,
    intervals: VecDeque<Interval>,
}

/// The state at the last sample.
struct Before {
    at: Time,
    total: Figures,
    labels: HashMap<Label, Figures>,
}

/// What has been measured since the start.
struct Figures {
    calls: u64,
    ok: u64,
    tunnel: Distribution,
    upstream: Distribution,
}

impl History {
    /// Adds the interval that ends now, and returns it; `None` for the first sample.
    pub(super) fn add(&mut self, snapshot: &Snapshot, now: Time, wall: WallTime) -> Option<&Interval> {
        let mut labels: Vec<_> = snapshot.labels().collect();
        labels.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.calls()));
        labels.truncate(LABELS_MAX);
        let total = Figures::of(snapshot.total());
        let labels = labels.into_iter().map(|(label, figures)| (label.clone(), Figures::of(figures))).collect();
        let current = Before { at: now, total, labels };
        let before = self.before.replace(current)?;
        let current = self.before.as_ref()?;
        let mut of_labels: Vec<IntervalOfLabel> = current
            .labels
            .iter()
            .filter_map(|(label, figures)| {
                let figures = figures.since(before.labels.get(label)?);
                let Label { route, method, tool } = label.clone();
                Some(IntervalOfLabel { route, method, tool, figures })
            })
            .collect();
        of_labels.retain(|label| label.figures.calls > 0);
        let interval = Interval {
            at_ms: wall.0,
            seconds: (current.at - before.at).as_secs_f64(),
            total: current.total.since(&before.total),
            labels: of_labels,
        };
        self.push(interval);
        self.intervals.back()
    }

    fn push(&mut self, interval: Interval) {
        if self.intervals.len() == INTERVALS_MAX {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
    }

    /// Forgets the last sample, so that the time until the next one is no interval.
    pub(super) fn pause(&mut self) {
        self.before = None;
    }

    /// The intervals of all calls, or of one label.
    pub(super) fn series(&self, label: Option<&Label>) -> Series {
        let mut series = Series::default();
        for interval in &self.intervals {
            series.add(interval, &label.map_or(interval.total, |label| interval.of(label)));
        }
        series
    }
}

impl Interval {
    fn of(&self, label: &Label) -> IntervalFigures {
        let is_it =
            |of: &&IntervalOfLabel| (&of.route, &of.method, &of.tool) == (&label.route, &label.method, &label.tool);
        self.labels.iter().find(is_it).map(|of| of.figures).unwrap_or_default()
    }
}

impl Series {
    /// The number of intervals.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.at_ms.len()
    }

    fn add(&mut self, interval: &Interval, figures: &IntervalFigures) {
        let per_s = |count: u64| if interval.seconds > 0.0 { count as f64 / interval.seconds } else { 0.0 };
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        self.at_ms.push(interval.at_ms);
        self.calls_per_s.push(tenths(per_s(figures.calls)));
        self.failed_per_s.push(tenths(per_s(figures.failed)));
        self.tunnel_p50_us.push(figures.tunnel.map(|spread| spread.p50_us));
        self.tunnel_p95_us.push(figures.tunnel.map(|spread| spread.p95_us));
        self.upstream_p50_us.push(figures.upstream.map(|spread| spread.p50_us));
        self.upstream_p95_us.push(figures.upstream.map(|spread| spread.p95_us));
    }
}

impl Figures {
    fn of(figures: &LabelFigures) -> Figures {
        Figures {
            calls: figures.calls(),
            ok: figures.outcome(Outcome::Ok),
            tunnel: figures.phase(Phase::Tunnel).clone(),
            upstream: figures.phase(Phase::Upstream).clone(),
        }
    }

    fn since(&self, before: &Figures) -> IntervalFigures {
        let (calls, ok) = (self.calls.saturating_sub(before.calls), self.ok.saturating_sub(before.ok));
        IntervalFigures {
            calls,
            failed: calls.saturating_sub(ok),
            tunnel: Spread::of(&self.tunnel.since(&before.tunnel)),
            upstream: Spread::of(&self.upstream.since(&before.upstream)),
        }
    }
}

impl Spread {
    fn of(distribution: &Distribution) -> Option<Spread> {
        let quantile = |q| micros(distribution.quantile(q));
        (distribution.count() > 0).then(|| Spread { p50_us: quantile(0.50), p95_us: quantile(0.95) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::{CallPhases, ConnectorTimes, EdgeTimes, LatencySettings, Recorder};

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    fn record(recorder: &mut Recorder, tool: &str, ms: u64, outcome: Outcome) {
        let label = recorder.label("r", "tools/call", tool);
        let edge = EdgeTimes { is_handed_over: true, total: Duration::from_millis(ms + 1), ..EdgeTimes::default() };
        let far = ConnectorTimes { upstream: Duration::from_millis(ms), ..ConnectorTimes::default() };
        recorder.record(label, &CallPhases::split(edge, Some(far)), outcome);
    }

    fn label(tool: &str) -> Label {
        Label { route: "r".into(), method: "tools/call".into(), tool: tool.into() }
    }

    #[test]
    fn an_interval_has_only_the_calls_that_ended_in_it() {
        let (mut history, mut recorder) = (History::default(), Recorder::new(LatencySettings::default()));
        record(&mut recorder, "a", 900, Outcome::Ok);
        assert!(history.add(&recorder.snapshot(), at(0), WallTime(0)).is_none());
        record(&mut recorder, "a", 10, Outcome::Ok);
        record(&mut recorder, "a", 10, Outcome::TimedOut);
        record(&mut recorder, "new", 10, Outcome::Ok);
        let interval = history.add(&recorder.snapshot(), at(2), WallTime(2_000)).unwrap();
        assert_eq!((interval.total.calls, interval.total.failed, interval.seconds), (3, 1, 2.0));
        assert!(interval.total.upstream.is_some_and(|spread| spread.p95_us < 11_000.0), "{interval:?}");
        assert!(interval.total.tunnel.is_some_and(|spread| spread.p50_us < 1_100.0), "{interval:?}");
        history.add(&recorder.snapshot(), at(4), WallTime(4_000)).unwrap();

        let (all, a) = (history.series(None), history.series(Some(&label("a"))));
        assert_eq!((&*all.calls_per_s, &*all.failed_per_s), (&[1.5, 0.0][..], &[0.5, 0.0][..]));
        assert_eq!((&*a.calls_per_s, a.upstream_p50_us[1]), (&[1.0, 0.0][..], None));
        assert_eq!(history.series(Some(&label("none"))).calls_per_s, [0.0, 0.0]);
        history.pause();
        assert!(history.add(&recorder.snapshot(), at(60), WallTime(60_000)).is_none());
    }

    #[test]
    fn intervals_and_labels_are_bounded() {
        let (mut history, mut recorder) = (History::default(), Recorder::new(LatencySettings::default()));
        for tool in 0..LABELS_MAX + 5 {
            (0..=tool).for_each(|_| record(&mut recorder, &tool.to_string(), 1, Outcome::Ok));
        }
        history.add(&recorder.snapshot(), at(0), WallTime(0));
        let kept = &history.before.as_ref().unwrap().labels;
        assert!(kept.len() == LABELS_MAX && kept.contains_key(&label("20")) && !kept.contains_key(&label("0")));

        for at_ms in 0..INTERVALS_MAX as i64 + 10 {
            history.push(Interval { at_ms, seconds: 2.0, total: IntervalFigures::default(), labels: Vec::new() });
        }
        assert_eq!((history.intervals.len(), history.intervals[0].at_ms), (INTERVALS_MAX, 10));
    }
}
