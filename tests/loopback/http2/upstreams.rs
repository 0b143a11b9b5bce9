//! Upstreams that speak HTTP/2: the server of Node, which is built on nghttp2, behind a tunnel on each real driver.

use adit::base::Traffic;
use adit::tls::{ALPN_HTTP1, ALPN_HTTP2};
use adit::upstream::UpstreamSettings;
use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::http2::client::{Client, next, request, whole, with_client};
use crate::http2::node::Node;
use crate::http2::site::DRIVERS;
use crate::support::Tunnel;

const LARGE: usize = 8_000_000;

/// Runs a test on each driver, with a server that listens so.
fn on_each_driver(how: &str, settings: impl Fn(&Node) -> UpstreamSettings, test: impl Fn(&Tunnel, &mut Node)) {
    for driver in DRIVERS {
        for traffic in [Traffic::Plain, Traffic::Resealed] {
            let mut node = Node::start(how);
            let tunnel = Tunnel::with_upstream(driver, traffic, settings(&node));
            test(&tunnel, &mut node);
            tunnel.end();
        }
    }
}

/// A call that is answered by the server, over HTTP/2.
async fn echo(client: &Client, scheme: &str) {
    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
    assert_eq!((answer.head.status().as_u16(), &answer.body[..]), (200, &b"hello"[..]), "{answer:?}");
    assert_eq!(answer.head.headers()["x-scheme"], scheme);
    assert_eq!(answer.trailers["x-length"], "5");
}

#[test]
fn a_server_that_speaks_http_2_alone_is_called_by_alpn_and_where_it_is_configured_without_tls() {
    let both = |node: &Node| node.over_tls(&[ALPN_HTTP2, ALPN_HTTP1]);
    on_each_driver("tls", both, |tunnel, _| with_client(tunnel.agents, async |client| echo(&client, "https").await));
    on_each_driver("clear", Node::in_the_clear, |tunnel, _| {
        with_client(tunnel.agents, async |client| echo(&client, "http").await);
    });
    on_each_driver("unix", Node::over_unix, |tunnel, _| {
        with_client(tunnel.agents, async |client| echo(&client, "http").await);
    });
}

#[test]
fn a_server_that_speaks_both_is_called_in_the_version_that_it_is_offered() {
    for (alpn, version) in [(&[ALPN_HTTP1][..], "1.1"), (&[ALPN_HTTP2, ALPN_HTTP1], "2.0")] {
        on_each_driver(
            "tls-or-1",
            |node| node.over_tls(alpn),
            |tunnel, _| {
                with_client(tunnel.agents, async |client| {
                    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
                    assert_eq!(answer.body, format!("spoken to in HTTP/{version}"));
                });
            },
        );
    }
}

#[test]
fn large_bodies_and_trailers_pass_both_ways() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                let answer = client.call(Method::GET, &format!("/bytes/{LARGE}"), b"").await.unwrap();
                assert_eq!(answer.head.headers()["content-length"], LARGE.to_string());
                assert_eq!(answer.body.iter().filter(|byte| **byte == b'x').count(), LARGE);
                let (response, mut send) = client.begin(request(Method::POST, "/mcp").body(()).unwrap(), false).await;
                let mut left = LARGE;
                while left > 0 {
                    send.reserve_capacity(left);
                    let n = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    left -= n;
                    send.send_data(vec![b'z'; n].into(), false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "12".parse().unwrap());
                send.send_trailers(trailers).unwrap();
                let answer = whole(response).await.unwrap();
                assert_eq!(answer.body.iter().filter(|byte| **byte == b'z').count(), LARGE);
                assert_eq!((&answer.trailers["x-length"], &answer.trailers["x-sum"]), (&LARGE.into(), &12.into()));
            });
        },
    );
}

#[test]
fn interim_responses_pass_and_one_to_head_has_no_body() {
    on_each_driver("clear", Node::in_the_clear, |tunnel, _| {
        with_client(tunnel.agents, async |client| {
            let (mut response, _) = client.begin(request(Method::GET, "/mcp").body(()).unwrap(), true).await;
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((interim.status().as_u16(), &interim.headers()["link"]), (103, &"</a>".parse().unwrap()));
            assert!(whole(response).await.unwrap().body.is_empty());
            let answer = client.call(Method::HEAD, "/bytes/5", b"").await.unwrap();
            assert_eq!((&answer.head.headers()["content-length"], answer.body.len()), (&5.into(), 0));
            echo(&client, "http").await;
        });
    });
}

#[test]
fn a_hundred_calls_at_once_share_a_connection() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                echo(&client, "https").await;
                let calls = (0..100_usize).map(|nth| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let answer = client.call(Method::GET, &format!("/bytes/{}", 1000 + nth), b"").await.unwrap();
                        assert_eq!(answer.body.len(), 1000 + nth);
                    })
                });
                for call in calls.collect::<Vec<_>>() {
                    call.await.unwrap();
                }
                let answer = client.call(Method::POST, "/mcp", b"").await.unwrap();
                assert_eq!(answer.head.headers()["x-sessions"], "1", "{answer:?}");
            });
        },
    );
}

#[test]
fn events_pass_at_once_and_a_call_that_is_given_up_is_cancelled() {
    on_each_driver("clear", Node::in_the_clear, |tunnel, node| {
        with_client(tunnel.agents, async |client| {
            let get = |path: &str| request(Method::GET, path).header("accept", "text/event-stream").body(()).unwrap();
            let (response, mut send) = client.begin(get("/events"), true).await;
            let mut events = response.await.unwrap().into_body();
            assert_eq!(next(&mut events).await.unwrap().unwrap(), "data: 0\n\n");
            for nth in 1..10 {
                // The event is sent before this is answered, and passes before anything else comes.
                client.call(Method::POST, &format!("/next/{nth}"), b"").await.unwrap();
                assert_eq!(next(&mut events).await.unwrap().unwrap(), format!("data: {nth}\n\n"));
            }
            send.send_reset(h2::Reason::CANCEL);
            let (held, mut upload) = client.begin(request(Method::POST, "/hold").body(()).unwrap(), false).await;
            upload.send_data(Bytes::from_static(b"a part"), false).unwrap();
            echo(&client, "http").await;
            upload.send_reset(h2::Reason::CANCEL);
            drop(held);
            echo(&client, "http").await;
        });
        let cancel = u32::from(h2::Reason::CANCEL);
        let mut stated = [node.says(), node.says()];
        stated.sort();
        assert_eq!(stated, [format!("reset /events {cancel}"), format!("reset /hold {cancel}")]);
    });
}

#[test]
fn a_request_that_the_server_did_not_look_at_is_sent_once_more() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                echo(&client, "https").await;
                let answer = client.call(Method::POST, "/refused-once", b"hello").await.unwrap();
                assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &2.into()));
                // One that ends its connection answers what it has looked at, and the next call goes elsewhere.
                let answer = client.call(Method::POST, "/goodbye", b"hello").await.unwrap();
                assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &2.into()));
                for _ in 0..3 {
                    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
                    assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &3.into()));
                }
            });
        },
    );
}
