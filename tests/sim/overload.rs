//! Concurrency limits, through the real edge and the real connector on virtual time.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use adit::base::{ConcurrencyOverrides, ConcurrencyTerms, DeadlineOverrides, DeadlineTerms, GuardMode, Rng, Traffic};
use adit::engine::{ByteStream, Core, send_bytes};
use adit::latency::{CallLine, CallStage, Outcome, QueueReading};
use adit::route::RouteOverrides;
use adit::tls::ALPN_HTTP1;
use adit::wire::mux;
use futures_lite::future;

use crate::bodies::{body, send, sum};
use crate::http2::agent_that_pauses;
use crate::http2::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame};
use crate::roles::{HOST, edge_tables_of};
use crate::sealed::{Door, Sealed};
use crate::stalls::{Bed, connect};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// How long an agent waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Where agents are besides those of the bed.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
/// What an agent sends that calls a tool.
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#;
/// The server works on so many calls at one time.
const WORKERS: usize = 8;

fn own(mode: GuardMode) -> RouteOverrides {
    RouteOverrides {
        deadlines: DeadlineOverrides { mode: Some(GuardMode::Off), ..DeadlineOverrides::default() },
        concurrency: ConcurrencyOverrides { mode: Some(mode), max: None },
        ..RouteOverrides::default()
    }
}

/// A limit of so many calls.
fn at_most(max: u32) -> RouteOverrides {
    let mode = GuardMode::Enforce;
    RouteOverrides { concurrency: ConcurrencyOverrides { mode: Some(mode), max: Some(max) }, ..own(mode) }
}

fn bed(mode: GuardMode) -> Bed {
    let mut bed = Bed::start();
    bed.serve_tables(edge_tables_of([(HOST, "route", own(mode))]), &[HOST]);
    bed.pass(SECOND);
    bed
}

/// What an agent got, and after how long.
#[derive(Default)]
struct Got {
    text: String,
    after: Option<Duration>,
}

type Answer = Rc<RefCell<Got>>;

fn status_of(answer: &Answer) -> u32 {
    let answer = answer.borrow();
    answer.text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// A call of agents on this core, on a connection of its own, which takes the server so long.
fn call_on(core: &Core, host: &str, work: Duration, workers: usize) -> Answer {
    send_on(core, request(host, work, workers))
}

fn request(host: &str, work: Duration, workers: usize) -> String {
    let body = CALL;
    format!(
        "POST /busy/{}/{}/{workers} HTTP/1.1\r\nHost: {host}\r\nX-Request-Timeout: {}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
        work.as_millis(),
        TIMEOUT.as_secs(),
        body.len()
    )
}

/// Sends a request on a connection of its own, and reads the answer.
fn send_on(core: &Core, request: String) -> Answer {
    send_through(&Door::default(), core, request)
}

/// The same, by this door.
fn send_through(door: &Door, core: &Core, request: String) -> Answer {
    let answer = Answer::default();
    let (shared, of, door) = (Rc::clone(&answer), core.clone(), door.clone());
    core.spawn(async move {
        let socket = door.connect(&of).await.expect("the handshake is made");
        let began = of.turn_time();
        send_bytes(&socket, of.pool(), request.as_bytes()).await.expect("the edge is there");
        while let Ok(Some(lease)) = socket.recv().await {
            let mut shared = shared.borrow_mut();
            shared.text.push_str(&String::from_utf8_lossy(&lease));
            shared.after.get_or_insert(of.turn_time() - began);
            if shared.text.ends_with('}') {
                return;
            }
        }
    });
    answer
}

/// A message that the server accepts at once, on a connection of its own.
fn message(bed: &Bed, body: &'static str) -> Answer {
    let len = body.len();
    let head = format!("POST /status/{len}/202 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n\r\n{body}");
    send_on(&bed.agents, head)
}

fn call(bed: &Bed, work: Duration) -> Answer {
    call_on(&bed.agents, HOST, work, WORKERS)
}

/// So many calls each second for so long, after a time with few of them.
fn load(bed: &mut Bed, per_second: u32, time: Duration, work: Duration) -> Vec<Answer> {
    let calls = (time.as_secs_f64() * f64::from(per_second)) as u32;
    (0..calls)
        .map(|_| {
            let answer = call(bed, work);
            bed.pass(SECOND / per_second);
            answer
        })
        .collect()
}

fn good(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| status_of(answer) == 200).count()
}

