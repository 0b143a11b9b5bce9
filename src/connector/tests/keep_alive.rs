//! Connections to an upstream that closes idle ones.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bed::{Bed, CONNECTOR, Script, UPSTREAM, ms, script, settings, tables_resending, tables_set};
use crate::base::CallFailure;
use crate::engine::sim::Faults;
use crate::engine::{ByteStream, StreamError};
use crate::wire::mux::Cause;

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const POST: &str = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The connection of each request, and the first word of the request.
type Seen = Rc<RefCell<Vec<(usize, String)>>>;

/// An upstream that answers each request with `answer` while `lives` is true, and otherwise closes the connection
/// instead. `lives` gets the number of the connection and of the request on it.
fn upstream(answer: &'static str, lives: impl Fn(usize, usize) -> bool + 'static) -> (Script, Seen) {
    let (seen, lives) = (Seen::default(), Rc::new(lives));
    let note = Rc::clone(&seen);
    let play = script(move |peer| {
        let (note, lives) = (Rc::clone(&note), Rc::clone(&lives));
        async move {
            for nth_request in 0.. {
                let Ok(Some(lease)) = peer.talk.stream.recv().await else { return };
                let word = String::from_utf8_lossy(&lease).split(' ').next().unwrap_or_default().to_owned();
                note.borrow_mut().push((peer.nth, word));
                if !lives(peer.nth, nth_request) {
                    return;
                }
                peer.talk.write(answer).await;
            }
        }
    });
    (play, seen)
}

/// The connections of three calls, with `pause` between them.
fn connections_of_calls(answer: &'static str, idle_timeout: Duration, pause: Duration) -> Vec<usize> {
    let (play, seen) = upstream(answer, |_, _| true);
    let mut bed = Bed::new(play);
    bed.role.reload(tables_set(|settings| settings.idle_timeout = idle_timeout));
    bed.run(move |edge| async move {
        for _ in 0..3 {
            assert!(edge.get().await.ends_with("ok"));
            edge.core.sleep(pause).await;
        }
    });
    bed.assert_clean();
    let seen = seen.borrow();
    seen.iter().map(|(nth, _)| *nth).collect()
}

