//! The last calls of a role's cores, and their representation in `GET /v1/calls`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::control::bodies::{AnsweredInfo, CallDecision, CallInfo, CallStageName, DecisionKind};
use crate::control::reading::{RoleKind, connector_name};
use crate::control::report::{micros, millis, seconds};
use crate::control::wall_time::WallTime;
use crate::engine::{MailSender, mailbox};
use crate::exchange::CallFailure;
use crate::latency::{
    CallFilter, CallLimit, CallLine, CallStage, CallerTimeSource, DeadlineReason, Label, OTHER, Outcome, OwnAnswer,
    Phase, PolicyMark, SentAgain, answer_within,
};

/// Requests the last calls from `cores` cores with `ask`, and waits at most `wait`. The calls of a core that is late
/// are left out.
pub(super) async fn read(wait: Duration, cores: usize, ask: impl Fn(&MailSender<Vec<CallLine>>)) -> Vec<CallLine> {
    let (reply, mut answers) = mailbox(cores);
    ask(&reply);
    drop(reply);
    let mut lines = Vec::new();
    let gathered = timeout(wait, async {
        while let Some(of_core) = answers.recv().await {
            lines.extend(of_core);
        }
    });
    // After a timeout, whatever has arrived is used.
    let _ = gathered.await;
    lines
}

/// The newest calls of all roles, up to the limit of the filter.
pub(super) fn newest(filter: &Arc<CallFilter>, read: Vec<(RoleKind, Vec<CallLine>)>) -> Vec<CallInfo> {
    let mut lines: Vec<(RoleKind, CallLine)> =
        read.into_iter().flat_map(|(role, lines)| lines.into_iter().map(move |line| (role, line))).collect();
    lines.sort_by_key(|(_, line)| line.age);
    lines.truncate(filter.limit);
    let now = WallTime::now();
    lines.iter().map(|(role, line)| CallInfo::of(*role, line, now)).collect()
}

impl CallInfo {
    fn of(role: RoleKind, line: &CallLine, now: WallTime) -> CallInfo {
        let CallLine { record, age, label, route, tunnel, .. } = line;
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty() && *text != OTHER);
        let of_label = |part: fn(&Label) -> &str| label.as_ref().and_then(|label| some(part(label)));
        let phases =
            Phase::ALL.iter().filter_map(|phase| Some((phase.name().to_owned(), micros(record.time(*phase)?))));
        CallInfo {
            id: (record.number > 0).then(|| format!("{:x}", record.number)),
            trace_id: record.trace.map(|trace| trace.to_string()),
            role,
            ended_at: now.before(*age).to_string(),
            age_s: seconds(*age),
            from: record.peer.map(|peer| peer.to_string()),
            host: some(record.host.as_str()),
            route: of_label(|label| &label.route).or_else(|| route.clone()),
            tunnel: tunnel.clone(),
            connector: record.connector.map(|number| connector_name(number.get())),
            method: of_label(|label| &label.method),
            tool: of_label(|label| &label.tool),
            status: Some(record.status).filter(|status| *status > 0),
            outcome: record.outcome.map(|outcome| outcome.name().to_owned()),
            stopped_at: record.stage.into(),
            answered: record.own.map(|own| AnsweredInfo {
                code: own.code.to_owned(),
                rpc_code: Some(own.rpc_code).filter(|code| *code != 0),
                message: own.message.to_owned(),
            }),
            phases: phases.collect(),
            decisions: decisions(line),
        }
    }
}

