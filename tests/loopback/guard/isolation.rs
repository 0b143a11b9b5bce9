//! Nothing but the hostname chooses a tunnel, and each port speaks its own language alone.

use std::io::{Read, Write};

use adit::tls::{ALPN_HTTP1, ALPN_LINK};

use super::site::{HOSTS, LOCALHOST, SECRETS, Site, ask};

#[test]
fn a_call_is_routed_by_its_host_alone() {
    let site = Site::start([""; 2], "");
    let [one, two] = HOSTS;
    let cases = [
        (one, format!("GET / HTTP/1.1\r\nHost: {one}\r\n"), "upstream 0"),
        // Another name in the TLS greeting.
        (two, format!("GET / HTTP/1.1\r\nHost: {one}\r\n"), "upstream 0"),
        (one, format!("GET / HTTP/1.1\r\nHost: {two}\r\n"), "upstream 1"),
        (one, format!("GET http://{two}/ HTTP/1.1\r\nHost: {two}\r\n"), "upstream 1"),
        (
            one,
            format!("GET / HTTP/1.1\r\nHost: {one}\r\nX-Forwarded-Host: {two}\r\nForwarded: host={two}\r\n"),
            "upstream 0",
        ),
        (one, format!("GET / HTTP/1.1\r\nX-Host: {two}\r\nX-Original-Host: {two}\r\nHost: {one}\r\n"), "upstream 0"),
        (one, format!("GET / HTTP/1.1\r\nHost: {one}\r\nAdit-Tunnel: tnl_1\r\nX-Adit-Route: {two}\r\n"), "upstream 0"),
        (
            one,
            format!("GET /?host={two}&tunnel=tnl_1 HTTP/1.1\r\nHost: {one}\r\nOrigin: https://{one}\r\n"),
            "upstream 0",
        ),
        // Two opinions are none.
        (one, format!("GET http://{two}/ HTTP/1.1\r\nHost: {one}\r\n"), "HTTP/1.1 400 "),
        (one, format!("GET / HTTP/1.1\r\nHost: {one}\r\nHost: {two}\r\n"), "HTTP/1.1 400 "),
        (one, format!("GET / HTTP/1.1\r\nHost: {one},{two}\r\n"), "HTTP/1.1 400 "),
        (one, format!("GET / HTTP/1.1\r\nHost: {one}\r\n Host: {two}\r\n"), "HTTP/1.1 400 "),
        (one, "GET / HTTP/1.1\r\nHost: tnl_1\r\n".to_owned(), "HTTP/1.1 4"),
        (one, "GET / HTTP/1.1\r\nHost: three.test\r\n".to_owned(), "HTTP/1.1 421 "),
    ];
    for (sni, head, want) in cases {
        let mut agent = site.agent(LOCALHOST, sni, b"").unwrap();
        let answer = ask(&mut agent, &format!("{head}\r\n")).unwrap();
        let found = if want.starts_with("HTTP") { answer.starts_with(want) } else { answer.contains(want) };
        assert!(found, "{sni} {head:?} was answered {answer:?}, not {want}");
    }
    // One connection may call both, and each call is judged by its own host.
    let mut agent = site.agent(LOCALHOST, one, b"").unwrap();
    for (host, want) in [(one, "upstream 0"), (two, "upstream 1"), (one, "upstream 0")] {
        let answer = ask(&mut agent, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert!(answer.contains(want), "{answer}");
    }
}

#[test]
fn a_tunnels_links_serve_no_host_of_another_tunnel() {
    let mut site = Site::without_connectors([""; 2], "");
    // It would serve both, but its tunnel has one of them.
    site.connect(0, &HOSTS);
    assert!(site.get(LOCALHOST, "one.test").unwrap().contains("upstream 0"));
    let answer = site.get(LOCALHOST, "two.test").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && !answer.contains("upstream"), "{answer}");
    site.connect(1, &HOSTS);
    assert!(site.get(LOCALHOST, "two.test").unwrap().contains("upstream 1"));
    assert!(site.get(LOCALHOST, "one.test").unwrap().contains("upstream 0"));
}

#[test]
fn a_secret_opens_its_own_tunnel_alone() {
    let site = Site::without_connectors([""; 2], "");
    let other = site.start_connector(0, SECRETS[1], &["one.test"], site.connectors);
    other.event("no_link");
    assert_eq!(site.status().links, []);
    assert!(site.count("links_refused") >= 1);
}

#[test]
fn the_agents_port_takes_no_links_and_the_connectors_port_no_calls() {
    let site = Site::start([""; 2], "");
    // A connector with the right secret that dials the agents' port.
    let lost = site.start_connector(0, SECRETS[0], &["one.test"], site.agents);
    lost.event("no_link");
    assert_eq!(site.status().links.len(), 2);
    // Each port agrees to its own protocol alone.
    assert!(site.client(site.agents, LOCALHOST, "one.test", b"", ALPN_LINK).is_err());
    assert!(site.client(site.connectors, LOCALHOST, "localhost", b"", ALPN_HTTP1).is_err());
    // An agent that claims to be a connector is not answered as an agent.
    let mut stranger = site.client(site.connectors, LOCALHOST, "localhost", b"", ALPN_LINK).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n").unwrap();
    let mut text = Vec::new();
    let _ = stranger.read_to_end(&mut text);
    assert!(!String::from_utf8_lossy(&text).contains("HTTP/1.1"), "{text:?}");
}
