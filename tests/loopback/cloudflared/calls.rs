//! Calls through one connection.

use bytes::Bytes;
use http::Request;

use super::edge::{head, whole, within};
use super::site::run;

const ORIGIN: &str = r#"{"src":"origin"}"#;
const CONNECTOR: &str = r#"{"src":"cloudflared"}"#;

#[test]
fn a_call_reaches_the_server_as_the_edge_sent_it() {
    run(async |site| {
        let _connector = site.connect_to_origin().await;
        let link = site.edge.register().await;
        let mut caller = None;
        // A body of known length, then an unknown one, on the same connection to the server.
        for length in [Some("15"), None] {
            let mut request = Request::post("https://mcp.test/mcp?x=1%2F").header("content-type", "application/json");
            request = request.header("x-forwarded-for", "198.51.100.7").header("cf-trace-id", "no");
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
            let (response, mut body) = link.begin(request.body(()).unwrap(), false).await;
            if caller.is_none() {
                caller = Some(site.origin.accept().await);
            }
            let server = caller.as_mut().unwrap();
            let head = server.head().await.to_ascii_lowercase();
            assert!(head.starts_with("post /mcp?x=1%2f http/1.1\r\n"), "{head}");
            for field in
                ["host: mcp.test\r\n", "content-type: application/json\r\n", "x-forwarded-for: 198.51.100.7\r\n"]
            {
                assert!(head.contains(field), "{head}");
            }
            assert!(!head.contains("cf-"), "{head}");
            body.send_data(Bytes::from_static(b"{\"jsonrpc\":\"2\""), false).unwrap();
            body.send_data(Bytes::from_static(b"}"), true).unwrap();
            match length {
                Some(_) => assert_eq!(server.exactly(15).await, b"{\"jsonrpc\":\"2\"}"),
                None => {
                    let end = b"0\r\n\r\n";
                    let mut chunks = server.exactly(15).await;
                    while !chunks.ends_with(end) {
                        chunks.extend(server.exactly(1).await);
                    }
                    assert!(head.contains("transfer-encoding: chunked"), "{head}");
                }
            }
            let fields = "X-One: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2";
            server.send(format!("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n{fields}\r\n\r\nok")).await;
            let answer = within(whole(response)).await;
            assert_eq!((answer.status, answer.source.as_str(), &answer.body[..]), (202, ORIGIN, &b"ok"[..]));
            assert_eq!(
                (answer.fields.as_str(), answer.length.as_deref()),
                ("X-One=1;Set-Cookie=a=1;Set-Cookie=b=2;", Some("2"))
            );
        }
    });
}

#[test]
fn events_are_passed_on_as_they_come_and_a_cancelled_call_ends_at_the_server() {
    run(async |site| {
        let _connector = site.connect_to_origin().await;
        let link = site.edge.register().await;
        let request = Request::get("https://mcp.test/sse").header("accept", "text/event-stream").body(()).unwrap();
        let (response, mut body) = link.begin(request, true).await;
        let mut server = site.origin.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let (answer, mut events) = head(response).await;
        assert_eq!((answer.fields.as_str(), answer.length), ("Content-Type=text/event-stream;", None));
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            server.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            let data = within(events.data()).await.unwrap().unwrap();
            events.flow_control().release_capacity(data.len()).unwrap();
            assert_eq!(data, event.as_bytes());
        }
        body.send_reset(h2::Reason::CANCEL);
        server.closed().await;
        // The connection goes on.
        let answer = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        };
        let (answer, ()) = tokio::join!(link.call(Request::get("https://mcp.test/"), b""), answer);
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    });
}

#[test]
fn large_bodies_pass_in_both_directions() {
    const LEN: usize = 3 << 20;
    run(async |site| {
        let _connector = site.connect_to_origin().await;
        let link = site.edge.register().await;
        let sent: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
        let request = Request::post("https://mcp.test/").header("content-length", LEN).body(()).unwrap();
        let (response, mut body) = link.begin(request, false).await;
        let echo = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            let received = server.exactly(LEN).await;
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
            server.send(received).await;
        };
        body.send_data(Bytes::copy_from_slice(&sent), true).unwrap();
        let (answer, ()) = tokio::join!(within(whole(response)), echo);
        assert!(answer.body == sent, "{} bytes came back", answer.body.len());
    });
}

#[test]
fn rules_decide_by_host_and_path_and_a_server_that_is_gone_is_said_to_be() {
    run(async |site| {
        let origin = site.origin.address;
        let gone = crate::free_address::free_address();
        let rules = site.rules(&format!(
            "ingress:\n  - hostname: mcp.test\n    path: ^/api\n    service: http://{origin}\n    originRequest: \
             {{httpHostHeader: own.test}}\n  - hostname: gone.test\n    service: http://{gone}\n  - hostname: hello.test\n    \
             service: hello_world\n  - service: http_status:404\n"
        ));
        let mut connector = site.connect(1, &["--config", &rules]).await;
        let link = site.edge.register().await;
        connector.until_ready(1).await;
        let answering = async {
            let mut server = site.origin.accept().await;
            let head = server.head().await;
            assert!(head.contains("\r\nHost: own.test\r\n"), "{head}");
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        };
        let (answer, ()) = tokio::join!(link.call(Request::get("https://mcp.test/api/1"), b""), answering);
        assert_eq!((answer.status, answer.source.as_str()), (200, ORIGIN));
        let answer = link.call(Request::get("https://mcp.test/other"), b"").await;
        assert_eq!((answer.status, answer.source.as_str()), (404, ORIGIN));
        let answer = link.call(Request::get("https://hello.test/"), b"").await;
        assert_eq!((answer.status, String::from_utf8(answer.body).unwrap().contains("It works")), (200, true));
        let answer = link.call(Request::post("https://gone.test/"), b"{}").await;
        assert_eq!((answer.status, answer.source.as_str(), answer.body.len()), (502, CONNECTOR, 0));
        connector.line("cannot connect to the upstream").await;
        // What this connector does not carry is refused.
        let upgrade = "cf-cloudflared-proxy-connection-upgrade";
        let answer = link.call(Request::get("https://mcp.test/api").header(upgrade, "websocket"), b"").await;
        assert_eq!((answer.status, answer.source.as_str()), (501, CONNECTOR));
        let tcp = Request::get("https://mcp.test/").header("cf-cloudflared-proxy-src", "x");
        assert_eq!(link.call(tcp, b"").await.status, 501);
        let (_, metrics) = connector.page("/metrics").await;
        for line in [
            "cloudflared_tunnel_ha_connections 1",
            "cloudflared_tunnel_total_requests 4",
            "cloudflared_tunnel_request_errors 1",
            "cloudflared_tunnel_response_by_code{status_code=\"502\"} 1",
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
    });
}
