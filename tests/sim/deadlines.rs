//! Deadlines that are learned, through the real edge and the real connector on virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit::base::{BreakerOverrides, DeadlineOverrides, GuardMode, Rng};
use adit::engine::ByteStream;
use adit::latency::{DeadlineReason, LabelFigures, Outcome, Phase};
use adit::route::{RouteOverrides, ToolOverrides};

use crate::bodies::send;
use crate::roles::HOST;
use crate::stalls::{Bed, connect};
use crate::tool_calls::{Answer, body_of, call_tool, json_of};

const SECOND: Duration = Duration::from_secs(1);
fn bed(mode: GuardMode) -> Bed {
    let bed = Bed::start();
    bed.reload(own(mode, DeadlineOverrides::default()));
    bed
}

/// A route with this mode, and other settings for the tool that is called.
fn own(mode: GuardMode, of_tool: DeadlineOverrides) -> RouteOverrides {
    let deadlines = DeadlineOverrides { mode: Some(mode), ..DeadlineOverrides::default() };
    let tool = ToolOverrides {
        tool: "search".into(),
        deadlines: of_tool,
        breaker: BreakerOverrides::default(),
        price: 0,
        hedge: None,
    };
    RouteOverrides { deadlines, tools: [tool].into(), ..RouteOverrides::default() }
}

/// A call of the tool that asks the upstream for `what`: `slow/LENGTH/2000`.
fn call(bed: &Bed, what: &str) -> Answer {
    call_with(bed, what, "")
}

/// The same with more fields in its head.
fn call_with(bed: &Bed, what: &str, fields: &str) -> Answer {
    call_tool(bed, "search", what, fields, None)
}

fn slow(bed: &Bed, ms: u64) -> Answer {
    call(bed, &format!("slow/LENGTH/{ms}"))
}

/// Lets the edge see as many calls as it takes to learn from them, each of which takes so long.
fn teach(bed: &mut Bed, ms: u64) {
    let calls: Vec<Answer> = (0..30).map(|_| slow(bed, ms)).collect();
    bed.pass(Duration::from_millis(ms) + SECOND);
    assert!(calls.iter().all(|answer| answer.borrow().0.starts_with("HTTP/1.1 200 ")), "{:?}", calls[0]);
}

#[test]
fn a_call_that_takes_much_longer_than_usual_is_cut_with_an_error() {
    let mut bed = bed(GuardMode::Enforce);
    teach(&mut bed, 2_000);
    let late = slow(&bed, 60_000);
    bed.pass(5 * SECOND);
    let (answer, after_ms) = late.borrow().clone();
    assert!(answer.starts_with("HTTP/1.1 504 ") && (3_000..3_300).contains(&after_ms), "{answer} after {after_ms} ms");
    let error = json_of(&late);
    assert_eq!((&error["id"], &error["error"]["code"]), (&7.into(), &(-31_019).into()));
    let data = &error["error"]["data"];
    assert_eq!(
        (&data["tool"], &data["limit"], &data["may_have_acted"]),
        (&"search".into(), &"deadline".into(), &true.into())
    );
    assert!(data["limit_ms"].as_u64().is_some_and(|ms| (3_000..3_300).contains(&ms)), "{data}");
    assert!(data["p95_ms"].as_u64().is_some_and(|ms| (2_000..2_200).contains(&ms)), "{data}");
    assert_eq!(data["phase"], "upstream");
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 30), (Outcome::TimedOut, 1)]);
    let set = bed.figures(0).set.expect("one label").1;
    assert_eq!((set.deadlines().cut, set.deadlines().missed), (1, 0));
    // Its connector told no times: the wait is nobody's, and not the tunnel's.
    let mut figures = LabelFigures::new();
    figures.add(&set);
    let counts = [Phase::Tunnel, Phase::BeyondEdge].map(|phase| figures.phase(phase).count());
    assert_eq!(counts, [30, 1]);
    assert!(answer.contains(", beyond_edge;dur=") && !answer.contains("tunnel;dur="), "{answer}");
    bed.pass(30 * SECOND);
    bed.assert_nothing_is_left();
}