#[test]
fn a_connection_is_not_used_in_the_last_second_before_the_upstream_closes_it() {
    const ANNOUNCED: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 2\r\n\r\nok";
    const AT_ONCE: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok";
    let long = ms(30_000);
    assert_eq!(connections_of_calls(ANNOUNCED, long, ms(3_900)), [0, 0, 0]);
    assert_eq!(connections_of_calls(ANNOUNCED, long, ms(4_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(AT_ONCE, long, ms(1)), [0, 1, 2]);
    // The setting applies if it is the shorter time, exactly, and not only at the next periodic check.
    assert_eq!(connections_of_calls(ANNOUNCED, ms(2_000), ms(2_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(OK, ms(4_000), ms(4_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(OK, ms(4_000), ms(3_900)), [0, 0, 0]);
}

#[test]
fn an_idempotent_request_is_resent_when_an_idle_connection_was_closed_as_it_arrived() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        // Both idle connections are closed when the next request arrives.
        let (play, seen) = upstream(OK, |nth, request| nth >= 2 || request == 0);
        let mut bed = Bed::new(play);
        bed.run(move |edge| async move {
            let mut first = edge.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
            first.stream.finish();
            assert!(edge.get().await.ends_with("ok"));
            assert!(first.whole().await.ends_with("ok"));
            let mut call = edge.call(format!("{method} /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
            call.stream.finish();
            assert!(call.whole().await.starts_with("HTTP/1.1 200 OK"), "{method}");
        });
        let again = seen.borrow().iter().filter(|(_, word)| word == method).count();
        assert_eq!(again, if method == "GET" { 4 } else { 2 }, "{seen:?}");
        assert_eq!(seen.borrow().last().unwrap().0, 2, "on a new connection: {seen:?}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 1);
        bed.assert_clean();
    }
}

#[test]
fn a_post_is_not_sent_again_and_nothing_is_sent_a_third_time() {
    for (method, sent) in [("POST", 1), ("PATCH", 1), ("DELETE", 2)] {
        let (play, seen) = upstream(OK, |nth, request| nth == 0 && request == 0);
        let mut bed = Bed::new(play);
        bed.run(move |edge| async move {
            assert!(edge.get().await.ends_with("ok"));
            let mut call = edge.call(format!("{method} /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
            call.stream.finish();
            assert_eq!(call.cause().await, Cause::UpstreamSilent, "{method}");
        });
        assert_eq!(seen.borrow().iter().filter(|(_, word)| word == method).count(), sent, "{seen:?}");
        bed.assert_clean();
    }
}

#[test]
fn where_every_used_connection_ends_retries_stay_within_the_budget() {
    const CALLS: u64 = 300;
    let (play, seen) = upstream(OK, |_, request| request == 0);
    let mut bed = Bed::new(play);
    bed.run(|edge| async move {
        for _ in 0..CALLS {
            let mut call = edge.call(GET).await;
            call.stream.finish();
            let (text, ended) = call.rest().await;
            let denied = Err(StreamError::ResetWith { failure: CallFailure::UpstreamSilent });
            assert!(text.ends_with("ok") || ended == denied, "{text} {ended:?}");
        }
    });
    let [resent, denied] = [&bed.role.counters().requests_resent, &bed.role.counters().resends_denied]
        .map(|count| count.load(Ordering::Relaxed));
    assert_eq!(seen.borrow().len() as u64, CALLS + resent);
    assert!((CALLS / 10..=CALLS / 10 + 10).contains(&resent), "{resent}");
    assert!(denied > 0 && denied < CALLS, "{denied}");
    bed.assert_clean();
}

/// A server that lists its tools. It closes a connection instead of answering a tool call that is not the first request
/// on it. Returns the calls that it received.
fn tools(is_events: bool) -> (Script, Rc<RefCell<Vec<String>>>) {
    const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
        {"name":"look","annotations":{"readOnlyHint":true}},{"name":"pay","annotations":{"readOnlyHint":false}}]}}"#;
    let seen = Rc::<RefCell<Vec<String>>>::default();
    let note = Rc::clone(&seen);
    let play = script(move |mut peer| {
        let note = Rc::clone(&note);
        async move {
            for nth_request in 0.. {
                if peer.talk.next_head().await.is_none() {
                    return;
                }
                let body = peer.talk.until("}}").await;
                note.borrow_mut().push(body.split('"').nth(11).unwrap_or("list").to_owned());
                let is_list = body.contains("tools/list");
                if !is_list && nth_request > 0 {
                    return;
                }
                let (kind, text) = match (is_list, is_events) {
                    (false, _) => ("application/json", "{}".to_owned()),
                    (true, false) => ("application/json", LIST.to_owned()),
                    (true, true) => ("text/event-stream", format!("data: {}\n\n", LIST.replace('\n', ""))),
                };
                let length = text.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
                peer.talk.write(head + &text).await;
            }
        }
    });
    (play, seen)
}

fn message(method: &str, tool: &str) -> String {
    let body = format!(r#"{{"id":1,"method":"{method}","params":{{"name":"{tool}"}}}}"#);
    format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn only_calls_of_read_only_tools_are_resent_and_only_if_the_route_allows_it() {
    for (believes, is_events) in [(false, false), (true, false), (true, true)] {
        let (play, seen) = tools(is_events);
        let mut bed = Bed::new(play);
        if believes {
            bed.role.reload(tables_resending());
        }
        bed.run(move |edge| async move {
            for (method, tool, is_answered) in [
                ("tools/call", "look", true),
                // On a reused connection, with nothing known about the tool yet.
                ("tools/call", "look", false),
                ("tools/list", "", true),
                ("tools/call", "look", believes),
                // On a new connection if the previous call was not sent again.
                ("tools/call", "pay", !believes),
                ("tools/list", "", true),
                ("tools/call", "pay", false),
            ] {
                let mut call = edge.call(message(method, tool)).await;
                call.stream.finish();
                if is_answered {
                    assert!(call.whole().await.starts_with("HTTP/1.1 200 "), "{method} {tool} {believes} {is_events}");
                } else {
                    assert_eq!(call.cause().await, Cause::UpstreamSilent, "{method} {tool} {believes} {is_events}");
                }
                edge.core.sleep(ms(10)).await;
            }
        });
        let of = |tool: &str| seen.borrow().iter().filter(|seen| *seen == tool).count();
        assert_eq!((of("look"), of("pay")), (3 + usize::from(believes), 2), "{seen:?}");
        let counters = bed.role.counters();
        let resent = [&counters.requests_resent, &counters.resends_safe].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(resent, [u64::from(believes); 2]);
        bed.assert_clean();
    }
}

#[test]
fn an_idle_connection_that_the_upstream_has_closed_is_not_used_though_its_end_was_not_received_yet() {
    for seed in 0..20 {
        let play = script(|mut peer| async move {
            peer.talk.until("body").await;
            peer.talk.write(OK).await;
            peer.core.sleep(ms(1)).await;
        });
        let mut bed = Bed::with(settings(), seed, Faults::none(), Some(play));
        bed.run(|edge| async move {
            // As on a busy core, the connector's driver reports received data late.
            edge.net.set_faults(Faults { slow_read_chance: 0.6, slow_read_ns_max: 20_000_000, ..Faults::none() });
            for _ in 0..4 {
                let mut call = edge.call(POST).await;
                call.stream.finish();
                assert!(call.whole().await.ends_with("ok"), "seed {seed}");
                edge.core.sleep(ms(3)).await;
            }
        });
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 0);
        bed.net.calm();
        bed.assert_clean();
    }
}

#[test]
fn a_full_pool_of_connections_to_a_host_that_vanished_is_given_up_and_the_first_call_after_its_return_is_answered() {
    let (play, seen) = upstream(OK, |_, _| true);
    // No connection fails by itself in the meantime.
    let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
    let mut bed = Bed::with(settings(), 1, faults, Some(play));
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..4 {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
        }
        for mut call in calls {
            assert!(call.whole().await.ends_with("ok"));
        }
        edge.net.partition(CONNECTOR, UPSTREAM);
        // Each call in flight, and none that follows, waits for an acknowledgement.
        let began = edge.now();
        let (mut post, mut get) = (edge.call(POST).await, edge.call(GET).await);
        post.stream.finish();
        get.stream.finish();
        assert_eq!(post.cause().await, Cause::UpstreamTimeout, "it may have been received");
        assert!(edge.now() - began < ms(10_000));
        assert_eq!(get.cause().await, Cause::UpstreamConnectTimeout, "it went on to a new connection");
        assert!(edge.now() - began < ms(10_000));
        let mut next = edge.call(POST).await;
        next.stream.finish();
        assert_eq!(next.cause().await, Cause::UpstreamConnectTimeout);
        edge.net.heal(CONNECTOR, UPSTREAM);
        let mut first = edge.call(POST).await;
        first.stream.finish();
        assert!(first.whole().await.ends_with("ok"));
    });
    assert!(seen.borrow().last().unwrap().0 >= 4, "on a new connection: {seen:?}");
    bed.assert_clean();
}

#[test]
fn how_long_a_host_may_acknowledge_nothing_is_a_setting_of_the_route() {
    for within in [1_000, 30_000] {
        let (play, _) = upstream(OK, |_, _| true);
        // No connection fails by itself in the meantime.
        let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
        let mut bed = Bed::with(settings(), 1, faults, Some(play));
        bed.role.reload(tables_set(|settings| settings.acknowledged_within = ms(within)));
        bed.run(move |edge| async move {
            assert!(edge.get().await.ends_with("ok"));
            edge.net.partition(CONNECTOR, UPSTREAM);
            let began = edge.now();
            let mut post = edge.call(POST).await;
            post.stream.finish();
            assert_eq!(post.cause().await, Cause::UpstreamTimeout);
            let took = edge.now() - began;
            assert!(took >= ms(within) && took < ms(within + 1_000), "{took:?}");
            edge.net.heal(CONNECTOR, UPSTREAM);
        });
        bed.assert_clean();
    }
}

#[test]
fn a_silent_event_stream_of_a_host_that_vanished_ends_in_time() {
    // The default ends it within 90 s.
    for silence_max in [None, Some(20_000)] {
        let play = script(|mut peer| async move {
            peer.talk.head().await;
            peer.talk.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            peer.core.sleep(ms(600_000)).await;
        });
        let mut bed = Bed::new(play);
        bed.role.reload(tables_set(|settings| {
            settings.silence_max = silence_max.map_or(settings.silence_max, ms);
        }));
        bed.run(move |edge| async move {
            let mut events = edge.call(GET).await;
            events.stream.finish();
            events.until("data: 1\n\n").await;
            edge.core.sleep(ms(300_000)).await;
            edge.net.partition(CONNECTOR, UPSTREAM);
            let began = edge.now();
            let (rest, ended) = events.rest().await;
            assert!(ended.is_err(), "{rest}");
            let (took, limit) = (edge.now() - began, silence_max.unwrap_or(90_000));
            assert!(took > ms(limit / 2) && took <= ms(limit + 1_000), "{took:?}");
        });
        bed.net.calm();
        bed.assert_clean();
    }
}

#[test]
fn an_upstream_that_takes_long_to_answer_is_waited_for_as_long_as_its_host_is_there() {
    let play = script(|mut peer| async move {
        for _ in 0..2 {
            peer.talk.until("body").await;
            peer.core.sleep(ms(60_000)).await;
            peer.talk.write(OK).await;
        }
    });
    let mut bed = Bed::new(play);
    bed.run(|edge| async move {
        for _ in 0..2 {
            let mut call = edge.call(POST).await;
            call.stream.finish();
            assert!(call.whole().await.ends_with("ok"));
        }
    });
    bed.assert_clean();
}
