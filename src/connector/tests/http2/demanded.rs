//! Servers that demand HTTP/1.1 on a connection of HTTP/2.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use h2::Reason;

use super::raw::{RST_STREAM, Raw, SETTINGS};
use super::{GET, bed, get};
use crate::connector::tests::bed::{Peer, Script, ms, script};
use crate::connector::tests::failures::logged;
use crate::engine::ByteStream;

/// A server that resets each call over HTTP/2 with this reason, and answers over HTTP/1.1. Returns the version of each
/// connection.
fn picky(reason: Reason) -> (Script, Rc<RefCell<Vec<u8>>>) {
    let seen = Rc::<RefCell<Vec<u8>>>::default();
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let note = Rc::clone(&note);
        async move {
            let mut raw = Raw { peer, received: Vec::new() };
            // The preface, or a request.
            let Some(mut first) = raw.take(4).await else { return };
            if first == b"PRI " {
                note.borrow_mut().push(2);
                raw.take(20).await.expect("the rest of the preface");
                raw.write(SETTINGS, 0, 0, &[]).await;
                while let Some(stream) = raw.request().await {
                    raw.write(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes()).await;
                }
                return;
            }
            note.borrow_mut().push(1);
            loop {
                while !first.ends_with(b"\r\n\r\n") {
                    let Some(byte) = raw.take(1).await else { return };
                    first.extend(byte);
                }
                first.clear();
                raw.peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    (play, seen)
}

#[test]
fn a_server_that_demands_http_1_1_is_called_so_for_a_while() {
    let (play, seen) = picky(Reason::HTTP_1_1_REQUIRED);
    let mut bed = bed(play);
    let log = logged(|| {
        bed.run(|edge| async move {
            for _ in 0..3 {
                let mut call = edge.call("DELETE /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n").await;
                call.stream.finish();
                assert!(call.whole().await.ends_with("ok"));
            }
        });
        bed.pass(Duration::from_secs(601));
        bed.run(|edge| async move {
            assert!(get(&edge, "/mcp").await.ends_with("ok"), "HTTP/2 is tried again");
        });
    });
    assert_eq!(*seen.borrow(), [2, 1, 2, 1]);
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 2);
    assert_eq!(log.lines().filter(|line| line.contains("requires HTTP/1.1")).count(), 2, "{log}");
    assert!(!log.contains("cannot be passed on"), "{log}");
    bed.assert_clean();
}

/// Calls that wait for the same attempt to connect use HTTP/1.1 too.
#[test]
fn all_that_wait_for_a_connection_on_which_http_1_1_is_demanded_are_called_so() {
    const CALLS: usize = 4;
    let seen = Rc::<RefCell<Vec<u8>>>::default();
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let note = Rc::clone(&note);
        async move {
            let mut raw = Raw { peer, received: Vec::new() };
            let Some(mut first) = raw.take(4).await else { return };
            if first == b"PRI " {
                note.borrow_mut().push(2);
                raw.take(20).await.expect("the rest of the preface");
                raw.peer.core.sleep(ms(100)).await;
                return raw.goaway(0, Reason::HTTP_1_1_REQUIRED.into()).await;
            }
            note.borrow_mut().push(1);
            loop {
                while !first.ends_with(b"\r\n\r\n") {
                    let Some(byte) = raw.take(1).await else { return };
                    first.extend(byte);
                }
                first.clear();
                raw.peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
        }
        for mut call in calls {
            assert!(call.whole().await.ends_with("ok"));
        }
    });
    let seen = seen.borrow();
    assert_eq!((seen[0], seen.iter().filter(|version| **version == 2).count()), (2, 1), "{seen:?}");
    drop(seen);
    bed.assert_clean();
}
