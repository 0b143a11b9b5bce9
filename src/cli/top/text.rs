//! The cells and lines of `adit top`, for the screen and for plain text.

use std::collections::BTreeSet;

use crate::cli::call_text::{NONE, breaker_state, millis, plain, stopped};
use crate::cli::table::Table;
use crate::cli::top::state::{ToolRow, TopState, is_failed, is_slow};
use crate::control::bodies::{CallInfo, LinkStatus, OfRole, PhaseTimes};
use crate::latency::Phase;

/// The most lines of a table of plain text.
const ROWS_MAX: usize = 20;

/// The state of the process on one line.
pub(super) fn process_line(state: &TopState) -> String {
    let Some(status) = &state.status else { return "asking the process".to_owned() };
    let hosts: BTreeSet<&str> = status.routes.iter().map(|route| route.of.host.as_str()).collect();
    let roles: Vec<&str> = status.roles.iter().map(|role| role.as_str()).collect();
    let open =
        status.breakers.iter().filter(|breaker| breaker.of.state != crate::control::bodies::BreakerStateName::Closed);
    format!(
        "adit {}  {}  up {}  {}  links {}  routes {}  breakers open {}",
        plain(&status.version),
        roles.join("+"),
        duration(status.uptime_s),
        plain(&status.driver.name),
        status.links.len(),
        hosts.len(),
        open.count(),
    )
}

/// All calls on one line.
pub(super) fn total_line(state: &TopState) -> String {
    let rates = state.rates.map_or_else(
        || "calls/s -  failed/s -".to_owned(),
        |(calls, failed)| format!("calls/s {}  failed/s {}", rate(calls), rate(failed)),
    );
    let phase = |phase: Phase| times(state.total.phases.get(phase.name()));
    format!("{rates}  tunnel {}  server {} ms", phase(Phase::Tunnel), phase(Phase::Upstream))
}

/// The cells of a tool: name, route, calls per second, failures, tunnel, server, breaker.
pub(super) fn tool_cells(row: &ToolRow) -> [String; 7] {
    [
        plain(&row.what),
        plain(&row.route),
        row.per_second.map_or_else(|| NONE.to_owned(), rate),
        row.errors.to_string(),
        times(row.tunnel.as_ref()),
        times(row.server.as_ref()),
        row.breaker.map_or(String::new(), |state| breaker_state(state).to_owned()),
    ]
}

/// The heads of these columns.
pub(super) const TOOL_HEADS: [&str; 7] =
    ["TOOL", "ROUTE", "CALLS/S", "ERR", "TUNNEL p50/95/99", "SERVER p50/95/99", "BREAKER"];

/// The cells of a call: age, number, tool, status, time, where it stopped, phases.
pub(super) fn call_cells(call: &CallInfo) -> [String; 7] {
    let what = call.tool.as_ref().or(call.method.as_ref()).map_or_else(|| NONE.to_owned(), |what| plain(what));
    let total = call.phases.get("total_last").or_else(|| call.phases.get("total"));
    let why = call.answered.as_ref().map(|answered| answered.code.clone());
    let why = why.or_else(|| call.outcome.clone().filter(|outcome| outcome != "ok"));
    let end = match (is_failed(call), why) {
        (true, Some(why)) => format!("{}: {}", stopped(call.stopped_at), plain(&why)),
        (true, None) => stopped(call.stopped_at).to_owned(),
        (false, _) if is_slow(call) => "slow".to_owned(),
        (false, _) => "ok".to_owned(),
    };
    [
        format!("{:.0}s", call.age_s),
        call.id.as_ref().map_or_else(|| NONE.to_owned(), |id| plain(id)),
        what,
        call.status.map_or_else(|| NONE.to_owned(), |status| status.to_string()),
        total.map_or_else(|| NONE.to_owned(), |us| millis(us / 1e3)),
        end,
        phases(call),
    ]
}

/// The heads of these columns.
pub(super) const CALL_HEADS: [&str; 7] = ["AGO", "ID", "TOOL", "STATUS", "MS", "ENDED", "EDGE/TUNNEL/CONN/SERVER ms"];

/// The times of the phases of a call, in its order.
fn phases(call: &CallInfo) -> String {
    let of = |phase: Phase| call.phases.get(phase.name()).map_or_else(|| NONE.to_owned(), |us| millis(us / 1e3));
    [Phase::Edge, Phase::Tunnel, Phase::Connector, Phase::Upstream].map(of).join("/")
}

/// The cells of a link: number, tunnel, peer, round trip, streams, age.
pub(super) fn link_cells(OfRole { role, of }: &OfRole<LinkStatus>) -> [String; 6] {
    let LinkStatus { id, tunnel, peer, connector, streams, round_trip_us, age_s, draining, .. } = of;
    let peer = connector.as_ref().map_or_else(|| plain(peer), |connector| plain(connector));
    [
        format!("{} {id}", role.as_str()),
        plain(tunnel),
        if *draining { format!("{peer} (draining)") } else { peer },
        round_trip_us.map_or_else(|| NONE.to_owned(), |us| millis(us / 1e3)),
        streams.to_string(),
        duration(*age_s),
    ]
}

/// The heads of these columns.
pub(super) const LINK_HEADS: [&str; 6] = ["LINK", "TUNNEL", "PEER", "RTT ms", "STREAMS", "UP"];

/// One sample as text, for what is no terminal.
pub(super) fn sample_text(state: &TopState) -> String {
    let mut tools = Table::new(TOOL_HEADS);
    state.rows().into_iter().take(ROWS_MAX).for_each(|row| tools.row(tool_cells(row)));
    let mut links = Table::new(LINK_HEADS);
    state.links().iter().take(ROWS_MAX).for_each(|link| links.row(link_cells(link)));
    let mut calls = Table::new(CALL_HEADS);
    state.remarkable().take(ROWS_MAX).for_each(|call| calls.row(call_cells(call)));
    format!(
        "{}\n{}\n\n{}\n{}\nslow and failed calls\n{}\n",
        process_line(state),
        total_line(state),
        tools.text("no calls yet"),
        links.text("no links"),
        calls.text("none"),
    )
}

/// Three quantiles in milliseconds.
fn times(times: Option<&PhaseTimes>) -> String {
    times.map_or_else(
        || NONE.to_owned(),
        |times| [times.p50_us, times.p95_us, times.p99_us].map(|us| millis(us / 1e3)).join("/"),
    )
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 100.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0}s"),
        s if s < 6_000.0 => format!("{:.0}m", s / 60.0),
        s if s < 360_000.0 => format!("{:.0}h", s / 3_600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::state_tests::sample;

    #[test]
    fn a_sample_as_text_has_the_tools_the_links_and_the_calls_that_matter() {
        let mut state = TopState::new();
        assert!(sample_text(&state).contains("no calls yet"));
        state.sampled(sample(0, 100));
        state.sampled(sample(2, 150));
        let text = sample_text(&state);
        assert!(
            text.starts_with("adit 0.1.0  edge  up 62m  uring  links 1  routes 0  breakers open 0\ncalls/s 25.0"),
            "{text}"
        );
        for part in
            ["search", "25.0", "0.04/0.09/0.14", "1.20/2.40/3.60", "open", "tnl_demo", "build-7", "server: deadline"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "nothing controls the terminal");
    }
}