fn limit_of(bed: &Bed, route: &str) -> QueueReading {
    let limits = bed.limits();
    limits.iter().find(|(name, _)| name == route).map(|(_, reading)| *reading).expect("it has had calls")
}

/// The server works on 8 calls at one time, and gets twice as many as it can do. Without a limit it works on calls whose agents have
/// given up, and none is answered in time.
#[test]
fn a_server_that_turns_slow_goes_on_to_answer_as_many_calls_as_it_can() {
    let run = |mode: GuardMode| {
        let mut bed = bed(mode);
        let quick = load(&mut bed, 40, 10 * SECOND, 20 * MS);
        assert_eq!(good(&quick), quick.len());
        // 80 a second are possible, and 160 come.
        let slow = load(&mut bed, 160, 20 * SECOND, 100 * MS);
        bed.pass(3 * SECOND);
        let after = load(&mut bed, 40, 10 * SECOND, 20 * MS);
        bed.pass(3 * SECOND);
        let longest = slow.iter().filter(|one| status_of(one) == 200).filter_map(|one| one.borrow().after).max();
        let reading = limit_of(&bed, "route");
        assert_eq!((reading.in_flight, reading.waiting, reading.agents), (0, 0, 0), "{mode}");
        bed.pass(130 * SECOND);
        bed.assert_nothing_is_left();
        (slow, good(&after[after.len() / 2..]), longest, reading, bed.outcomes())
    };
    let (without, _, _, observed, _) = run(GuardMode::Observe);
    let (with, recovered, longest, reading, outcomes) = run(GuardMode::Enforce);
    let (without, with_limit) = (good(&without), good(&with));
    assert!(with_limit >= without && with_limit >= 20 * 80 * 8 / 10, "{with_limit} with, {without} without");
    assert!(with_limit >= 2 * without, "the limit is worth nothing: {with_limit} with, {without} without");
    // It waits for a place for a second at the most, and in the server for some other calls.
    assert!(longest.is_some_and(|longest| longest <= 1_600 * MS), "{longest:?}");
    assert_eq!(recovered, 200, "the limit holds up a server that is well again");
    assert!(reading.limit < 60 && reading.counts.refused > 0 && reading.counts.would_refuse == 0, "{reading:?}");
    assert!(observed.counts.would_refuse > 0 && observed.counts.refused == 0, "{observed:?}");
    let limited = outcomes.iter().find(|(outcome, _)| *outcome == Outcome::ConcurrencyLimited).map(|(_, calls)| *calls);
    assert_eq!(limited, Some(reading.counts.refused));
    let refused = with.iter().find(|one| status_of(one) == 503).expect("some were refused");
    let text = refused.borrow().text.clone();
    assert!(text.contains("\r\nRetry-After: ") && !text.contains("Connection: close"), "{text}");
    let json: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let (error, data) = (&json["error"], &json["error"]["data"]);
    assert_eq!((&error["code"], &data["reason"]), (&(-31_030).into(), &"concurrency_limit".into()));
    assert_eq!(
        (&data["may_have_acted"], &data["tool"], &data["limit"]),
        (&false.into(), &"search".into(), &"concurrency".into())
    );
    assert!(data["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "{data}");
}

#[test]
fn one_greedy_agent_does_not_take_the_place_of_the_others() {
    let run = |mode: GuardMode| {
        let mut bed = bed(mode);
        let others = bed.add_agents(OTHERS);
        let quick = load(&mut bed, 20, 10 * SECOND, 100 * MS);
        bed.pass(SECOND);
        assert_eq!(good(&quick), quick.len());
        let (mut greedy, mut polite) = (Vec::new(), Vec::new());
        for nth in 0..2_000 {
            greedy.push(call(&bed, 100 * MS));
            greedy.push(call(&bed, 100 * MS));
            if nth % 20 == 0 {
                polite.push(call_on(&others, HOST, 100 * MS, WORKERS));
            }
            bed.pass(10 * MS);
        }
        bed.pass(5 * SECOND);
        let longest = polite.iter().filter_map(|one| one.borrow().after).max();
        (good(&greedy), polite.len() - good(&polite), longest, limit_of(&bed, "route"))
    };
    let (_, failed, _, _) = run(GuardMode::Observe);
    assert!(failed > 50, "without a limit {failed} of 100 calls of another agent come to nothing");
    let (greedy, failed, longest, reading) = run(GuardMode::Enforce);
    assert!(greedy >= 20 * 80 * 7 / 10, "{greedy}");
    assert_eq!(failed, 0, "{reading:?}");
    assert!(longest.is_some_and(|longest| longest <= 600 * MS), "{longest:?}");
    assert!(reading.counts.refused > 0, "{reading:?}");
}

/// So many calls each second for so long, of agents whose TLS ends in the connector.
fn load_through(
    door: &Door,
    agents: &Core,
    bed: &mut Bed,
    (per_second, time): (u32, Duration),
    work: Duration,
) -> Vec<Answer> {
    let calls = (time.as_secs_f64() * f64::from(per_second)) as u32;
    (0..calls)
        .map(|_| {
            let answer = send_through(door, agents, request(HOST, work, WORKERS));
            bed.pass(SECOND / per_second);
            answer
        })
        .collect()
}

/// The edge cannot read these calls. The connector decides about them as the edge does about others.
#[test]
fn a_server_of_agents_whose_tls_ends_in_the_connector_is_kept_from_too_many_calls() {
    let run = |mode: GuardMode| {
        let mut bed = Bed::start();
        let sealed = Sealed::new(Traffic::Passthrough, &[HOST]);
        let concurrency = ConcurrencyTerms { mode, ..ConcurrencyTerms::default() };
        let deadlines = DeadlineTerms { mode: GuardMode::Off, ..DeadlineTerms::default() };
        bed.pass_through(&sealed, |route| (route.concurrency, route.deadlines) = (concurrency, deadlines));
        let (door, others) = (sealed.door(ALPN_HTTP1), bed.add_agents(OTHERS));
        let near = bed.agents.clone();
        bed.pass(SECOND);
        let quick = load_through(&door, &near, &mut bed, (40, 10 * SECOND), 20 * MS);
        assert_eq!(good(&quick), quick.len(), "{mode}");
        // 80 a second are possible, and 160 of one agent come, and 4 of another.
        let (mut slow, mut polite) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            polite.extend(load_through(&door, &others, &mut bed, (200, 10 * MS), 100 * MS));
            slow.extend(load_through(&door, &near, &mut bed, (160, 250 * MS), 100 * MS));
        }
        bed.pass(3 * SECOND);
        let after = load_through(&door, &near, &mut bed, (40, 10 * SECOND), 20 * MS);
        bed.pass(3 * SECOND);
        assert!(bed.limits().is_empty(), "the edge has none of them");
        let limits = bed.connector_limits();
        let reading = limits[0].1;
        assert_eq!((reading.in_flight, reading.waiting, reading.agents), (0, 0, 0), "{mode}");
        (good(&slow), polite.len() - good(&polite), good(&after[after.len() / 2..]), reading)
    };
    let (without, failed, ..) = run(GuardMode::Observe);
    assert!(failed > 20, "without a limit {failed} of 80 calls of the other agent come to nothing");
    let (with, failed, recovered, reading) = run(GuardMode::Enforce);
    assert!(with >= 2 * without && with >= 10 * 76 * 8 / 10, "{with} with, {without} without");
    assert_eq!((failed, recovered), (0, 200), "{reading:?}");
    assert!(reading.limit < 60 && reading.counts.refused > 0, "{reading:?}");
}

/// Both routes are of one tunnel, and share its link.
#[test]
fn a_route_whose_server_is_slow_leaves_room_for_another() {
    let run = |mode: GuardMode| {
        let mut bed = Bed::start_with(mux::Settings { streams_max: 64, ..mux::Settings::default() });
        let limited =
            |mode, max| RouteOverrides { concurrency: ConcurrencyOverrides { mode: Some(mode), max }, ..own(mode) };
        let routes = [(HOST, "route", limited(mode, Some(32))), ("other.example", "other", own(mode))];
        bed.serve_tables(edge_tables_of(routes), &[HOST, "other.example"]);
        bed.pass(SECOND);
        let (mut slow, mut other) = (Vec::new(), Vec::new());
        for nth in 0..1_000 {
            slow.push(call_on(&bed.agents, HOST, 1_500 * MS, 500));
            if nth % 10 == 0 {
                other.push(call_on(&bed.agents, "other.example", 20 * MS, 500));
            }
            bed.pass(10 * MS);
        }
        bed.pass(5 * SECOND);
        let counted = bed.limits();
        assert_eq!(counted.len(), 2, "{counted:?}");
        (good(&slow), other.len() - good(&other))
    };
    let (_, failed) = run(GuardMode::Observe);
    assert!(failed > 30, "without a limit {failed} of 100 calls of the other route come to nothing");
    let (slow, failed) = run(GuardMode::Enforce);
    assert_eq!(failed, 0);
    assert!(slow > 150, "{slow}");
}

/// Agents that leave while their calls wait or are in flight, and streams that last: each place comes back.
#[test]
fn places_of_calls_that_are_given_up_come_back() {
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        let mut bed = bed(GuardMode::Enforce);
        let mut held = Vec::new();
        for _ in 0..600 {
            let core = bed.agents.clone();
            let work = rng.between(10, 3_000);
            let leaves_after = Duration::from_millis(rng.below(1_500));
            let is_stream = rng.chance(0.1);
            bed.agents.spawn(async move {
                let socket = connect(&core).await;
                let (body, len) = (CALL, CALL.len());
                let head = if is_stream {
                    format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n")
                } else {
                    format!("POST /busy/{len}/{work}/4 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n\r\n{body}")
                };
                let _ = send(&socket, head.as_bytes()).await;
                core.sleep(leaves_after).await;
                socket.abort();
            });
            bed.pass(Duration::from_millis(rng.below(30)));
            held.push(limit_of_any(&bed));
        }
        assert!(held.iter().flatten().any(|reading| reading.waiting > 0), "seed {seed}: none has waited");
        bed.pass(10 * SECOND);
        let reading = limit_of(&bed, "route");
        assert_eq!((reading.in_flight, reading.waiting, reading.agents), (0, 0, 0), "seed {seed}: {reading:?}");
        let readings: Vec<QueueReading> = held.into_iter().flatten().collect();
        for step in readings.windows(2) {
            let [before, after] = step else { unreachable!("windows of two") };
            // The limit changes at most once between them, and ends no call that is in flight.
            let allowed = match after.counts.admitted > before.counts.admitted {
                true => before.limit.max(after.limit),
                false => before.in_flight,
            };
            assert!(after.in_flight <= allowed, "seed {seed}: {before:?}, {after:?}");
        }
        let is_full = |reading: &QueueReading| reading.in_flight == reading.limit;
        assert!(readings.iter().any(is_full), "seed {seed}: the limit was not reached");
    }
}

