//! Answers that break a rule, refusals, and servers that leave no room.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use h2::Reason;
use h2::server::Builder;
use http::Response;

use super::{POST, bed, get, server};
use crate::connector::ConnectorSettings;
use crate::connector::tests::bed::{Bed, Peer, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables_at};
use crate::connector::tests::failures::logged;
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::wire::mux::Cause;

#[test]
fn a_response_that_breaks_a_rule_fails_its_own_call_alone() {
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let head = Response::builder();
        match asked.path().as_str() {
            "/short" => {
                let head = head.header("content-length", 10).body(()).unwrap();
                let mut send = asked.respond.send_response(head, false).unwrap();
                send.send_data("half".into(), true).unwrap();
            }
            "/lengths" => {
                let head = head.header("content-length", 1).header("content-length", 2).body(()).unwrap();
                let _ = asked.respond.send_response(head, false);
            }
            "/many" => {
                let head = (0..200).fold(head, |head, nth| head.header(format!("x-{nth}"), "y")).body(()).unwrap();
                let _ = asked.respond.send_response(head, true);
            }
            "/long" => {
                let _ = asked.respond.send_response(head.header("x", "y".repeat(70_000)).body(()).unwrap(), true);
            }
            "/reset" => asked.respond.send_reset(Reason::INTERNAL_ERROR),
            "/part" => {
                let mut send = asked.respond.send_response(head.body(()).unwrap(), false).unwrap();
                send.send_data("half".into(), false).unwrap();
                asked.core.sleep(ms(10)).await;
                send.send_reset(Reason::INTERNAL_ERROR);
            }
            _ => asked.answer("ok"),
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for (path, cause) in [
            ("/short", Cause::UpstreamClosed),
            ("/lengths", Cause::UpstreamSilent),
            ("/many", Cause::UpstreamProtocol),
            ("/long", Cause::UpstreamSilent),
            ("/reset", Cause::UpstreamSilent),
            ("/part", Cause::UpstreamClosed),
        ] {
            let mut call =
                edge.call(format!("POST {path} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n")).await;
            call.stream.finish();
            assert_eq!(call.cause().await, cause, "{path}");
            assert!(get(&edge, "/good").await.contains("ok"), "after {path}");
        }
    });
    assert_eq!(seen.borrow().len(), 12, "nothing is sent again: {seen:?}");
    bed.assert_clean();
}

#[test]
fn the_reason_of_a_reset_is_logged_and_a_refusal_is_not() {
    for (reason, expected) in
        [(Reason::INTERNAL_ERROR, Some("it reset the call (INTERNAL_ERROR)")), (Reason::REFUSED_STREAM, None)]
    {
        let (play, _) = server(Builder::new(), move |mut asked| async move { asked.respond.send_reset(reason) });
        let mut bed = bed(play);
        let log = logged(|| {
            bed.run(|edge| async move {
                let mut call = edge.call(POST).await;
                call.stream.finish();
                call.cause().await;
            });
        });
        let line = log.lines().find(|line| line.contains("cannot be passed on"));
        match (line, expected) {
            (Some(line), Some(expected)) => {
                assert!(line.contains("10.0.0.3:9000") && line.contains(expected), "{line}")
            }
            (line, expected) => assert_eq!((line, expected), (None, None)),
        }
        bed.assert_clean();
    }
}

#[test]
fn a_refused_request_is_resent_on_other_connections_and_a_processed_one_never() {
    // How often it is refused, the reason, how often it is sent, and the result.
    for (refused, reason, sent, becomes) in [
        (1, Reason::REFUSED_STREAM, 2, None),
        (2, Reason::REFUSED_STREAM, 3, None),
        (3, Reason::REFUSED_STREAM, 3, Some(Cause::UpstreamUnsent)),
        (1, Reason::INTERNAL_ERROR, 1, Some(Cause::UpstreamSilent)),
        (1, Reason::CANCEL, 1, Some(Cause::UpstreamSilent)),
    ] {
        let left = Rc::new(Cell::new(refused));
        let (play, seen) = server(Builder::new(), move |mut asked| {
            let left = Rc::clone(&left);
            async move {
                if asked.path() == "/warm" || left.get() == 0 {
                    return asked.answer("ok");
                }
                left.set(left.get() - 1);
                asked.respond.send_reset(reason);
            }
        });
        let mut bed = bed(play);
        bed.run(move |edge| async move {
            assert!(get(&edge, "/warm").await.contains("ok"));
            let mut call = edge.call(POST).await;
            call.stream.finish();
            match becomes {
                None => assert!(call.whole().await.contains("ok")),
                Some(cause) => assert_eq!(call.cause().await, cause),
            }
        });
        let posts: Vec<_> = seen.borrow().iter().filter(|(_, path)| path == "/mcp").map(|(nth, _)| *nth).collect();
        assert_eq!(posts, (0..sent as usize).collect::<Vec<_>>(), "{reason:?}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), sent - 1);
        bed.assert_clean();
    }
}

#[test]
fn another_reason_for_which_there_is_no_connection_is_logged_but_not_at_once() {
    let play = script(|peer: Peer| async move {
        // It closes at once, or fails in another way.
        if peer.nth % 2 == 1 {
            peer.talk.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            peer.core.sleep(ms(100)).await;
        }
    });
    let mut bed = bed(play);
    let lines = |bed: &mut Bed| {
        let log = logged(|| {
            bed.run(|edge| async move {
                let mut call = edge.call(POST).await;
                call.stream.finish();
                assert_eq!(call.cause().await, Cause::UpstreamUnreachable);
            });
        });
        log.lines().filter(|line| line.contains("cannot connect to the upstream")).count()
    };
    assert_eq!(lines(&mut bed), 1);
    assert_eq!(lines(&mut bed), 0, "another reason, and too soon");
    assert_eq!(lines(&mut bed), 0, "the same as was logged");
    bed.pass(ms(10_000));
    assert_eq!(lines(&mut bed), 1, "another reason");
    bed.pass(ms(10_000));
    assert_eq!(lines(&mut bed), 1);
    bed.assert_clean();
}

#[test]
fn a_short_request_that_a_server_gives_no_window_for_is_given_up_in_time() {
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let (play, _) = server(builder, |mut asked| async move {
        let _ = asked.body().await;
    });
    let settings = ConnectorSettings { write_timeout: ms(4_000), ..settings() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(play));
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |_| {}));
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamTimeout);
    });
    bed.assert_clean();
}