/// The decisions about a call, in order.
fn decisions(line: &CallLine) -> Vec<CallDecision> {
    let CallLine { record, route, tunnel, rule, .. } = line;
    let mut found = Vec::new();
    let mut add = |what, rule: String| found.push(CallDecision { what, rule });
    if let Some(route) = route {
        let to = tunnel.as_ref().map(|tunnel| format!(" of tunnel {tunnel}")).unwrap_or_default();
        add(DecisionKind::Route, format!("the host has the route {route}{to}"));
    }
    if let Some((waits, source)) = record.caller() {
        add(DecisionKind::Caller, of_caller(waits, source));
    }
    if let Some(mark) = record.policy {
        add(DecisionKind::Policy, of_policy(mark, rule.as_deref(), record.outcome == Some(Outcome::Denied)));
    }
    if record.is_probe() {
        add(DecisionKind::Breaker, "a breaker that was open let it through as a probe (breaker_open_ms)".to_owned());
    }
    if !record.queued().is_zero() {
        let queued = text(record.queued());
        add(
            DecisionKind::Wait,
            format!("it waited {queued} for a place among the calls of its route (concurrency_limit)"),
        );
    }
    if let Some((in_flight, limit)) = record.place() {
        add(DecisionKind::Place, of_place(record.outcome, in_flight, limit, record.is_over_share()));
    }
    if !record.waited().is_zero() {
        add(DecisionKind::Wait, format!("it waited {} for a connector", text(record.waited())));
    }
    match record.again {
        Some(SentAgain::NotPassedOn { failure, connector, last, paused }) => {
            let text = moved([failure, last], &connector_name(connector), record.retries(), paused.get());
            add(DecisionKind::Move, text);
        }
        Some(SentAgain::Resent { is_unread, paused }) => {
            add(DecisionKind::Move, resent(is_unread, record.retries(), paused.get()));
        }
        Some(SentAgain::Slow { connector, after, won }) => {
            add(DecisionKind::Hedge, tried_again(&connector_name(connector), after.get(), won));
        }
        None if record.retries() > 0 => {
            let how_often = times(record.retries());
            add(
                DecisionKind::Move,
                format!("its link stalled before any of it was sent: it was opened again {how_often} (retries_max)"),
            );
        }
        None => {}
    }
    if let Some(limit) = &record.deadline {
        add(DecisionKind::Deadline, of_limit(limit, record.missed));
    }
    if record.was_cancelled() {
        add(DecisionKind::Cancel, "it was cut off, and the server was sent notifications/cancelled".to_owned());
    }
    if record.slow {
        add(
            DecisionKind::Slow,
            "it took longer than slow_call_ms, and longer than calls of its tool usually take".to_owned(),
        );
    }
    if let Some(OwnAnswer { code, message, .. }) = record.own {
        add(DecisionKind::Refuse, format!("{code}: {message}"));
    }
    found
}

fn of_policy(mark: PolicyMark, rule: Option<&str>, is_denied: bool) -> String {
    let what = if is_denied { "denied" } else { "allowed" };
    let by = match (mark.rule(), rule) {
        (None, _) if is_denied => "as no rule allows it".to_owned(),
        (None, _) => "as no rule denies it".to_owned(),
        (Some(_), Some(name)) => format!("by the rule {name}"),
        (Some(index), None) => format!("by rule {} of its file", index + 1),
    };
    format!("{what} {by} (policy {:04x}…)", mark.policy)
}

/// How the call was reopened: why the first and the last connector did not pass it on, and how long the pauses were.
fn moved([first, last]: [CallFailure; 2], connector: &str, retries: u8, paused: Duration) -> String {
    let code = |failure: CallFailure| failure.own_answer(None).code;
    let mut text = format!("connector {connector} did not pass it on ({}): another connector was tried", code(first));
    if retries > 1 {
        text.push_str(&format!(", {} in all (retries_max){}", times(retries), after_pauses(paused)));
    }
    if last != first {
        text.push_str(&format!("; the last one that did not pass it on: {}", code(last)));
    }
    text
}

fn resent(is_unread: bool, retries: u8, paused: Duration) -> String {
    let why = match is_unread {
        true => "nothing of it had reached the server",
        false => {
            "the server closed an idle connection without an answer, and the call may run twice (because of its method, or resend)"
        }
    };
    format!("{why}: it was sent again {}{} (retries_max)", times(retries), after_pauses(paused))
}

fn after_pauses(paused: Duration) -> String {
    if paused.is_zero() { String::new() } else { format!(", after pauses of {}", text(paused)) }
}

fn of_caller(waits: Duration, source: CallerTimeSource) -> String {
    let source_name = match source {
        CallerTimeSource::Field => "X-Request-Timeout or grpc-timeout",
        CallerTimeSource::Setting => "client_timeout_ms",
        CallerTimeSource::Edge => {
            return format!("the edge told the connector that its caller must be answered within {}", text(waits));
        }
    };
    format!(
        "its caller waits {} ({source_name}): it is answered within {} ms",
        text(waits),
        millis(answer_within(waits))
    )
}

fn of_place(outcome: Option<Outcome>, in_flight: u16, limit: u16, is_over_share: bool) -> String {
    match outcome {
        Some(Outcome::ConcurrencyLimited) if is_over_share => {
            format!("none: its agent had its share of the {limit} calls that may be in flight (agent_share_percent)")
        }
        Some(Outcome::ConcurrencyLimited) => {
            format!("none: {in_flight} calls were in flight, and {limit} may be (concurrency_limit)")
        }
        _ => format!("{in_flight} calls of its route were in flight with it, and {limit} may be (concurrency_limit)"),
    }
}

