//! How connectors of cloudflared register and leave.

use std::time::Duration;

use super::site::{Site, run, run_with, within};
use crate::free_address::free_address;
use crate::tunnel_processes::SECRET;

#[test]
fn a_connector_with_a_wrong_secret_is_refused_and_ends() {
    run(async |site| {
        let connector = site.connect_to(2, site.origin.address, "another-secret-0123456789");
        connector.line("the tunnel id or its secret is unknown to this edge");
        assert_eq!(connector.ended(), Some(1));
    });
}

#[test]
fn a_connector_gets_its_rules_from_the_edge() {
    let settings = |server| format!("cloudflared_service = 'http://{server}'\n");
    run_with(settings, async |site| {
        let connector = site.connect_to(1, free_address(), SECRET);
        connector.line("Updated to new configuration");
        let call = site.agent().get(site.url("/")).send();
        let answering = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        };
        let (answer, ()) = tokio::join!(call, answering);
        assert_eq!(answer.unwrap().status(), 204);
    });
}

#[test]
fn a_connector_that_leaves_finishes_its_calls() {
    run(async |site| {
        let connector = site.connect(2);
        connector.registered(2);
        let call = site.agent().get(site.url("/")).send();
        let answering = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            connector.stop();
            connector.line("Unregistered tunnel connection");
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            server
        };
        let (answer, server) = tokio::join!(call, answering);
        assert_eq!(answer.unwrap().text().await.unwrap(), "ok");
        drop(server);
        assert_eq!(connector.ended(), Some(0));
        // The edge waits for the next connector.
        let connector = site.connect_to(1, site.origin.address, SECRET);
        let call = site.agent().get(site.url("/")).send();
        let answering = async {
            let mut server = site.origin.accept().await;
            server.head().await;
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        };
        let (answer, ()) = tokio::join!(call, answering);
        assert_eq!(answer.unwrap().status(), 204);
        connector.stop();
        assert_eq!(connector.ended(), Some(0));
    });
}

#[test]
fn a_connector_that_stands_still_gets_no_more_calls_while_another_one_answers() {
    run(async |site| {
        let still = site.connect(1);
        still.registered(1);
        still.signal("-STOP");
        // Its silence is long enough that the next call asks whether it is alive.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let waiting = tokio::spawn(site.agent().get(site.url("/still")).send());
        // The call begins, and the connector owes an answer for long enough.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let other = site.connect(1);
        other.registered(1);
        for _ in 0..3 {
            let call = site.agent().get(site.url("/other")).send();
            let (answer, head) = tokio::join!(call, answer_one(&site));
            assert_eq!(answer.unwrap().status(), 204);
            assert!(head.starts_with("GET /other "), "{head}");
        }
        still.signal("-CONT");
        assert!(answer_one(&site).await.starts_with("GET /still "));
        assert_eq!(within(waiting).await.unwrap().unwrap().status(), 204);
    });
}

/// Answers the next call at the server, and returns its head.
async fn answer_one(site: &Site) -> String {
    let mut server = site.origin.accept().await;
    let head = server.head().await;
    server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    head
}
