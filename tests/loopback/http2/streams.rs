//! Calls that last, beside others on the same connection: event streams, slow readers, agents that leave, an edge that ends.

use std::io::Read;

use adit::base::Traffic;
use adit::edge::EdgeCommand;
use bytes::Bytes;
use h2::client::Builder;
use http::Method;

use crate::http2::client::{next, request, whole, with_client, with_client_of};
use crate::http2::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, block, frame, get,
};
use crate::http2::site::{DRIVERS, Site, on_each_driver};
use crate::support::HOST;

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {}\n\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn events_arrive_one_by_one_and_other_calls_beside_them() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let (response, _) = client.begin(request(Method::GET, "/hold").body(()).unwrap(), true).await;
            let mut held = site.held().await;
            held.send(EVENTS);
            let mut body = response.await.unwrap().into_body();
            for _ in 0..20 {
                held.send(&chunk(EVENT));
                assert_eq!(next(&mut body).await.unwrap().unwrap(), EVENT);
                client.call(Method::GET, "/empty", b"").await.unwrap();
            }
            held.send("0\r\n\r\n");
            assert!(next(&mut body).await.unwrap().is_none());
        });
    });
}

#[test]
fn a_stream_that_is_not_read_does_not_hold_up_others() {
    const LEN: usize = 5_000_000;
    on_each_driver(|site| {
        let mut builder = Builder::new();
        // Room for others on the connection when one stream has used up its own.
        builder.initial_window_size(64 * 1024).initial_connection_window_size(16 * 1024 * 1024);
        with_client_of(site.agents(), &mut builder, async |client| {
            let slow = request(Method::GET, &format!("/bytes/{LEN}")).body(()).unwrap();
            let (slow, _) = client.begin(slow, true).await;
            let mut slow = slow.await.unwrap().into_body();
            let first = slow.data().await.unwrap().unwrap();
            for _ in 0..50 {
                let answer = client.call(Method::GET, "/bytes/100000", b"").await.unwrap();
                assert_eq!(answer.body.len(), 100_000);
            }
            slow.flow_control().release_capacity(first.len()).unwrap();
            let mut len = first.len();
            while let Some(data) = next(&mut slow).await.unwrap() {
                len += data.len();
            }
            assert_eq!(len, LEN);
        });
    });
}

#[test]
fn uploads_that_the_upstream_does_not_take_leave_room_for_others() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let mut uploads = Vec::new();
            for _ in 0..4 {
                let (response, mut send) = client.begin(request(Method::POST, "/hold").body(()).unwrap(), false).await;
                let held = site.held().await;
                // As much as it may send ahead.
                send.reserve_capacity(8_000_000);
                let mut sent = 0;
                while sent < 64 * 1024 - 1 {
                    let n = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    send.send_data(vec![0; n].into(), false).unwrap();
                    sent += n;
                }
                uploads.push((response, send, held));
            }
            let answer = client.call(Method::POST, "/mcp", b"beside them").await.unwrap();
            assert!(answer.body.ends_with(b"beside them"));
        });
    });
}

#[test]
fn the_upstream_sees_that_an_agent_gave_its_call_up() {
    for traffic in [Traffic::Plain, Traffic::Resealed] {
        for driver in DRIVERS {
            let site = Site::start(driver, traffic, (1, 1));
            with_client(site.agents(), async |client| {
                // Before an answer, within one, and within the request.
                for (answers, is_end) in [(false, true), (true, true), (false, false)] {
                    let (response, mut send) =
                        client.begin(request(Method::POST, "/hold").body(()).unwrap(), is_end).await;
                    if !is_end {
                        send.send_data(Bytes::from_static(b"a part"), false).unwrap();
                    }
                    let mut held = site.held().await;
                    let response = if answers {
                        held.send(EVENTS);
                        Some(response.await.unwrap())
                    } else {
                        None
                    };
                    send.send_reset(h2::Reason::CANCEL);
                    tokio::task::spawn_blocking(move || held.until_closed()).await.unwrap();
                    drop(response);
                    client.call(Method::GET, "/empty", b"").await.unwrap();
                }
            });
            site.tunnel.end();
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_reset_and_the_connection_goes_on() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let (response, _) = client.begin(request(Method::POST, "/hold").body(()).unwrap(), true).await;
            let mut held = site.held().await;
            held.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na part");
            let mut body = response.await.unwrap().into_body();
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "a part");
            held.close();
            let error = next(&mut body).await.unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
            // One that never began is an answer.
            let (response, _) = client.begin(request(Method::POST, "/hold").body(()).unwrap(), true).await;
            site.held().await.close();
            assert_eq!(whole(response).await.unwrap().head.status(), 502);
            client.call(Method::GET, "/empty", b"").await.unwrap();
        });
    });
}