fn times(count: u8) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn tried_again(connector: &str, after: Duration, won: bool) -> String {
    let (after, then) = (text(after), if won { "which answered first" } else { "which did not answer first" });
    format!(
        "no answer within {after}, longer than 95 % of the last calls took: a second try went to connector {connector}, {then}"
    )
}

fn of_limit(limit: &CallLimit, missed: bool) -> String {
    let length = limit.limit().map_or_else(|| "no limit".to_owned(), text);
    let why = match (limit.reason, limit.p95()) {
        (DeadlineReason::Learned, Some(p95)) => format!("1.5 times the {} that 95 % of the last calls took", text(p95)),
        (DeadlineReason::Floor, Some(p95)) => format!("deadline_floor_ms; 95 % of the last calls took {}", text(p95)),
        (DeadlineReason::Ceiling, Some(p95)) => {
            format!("first_byte_timeout_ms; 95 % of the last calls took {}", text(p95))
        }
        _ => "first_byte_timeout_ms, as too few calls were seen".to_owned(),
    };
    let then = match (limit.is_enforced, missed) {
        (true, true) => "enforced: it was cut",
        (true, false) => "enforced",
        (false, true) => "observed: it would have been cut",
        (false, false) => "observed",
    };
    format!("{length} ({why}), {then}")
}

/// Formats a duration for people.
fn text(time: Duration) -> String {
    match time {
        time if time < Duration::from_secs(1) => format!("{} ms", millis(time)),
        time => format!("{} s", seconds(time)),
    }
}

