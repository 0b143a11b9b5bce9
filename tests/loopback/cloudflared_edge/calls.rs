//! Calls of agents through a connector of cloudflared.

use bytes::Bytes;
use futures_lite::stream::iter;
use reqwest::{Body, StatusCode};

use super::site::{run, within};
use crate::free_address::free_address;
use crate::tunnel_processes::SECRET;

#[test]
fn a_call_passes_as_over_any_other_link() {
    run(async |site| {
        let connector = site.connect(4);
        connector.registered(4);
        let agent = site.agent();
        for is_chunked in [false, true] {
            let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
            let pieces =
                [&text[..9], &text[9..]].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
            let body = if is_chunked { Body::wrap_stream(iter(pieces)) } else { Body::from(text) };
            // What a connector takes for a command of the edge is not passed on.
            let call = agent.post(site.url("/mcp?x=1%2F")).header("content-type", "application/json").body(body);
            let call = call.header("cf-cloudflared-proxy-connection-upgrade", "update-configuration");
            let call = call.header("cf-cloudflared-proxy-src", "127.0.0.1:1").header("cf-ray", "1").send();
            let serving = async {
                let mut server = site.origin.accept().await;
                let head = server.head().await.to_ascii_lowercase();
                let received = match is_chunked {
                    false => server.exactly(text.len()).await,
                    true => {
                        let mut chunks = Vec::new();
                        while !chunks.ends_with(b"0\r\n\r\n") {
                            chunks.extend(server.exactly(1).await);
                        }
                        chunks
                    }
                };
                // Each connection of the connector may have one of its own to the server.
                let fields = "Connection: close\r\nX-One: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Type: application/json";
                server.send(format!("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n{fields}\r\n\r\n{{}}")).await;
                (head, received)
            };
            let (answer, (head, received)) = tokio::join!(call, serving);
            assert!(head.starts_with("post /mcp?x=1%2f http/1.1\r\n"), "{head}");
            for field in ["host: mcp.test", "content-type: application/json\r\n", "x-forwarded-for: 127.0.0.1"] {
                assert!(head.contains(&format!("\r\n{field}")), "{head}");
            }
            assert!(!head.contains("cf-cloudflared"), "{head}");
            assert!(received.windows(4).any(|window| window == b"ping"), "{}", received.escape_ascii());
            let answer = answer.unwrap();
            assert_eq!((answer.status(), answer.headers()["x-one"].to_str().unwrap()), (StatusCode::ACCEPTED, "1"));
            let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
            assert_eq!(cookies, ["a=1", "b=2"]);
            let timing = answer.headers()["server-timing"].to_str().unwrap().to_owned();
            assert!(timing.contains("edge;dur=") && timing.contains("beyond_edge;dur="), "{timing}");
            assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("cf-cloudflared")));
            assert_eq!(answer.text().await.unwrap(), "{}");
        }
    });
}

#[test]
fn events_arrive_at_once_and_an_agent_that_leaves_ends_the_call_at_the_server() {
    run(async |site| {
        let connector = site.connect(1);
        connector.registered(1);
        let call = site.agent().get(site.url("/sse")).header("accept", "text/event-stream").send();
        let answering = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            server
                .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            server
        };
        let (answer, mut server) = tokio::join!(call, answering);
        let mut answer = answer.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            server.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            let received = within(answer.chunk()).await.unwrap().unwrap();
            assert_eq!(received, event.as_bytes());
        }
        drop(answer);
        server.closed().await;
    });
}

#[test]
fn large_bodies_pass_in_both_directions() {
    const LEN: usize = 4 << 20;
    run(async |site| {
        let connector = site.connect(1);
        connector.registered(1);
        let sent: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
        let call = async {
            let answer = site.agent().post(site.url("/")).body(sent.clone()).send().await.unwrap();
            answer.bytes().await.unwrap()
        };
        let echo = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            let received = server.exactly(LEN).await;
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
            server.send(received).await;
        };
        let (answer, ()) = tokio::join!(call, echo);
        assert!(answer == sent, "{} bytes came back", answer.len());
    });
}

#[test]
fn a_server_that_refuses_is_an_error_of_the_tunnel() {
    run(async |site| {
        let connector = site.connect_to(1, free_address(), SECRET);
        connector.registered(1);
        let call = site.agent().post(site.url("/mcp")).header("content-type", "application/json");
        let answer = call.body(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(
            (&body["id"], &body["error"]["data"]["reason"]),
            (&7.into(), &"no_upstream_answer".into()),
            "{body}"
        );
    });
}
