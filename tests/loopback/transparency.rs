//! What the official suite cannot see: that a call crosses the tunnel byte for byte, piece by piece and at once.
//!
//! Where it can, a test runs four times: against the upstream itself, which shows that it asks for nothing that HTTP does
//! not promise, through `adit edge` and `adit connect`, through both with each call sealed again between them, and through both
//! with the edge called over HTTP/2.

mod failures;
mod http2;
mod lives;
mod messages;
mod refusals;
mod stalls;
mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::raw::{Head, Peer, Upstream};
use crate::tunnel_processes::Tunnel;

/// The host name of the tunnel under test.
const HOST: &str = "mcp.test";

/// A way from the agent to the upstream.
struct Way {
    upstream: Upstream,
    /// Where the agent connects.
    front: SocketAddr,
    tunnel: Option<Tunnel>,
    /// Whether the edge is called over HTTP/2.
    is_http2: bool,
}

impl Way {
    fn direct() -> Self {
        let upstream = Upstream::start();
        Self { front: upstream.address, upstream, tunnel: None, is_http2: false }
    }

    fn tunnel() -> Self {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start(HOST, upstream.address);
        Self { front: tunnel.agents, upstream, tunnel: Some(tunnel), is_http2: false }
    }

    fn resealed() -> Self {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start_as("resealed", HOST, upstream.address);
        Self { front: tunnel.agents, upstream, tunnel: Some(tunnel), is_http2: false }
    }

    fn http2() -> Self {
        let way = Self::tunnel();
        Self { front: http2::start(way.front), is_http2: true, ..way }
    }

    fn is_direct(&self) -> bool {
        self.tunnel.is_none()
    }

    /// Fails unless the fields that came are those that were sent, as far as this way keeps them: HTTP/2 has names in lower case
    /// alone, and its library puts fields of the same name together.
    fn assert_fields(&self, came: &[(String, String)], sent: &[(&str, &str)]) {
        let sent = sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        if !self.is_http2 {
            return assert_eq!(came, sent);
        }
        let by_name = |fields: &[(String, String)]| {
            let mut all = BTreeMap::<String, Vec<String>>::new();
            for (name, value) in fields {
                all.entry(name.to_ascii_lowercase()).or_default().push(value.clone());
            }
            all
        };
        assert_eq!(by_name(came), by_name(&sent));
    }

    fn agent(&self) -> Peer {
        Peer::connect(self.front)
    }

    /// A request that ends with its head, sent on a fresh connection; both ends of the exchange.
    fn exchange(&mut self, head: &str) -> (Peer, Head, Peer) {
        let mut agent = self.agent();
        agent.send(head);
        let (came, at) = self.upstream.next();
        (agent, came, at)
    }
}

/// Runs a test all ways.
fn each_way(test: impl Fn(Way)) {
    test(Way::direct());
    test(Way::tunnel());
    test(Way::resealed());
    test(Way::http2());
}

/// A request without a body.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n")
}

/// A JSON-RPC call.
fn post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The body of one.
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