#[test]
fn by_default_such_a_call_is_counted_and_goes_on() {
    let mut bed = Bed::start();
    teach(&mut bed, 2_000);
    let late = slow(&bed, 10_000);
    bed.pass(11 * SECOND);
    assert!(late.borrow().0.starts_with("HTTP/1.1 200 "), "{late:?}");
    let figures = bed.figures(0);
    let deadlines = figures.set.expect("one label").1.deadlines();
    assert_eq!((deadlines.cut, deadlines.missed), (0, 1));
    let deadline = figures.deadline.expect("it was learned");
    assert_eq!(deadline.reason, DeadlineReason::Learned);
}

#[test]
fn where_deadlines_are_off_nothing_is_learned_nor_counted() {
    let mut bed = bed(GuardMode::Off);
    teach(&mut bed, 2_000);
    let late = slow(&bed, 10_000);
    bed.pass(11 * SECOND);
    assert!(late.borrow().0.starts_with("HTTP/1.1 200 "), "{late:?}");
    let figures = bed.figures(0);
    assert_eq!(figures.set.expect("one label").1.deadlines().missed, 0);
    assert_eq!(figures.deadline.map(|deadline| deadline.reason), Some(DeadlineReason::Cold));
}

#[test]
fn a_tool_may_have_limits_of_its_own() {
    let mut bed = Bed::start();
    // A ceiling is enforced in each mode.
    bed.reload(own(
        GuardMode::Observe,
        DeadlineOverrides { ceiling: Some(10 * SECOND), ..DeadlineOverrides::default() },
    ));
    let late = slow(&bed, 60_000);
    bed.pass(11 * SECOND);
    let (answer, after_ms) = late.borrow().clone();
    assert!(answer.starts_with("HTTP/1.1 504 ") && (10_000..10_100).contains(&after_ms), "{answer} after {after_ms}");
    assert_eq!(json_of(&late)["error"]["data"]["limit"], "first_byte_timeout_ms");
    // What the route enforces, a tool may be exempt from.
    let exempt = DeadlineOverrides { mode: Some(GuardMode::Off), ..DeadlineOverrides::default() };
    bed.reload(own(GuardMode::Enforce, exempt));
    teach(&mut bed, 100);
    let long = slow(&bed, 20_000);
    bed.pass(21 * SECOND);
    assert!(long.borrow().0.starts_with("HTTP/1.1 200 "), "{long:?}");
}

#[test]
fn progress_extends_the_deadline_of_a_stream_up_to_a_limit_and_other_messages_do_not() {
    let mut bed = bed(GuardMode::Enforce);
    teach(&mut bed, 2_000);
    let path = |ms: u64, count: u64, method: &str| format!("sse/LENGTH/{ms}/{count}/{method}");
    let (steady, silent) = (call(&bed, &path(2_500, 10, "progress")), call(&bed, &path(2_500, 10, "message")));
    bed.pass(30 * SECOND);
    let answer = steady.borrow().0.clone();
    assert!(answer.contains(r#""result":{}"#) && answer.ends_with("0\r\n\r\n"), "{answer}");
    let (answer, after_ms) = silent.borrow().clone();
    assert!((3_000..3_300).contains(&after_ms), "after {after_ms} ms: {answer}");
    assert_eq!(answer.matches("notifications/message").count(), 1, "{answer}");
    let event = answer.split("event: message\n").nth(1).unwrap_or_else(|| panic!("no last event: {answer}"));
    let data = event.lines().next().and_then(|line| line.strip_prefix("data: ")).unwrap();
    let error: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&7.into(), &"deadline".into()));
    assert!(answer.ends_with("0\r\n\r\n"), "the stream ends as it should: {answer}");
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 31), (Outcome::TimedOut, 1)]);

    let limited = DeadlineOverrides { progress_max: Some(8 * SECOND), ..DeadlineOverrides::default() };
    bed.reload(own(GuardMode::Enforce, limited));
    let endless = call(&bed, &path(1_000, 100, "progress"));
    bed.pass(20 * SECOND);
    let (answer, after_ms) = endless.borrow().clone();
    assert!((8_000..8_100).contains(&after_ms) && answer.contains(r#""reason":"deadline""#), "{after_ms}: {answer}");
    bed.pass(5 * SECOND);
    bed.assert_nothing_is_left();
}

#[test]
fn a_stream_of_events_that_answers_no_call_has_no_deadline() {
    let mut bed = bed(GuardMode::Enforce);
    teach(&mut bed, 1_000);
    let (core, ended) = (bed.agents.clone(), Rc::<RefCell<Option<String>>>::default());
    let shared = Rc::clone(&ended);
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        let head = format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
        send(&socket, head.as_bytes()).await.unwrap();
        while let Ok(Some(_)) = socket.recv().await {}
        *shared.borrow_mut() = Some("ended".to_owned());
    });
    bed.pass(600 * SECOND);
    assert_eq!(*ended.borrow(), None);
}

