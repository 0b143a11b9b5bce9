//! Calls, their bodies and their events.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use h2::Reason;
use h2::server::Builder;
use http::Response;

use super::{GET, POST, bed, bed_with, connections_open, get, server};
use crate::connector::tests::bed::{Peer, UPSTREAM, UPSTREAM_PORT, ms, script};
use crate::engine::ByteStream;
use crate::wire::mux::Cause;

#[test]
fn many_calls_share_one_connection_and_each_gets_its_answer() {
    const CALLS: usize = 50;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let (path, host) = (asked.path(), asked.request.uri().authority().unwrap().to_string());
        let (body, _) = asked.body().await.unwrap();
        // The first requests are answered last.
        let nth: u64 = path[1..].parse().unwrap();
        asked.core.sleep(ms(200 - nth)).await;
        let text = format!("{} {path} {host} {}", asked.request.method(), String::from_utf8(body).unwrap());
        let head = Response::builder().header("content-length", text.len()).header("x-nth", nth).body(()).unwrap();
        let mut send = asked.respond.send_response(head, false).unwrap();
        send.send_data(text.into(), true).unwrap();
    });
    let mut bed = bed(play);
    bed.run(move |edge| async move {
        let mut calls = Vec::new();
        for nth in 0..CALLS {
            let head = format!("POST /{nth} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody");
            let call = edge.call(head).await;
            call.stream.finish();
            calls.push(call);
        }
        for (nth, call) in calls.iter_mut().enumerate() {
            let answer = call.whole().await;
            assert!(
                answer.starts_with("HTTP/1.1 200 \r\n") && answer.contains(&format!("x-nth: {nth}\r\n")),
                "{answer}"
            );
            assert!(answer.ends_with(&format!("POST /{nth} {UPSTREAM}:{UPSTREAM_PORT} body")), "{answer}");
        }
    });
    let report = bed.report();
    let of = &report.upstreams[0];
    assert_eq!((of.connections_open, of.http2_connections_open, of.http2_streams_open), (1, 1, 0));
    assert_eq!(seen.borrow().len(), CALLS);
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0), "{seen:?}");
    bed.assert_clean();
}

#[test]
fn a_connection_without_calls_is_closed_after_the_idle_timeout() {
    let (play, seen) = server(Builder::new(), |asked| async move { asked.answer("ok") });
    let mut bed = bed_with(play, |settings| settings.idle_timeout = ms(4_000));
    bed.run(|edge| async move {
        for pause in [3_900, 3_900, 4_100, 0] {
            assert!(edge.get().await.contains("ok"));
            edge.core.sleep(ms(pause)).await;
        }
    });
    let connections: Vec<_> = seen.borrow().iter().map(|(nth, _)| *nth).collect();
    assert_eq!(connections, [0, 0, 0, 1]);
    assert_eq!(connections_open(&mut bed), 1);
    bed.pass(ms(4_100));
    assert_eq!(connections_open(&mut bed), 0);
    assert_eq!(bed.net.open_sockets(UPSTREAM), 0, "it is closed, not only forgotten");
    bed.assert_clean();
}

#[test]
fn a_server_gets_no_more_calls_at_once_on_a_connection_than_it_allows() {
    let (open, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let (counted, greatest) = (Rc::clone(&open), Rc::clone(&most));
    let (play, seen) = server(builder, move |asked| {
        let (open, most) = (Rc::clone(&counted), Rc::clone(&greatest));
        async move {
            open.set(open.get() + 1);
            most.set(most.get().max(open.get()));
            asked.core.sleep(ms(100)).await;
            open.set(open.get() - 1);
            asked.answer("ok");
        }
    });
    let mut bed = bed_with(play, |settings| settings.connections_max = 2);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..10 {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
        }
        for call in &mut calls {
            assert!(call.whole().await.contains("ok"));
        }
    });
    assert_eq!((most.get(), seen.borrow().iter().map(|(nth, _)| *nth).max()), (4, Some(1)), "{seen:?}");
    bed.assert_clean();
}

#[test]
fn all_calls_that_wait_for_one_attempt_to_connect_get_its_error() {
    let play = script(|mut peer: Peer| async move {
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let _ = peer.talk.stream.recv().await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let call = edge.call(POST).await;
            call.stream.finish();
            calls.push(call);
        }
        for call in &mut calls {
            assert_eq!(call.cause().await, Cause::UpstreamUnreachable);
        }
    });
    let failing = bed.report().upstreams[0].failing.clone().unwrap();
    assert!(failing.contains("10.0.0.3:9000") && failing.contains("there is no HTTP/2 with it"), "{failing}");
    bed.assert_clean();
}