fn limit_of_any(bed: &Bed) -> Option<QueueReading> {
    bed.limits().first().map(|(_, reading)| *reading)
}

/// `adit explain` tells which rule let a call wait, and how long.
#[test]
fn queued_and_refused_calls_are_in_the_call_log() {
    let mut bed = bed(GuardMode::Enforce);
    bed.serve_tables(edge_tables_of([(HOST, "route", at_most(2))]), &[HOST]);
    bed.pass(SECOND);
    // Two at a time, each for 400 ms: the third pair waits for 800 ms, and the fourth would for 1.2 s.
    let answers: Vec<Answer> = (0..8).map(|_| call(&bed, 400 * MS)).collect();
    bed.pass(3 * SECOND);
    assert_eq!(good(&answers), 6);
    let queued_ms = |calls: &[CallLine]| {
        let mut queued: Vec<u128> = calls.iter().map(|call| call.record.queued().as_millis() / 100).collect();
        queued.sort_unstable();
        queued
    };
    let answered: Vec<CallLine> = bed.calls(false).into_iter().filter(|call| !call.record.is_failed()).collect();
    assert_eq!(queued_ms(&answered), [0, 0, 4, 4, 8, 8]);
    let refused = bed.calls(true);
    assert_eq!(queued_ms(&refused), [10, 10]);
    for CallLine { record, .. } in refused {
        assert_eq!((record.stage, record.outcome), (CallStage::Concurrency, Some(Outcome::ConcurrencyLimited)));
        assert_eq!(record.own.map(|own| (own.status, own.code)), Some((503, "concurrency_limit")));
    }
}