/// A server that becomes ten times as slow, and quick again: its calls are cut for less than a minute, and the deadline comes down
/// within one.
#[test]
fn a_step_of_the_servers_time_is_followed_within_a_minute_both_ways() {
    for seed in 0..5 {
        let mut rng = Rng::new(seed);
        let mut bed = bed(GuardMode::Enforce);
        let quick_ms = rng.between(500, 1_000);
        for (phase, ms) in [(0, quick_ms), (1, 10 * quick_ms), (2, quick_ms)] {
            let mut calls = Vec::new();
            for _ in 0..2 * 80 {
                calls.push(slow(&bed, ms + rng.below(ms / 5)));
                bed.pass(SECOND / 2);
            }
            bed.pass(15 * SECOND);
            let cut: Vec<usize> =
                (0..calls.len()).filter(|nth| calls[*nth].borrow().0.starts_with("HTTP/1.1 504 ")).collect();
            assert_eq!(phase == 1, !cut.is_empty(), "seed {seed}, phase {phase}: {cut:?}");
            assert!(cut.iter().all(|nth| *nth < 2 * 60), "seed {seed}, phase {phase}: cut after a minute: {cut:?}");
            let deadline = bed.figures(0).deadline.expect("it is learned");
            let p95_ms = deadline.usual.expect("many were seen").p95.as_millis() as u64;
            assert!((ms..ms * 13 / 10).contains(&p95_ms), "seed {seed}, phase {phase}: {p95_ms} ms for {ms} ms");
        }
    }
}

