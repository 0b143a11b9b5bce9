//! `adit latency`.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{NONE, breaker_state, millis, mode_name, plain};
use crate::cli::live_args::LatencyArgs;
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{CallTimesOfLabel, DeadlineOfLabel, DeadlineWhy, LatencyBody, PhaseTimes};
use crate::latency::Phase;

/// Runs `adit latency` and returns the exit code.
#[must_use]
pub fn run_latency(args: &LatencyArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(show(args, env))
}

async fn show(args: &LatencyArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let query: Vec<(&str, String)> = args.route.iter().map(|route| ("route", route.clone())).collect();
    let body: LatencyBody = client.get(&["latency"], &query).await?;
    Ok(if args.json { format!("{:#}\n", serde_json::json!(body)) } else { table(&body) })
}

fn table(body: &LatencyBody) -> String {
    let mut table = Table::new([
        "ROUTE",
        "METHOD",
        "TOOL",
        "CALLS",
        "TUNNEL p50/p95/p99",
        "SERVER p50/p95/p99",
        "DEADLINE",
        "WHY",
        "MODE",
        "MISSED",
        "CUT",
        "BREAKER",
        "RETRIES",
        "HEDGES",
    ]);
    for label in &body.labels {
        let CallTimesOfLabel { route, method, tool, times, retries, hedges, hedges_won, breaker, deadline } = label;
        let quantiles = |phase: Phase| times.phases.get(phase.name()).map_or_else(|| NONE.to_owned(), quantiles);
        let of_deadline =
            |show: fn(&DeadlineOfLabel) -> String| deadline.as_ref().map_or_else(|| NONE.to_owned(), show);
        table.row([
            plain(route),
            plain(method),
            if tool.is_empty() { NONE.to_owned() } else { plain(tool) },
            times.calls.to_string(),
            quantiles(Phase::Tunnel),
            quantiles(Phase::Upstream),
            of_deadline(|deadline| deadline.limit_ms.map_or_else(|| "none".to_owned(), millis)),
            of_deadline(|deadline| why(deadline).to_owned()),
            of_deadline(|deadline| mode_name(deadline.mode).to_owned()),
            of_deadline(|deadline| deadline.missed.to_string()),
            of_deadline(|deadline| deadline.cut.to_string()),
            breaker.map_or(NONE, breaker_state).to_owned(),
            retries.to_string(),
            if *hedges == 0 { "0".to_owned() } else { format!("{hedges}/{hedges_won}") },
        ]);
    }
    table.text("no calls yet")
}

fn quantiles(times: &PhaseTimes) -> String {
    [times.p50_us, times.p95_us, times.p99_us].map(|us| millis(us / 1e3)).join("/")
}

const fn why(deadline: &DeadlineOfLabel) -> &'static str {
    match deadline.why {
        DeadlineWhy::Cold => "too few calls",
        DeadlineWhy::Learned => "learned",
        DeadlineWhy::Floor => "floor",
        DeadlineWhy::Ceiling => "ceiling",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::bodies::{BreakerStateName, CallTimesSummary, GuardModeName};

    #[test]
    fn a_row_has_the_times_of_tunnel_and_server_and_the_deadline() {
        let us = |p50_us: f64| PhaseTimes {
            count: 2,
            mean_us: 1.0,
            p50_us,
            p95_us: 12_345.6,
            p99_us: 123_456.7,
            max_us: 1.0,
        };
        let phases = [("tunnel", us(45.0)), ("upstream", us(1_000.0))].map(|(name, times)| (name.to_owned(), times));
        let times = CallTimesSummary { calls: 2, phases: phases.into(), ..CallTimesSummary::default() };
        let deadline = DeadlineOfLabel {
            mode: GuardModeName::Enforce,
            limit_ms: Some(3_199.2),
            why: DeadlineWhy::Learned,
            p50_ms: Some(1_900.0),
            p95_ms: Some(2_132.8),
            missed: 4,
            cut: 5,
        };
        let label = |tool: &str, deadline: Option<DeadlineOfLabel>| CallTimesOfLabel {
            route: "a.test".to_owned(),
            method: "tools/call".to_owned(),
            tool: tool.to_owned(),
            times: times.clone(),
            retries: 3,
            hedges: 12,
            hedges_won: 5,
            breaker: deadline.as_ref().map(|_| BreakerStateName::HalfOpen),
            deadline,
        };
        let body = LatencyBody {
            measured_by: None,
            route: None,
            total: CallTimesSummary::default(),
            labels: vec![label("se\u{1b}[2Jarch", Some(deadline)), label("", None)],
            over_cap: 0,
        };
        let text = table(&body);
        let cells: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(
            cells[1],
            [
                "a.test",
                "tools/call",
                "se\\u{1b}[2Jarch",
                "2",
                "0.04/12.3/123",
                "1.00/12.3/123",
                "3199",
                "learned",
                "enforce",
                "4",
                "5",
                "half open",
                "3",
                "12/5"
            ]
        );
        assert_eq!(cells[2][2], NONE);
        assert_eq!(cells[2][6..12], [NONE; 6]);
        let nothing = LatencyBody { labels: Vec::new(), ..body };
        assert_eq!(table(&nothing), "no calls yet\n");
    }
}
