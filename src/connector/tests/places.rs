//! Limits of the calls in flight, and tasks, of agents whose TLS ends in the connector, on virtual time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::bed::{Bed, EdgeSide, Peer, Script, ms, script, settings};
use super::sealed::{Agent, agent_at, sealed_tables};
use crate::base::{ConcurrencyTerms, GuardMode, Traffic};
use crate::connector::{ConnectorRoute, ConnectorSettings, ConnectorTables};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::latency::{CallStage, LatencySettings, Outcome, QueueReading, Recorder, TaskId, TaskLine};
use crate::policy::ToolPolicy;
use crate::route::{RouteEntry, RouteTable, ToolOverrides};
use crate::tls::ClientConfig;

const NEAR: &str = "192.0.2.7";
const FAR: &str = "192.0.2.8";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"ok\":1}";

/// A call of this tool with these fields in its head.
fn tool_call(tool: &str, fields: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"q":1}}}}}}"#
    );
    post(&body, fields)
}

fn post(body: &str, fields: &str) -> String {
    format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An upstream that takes `work` for each call, and counts them.
fn slow(work: Duration, calls: &Rc<Cell<u32>>) -> Script {
    let calls = Rc::clone(calls);
    script(move |mut peer: Peer| {
        let calls = Rc::clone(&calls);
        async move {
            while let Some(head) = peer.talk.next_head().await {
                if head.starts_with("GET ") {
                    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: here\n\n";
                    peer.talk.write(stream).await;
                    let _ = peer.talk.rest().await;
                    return;
                }
                let body = peer.talk.until("}").await;
                if body.contains("tools/call") {
                    peer.talk.until("}}").await;
                    calls.set(calls.get() + 1);
                    peer.core.sleep(work).await;
                    peer.talk.write(OK).await;
                } else {
                    peer.talk.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        }
    })
}

pub(super) fn changed(tables: &ConnectorTables, change: impl Fn(&mut ConnectorRoute)) -> ConnectorTables {
    let routes = tables.routes.iter().map(|(host, route)| {
        let mut target = route.clone();
        change(&mut target);
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
    ConnectorTables { routes, ingress: None, sealing: tables.sealing.clone() }
}

/// A bed whose route has `max` places.
fn bed(max: u32, work: Duration, calls: &Rc<Cell<u32>>) -> (Bed, Arc<ClientConfig>) {
    let settings = ConnectorSettings { calls_kept: 100, ..settings() };
    let bed = Bed::with(settings, 1, Faults::none(), Some(slow(work, calls)));
    let (tables, config) = sealed_tables(Traffic::Passthrough);
    let concurrency = ConcurrencyTerms { mode: GuardMode::Enforce, min: max, max, ..ConcurrencyTerms::default() };
    bed.role.reload(changed(&tables, |route| route.concurrency = concurrency));
    (bed, config)
}

fn reading(bed: &Bed) -> QueueReading {
    let limits = bed.role.limits();
    assert_eq!(limits.len(), 1, "{limits:?}");
    limits[0].1
}

/// Answers, with the time in milliseconds at which each arrived.
type Answers = Rc<RefCell<Vec<(u64, String)>>>;

fn call_beside(edge: &EdgeSide, config: &Arc<ClientConfig>, peer: &'static str, call: String, answers: &Answers) {
    let (edge, config, answers) = (edge.clone(), Arc::clone(config), Rc::clone(answers));
    let core = edge.core.clone();
    core.spawn(async move {
        let mut agent = agent_at(&edge, &config, peer).await;
        let began = edge.now();
        agent.write(call).await;
        let answer = answer_of(&mut agent).await;
        answers.borrow_mut().push((((edge.now() - began).as_millis() / 100) as u64, answer));
        // The session continues after any answer.
        let _ = agent.rest().await;
    });
}

/// Reads an answer with a length.
async fn answer_of(agent: &mut Agent) -> String {
    let head = agent.until("\r\n\r\n").await;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let len: usize = field("Content-Length: ").map_or(0, |len| len.parse().unwrap());
    let mut body = String::new();
    while body.len() < len {
        body += &agent.until("}").await;
    }
    head + &body
}

#[test]
fn an_agents_call_beyond_the_limit_waits_for_a_place_or_is_refused() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(1, ms(600), &calls);
    let answers = Answers::default();
    let shared = Rc::clone(&answers);
    bed.run(|edge| async move {
        for _ in 0..4 {
            call_beside(&edge, &config, NEAR, tool_call("search", ""), &shared);
            // The calls arrive one after the other.
            edge.core.sleep(ms(20)).await;
        }
        edge.core.sleep(ms(3_000)).await;
    });
    // One after the other, and the last two would have waited for too long.
    let answers = answers.borrow();
    let statuses: Vec<(u64, &str)> = answers.iter().map(|(after, answer)| (*after, &answer[9..12])).collect();
    assert_eq!(statuses, [(6, "200"), (10, "503"), (10, "503"), (11, "200")]);
    let refused = &answers[1].1;
    for part in [
        "Retry-After: ",
        r#""code":-31030"#,
        r#""reason":"concurrency_limit""#,
        r#""may_have_acted":false"#,
        r#""tool":"search""#,
        r#""limit":"concurrency""#,
        r#""cause":"waited_too_long""#,
        r#""tunnel":"tnl_t""#,
        r#""id":7"#,
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    assert!(!refused.contains("Connection: close"), "{refused}");
    assert_eq!(calls.get(), 2, "the server has run no other");
    let QueueReading { in_flight, waiting, counts, .. } = reading(&bed);
    assert_eq!((in_flight, waiting, counts.admitted, counts.waited, counts.refused), (0, 0, 2, 3, 2));
    let kept = bed.calls();
    let mut seen: Vec<_> = kept
        .iter()
        .map(|call| (call.record.stage, call.record.outcome, call.record.queued().as_millis() / 100))
        .collect();
    seen.sort_unstable_by_key(|(_, _, queued)| *queued);
    let refused = (CallStage::Concurrency, Some(Outcome::ConcurrencyLimited), 10);
    let ok = |queued| (CallStage::Done, Some(Outcome::Ok), queued);
    assert_eq!(seen, [ok(0), ok(5), refused, refused]);
}

/// Agents are distinguished by the address that the edge sends.
#[test]
fn one_agent_takes_no_more_than_its_share_while_another_has_calls() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(4, ms(3_000), &calls);
    let answers = Answers::default();
    let shared = Rc::clone(&answers);
    let seen = Rc::<RefCell<Vec<(u32, u32)>>>::default();
    let (noted, role) = (Rc::clone(&seen), Arc::clone(&bed.role));
    bed.run(|edge| async move {
        for (peer, pause) in [(FAR, 20), (NEAR, 20), (NEAR, 20), (NEAR, 20), (NEAR, 1_500), (FAR, 20)] {
            call_beside(&edge, &config, peer, tool_call("search", ""), &shared);
            edge.core.sleep(ms(pause)).await;
            let reading = role.limits()[0].1;
            noted.borrow_mut().push((reading.in_flight, reading.waiting));
        }
        edge.core.sleep(ms(4_000)).await;
    });
    assert_eq!(*seen.borrow(), [(1, 0), (2, 0), (3, 0), (3, 1), (3, 0), (4, 0)], "a place is kept for the other");
    let answers = answers.borrow();
    let refused: Vec<&String> =
        answers.iter().map(|(_, answer)| answer).filter(|answer| answer[9..].starts_with("503")).collect();
    assert_eq!((answers.len(), refused.len(), calls.get()), (6, 2, 4));
    assert!(refused[0].contains(r#""limit":"agent_share""#), "there was a place free: {}", refused[0]);
}

#[test]
fn a_call_whose_agent_leaves_while_it_waits_is_not_sent_and_gives_up_its_turn() {
    for is_reset in [false, true] {
        let calls = Rc::<Cell<u32>>::default();
        let (mut bed, config) = bed(1, ms(400), &calls);
        let answers = Answers::default();
        let (shared, role) = (Rc::clone(&answers), Arc::clone(&bed.role));
        bed.run(move |edge| async move {
            call_beside(&edge, &config, NEAR, tool_call("search", ""), &shared);
            edge.core.sleep(ms(50)).await;
            let leaving = agent_at(&edge, &config, NEAR).await;
            leaving.write(tool_call("search", "")).await;
            edge.core.sleep(ms(50)).await;
            call_beside(&edge, &config, NEAR, tool_call("search", ""), &shared);
            edge.core.sleep(ms(50)).await;
            assert_eq!(role.limits()[0].1.waiting, 2);
            if is_reset {
                leaving.stream.abort();
            } else {
                leaving.stream.finish();
            }
            edge.core.sleep(ms(50)).await;
            assert_eq!(role.limits()[0].1.waiting, 1, "is_reset={is_reset}");
            edge.core.sleep(ms(2_000)).await;
        });
        let statuses: Vec<(u64, String)> =
            answers.borrow().iter().map(|(at, shared)| (*at, shared[9..12].to_owned())).collect();
        assert_eq!(statuses, [(4, "200".to_owned()), (7, "200".to_owned())], "is_reset={is_reset}");
        assert_eq!(calls.get(), 2, "is_reset={is_reset}");
        let gone = bed.calls().into_iter().filter(|call| call.record.outcome == Some(Outcome::AgentGone)).count();
        assert_eq!(gone, 1, "is_reset={is_reset}");
        let QueueReading { in_flight, waiting, agents, counts, .. } = reading(&bed);
        assert_eq!((in_flight, waiting, agents, counts.admitted), (0, 0, 0, 2), "is_reset={is_reset}");
    }
}

/// Event streams last as long as their agents want, and a call in flight may wait for a message.
#[test]
fn streams_and_messages_that_are_no_calls_need_no_place() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(1, ms(500), &calls);
    let role = Arc::clone(&bed.role);
    bed.run(|edge| async move {
        let mut events = agent_at(&edge, &config, NEAR).await;
        events.write("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\nAccept: text/event-stream\r\n\r\n").await;
        events.until(": here\n\n").await;
        assert!(role.limits().is_empty(), "none has asked for a place");
        let answers = Answers::default();
        call_beside(&edge, &config, NEAR, tool_call("search", ""), &answers);
        edge.core.sleep(ms(50)).await;
        let mut other = agent_at(&edge, &config, NEAR).await;
        other.write(post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, "")).await;
        assert!(other.until("\r\n\r\n").await.starts_with("HTTP/1.1 202 "));
        let reading = role.limits()[0].1;
        assert_eq!((reading.in_flight, reading.waiting, reading.counts.waited), (1, 0, 0), "{reading:?}");
        edge.core.sleep(ms(1_000)).await;
        assert_eq!(answers.borrow().len(), 1);
    });
}

/// Waiting says nothing about the server: neither deadline nor limit grows with it.
#[test]
fn the_time_for_which_a_call_waits_for_a_place_is_not_that_of_its_server() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(1, ms(400), &calls);
    bed.run(|edge| async move {
        let answers = Answers::default();
        for _ in 0..40 {
            // Two at a time: every second one waits as long as the server takes.
            call_beside(&edge, &config, NEAR, tool_call("search", ""), &answers);
            call_beside(&edge, &config, FAR, tool_call("search", ""), &answers);
            edge.core.sleep(ms(900)).await;
        }
        assert_eq!(answers.borrow().len(), 80);
    });
    let mut recorder = Recorder::new(LatencySettings::default()).with_learned(&bed.role.learned);
    recorder.label("mcp.test", "tools/call", "search");
    let usual = recorder.usual("mcp.test", "tools/call", "search", bed.net.now()).expect("there were enough");
    assert!(usual.p95 < ms(450), "{usual:?}");
    let counts = reading(&bed).counts;
    assert_eq!((counts.admitted, counts.waited), (80, 40), "{counts:?}");
}

#[test]
fn without_a_limit_nothing_is_counted_and_observed_nothing_waits() {
    for (mode, would_refuse) in [(GuardMode::Off, None), (GuardMode::Observe, Some(2))] {
        let calls = Rc::<Cell<u32>>::default();
        let (mut bed, config) = bed(1, ms(300), &calls);
        let concurrency = ConcurrencyTerms { mode, min: 1, max: 1, ..ConcurrencyTerms::default() };
        bed.role.reload(changed(&bed.role.tables(), |route| route.concurrency = concurrency));
        let answers = Answers::default();
        let shared = Rc::clone(&answers);
        bed.run(|edge| async move {
            (0..3).for_each(|_| call_beside(&edge, &config, NEAR, tool_call("search", ""), &shared));
            edge.core.sleep(ms(1_000)).await;
        });
        assert!(answers.borrow().iter().all(|(after, answer)| *after == 3 && answer.starts_with("HTTP/1.1 200 ")));
        let counted = bed.role.limits().first().map(|(_, reading)| reading.counts.would_refuse);
        assert_eq!(counted, would_refuse, "{mode}");
    }
}

fn tasks(bed: &Bed) -> Vec<TaskLine> {
    let mut lines = bed.role.tasks().expect("they are counted").snapshot(bed.net.now()).lines;
    lines.sort_unstable_by_key(|line| line.figures.calls);
    lines
}

#[test]
fn agents_tool_calls_are_added_up_by_their_task() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(8, ms(200), &calls);
    let tools: Arc<[ToolOverrides]> = Arc::new([ToolOverrides { price: 1_000, ..free_of_terms("search") }]);
    bed.role.reload(changed(&bed.role.tables(), |route| route.tools = Arc::clone(&tools)));
    bed.run(|edge| async move {
        let mut agent = agent_at(&edge, &config, NEAR).await;
        let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        for (tool, fields) in [
            ("search", trace),
            ("search", trace),
            ("fetch", trace),
            ("search", "Mcp-Session-Id: a\r\n"),
            ("search", ""),
        ] {
            agent.write(tool_call(tool, fields)).await;
            assert!(answer_of(&mut agent).await.starts_with("HTTP/1.1 200 "));
        }
        // Its caller waits for 100 ms and is answered before that.
        agent.write(tool_call("slow", &format!("{trace}X-Request-Timeout: 100ms\r\n"))).await;
        assert!(answer_of(&mut agent).await.starts_with("HTTP/1.1 504 "));
    });
    let lines = tasks(&bed);
    let [of_session, of_trace] = &lines[..] else { panic!("{lines:?}") };
    assert!(matches!((of_session.id, of_trace.id), (TaskId::Session(_), TaskId::Trace(_))), "{lines:?}");
    let figures = of_trace.figures;
    assert_eq!((figures.calls, figures.repeated, of_trace.tools, figures.timed_out), (4, 1, 3, 1), "{figures:?}");
    // Three answers of eight bytes each, and a fourth of four bytes for a token.
    assert_eq!((figures.bytes, figures.tokens, figures.cost), (24, 6, 2_000));
    assert!((ms(650)..ms(700)).contains(&figures.upstream), "{figures:?}");
    assert!(figures.tunnel < ms(50), "{figures:?}");
    assert_eq!((of_session.figures.calls, of_session.figures.cost), (1, 1_000));
}

fn free_of_terms(tool: &str) -> ToolOverrides {
    let (deadlines, breaker) = Default::default();
    ToolOverrides { tool: tool.into(), deadlines, breaker, price: 0, hedge: None }
}

/// Such calls reach no tool, and cost nothing.
#[test]
fn calls_that_were_denied_or_refused_belong_to_their_task_and_are_not_charged() {
    let calls = Rc::<Cell<u32>>::default();
    let (mut bed, config) = bed(1, ms(5_000), &calls);
    let policy =
        "[[rule]]\nname = 'none'\neffect = 'deny'\ntools = ['drop']\n[[rule]]\neffect = 'allow'\ntools = ['*']\n";
    let policy = Arc::new(ToolPolicy::parse(policy).unwrap());
    let tools: Arc<[ToolOverrides]> =
        ["drop", "search"].map(|tool| ToolOverrides { price: 1_000, ..free_of_terms(tool) }).into();
    bed.role.reload(changed(&bed.role.tables(), |route| {
        route.tools = Arc::clone(&tools);
        route.policy = Some(Arc::clone(&policy));
    }));
    bed.run(|edge| async move {
        let answers = Answers::default();
        for tool in ["search", "search", "drop"] {
            call_beside(&edge, &config, NEAR, tool_call(tool, "Mcp-Session-Id: a\r\n"), &answers);
        }
        edge.core.sleep(ms(2_000)).await;
        let mut statuses: Vec<String> = answers.borrow().iter().map(|(_, answer)| answer[9..12].to_owned()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, ["200", "503"], "a call that is denied is answered as JSON-RPC");
        edge.core.sleep(ms(5_000)).await;
    });
    let lines = tasks(&bed);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((line.figures.calls, line.figures.cost, calls.get()), (3, 1_000, 1));
}