/// Whatever the mode of deadlines is: the agent gets an error before it would give up, and the upstream is told to stop.
#[test]
fn a_caller_that_says_how_long_it_waits_is_answered_before_that_is_over() {
    for (mode, fields, within) in [
        (GuardMode::Off, "X-Request-Timeout: 5\r\n", 4_700..5_000),
        (GuardMode::Observe, "X-Request-Timeout: 400ms\r\n", 300..400),
        (GuardMode::Enforce, "X-Request-Timeout: 5\r\n", 4_700..5_000),
        (GuardMode::Enforce, "grpc-timeout: 60S\r\n", 58_900..60_000),
    ] {
        let mut bed = bed(mode);
        let late = call_with(&bed, "slow/LENGTH/100000", fields);
        // Its server is told to stop by a message as well.
        bed.pass(67 * SECOND);
        let (answer, after_ms) = late.borrow().clone();
        assert!(
            answer.starts_with("HTTP/1.1 504 ") && within.contains(&after_ms),
            "{fields}: {answer} after {after_ms}"
        );
        let error = json_of(&late)["error"].clone();
        assert_eq!((&error["code"], &error["data"]["limit"]), (&(-31_021).into(), &"caller_timeout".into()));
        assert_eq!(error["data"]["phase"], "upstream");
        assert_eq!(bed.outcomes(), [(Outcome::TimedOut, 1)]);
        bed.assert_nothing_is_left();
    }
    // An event stream ends behind an event that says so, whatever progress it tells of.
    let mut bed = bed(GuardMode::Observe);
    let late = call_with(&bed, "sse/LENGTH/500/100/progress", "X-Request-Timeout: 5s\r\n");
    bed.pass(15 * SECOND);
    let (answer, after_ms) = late.borrow().clone();
    assert!(
        (4_700..5_000).contains(&after_ms) && answer.contains(r#""reason":"caller_timeout""#),
        "{after_ms}: {answer}"
    );
    bed.pass(SECOND);
    bed.assert_nothing_is_left();
}

/// Whatever refuses or cuts a call, and whether or not deadlines are enforced.
#[test]
fn errors_say_how_long_such_calls_usually_take_and_in_which_phase_the_call_was() {
    let mut bed = Bed::start();
    teach(&mut bed, 200);
    let of = |error: &serde_json::Value| {
        let data = &error["error"]["data"];
        let ms = |name: &str| data[name].as_u64().unwrap_or_default();
        assert!((200..220).contains(&ms("p50_ms")) && ms("p95_ms") >= ms("p50_ms"), "{error}");
        (error["error"]["code"].as_i64(), data["phase"].as_str().map(str::to_owned))
    };
    let cut = call_with(&bed, "slow/LENGTH/60000", "X-Request-Timeout: 2\r\n");
    let broken = call(&bed, "drop/LENGTH");
    bed.pass(3 * SECOND);
    assert_eq!(of(&json_of(&cut)), (Some(-31_021), Some("upstream".to_owned())));
    assert_eq!(of(&json_of(&broken)), (Some(-31_003), Some("upstream".to_owned())));
    // The rest of its body does not come.
    let (core, body) = (bed.agents.clone(), body_of("search"));
    let answer = Answer::default();
    let shared = Rc::clone(&answer);
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        let head = format!(
            "POST /slow/90/1 HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Timeout: 2\r\nContent-Length: {}\r\n\r\n{body}",
            body.len() + 1
        );
        send(&socket, head.as_bytes()).await.unwrap();
        while let Ok(Some(lease)) = socket.recv().await {
            shared.borrow_mut().0.push_str(&String::from_utf8_lossy(&lease));
        }
    });
    bed.pass(3 * SECOND);
    assert_eq!(of(&json_of(&answer)), (Some(-31_021), Some("edge".to_owned())));
    bed.kill_upstream();
    let refused = call(&bed, "slow/LENGTH/1");
    bed.pass(5 * SECOND);
    assert_eq!(of(&json_of(&refused)), (Some(-31_002), Some("upstream_connect".to_owned())));
    bed.kill_connector();
    bed.pass(SECOND);
    let offline = call(&bed, "slow/LENGTH/1");
    bed.pass(20 * SECOND);
    assert_eq!(of(&json_of(&offline)), (Some(-31_001), Some("edge".to_owned())));
}

/// The connector's host vanishes while a call is under way: its link has not ended yet, and does not answer.
#[test]
fn a_call_that_is_cut_while_its_connector_is_not_heard_says_that_it_was_in_the_tunnel() {
    let mut bed = Bed::start();
    bed.pass(20 * SECOND);
    let call = call_with(&bed, "slow/LENGTH/60000", "X-Request-Timeout: 12\r\n");
    bed.pass(SECOND / 2);
    bed.cut_connector_off();
    bed.pass(13 * SECOND);
    let error = json_of(&call);
    assert_eq!(error["error"]["data"]["phase"], "tunnel", "{error}");
}

#[test]
fn the_default_client_timeout_is_a_setting_that_only_a_valid_header_replaces() {
    let mut bed = Bed::start();
    bed.reload(RouteOverrides { client_timeout: Some(3 * SECOND), ..RouteOverrides::default() });
    let calls = ["", "X-Request-Timeout: 10\r\n", "X-Request-Timeout: soon\r\n"]
        .map(|fields| call_with(&bed, "slow/LENGTH/100000", fields));
    bed.pass(20 * SECOND);
    let [usual, own, malformed] = calls.map(|answer| answer.borrow().1);
    for after_ms in [usual, malformed] {
        assert!((2_800..3_000).contains(&after_ms), "{after_ms}");
    }
    assert!((9_400..10_000).contains(&own), "{own}");
    let malformed = bed.counters().caller_timeouts_malformed.load(Ordering::Relaxed);
    assert_eq!(malformed, 1);
    // They say nothing of the server.
    let deadlines = bed.figures(0).set.expect("one label").1.deadlines();
    assert_eq!((deadlines.cut, bed.breakers()[0].counts.failed), (0, 0));
}
