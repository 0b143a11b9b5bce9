//! `adit explain`: the history of one call.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cli::EXIT_FAILURE;
use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{millis, plain, stopped};
use crate::cli::live_args::ExplainArgs;
use crate::cli::output::print;
use crate::cli::run::{RunError, on_control_thread};
use crate::cli::tunnel::report;
use crate::control::bodies::{AnsweredInfo, CallDecision, CallInfo, CallStageName, CallsBody, DecisionKind};
use crate::latency::Phase;

/// The most calls with one id that are explained.
const CALLS_MAX: u32 = 100;

/// Runs `adit explain` and returns the exit code.
#[must_use]
pub fn run_explain(args: &ExplainArgs, env: &BTreeMap<String, String>) -> u8 {
    on_control_thread(async {
        Ok::<u8, RunError>(match show(args, env).await {
            Ok(Some(text)) => {
                print(&text);
                0
            }
            Ok(None) => {
                eprintln!(
                    "no call with the id {} is recorded: it may have been replaced by newer calls (calls_kept), or it did not reach \
                     this process",
                    plain(&args.id)
                );
                EXIT_FAILURE
            }
            Err(error) => report(&error),
        })
    })
}

/// The text; `None` if there is no such call.
async fn show(args: &ExplainArgs, env: &BTreeMap<String, String>) -> Result<Option<String>, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let query = [("id", args.id.clone()), ("limit", CALLS_MAX.to_string())];
    let mut body: CallsBody = client.get(&["calls"], &query).await?;
    in_order(&mut body.calls);
    Ok((!body.calls.is_empty()).then(|| match args.json {
        true => format!("{:#}\n", serde_json::json!(body)),
        false => body.calls.iter().map(story).collect::<Vec<_>>().join("\n"),
    }))
}

/// Sorts calls, which arrive newest first, by time. The connector's view of a call follows that of the edge.
fn in_order(calls: &mut [CallInfo]) {
    calls.reverse();
    let ids: Vec<Option<String>> = calls.iter().map(|call| call.id.clone()).collect();
    let first_of = |id: &Option<String>| ids.iter().position(|known| known == id);
    calls.sort_by_key(|call| (first_of(&call.id), call.role));
}

/// The history of a call, in lines.
pub(super) fn story(call: &CallInfo) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes all");
    line(title(call));
    let trace = call.trace_id.as_ref().map(|trace| format!(", trace {trace}")).unwrap_or_default();
    let from = call.from.as_ref().map(|from| format!(", from {}", plain(from))).unwrap_or_default();
    line(format!("  {} at the {}{from}{trace}", call.ended_at, call.role.as_str()));
    let places =
        [("host", &call.host), ("route", &call.route), ("tunnel", &call.tunnel), ("connector", &call.connector)];
    let places = places.iter().filter_map(|(name, value)| Some(format!("{name} {}", plain(value.as_ref()?))));
    let places: Vec<String> = places.collect();
    if !places.is_empty() {
        line(format!("  {}", places.join(", ")));
    }
    for phase in Phase::ALL.iter().filter_map(|phase| Some((phase.name(), call.phases.get(phase.name())?))) {
        let (name, us) = phase;
        line(format!("    {name:<18}{:>12} ms", millis(us / 1e3)));
    }
    for CallDecision { what, rule } in &call.decisions {
        line(format!("  {:<10} {}", decision(*what), plain(rule)));
    }
    line(format!("  {}", ended(call)));
    text
}

fn title(call: &CallInfo) -> String {
    let what = match (&call.method, &call.tool) {
        (Some(method), Some(tool)) => format!("{} {}", plain(method), plain(tool)),
        (Some(method), None) => plain(method),
        (None, _) => "a call".to_owned(),
    };
    match &call.id {
        Some(id) => format!("call {id}: {what}"),
        None => "a connection that made no call".to_owned(),
    }
}

