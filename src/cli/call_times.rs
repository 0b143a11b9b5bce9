//! The table of call times that `adit up` shows.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::control::{CallTimes, OnceReport, Report, micros};
use crate::latency::{Distribution, LabelFigures, Phase};

/// The displayed phases and their total.
const SHOWN: [Phase; 5] = [Phase::Edge, Phase::Tunnel, Phase::Connector, Phase::Upstream, Phase::Total];
/// The JSON-RPC method of a tool call.
const TOOL_CALL: &str = "tools/call";

/// The figures of tool calls only, without the requests that open a session and without probes.
pub(super) fn tool_calls(report: &Report) -> LabelFigures {
    let mut figures = LabelFigures::new();
    if let Some(CallTimes { snapshot, .. }) = &report.latency {
        let labels = snapshot.labels().filter(|(label, _)| &*label.method == TOOL_CALL);
        labels.for_each(|(_, of_label)| figures.merge(of_label));
    }
    figures
}

/// The JSON object of `adit up --once --json`.
pub(super) fn once_json(once: &OnceReport, figures: &LabelFigures, report: &Report) -> Value {
    let phases: Map<String, Value> = SHOWN
        .iter()
        .map(|phase| {
            let [p50, p95, p99, max] = quantiles(figures.phase(*phase)).map(micros);
            (phase.name().to_owned(), json!({ "p50_us": p50, "p95_us": p95, "p99_us": p99, "max_us": max }))
        })
        .collect();
    json!({
        "calls": once.calls,
        "failed": once.failed,
        "driver": report.facts.driver,
        "agent_url": report.facts.agent_url,
        "admin_url": report.facts.admin_url,
        "phases": phases,
    })
}

/// The same data as a table for people.
pub(super) fn once_table(once: &OnceReport, tool: &str, figures: &LabelFigures, report: &Report) -> String {
    let mut text = format!(
        "{} calls of the tool {tool} through the tunnel, {} failed, driver {}\n\n{:<18}{:>10}{:>10}{:>10}{:>10}\n",
        once.calls, once.failed, report.facts.driver, "microseconds", "p50", "p95", "p99", "max"
    );
    for phase in SHOWN {
        let row = quantiles(figures.phase(phase)).map(|at| format!("{:.1}", micros(at)));
        let [p50, p95, p99, max] = &row;
        writeln!(text, "{:<18}{p50:>10}{p95:>10}{p99:>10}{max:>10}", phase.name()).expect("a String takes all");
    }
    if let Some(error) = &once.first_error {
        writeln!(text, "\nthe first failure: {error}").expect("a String takes all");
    }
    text
}

/// The line that `adit up` rewrites in place.
pub(super) fn live_line(figures: &LabelFigures) -> String {
    let pair = |phase: Phase| {
        let [p50, p95, ..] = quantiles(figures.phase(phase)).map(|at| format!("{:.0}", micros(at)));
        format!("{} p50 {p50} µs p95 {p95} µs", phase.name())
    };
    match figures.calls() {
        0 => "no calls yet".to_owned(),
        calls => format!("calls {calls} | {} | {}", pair(Phase::Tunnel), pair(Phase::Upstream)),
    }
}

/// The same data as fields of an event.
pub(super) fn live_json(figures: &LabelFigures) -> Value {
    let phase = |phase: Phase| {
        let [p50, p95, ..] = quantiles(figures.phase(phase)).map(micros);
        json!({ "p50_us": p50, "p95_us": p95 })
    };
    json!({ "calls": figures.calls(), "tunnel": phase(Phase::Tunnel), "upstream": phase(Phase::Upstream) })
}

fn quantiles(distribution: &Distribution) -> [Duration; 4] {
    [distribution.quantile(0.50), distribution.quantile(0.95), distribution.quantile(0.99), distribution.max()]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::{ProcessFacts, Reloads, RoleKind};
    use crate::latency::{CallPhases, ConnectorTimes, EdgeTimes, LatencySettings, Outcome, Recorder};

    fn report() -> Report {
        let mut recorder = Recorder::new(LatencySettings::default());
        let (call, list) = (recorder.label("demo", "tools/call", "echo"), recorder.label("demo", "tools/list", ""));
        let us = Duration::from_micros;
        let edge = EdgeTimes { edge: us(10), total: us(100), total_last: Some(us(100)), ..EdgeTimes::default() };
        let far = ConnectorTimes { connector: us(12), upstream: us(50), ..ConnectorTimes::default() };
        recorder.record(call, &CallPhases::split(edge, Some(far)), Outcome::Ok);
        recorder.record(list, &CallPhases::split(EdgeTimes { total: us(9_000), ..edge }, Some(far)), Outcome::Ok);
        let latency = Some(CallTimes { measured_by: RoleKind::Edge, snapshot: Arc::new(recorder.snapshot()) });
        let facts = ProcessFacts {
            driver: "epoll".to_owned(),
            agent_url: Some("https://localhost:1/mcp".to_owned()),
            ..ProcessFacts::default()
        };
        let (uptime, reloads) = (Duration::ZERO, Reloads::default());
        Report {
            facts: Arc::new(facts),
            uptime,
            draining: false,
            roles: Vec::new(),
            latency,
            reloads,
            tools: Vec::new(),
            approvals: None,
            dashboard: Default::default(),
            otlp: None,
        }
    }

    #[test]
    fn the_object_has_the_promised_shape_and_counts_tool_calls_alone() {
        let (report, once) = (report(), OnceReport { calls: 1, failed: 0, first_error: None });
        let object = once_json(&once, &tool_calls(&report), &report);
        let phase = |us: f64| json!({ "p50_us": us, "p95_us": us, "p99_us": us, "max_us": us });
        assert_eq!(
            object,
            json!({
                "calls": 1, "failed": 0, "driver": "epoll", "agent_url": "https://localhost:1/mcp", "admin_url": null,
                "phases": {
                    "edge": phase(10.0), "tunnel": phase(28.0), "connector": phase(12.0), "upstream": phase(50.0),
                    "total": phase(100.0),
                },
            })
        );
    }

    #[test]
    fn the_table_and_the_line_say_the_same() {
        let (report, once) = (report(), OnceReport { calls: 1, failed: 1, first_error: Some("no".to_owned()) });
        let figures = tool_calls(&report);
        let table = once_table(&once, "echo", &figures, &report);
        let row = table.lines().find(|line| line.starts_with("tunnel")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["tunnel", "28.0", "28.0", "28.0", "28.0"]);
        assert!(table.ends_with("the first failure: no\n"));
        assert_eq!(live_line(&figures), "calls 1 | tunnel p50 28 µs p95 28 µs | upstream p50 50 µs p95 50 µs");
        assert_eq!(live_line(&LabelFigures::new()), "no calls yet");
        assert_eq!(live_json(&figures)["tunnel"]["p50_us"], 28.0);
    }
}
