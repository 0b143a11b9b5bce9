//! A connector over QUIC.

use http::Request;

use super::edge::within;
use super::site::run;

#[test]
fn a_connector_registers_over_quic_and_calls_reach_the_server() {
    run(async |site| {
        let edge = site.quic_edge();
        let mut connector = site.connect_quic(&edge, "quic", 2, &["--url", &site.origin_url()]).await;
        let (first, said) = edge.register().await;
        for text in ["acct\0", "secret", "linux_", "adit/", "serialized_headers\0"] {
            assert!(said.has(text.as_bytes()), "{text}");
        }
        let (_second, other) = edge.register().await;
        assert_eq!(said.index() ^ other.index(), 1);
        let line = connector.line("Registered tunnel connection").await;
        assert!(line.contains("protocol=quic") && line.contains("location=tst01"), "{line}");
        connector.until_ready(2).await;
        let (_, tunnel) = connector.page("/diag/tunnel").await;
        assert_eq!(tunnel.matches("\"protocol\":1").count(), 2, "{tunnel}");
        let mut caller = None;
        // A body of known length, one in chunks, and none, on the same connection to the server.
        for (field, body) in [
            (Some(("HttpHeader:Content-Length", "15")), &b"{\"jsonrpc\":\"2\"}"[..]),
            (Some(("HttpHeader:Transfer-Encoding", "chunked")), b"{\"jsonrpc\":\"2\"}"),
            (None, b""),
        ] {
            let mut metadata = vec![("HttpMethod", "POST"), ("HttpHost", "mcp.test"), ("HttpHeader:X-One", "1")];
            metadata.extend(field);
            let mut call = first.begin("https://mcp.test/mcp?x=1%2F", &metadata).await;
            within(call.send.write_all(body)).await.unwrap();
            call.send.finish().unwrap();
            if caller.is_none() {
                caller = Some(site.origin.accept().await);
            }
            let server = caller.as_mut().unwrap();
            let head = server.head().await.to_ascii_lowercase();
            assert!(head.starts_with("post /mcp?x=1%2f http/1.1\r\n"), "{head}");
            assert!(head.contains("host: mcp.test\r\n") && head.contains("x-one: 1\r\n"), "{head}");
            match field {
                Some(("HttpHeader:Content-Length", _)) => assert_eq!(server.exactly(15).await, body),
                Some(_) => {
                    let mut chunks = server.exactly(15).await;
                    while !chunks.ends_with(b"0\r\n\r\n") {
                        chunks.extend(server.exactly(1).await);
                    }
                }
                None => assert!(!head.contains("chunked"), "{head}"),
            }
            server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Two: 2\r\n\r\nok").await;
            let (answer, body) = call.whole().await;
            assert_eq!(
                (answer.get("HttpStatus"), answer.get("HttpHeader:X-Two")),
                (Some("202"), Some("2")),
                "{answer:?}"
            );
            assert_eq!((&body[..], answer.error.as_str()), (&b"ok"[..], ""));
        }
        // Other kinds of connections are refused, and so is what is no request.
        for kind in [1, 2] {
            let (answer, _) = first.begin_kind(kind, "10.0.0.1:22", &[]).await.whole().await;
            assert_eq!(answer.get("HttpStatus"), Some("501"));
        }
        let (answer, _) = first.begin("/", &[("HttpHeader:X", "a\r\nY: b")]).await.whole().await;
        assert_eq!(answer.get("HttpStatus"), Some("400"));
    });
}

#[test]
fn events_and_large_bodies_pass_over_quic_and_a_cancelled_call_ends_at_the_server() {
    const LEN: usize = 2 << 20;
    run(async |site| {
        let edge = site.quic_edge();
        let connector = site.connect_quic(&edge, "auto", 1, &["--url", &site.origin_url()]).await;
        let (mut link, _) = edge.register().await;
        let host = ("HttpHost", "mcp.test");
        let mut call = link.begin("https://mcp.test/sse", &[("HttpMethod", "GET"), host]).await;
        call.send.finish().unwrap();
        let mut server = site.origin.accept().await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(call.answer().await.get("HttpHeader:Content-Type"), Some("text/event-stream"));
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            server.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            let mut received = vec![0; event.len()];
            within(call.received.read_exact(&mut received)).await.unwrap();
            assert_eq!(received, event.as_bytes());
        }
        call.received.stop(0_u32.into()).unwrap();
        server.closed().await;
        let sent: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
        let length = LEN.to_string();
        let mut call =
            link.begin("/echo", &[("HttpMethod", "POST"), host, ("HttpHeader:Content-Length", &length)]).await;
        let echo = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            let received = server.exactly(LEN).await;
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n")).await;
            server.send(received).await;
            server
        };
        let calling = async {
            within(call.send.write_all(&sent)).await.unwrap();
            call.send.finish().unwrap();
            call.whole().await
        };
        let ((_, body), mut server) = tokio::join!(calling, echo);
        assert!(body == sent, "{} bytes came back", body.len());
        // An answer that breaks off is a reset, and one that never began an error.
        let mut call = link.begin("/broken", &[("HttpMethod", "POST"), host]).await;
        call.send.finish().unwrap();
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        call.answer().await;
        drop(server);
        assert!(within(call.received.read_to_end(99)).await.is_err());
        let call = link.begin("/silent", &[("HttpMethod", "POST"), host]).await;
        let mut server = site.origin.accept().await;
        server.head().await;
        drop(server);
        let (answer, _) = call.whole().await;
        assert_eq!((answer.get("HttpStatus"), answer.error.is_empty()), (None, false), "{answer:?}");
        // It leaves, and the edge closes the connection when nothing is left.
        connector.stop();
        link.left().await;
        link.connection.close(0_u32.into(), b"");
        assert_eq!(connector.ended().await, Some(0));
    });
}

#[test]
fn rules_are_pushed_over_quic_and_where_udp_is_not_answered_http2_is_used() {
    run(async |site| {
        let edge = site.quic_edge();
        let mut connector = site.connect_quic(&edge, "quic", 1, &[]).await;
        let (link, _) = edge.register().await;
        connector.until_ready(1).await;
        let status = async || {
            let (answer, _) = link.begin("https://mcp.test/", &[("HttpHost", "mcp.test")]).await.whole().await;
            answer.get("HttpStatus").map(str::to_owned)
        };
        assert_eq!(status().await.as_deref(), Some("503"));
        let (version, _) = link.push(1, r#"{"ingress":[{"service":"http_status:418"}]}"#).await;
        assert_eq!(version, 1);
        connector.line("Updated to new configuration").await;
        assert_eq!(status().await.as_deref(), Some("418"));
        let (version, answer) = link.push(2, r#"{"ingress":[{"service":"ssh://x:22"}]}"#).await;
        assert!(version == 1 && String::from_utf8_lossy(&answer).contains("ingress[0].service"), "{version}");
        drop(connector);
        // This edge has no UDP.
        let mut connector = site.connect_by("auto", 1, &[]).await;
        let link = site.edge.register().await;
        let line = connector.line("Registered tunnel connection").await;
        assert!(line.contains("protocol=http2"), "{line}");
        assert_eq!(link.call(Request::get("https://mcp.test/"), b"").await.status, 503);
    });
}