impl From<CallStage> for CallStageName {
    fn from(stage: CallStage) -> CallStageName {
        match stage {
            CallStage::Accept => CallStageName::Accept,
            CallStage::Tls => CallStageName::Tls,
            CallStage::Request => CallStageName::Request,
            CallStage::Admission => CallStageName::Admission,
            CallStage::Route => CallStageName::Route,
            CallStage::Breaker => CallStageName::Breaker,
            CallStage::Concurrency => CallStageName::Concurrency,
            CallStage::Policy => CallStageName::Policy,
            CallStage::Link => CallStageName::Link,
            CallStage::Connector => CallStageName::Connector,
            CallStage::Upstream => CallStageName::Upstream,
            CallStage::Caller => CallStageName::Caller,
            CallStage::Done => CallStageName::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::sample;
    use crate::latency::{CallRecord, RecordedTime};

    #[test]
    fn a_call_is_explained_with_the_rules_that_decided() {
        let filter = Arc::new(CallFilter { limit: 10, ..CallFilter::default() });
        let calls = newest(&filter, vec![(RoleKind::Edge, sample::calls())]);
        let sent = serde_json::to_value(&calls[0]).unwrap();
        assert_eq!(serde_json::from_value::<CallInfo>(sent.clone()).unwrap(), calls[0]);
        let mut story = sent.as_object().unwrap().clone();
        assert!(story.remove("ended_at").is_some_and(|at| at.as_str().unwrap().ends_with('Z')));
        let expected = json!({
            "id": "1f3", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "role": "edge", "age_s": 2.0, "from": "192.0.2.7",
            "host": "demo.test", "route": "demo", "tunnel": "tnl_demo", "connector": "000000000000002a",
            "method": "tools/call", "tool": "search", "status": 504, "outcome": "timed_out", "stopped_at": "upstream",
            "answered": {
                "code": "timed_out", "rpc_code": -31018,
                "message": CallFailure::Deadline.own_answer(None).message,
            },
            "phases": { "edge": 20.0, "total": 3_000_000.0, "beyond_edge": 2_999_980.0 },
            "decisions": [
                { "what": "route", "rule": "the host has the route demo of tunnel tnl_demo" },
                {
                    "what": "caller",
                    "rule": "its caller waits 5 s (X-Request-Timeout or grpc-timeout): it is answered within 4750 ms",
                },
                { "what": "policy", "rule": "allowed by the rule all-search (policy 12ab…)" },
                { "what": "breaker", "rule": "a breaker that was open let it through as a probe (breaker_open_ms)" },
                { "what": "wait", "rule": "it waited 320 ms for a place among the calls of its route (concurrency_limit)" },
                {
                    "what": "place",
                    "rule": "3 calls of its route were in flight with it, and 8 may be (concurrency_limit)",
                },
                { "what": "wait", "rule": "it waited 40 ms for a connector" },
                {
                    "what": "move",
                    "rule": "connector 000000000000002b did not pass it on (upstream_refused): another connector was tried",
                },
                {
                    "what": "deadline",
                    "rule": "3 s (1.5 times the 2 s that 95 % of the last calls took), enforced: it was cut",
                },
                {
                    "what": "slow",
                    "rule": "it took longer than slow_call_ms, and longer than calls of its tool usually take",
                },
                {
                    "what": "refuse",
                    "rule": format!("timed_out: {}", CallFailure::Deadline.own_answer(None).message),
                },
            ],
        });
        assert_eq!(serde_json::Value::Object(story), expected);
    }

    #[test]
    fn a_hedge_is_shown_with_its_time_and_its_result() {
        let of = |won| {
            let mut line = sample::calls().remove(0);
            let after = RecordedTime::of(Duration::from_millis(412));
            line.record.again = Some(SentAgain::Slow { connector: 0x2b, after, won });
            let decision = decisions(&line).into_iter().find(|decision| decision.what == DecisionKind::Hedge);
            decision.expect("it is told").rule
        };
        let decision = "no answer within 412 ms, longer than 95 % of the last calls took: a second try went to connector \
                    000000000000002b, which";
        assert_eq!(of(true), format!("{decision} answered first"));
        assert_eq!(of(false), format!("{decision} did not answer first"));
    }

    #[test]
    fn each_retry_of_a_call_is_shown() {
        let paused = RecordedTime::of(Duration::from_millis(12));
        let moved = |last| SentAgain::NotPassedOn { failure: CallFailure::Overloaded, connector: 0x2b, last, paused };
        let resent = |is_unread| SentAgain::Resent { is_unread, paused };
        let first = "connector 000000000000002b did not pass it on (overloaded): another connector was tried";
        for (again, retries, expected) in [
            (Some(moved(CallFailure::Overloaded)), 1, first.to_owned()),
            (
                Some(moved(CallFailure::UpstreamRefused)),
                2,
                format!(
                    "{first}, 2 times in all (retries_max), after pauses of 12 ms; the last one that did not pass it on: upstream_refused"
                ),
            ),
            (None, 1, "its link stalled before any of it was sent: it was opened again once (retries_max)".to_owned()),
            (
                Some(resent(true)),
                2,
                "nothing of it had reached the server: it was sent again 2 times, after pauses of 12 ms (retries_max)"
                    .to_owned(),
            ),
            (
                Some(resent(false)),
                1,
                "the server closed an idle connection without an answer, and the call may run twice (because of its method, or resend): it was sent \
                 again once, after pauses of 12 ms (retries_max)"
                    .to_owned(),
            ),
        ] {
            let mut line = sample::calls().remove(0);
            line.record = CallRecord { again, ..line.record.with_retries(retries) };
            let moves = decisions(&line).into_iter().filter(|decision| decision.what == DecisionKind::Move);
            assert_eq!(moves.map(|decision| decision.rule).collect::<Vec<_>>(), [expected]);
        }
    }

    #[test]
    fn a_call_without_a_place_says_why() {
        let rule = |is_over_share| {
            let mut line = sample::calls().remove(0);
            line.record.outcome = Some(Outcome::ConcurrencyLimited);
            line.record = line.record.with_place(8, 8, is_over_share);
            let found = decisions(&line).into_iter().find(|decision| decision.what == DecisionKind::Place);
            found.expect("it is told").rule
        };
        assert_eq!(rule(false), "none: 8 calls were in flight, and 8 may be (concurrency_limit)");
        assert!(rule(true).contains("its agent had its share"));
    }

    #[test]
    fn a_connection_that_was_turned_away_says_why() {
        let filter = Arc::new(CallFilter { limit: 10, ..CallFilter::default() });
        let calls = newest(&filter, vec![(RoleKind::Edge, sample::calls())]);
        let turned_away = &calls[1];
        assert_eq!((turned_away.stopped_at, &turned_away.id, &turned_away.outcome), (CallStageName::Tls, &None, &None));
        assert_eq!(turned_away.answered.as_ref().map(|answered| &*answered.code), Some("tls_failed"));
        assert_eq!(turned_away.decisions.len(), 1);
    }

    #[test]
    fn of_all_roles_the_last_calls_come_first() {
        let filter = Arc::new(CallFilter { limit: 3, ..CallFilter::default() });
        let calls = newest(&filter, vec![(RoleKind::Edge, sample::calls()), (RoleKind::Connector, sample::calls())]);
        let seen: Vec<_> = calls.iter().map(|call| (call.role, call.age_s)).collect();
        assert_eq!(seen, [(RoleKind::Edge, 2.0), (RoleKind::Connector, 2.0), (RoleKind::Edge, 5.0)]);
    }
}