/// How it ended.
fn ended(call: &CallInfo) -> String {
    let status = call.status.map(|status| format!(" with status {status}")).unwrap_or_default();
    match (&call.answered, call.stopped_at) {
        (Some(AnsweredInfo { code, rpc_code, .. }), stage) => {
            let rpc = rpc_code.map(|code| format!(", JSON-RPC code {code}")).unwrap_or_default();
            format!("stopped at: {}{status} ({code}{rpc})", stopped(stage))
        }
        (None, CallStageName::Done) => format!("answered{status}"),
        (None, stage) => {
            let outcome = call.outcome.as_ref().map(|outcome| format!(" ({outcome})")).unwrap_or_default();
            format!("stopped at: {}{status}{outcome}", stopped(stage))
        }
    }
}

const fn decision(what: DecisionKind) -> &'static str {
    match what {
        DecisionKind::Route => "route",
        DecisionKind::Policy => "policy",
        DecisionKind::Wait => "wait",
        DecisionKind::Caller => "caller",
        DecisionKind::Breaker => "breaker",
        DecisionKind::Place => "place",
        DecisionKind::Move => "move",
        DecisionKind::Hedge => "hedge",
        DecisionKind::Deadline => "deadline",
        DecisionKind::Cancel => "cancel",
        DecisionKind::Slow => "slow",
        DecisionKind::Refuse => "answer",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::RoleKind;

    /// A call that was ended by its deadline.
    pub(in crate::cli) fn call() -> CallInfo {
        let text = |text: &str| Some(text.to_owned());
        CallInfo {
            id: text("1f3"),
            trace_id: text("4bf92f3577b34da6a3ce929d0e0e4736"),
            role: RoleKind::Edge,
            ended_at: "2026-11-29T10:00:00Z".to_owned(),
            age_s: 2.0,
            from: text("192.0.2.7"),
            host: text("demo.test"),
            route: text("demo"),
            tunnel: text("tnl_demo"),
            connector: text("000000000000002a"),
            method: text("tools/call"),
            tool: text("sea\u{1b}[2Jrch"),
            status: Some(504),
            outcome: text("timed_out"),
            stopped_at: CallStageName::Upstream,
            answered: Some(AnsweredInfo {
                code: "deadline".to_owned(),
                rpc_code: Some(-31_019),
                message: "the server took longer".to_owned(),
            }),
            phases: [("tunnel".to_owned(), 52.3), ("total".to_owned(), 3_000_000.0)].into(),
            decisions: vec![CallDecision {
                what: DecisionKind::Deadline,
                rule: "3 s, enforced: it was cut".to_owned(),
            }],
        }
    }

    #[test]
    fn a_story_goes_from_the_caller_to_the_end() {
        let expected = "\
call 1f3: tools/call sea\\u{1b}[2Jrch
  2026-11-29T10:00:00Z at the edge, from 192.0.2.7, trace 4bf92f3577b34da6a3ce929d0e0e4736
  host demo.test, route demo, tunnel tnl_demo, connector 000000000000002a
    tunnel                    0.05 ms
    total                     3000 ms
  deadline   3 s, enforced: it was cut
  stopped at: server with status 504 (deadline, JSON-RPC code -31019)
";
        assert_eq!(story(&call()), expected);
    }

    #[test]
    fn the_connectors_part_follows_the_edges() {
        let of = |id: &str, role| CallInfo { id: Some(id.to_owned()), role, ..call() };
        let (edge, connector) = (RoleKind::Edge, RoleKind::Connector);
        let mut calls = vec![of("a", edge), of("9", edge), of("a", connector), of("9", connector)];
        in_order(&mut calls);
        let seen: Vec<_> = calls.iter().map(|call| (call.id.as_deref().unwrap(), call.role)).collect();
        assert_eq!(seen, [("9", edge), ("9", connector), ("a", edge), ("a", connector)]);
    }

    #[test]
    fn the_end_of_a_call_names_the_side_that_ended_it() {
        let answered = CallInfo { answered: None, stopped_at: CallStageName::Done, status: Some(200), ..call() };
        assert_eq!(ended(&answered), "answered with status 200");
        let gone = CallInfo { outcome: Some("agent_gone".to_owned()), stopped_at: CallStageName::Caller, ..answered };
        assert_eq!(ended(&gone), "stopped at: agent with status 200 (agent_gone)");
        assert_eq!(title(&CallInfo { id: None, ..call() }), "a connection that made no call");
    }
}
