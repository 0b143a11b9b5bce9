//! How connectors of cloudflared register and leave.

use super::site::{run, run_with};
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
