//! Plain HTTP at an edge that has certificates for agents.

use adit::base::Traffic;

use crate::raw::Peer;
use crate::sealed::site::{OPEN_HOST, Site, get};

#[test]
fn an_edge_with_certificates_speaks_plain_http_on_loopback_only_if_configured() {
    let request = format!("POST /mcp HTTP/1.1\r\nHost: {OPEN_HOST}\r\nContent-Length: 2\r\n\r\n{{}}");
    for (more, status, code) in [
        ("", 400, "plain_http"),
        ("allow_plain_http_on_loopback = true", 503, "connector_offline"),
        ("allow_plain_http_off_loopback = true", 503, "connector_offline"),
    ] {
        let site = Site::start_with("epoll", Traffic::Plain, more);
        let mut agent = Peer::connect(site.agents);
        agent.send(&request);
        let answer = agent.head();
        let body = String::from_utf8(agent.body(&answer)).unwrap();
        assert_eq!(answer.status(), status, "{more}: {body}");
        assert!(body.contains(code), "{more}: {body}");
        assert!(
            answer.one("server-timing").is_some_and(|timing| timing.starts_with("edge;dur=")),
            "{more}: {answer:?}"
        );
    }
}

#[test]
fn an_edge_that_speaks_https_alone_still_proves_its_path() {
    let (site, _connector) = Site::linked("epoll", Traffic::Plain, Traffic::Plain);
    let ready = get(site.admin, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
}