/// A tool may ask its caller something, and wait for the answer.
#[test]
fn messages_that_a_call_in_flight_may_wait_for_need_no_place() {
    let mut bed = bed(GuardMode::Enforce);
    bed.serve_tables(edge_tables_of([(HOST, "route", at_most(1))]), &[HOST]);
    bed.pass(SECOND);
    let held = call(&bed, 1_500 * MS);
    bed.pass(50 * MS);
    let messages = [
        r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
    ];
    let answers = messages.map(|body| message(&bed, body));
    let another = call(&bed, MS);
    bed.pass(50 * MS);
    assert_eq!((answers.each_ref().map(status_of), status_of(&held), status_of(&another)), ([202; 3], 0, 0));
    let reading = limit_of(&bed, "route");
    assert_eq!((reading.in_flight, reading.waiting, reading.counts.waited), (1, 1, 1), "{reading:?}");
    bed.pass(3 * SECOND);
    assert_eq!((status_of(&held), status_of(&another)), (200, 503));
}

/// Its turn is that of the next call, and the server hears nothing of it.
#[test]
fn a_call_whose_agent_leaves_while_it_waits_for_a_place_waits_no_longer() {
    // Whole, and with a body whose rest does not come.
    for missing in [0, 5] {
        let mut bed = bed(GuardMode::Enforce);
        bed.serve_tables(edge_tables_of([(HOST, "route", at_most(1))]), &[HOST]);
        bed.pass(SECOND);
        let held = call(&bed, 500 * MS);
        bed.pass(50 * MS);
        let core = bed.agents.clone();
        bed.agents.spawn(async move {
            let socket = connect(&core).await;
            let len = CALL.len() + missing;
            let request =
                format!("POST /busy/{len}/10/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n\r\n{CALL}");
            send(&socket, request.as_bytes()).await.expect("the edge is there");
            core.sleep(100 * MS).await;
            socket.finish();
        });
        bed.pass(80 * MS);
        assert_eq!(limit_of(&bed, "route").waiting, 1, "{missing} bytes are missing");
        bed.pass(50 * MS);
        let reading = limit_of(&bed, "route");
        assert_eq!((reading.in_flight, reading.waiting), (1, 0), "{missing} bytes are missing");
        assert_eq!(bed.outcomes(), [(Outcome::AgentGone, 1)], "{missing} bytes are missing");
        bed.pass(2 * SECOND);
        assert_eq!(status_of(&held), 200);
        assert_eq!(limit_of(&bed, "route").counts.admitted, 1, "{missing} bytes are missing");
        assert_eq!(bed.outcomes().len(), 2);
    }
}