#[test]
fn an_edge_that_ends_lets_calls_finish_and_takes_no_new_ones() {
    for driver in DRIVERS {
        let site = Site::start(driver, Traffic::Plain, (1, 1));
        let mut peer = Peer::connect(site.agents());
        let get = |stream, path| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&get(path, &[])));
        peer.send(&get(1, "/hold"));
        let mut held = futures_lite::future::block_on(site.held());
        site.tunnel.edge.command(|| EdgeCommand::Drain);
        // The first one says that it will end, and asks when that is known; the second one which request is the last.
        assert_eq!(peer.until(&[GOAWAY]).code(), 0);
        let asks = peer.until(&[PING]);
        peer.send(&frame(PING, ACK, 0, &asks.payload));
        let last = peer.until(&[GOAWAY]);
        assert_eq!((last.code(), &last.payload[..4]), (0, &1_u32.to_be_bytes()[..]));
        peer.send(&get(3, "/empty"));
        held.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        assert_eq!(peer.status(1), 200);
        assert_eq!(peer.until(&[DATA]).payload, b"done");
        while let Some(frame) = peer.next() {
            assert_ne!(frame.kind, HEADERS);
        }
        assert_eq!(site.asked(), ["GET /hold"]);
        site.tunnel.end();
    }
}

#[test]
fn a_connection_that_its_agent_ends_is_closed_in_order() {
    on_each_driver(|site| {
        for code in [0, 0xff] {
            let mut peer = Peer::connect(site.agents());
            peer.call(1);
            peer.send(&frame(GOAWAY, 0, 0, &[0_u32.to_be_bytes(), u32::to_be_bytes(code)].concat()));
            let mut rest = Vec::new();
            assert!(peer.socket().read_to_end(&mut rest).is_ok(), "{code}: it is not reset");
        }
    });
}

/// A client may send END_STREAM in a frame of its own, behind the announced length and behind the response to it.
#[test]
fn a_request_may_end_after_its_response() {
    // Served, and refused before its body came.
    for (host, status) in [(HOST, 200), ("unknown.test", 421)] {
        on_each_driver(|site| {
            let mut peer = Peer::connect(site.agents());
            let begin = |stream, host| {
                let fields = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", host),
                    (":path", "/mcp"),
                    ("content-length", "1"),
                ];
                frame(HEADERS, END_HEADERS, stream, &block(&fields))
            };
            let byte = |stream| frame(DATA, 0, stream, b"x");
            for stream in [1, 3, 5] {
                peer.send(&begin(stream, host));
                if status == 200 {
                    peer.send(&byte(stream));
                }
                assert_eq!(peer.status(stream), status, "{host}");
                while peer.until(&[DATA, RST_STREAM]).flags & END_STREAM == 0 {}
                if status != 200 {
                    peer.send(&byte(stream));
                }
                peer.send(&frame(DATA, END_STREAM, stream, b""));
            }
            // One that never ends is reset in time. None of the others was.
            peer.send(&[begin(7, HOST), byte(7)].concat());
            assert_eq!(peer.status(7), 200);
            let reset = peer.until(&[RST_STREAM, GOAWAY]);
            assert_eq!((reset.kind, reset.stream, reset.code()), (RST_STREAM, 7, 0));
            peer.call(9);
        });
    }
}
