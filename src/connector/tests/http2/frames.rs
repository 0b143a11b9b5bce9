//! Frames that close a connection or a stream, and frames that carry nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, STATUS_200, WHOLE};
use super::{GET, POST, bed, bed_with, connections_open, get};
use crate::connector::tests::bed::{CONNECTOR, ms, script};
use crate::engine::ByteStream;
use crate::wire::mux::Cause;

#[test]
fn a_connection_that_the_server_closes_is_closed_at_once() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.unwrap();
        raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        raw.peer.core.sleep(ms(1_000)).await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        edge.link().await;
        let sockets = edge.net.open_sockets(CONNECTOR);
        assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(edge.net.open_sockets(CONNECTOR), sockets + 1);
        edge.core.sleep(ms(2_000)).await;
        assert_eq!(edge.net.open_sockets(CONNECTOR), sockets, "it waits for no other call");
    });
    assert_eq!(connections_open(&mut bed), 0);
    bed.assert_clean();
}

#[test]
fn of_two_calls_that_cross_a_goaway_the_excluded_one_is_resent_and_the_other_is_answered() {
    for code in [0, 11] {
        let seen = Rc::<RefCell<Vec<(usize, u32)>>>::default();
        let note = Rc::clone(&seen);
        let play = script(move |peer| {
            let note = Rc::clone(&note);
            async move {
                let nth = peer.nth;
                let mut raw = Raw::begin(peer).await;
                let mut requests = 0;
                while let Some(stream) = raw.request().await {
                    note.borrow_mut().push((nth, stream));
                    requests += 1;
                    match (nth, requests) {
                        (0, 1) => {}
                        (0, _) => {
                            raw.write(HEADERS, WHOLE, 1, STATUS_200).await;
                            raw.goaway(1, code).await;
                        }
                        _ => raw.write(HEADERS, WHOLE, stream, STATUS_200).await,
                    }
                }
            }
        });
        let mut bed = bed(play);
        bed.run(|edge| async move {
            let (mut first, mut second) = (edge.call(POST).await, edge.call(POST).await);
            first.stream.finish();
            second.stream.finish();
            assert!(first.whole().await.starts_with("HTTP/1.1 200 "));
            assert!(second.whole().await.starts_with("HTTP/1.1 200 "));
            assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        });
        assert_eq!(*seen.borrow(), [(0, 1), (0, 3), (1, 1), (1, 3)], "{code}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 1);
        bed.assert_clean();
    }
}

#[test]
fn a_connection_that_drains_holds_up_no_other_call() {
    let play = script(|peer| async move {
        let nth = peer.nth;
        let mut raw = Raw::begin(peer).await;
        while let Some(stream) = raw.request().await {
            if nth > 0 {
                raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
                continue;
            }
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            raw.goaway(stream, 0).await;
            raw.peer.core.sleep(ms(30_000)).await;
            raw.write(DATA, END_STREAM, stream, b"the end").await;
        }
    });
    let mut bed = bed_with(play, |settings| settings.connections_max = 1);
    bed.run(|edge| async move {
        let mut events = edge.call(GET).await;
        events.stream.finish();
        events.head().await;
        edge.core.sleep(ms(100)).await;
        assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        assert!(events.whole().await.contains("the end"));
    });
    assert_eq!(connections_open(&mut bed), 1, "the one that drained has ended");
    bed.assert_clean();
}

/// Servers that flush send empty DATA frames.
#[test]
fn frames_that_carry_nothing_cost_no_call() {
    const EACH: usize = 225;
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        while let Some(stream) = raw.request().await {
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            for part in [&b"one "[..], b"two"] {
                let nothing = [&[0, 0, 0, DATA, 0][..], &stream.to_be_bytes()].concat();
                raw.peer.talk.write(nothing.repeat(EACH)).await;
                raw.write(DATA, 0, stream, part).await;
            }
            raw.write(DATA, END_STREAM, stream, &[]).await;
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for _ in 0..2 {
            let answer = get(&edge, "/mcp").await;
            assert!(answer.contains("one ") && answer.ends_with("two\r\n0\r\n\r\n"), "{answer}");
        }
    });
    assert_eq!(bed.report().upstreams[0].http2_connections_open, 1, "it carries the next call");
    bed.assert_clean();
}

#[test]
fn a_flood_of_frames_that_carry_nothing_ends_the_connection() {
    let (seen, note) = (Rc::<Cell<usize>>::default(), Rc::<Cell<usize>>::default());
    let (shared, read) = (Rc::clone(&seen), Rc::clone(&note));
    let play = script(move |peer| {
        let (shared, read) = (Rc::clone(&shared), Rc::clone(&read));
        async move {
            let mut raw = Raw::begin(peer).await;
            let Some(stream) = raw.request().await else { return };
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            let nothing = [&[0, 0, 0, DATA, 0][..], &stream.to_be_bytes()].concat();
            raw.peer.talk.write(nothing.repeat(5_000)).await;
            shared.set(1);
            while raw.take(1).await.is_some() {}
            read.set(1);
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamClosed);
    });
    assert_eq!((seen.get(), note.get()), (1, 1), "the connection is closed");
    bed.assert_clean();
}

#[test]
fn a_server_that_breaks_off_may_have_acted_on_the_requests_that_it_did_not_leave_out() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        raw.request().await;
        raw.goaway(1, 2).await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamSilent);
    });
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

#[test]
fn a_response_that_is_reset_without_an_error_passes_only_if_it_is_whole() {
    // The body, its flags, and whether the response is complete.
    for (body, flags, is_whole) in
        [(None, 0, false), (Some("half"), 0, false), (Some("all"), END_STREAM, true), (Some(""), END_STREAM, true)]
    {
        let play = script(move |peer| async move {
            let mut raw = Raw::begin(peer).await;
            while let Some(stream) = raw.request().await {
                raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
                if let Some(body) = body {
                    raw.write(DATA, flags, stream, body.as_bytes()).await;
                }
                raw.write(RST_STREAM, 0, stream, &[0; 4]).await;
            }
        });
        let mut bed = bed(play);
        bed.run(move |edge| async move {
            // The request is incomplete, so that the server has a reason to reset it.
            let mut call = edge.call("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 9\r\n\r\nbody").await;
            if is_whole {
                let answer = call.whole().await;
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n"), "{body:?}: {answer}");
            } else {
                assert_eq!(call.cause().await, Cause::UpstreamClosed, "{body:?}");
            }
        });
        bed.assert_clean();
    }
}
