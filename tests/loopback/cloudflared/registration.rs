//! How a connector registers, comes back, and leaves.

use std::time::Duration;

use http::Request;

use super::edge::{head, refusal, within};
use super::site::run;

#[test]
fn every_connection_registers_with_the_token_and_is_made_again_when_it_is_lost() {
    run(async |site| {
        let mut connector = site.connect(4, &["--url", "http://127.0.0.1:1"]).await;
        let (status, body) = connector.page("/ready").await;
        assert_eq!((status, body.contains("\"readyConnections\":0")), (503, true));
        let mut links = Vec::new();
        let mut connectors = Vec::new();
        // All dial at once: none waits for another.
        for _ in 0..4 {
            let (link, said) = site.edge.accept().await;
            for text in ["acct\0", "secret", "linux_", "adit/", "serialized_headers\0", "allow_remote_config\0"] {
                assert!(said.has(text.as_bytes()), "{text}");
            }
            // The tunnel, as bytes.
            assert!(said.has(&[0x3d, 0x53, 0x9f, 0x97, 0xcd, 0x3a, 0x4d, 0x8e]));
            connectors.push(said.index());
            links.push(link);
        }
        connectors.sort_unstable();
        assert_eq!(connectors, [0, 1, 2, 3]);
        for link in &mut links {
            link.accept_registration();
            connector.line("Registered tunnel connection").await;
        }
        connector.until_ready(4).await;
        assert_eq!(connector.page("/ready").await.0, 200);
        assert_eq!(connector.page("/healthcheck").await, (200, "OK\n".to_owned()));
        let (_, tunnel) = connector.page("/diag/tunnel").await;
        assert!(tunnel.contains("3d539f97-cd3a-4d8e-c33b-65e9099c7a8d") && tunnel.matches("isConnected").count() == 4);
        links.pop().unwrap().close();
        let line = connector.line("Lost connection with the edge").await;
        assert!(line.contains("WRN") && line.contains("connIndex="), "{line}");
        let (mut link, _) = site.edge.accept().await;
        link.accept_registration();
        connector.line("Registered tunnel connection").await;
    });
}

#[test]
fn a_connector_that_ends_leaves_the_edge_and_finishes_its_calls() {
    run(async |site| {
        let connector = site.connect_to_origin().await;
        let mut link = site.edge.register().await;
        let (response, _body) = link.begin(Request::get("https://mcp.test/slow").body(()).unwrap(), true).await;
        let mut server = site.origin.accept().await;
        server.head().await;
        connector.stop();
        link.left().await;
        let (status, body) = connector.page("/ready").await;
        assert_eq!((status, body.contains("\"readyConnections\":0")), (503, true), "{body}");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nd").await;
        let (answer, mut rest) = head(response).await;
        assert_eq!(answer.status, 200);
        server.send("one").await;
        let mut body = Vec::new();
        while let Some(data) = within(rest.data()).await {
            body.extend_from_slice(&data.unwrap());
        }
        assert_eq!(body, b"done");
        link.closed().await;
        assert_eq!(connector.ended().await, Some(0));
    });
}

#[test]
fn a_refusal_for_good_ends_a_connector_and_another_is_tried_again() {
    run(async |site| {
        let mut connector = site.connect_to_origin().await;
        for (cause, should_retry) in [("EDUPCONN", false), ("try again", true)] {
            let (mut link, _) = site.edge.accept().await;
            link.answer(&refusal(cause, Duration::from_millis(1), should_retry));
            link.closed().await;
        }
        connector.line("try again").await;
        let (mut link, _) = site.edge.accept().await;
        link.answer(&refusal("Tunnel not found", Duration::ZERO, false));
        link.closed().await;
        connector.line("Tunnel not found").await;
        assert_eq!(connector.ended().await, Some(1));
    });
}

#[test]
fn rules_from_the_edge_replace_those_that_a_connector_began_with() {
    run(async |site| {
        let mut connector = site.connect(1, &[]).await;
        let link = site.edge.register().await;
        let get = || Request::get("https://mcp.test/");
        assert_eq!(link.call(get(), b"").await.status, 503);
        let push = async |json: &str| {
            let request = Request::put("https://edge.test/");
            let request = request.header("cf-cloudflared-proxy-connection-upgrade", "update-configuration");
            link.json(request, json.as_bytes()).await
        };
        let one = push(r#"{"version":1,"config":{"ingress":[{"service":"http_status:418"}]}}"#).await;
        assert_eq!(one, r#"{"err":null,"lastAppliedVersion":1}"#);
        connector.line("Updated to new configuration").await;
        assert_eq!(link.call(get(), b"").await.status, 418);
        // An older version changes nothing, and neither do rules that cannot be used.
        let old = push(r#"{"version":0,"config":{"ingress":[{"service":"http_status:404"}]}}"#).await;
        assert_eq!(old, r#"{"err":null,"lastAppliedVersion":1}"#);
        let bad = push(r#"{"version":2,"config":{"ingress":[{"service":"ssh://x:22"}]}}"#).await;
        assert!(bad.contains("\"lastAppliedVersion\":1") && bad.contains("ingress[0].service"), "{bad}");
        assert_eq!(link.call(get(), b"").await.status, 418);
        let (_, config) = connector.page("/config").await;
        assert!(config.contains("\"version\":1") && config.contains("http_status:418"), "{config}");
    });
}