#[test]
fn bodies_trailers_and_interim_responses_pass() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let hints = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        asked.respond.send_informational(hints).unwrap();
        let (body, trailers) = asked.body().await.unwrap();
        let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
        send.send_data(body.into(), false).unwrap();
        send.send_trailers(trailers).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let head = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        let mut call = edge.call(head).await;
        call.write("6\r\nhello \r\n5\r\nworld\r\n").await;
        call.write("0\r\nX-Sum: 11\r\n\r\n").await;
        call.stream.finish();
        let answer = call.whole().await;
        let (hints, answer) = answer.split_once("\r\n\r\n").unwrap();
        assert!(hints.starts_with("HTTP/1.1 103 ") && hints.contains("link: </a>"), "{hints}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert!(body.replace("\r\n", "").contains("hello ") && body.ends_with("0\r\nx-sum: 11\r\n\r\n"), "{body}");
        // A response to HEAD has a length and no body; one of 204 has neither.
        let mut call = edge.call("HEAD /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        let answer = call.whole().await;
        assert!(answer.contains("\r\n\r\nHTTP/1.1 200 \r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
    bed.assert_clean();
}

#[test]
fn te_trailers_is_forwarded_to_the_server() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let te = asked.request.headers().get("te").map(|te| te.to_str().unwrap().to_owned()).unwrap_or_default();
        let head = Response::builder().header("x-te", te).body(()).unwrap();
        asked.respond.send_response(head, true).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for (te, expected) in [("TE: gzip, trailers\r\nConnection: te\r\n", "trailers"), ("TE: gzip\r\n", "")] {
            let mut call = edge.call(&format!("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n{te}\r\n")).await;
            call.stream.finish();
            let answer = call.whole().await;
            assert!(answer.contains(&format!("x-te: {expected}\r\n")), "{answer}");
        }
    });
    bed.assert_clean();
}

#[test]
fn trailers_behind_a_body_of_known_length_pass_if_they_are_announced() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let head = Response::builder().header("content-length", 4);
        let head = if asked.path() == "/announced" { head.header("trailer", "x-sum") } else { head };
        let mut send = asked.respond.send_response(head.body(()).unwrap(), false).unwrap();
        send.send_data("body".into(), false).unwrap();
        send.send_trailers([("x-sum".parse().unwrap(), "4".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let answer = get(&edge, "/announced").await;
        assert!(answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n"), "{answer}");
        assert!(!answer.contains("ontent-"), "{answer}");
        let answer = get(&edge, "/not").await;
        assert!(
            answer.to_lowercase().contains("content-length: 4\r\n") && answer.ends_with("\r\n\r\nbody"),
            "{answer}"
        );
    });
    bed.assert_clean();
}

#[test]
fn large_bodies_pass_in_both_directions_beside_one_that_is_not_read() {
    const LEN: usize = 2_000_000;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let (body, _) = asked.body().await.unwrap();
        let head = Response::builder().header("content-length", LEN).header("x-received", body.len()).body(()).unwrap();
        let mut send = asked.respond.send_response(head, false).unwrap();
        let mut left = LEN;
        while left > 0 {
            send.reserve_capacity(left);
            // The edge stops reading here.
            let Some(Ok(n)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            send.send_data(vec![b'x'; n].into(), n == left).unwrap();
            left -= n;
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let unread = edge.call(GET).await;
        unread.stream.finish();
        edge.core.sleep(ms(500)).await;
        for _ in 0..3 {
            let head = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {LEN}\r\n\r\n");
            let mut call = edge.call(head).await;
            call.write("y".repeat(LEN)).await;
            call.stream.finish();
            let answer = call.whole().await;
            assert!(answer.contains(&format!("x-received: {LEN}\r\n")), "{}", &answer[..200]);
            assert!(answer.ends_with(&"x".repeat(LEN)));
        }
        drop(unread);
    });
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0));
    bed.assert_clean();
}

#[test]
fn events_pass_at_once_and_a_call_that_is_given_up_is_cancelled() {
    let reason = Rc::new(Cell::new(None));
    let set = Rc::clone(&reason);
    let (play, _) = server(Builder::new(), move |mut asked| {
        let reason = Rc::clone(&set);
        async move {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut send = asked.respond.send_response(head, false).unwrap();
            for nth in 0..3 {
                send.send_data(format!("data: {nth}\n\n").into(), false).unwrap();
                asked.core.sleep(ms(1_000)).await;
            }
            reason.set(poll_fn(|cx| send.poll_reset(cx)).await.ok());
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        let began = edge.now();
        for nth in 0..3_u64 {
            call.until(&format!("data: {nth}\n\n\r\n")).await;
            let late = edge.now() - began - Duration::from_secs(nth);
            assert!(late < ms(5), "event {nth} is {late:?} late");
        }
        drop(call);
        edge.core.sleep(ms(1_100)).await;
    });
    assert_eq!(reason.get(), Some(Reason::CANCEL));
    assert_eq!(connections_open(&mut bed), 1, "the connection goes on");
    bed.assert_clean();
}