#[test]
fn a_call_over_http2_that_is_given_up_while_it_waits_for_a_place_waits_no_longer() {
    let mut bed = bed(GuardMode::Enforce);
    bed.serve_tables(edge_tables_of([(HOST, "route", at_most(1))]), &[HOST]);
    bed.pass(SECOND);
    let held = call(&bed, 500 * MS);
    bed.pass(50 * MS);
    let len = CALL.len().to_string();
    let head = block("POST", &format!("/busy/{len}/10/1"), &[("content-length", &len)]);
    let post = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, CALL.as_bytes())].concat();
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let _agent = agent_that_pauses(&bed, 65_535, vec![post, reset], 100 * MS);
    bed.pass(80 * MS);
    assert_eq!(limit_of(&bed, "route").waiting, 1);
    bed.pass(50 * MS);
    let reading = limit_of(&bed, "route");
    assert_eq!((reading.in_flight, reading.waiting), (1, 0));
    assert_eq!(bed.outcomes(), [(Outcome::AgentGone, 1)]);
    bed.pass(2 * SECOND);
    assert_eq!((status_of(&held), limit_of(&bed, "route").counts.admitted), (200, 1));
}

/// The rest of its body, and the next request.
#[test]
fn bytes_sent_while_a_call_is_queued_are_not_lost() {
    let mut bed = bed(GuardMode::Enforce);
    bed.serve_tables(edge_tables_of([(HOST, "route", at_most(1))]), &[HOST]);
    bed.pass(SECOND);
    let held = call(&bed, 500 * MS);
    bed.pass(50 * MS);
    let (core, answer_text) = (bed.agents.clone(), Rc::<RefCell<String>>::default());
    let answers = Rc::clone(&answer_text);
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        // More than one buffer holds.
        let whole = [CALL.as_bytes(), &body(100_000)].concat();
        let (len, sum) = (whole.len(), sum(&whole));
        let head = format!("POST /sum/{len}/{sum} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n\r\n");
        let next = format!("GET /5 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        send(&socket, &[head.as_bytes(), CALL.as_bytes()].concat()).await.expect("the edge is there");
        core.sleep(100 * MS).await;
        let sending = async {
            send(&socket, &[&whole[CALL.len()..], next.as_bytes()].concat()).await.expect("the edge is there");
            std::future::pending::<()>().await;
        };
        let receiving = async {
            while let Ok(Some(lease)) = socket.recv().await {
                answer_text.borrow_mut().push_str(&String::from_utf8_lossy(&lease));
            }
        };
        future::or(receiving, sending).await;
    });
    bed.pass(300 * MS);
    assert_eq!((limit_of(&bed, "route").waiting, &**answers.borrow()), (1, ""));
    bed.pass(SECOND);
    assert_eq!((status_of(&held), answers.borrow().matches("HTTP/1.1 200 OK").count()), (200, 2), "{answers:?}");
}

/// In a revision in which the head says nothing of the message, it may be any.
#[test]
fn a_claimed_subscription_of_an_older_era_is_limited_like_any_call() {
    let mut bed = bed(GuardMode::Enforce);
    bed.serve_tables(edge_tables_of([(HOST, "route", at_most(1))]), &[HOST]);
    bed.pass(SECOND);
    let held = call(&bed, 500 * MS);
    bed.pass(50 * MS);
    let len = CALL.len();
    let text = ["", "MCP-Protocol-Version: 2025-11-25\r\n"].map(|version| {
        let fields = format!("Host: {HOST}\r\n{version}Mcp-Method: subscriptions/listen\r\nContent-Length: {len}");
        send_on(&bed.agents, format!("POST /status/{len}/200 HTTP/1.1\r\n{fields}\r\n\r\n{CALL}"))
    });
    bed.pass(50 * MS);
    assert_eq!((text.each_ref().map(status_of), limit_of(&bed, "route").waiting), ([0; 2], 2));
    bed.pass(2 * SECOND);
    assert_eq!((text.each_ref().map(status_of), status_of(&held)), ([200; 2], 200));
}
