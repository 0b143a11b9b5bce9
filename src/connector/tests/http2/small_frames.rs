//! Very small frames, which cost more than they carry.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::Builder;
use http::Response;

use super::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, STATUS_200};
use super::{GET, POST, bed, get, server};
use crate::base::{Budget, CallFailure};
use crate::connector::tests::bed::{Bed, CONNECTOR, Peer, UPSTREAM, UPSTREAM_PORT, ms, script, tables_at};
use crate::dial::Resolver;
use crate::engine::{ByteStream, Class, StreamError};
use crate::upstream::{HttpPool, UpstreamConnection, UpstreamSettings};

#[test]
fn very_small_frames_that_are_not_read_cost_no_other_call() {
    const FLOODS: u64 = 4;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        match &*asked.path() {
            "/events" => {
                let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
                for _ in 0..400_000 {
                    if send.send_data(Bytes::from_static(b"x"), false).is_err() {
                        return;
                    }
                }
                poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
            }
            "/slow" => {
                asked.core.sleep(ms(3_000)).await;
                asked.answer("ok");
            }
            _ => asked.answer("ok"),
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut slow = edge.call("GET /slow HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        slow.stream.finish();
        let mut streams = Vec::new();
        for _ in 0..FLOODS {
            let events = edge.call("GET /events HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
            events.stream.finish();
            streams.push(events);
        }
        edge.core.sleep(ms(1_000)).await;
        assert!(get(&edge, "/good").await.contains("ok"));
        assert!(slow.whole().await.contains("ok"));
        for mut events in streams {
            let (_, ended) = events.rest().await;
            assert_eq!(ended, Err(StreamError::ResetWith { failure: CallFailure::SlowReader }));
        }
        assert!(get(&edge, "/good").await.contains("ok"));
    });
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0), "one connection serves all: {seen:?}");
    assert_eq!(bed.role.counters().calls_cut_unread.load(Ordering::Relaxed), FLOODS);
    bed.assert_clean();
}

/// More frames than may wait arrive at once, before any could be read.
#[test]
fn very_small_frames_that_come_at_once_and_are_read_are_an_answer_as_any_other() {
    const FRAMES: usize = 9_000;
    let play = script(move |peer: Peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.expect("a request");
        let [_, a, b, c] = (1_u32).to_be_bytes();
        let frame = [&[a, b, c, DATA, 0][..], &stream.to_be_bytes(), b"x"].concat();
        let head = [&[0, 0, 1, HEADERS, END_HEADERS][..], &stream.to_be_bytes(), STATUS_200].concat();
        let end = [&[0, 0, 0, DATA, END_STREAM][..], &stream.to_be_bytes()].concat();
        raw.peer.core.sleep(ms(50)).await;
        raw.peer.talk.write([head, frame.repeat(FRAMES), end].concat()).await;
        raw.take(1_000_000).await;
    });
    let mut bed = Bed::roomy(play);
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |_| {}));
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        edge.core.sleep(ms(20)).await;
        // All that is sent in the meantime arrives when the path is back.
        edge.net.partition(UPSTREAM, CONNECTOR);
        edge.core.sleep(ms(200)).await;
        edge.net.heal(UPSTREAM, CONNECTOR);
        let answer = call.whole().await;
        assert_eq!(answer.matches('x').count(), FRAMES, "{}", &answer[..answer.len().min(200)]);
        assert!(answer.ends_with("\r\n0\r\n\r\n"));
    });
    assert_eq!(bed.role.counters().calls_cut_unread.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

/// A request that the server received is not sent again, although no byte of its answer was passed on.
#[test]
fn a_server_whose_answer_is_cut_for_its_small_frames_has_seen_its_request() {
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
        for _ in 0..20_000 {
            send.send_data(Bytes::from_static(b"x"), false).unwrap();
        }
        poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
    });
    let mut bed = bed(play);
    let settings =
        UpstreamSettings::for_tests(format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}").parse().expect("a good URL"));
    let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
    let (core, outcome) = (bed.core.clone(), Rc::<RefCell<Option<(StreamError, bool)>>>::default());
    let (pool, tell) = (HttpPool::new(&core, settings, resolver, &Budget::new(1 << 20, 0)), Rc::clone(&outcome));
    bed.core.spawn(async move {
        let (connection, _) = pool.checkout().await.unwrap();
        let UpstreamConnection::Http2(exchange) = connection else { panic!("it speaks HTTP/2") };
        let mut head = core.pool().lease(Class::Small).await;
        head.append(POST.as_bytes());
        exchange.send(head).unwrap();
        // The answer is not read in the meantime.
        core.sleep(ms(2_000)).await;
        let ended = exchange.recv().await.map(|_| ()).unwrap_err();
        tell.replace(Some((ended, exchange.is_unprocessed())));
    });
    bed.pass(ms(5_000));
    let cut = StreamError::ResetWith { failure: CallFailure::SlowReader };
    assert_eq!(outcome.borrow_mut().take(), Some((cut, false)));
    assert_eq!(seen.borrow().len(), 1);
}
