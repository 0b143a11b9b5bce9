//! Hosts that vanish, and servers that stop reading or answering.

use bytes::Bytes;
use h2::server::Builder;
use http::Response;

use super::raw::{HEADERS, Raw, SETTINGS, STATUS_200, WHOLE, WINDOW_UPDATE};
use super::{GET, POST, bed, server};
use crate::connector::tests::bed::{Bed, CONNECTOR, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables_at};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::wire::mux::Cause;

#[test]
fn a_connection_to_a_host_that_vanished_is_given_up_and_the_first_call_after_its_return_is_answered() {
    let (play, seen) = server(Builder::new(), |asked| async move {
        if asked.path() == "/waits" {
            asked.core.sleep(ms(300_000)).await;
        }
        asked.answer("ok");
    });
    // No connection fails by itself in the meantime.
    let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
    let mut bed = Bed::with(settings(), 1, faults, Some(play));
    bed.role
        .reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| settings.idle_timeout = ms(60_000)));
    bed.run(|edge| async move {
        // With and without data that has to be acknowledged.
        for path in ["/mcp", "/waits"] {
            assert!(edge.get().await.contains("ok"));
            let call = async |method: &str, path: &str| {
                let call = edge.call(format!("{method} {path} HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
                call.stream.finish();
                call
            };
            let mut calls = Vec::new();
            if path == "/waits" {
                calls = vec![call("POST", path).await, call("GET", path).await];
                edge.core.sleep(ms(20_000)).await;
            }
            edge.net.partition(CONNECTOR, UPSTREAM);
            if path == "/mcp" {
                calls = vec![call("POST", path).await, call("GET", path).await];
            }
            let began = edge.now();
            let [post, get] = &mut calls[..] else { panic!("two calls") };
            assert_eq!(post.cause().await, Cause::UpstreamTimeout, "it may have been received");
            assert!(edge.now() - began < ms(10_000), "{:?}", edge.now() - began);
            assert_eq!(get.cause().await, Cause::UpstreamConnectTimeout, "it went on to a new connection");
            assert_eq!(call("POST", path).await.cause().await, Cause::UpstreamConnectTimeout);
            edge.net.heal(CONNECTOR, UPSTREAM);
            assert!(call("POST", "/mcp").await.whole().await.contains("ok"));
        }
    });
    assert!(seen.borrow().last().unwrap().0 >= 2, "on new connections: {seen:?}");
    bed.net.calm();
    bed.assert_clean();
}

#[test]
fn a_silent_event_stream_of_a_host_that_vanished_ends_in_time() {
    for acknowledged_within in [1_000, 5_000, 20_000] {
        let (play, _) = server(Builder::new(), |mut asked| async move {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut send = asked.respond.send_response(head, false).unwrap();
            send.send_data(Bytes::from_static(b"data: 1\n\n"), false).unwrap();
            asked.core.sleep(ms(600_000)).await;
        });
        // No connection fails by itself in the meantime.
        let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
        let mut bed = Bed::with(settings(), 1, faults, Some(play));
        bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| {
            settings.acknowledged_within = ms(acknowledged_within);
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
            // It is probed after 3 s of silence.
            let took = edge.now() - began;
            assert!(took >= ms(acknowledged_within) && took <= ms(acknowledged_within + 5_000), "{took:?}");
        });
        bed.net.calm();
        bed.assert_clean();
    }
}

#[test]
fn a_server_that_stops_reading_for_a_while_keeps_its_calls() {
    const LEN: usize = 8_000_000;
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        // Only the system's buffers limit the upload, not a window of HTTP/2.
        raw.write(SETTINGS, 0, 0, &[&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat()).await;
        raw.write(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
        let (first, second) = (raw.request().await.unwrap(), raw.request().await.unwrap());
        raw.peer.core.sleep(ms(20_000)).await;
        for stream in [first, second] {
            raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        }
        while raw.request().await.is_some() {}
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut waits = edge.call(GET).await;
        waits.stream.finish();
        edge.core.sleep(ms(100)).await;
        let mut upload =
            edge.call(format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {LEN}\r\n\r\n")).await;
        let sending = async {
            // It is cut short by the answer.
            let _ = edge.core.timeout(ms(25_000), upload.write("y".repeat(LEN))).await;
        };
        sending.await;
        let answer = waits.whole().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(upload.head().await.starts_with("HTTP/1.1 200 "));
    });
    bed.assert_clean();
}

#[test]
fn a_server_that_answers_no_ping_is_waited_for_as_long_as_its_host_is_there() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.unwrap();
        raw.peer.core.sleep(ms(60_000)).await;
        raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        raw.request().await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert!(call.whole().await.starts_with("HTTP/1.1 200 "));
    });
    bed.assert_clean();
}
