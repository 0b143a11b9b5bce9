//! What the official suite cannot see: that a call crosses the tunnel byte for byte, piece by piece and at once.
//!
//! Where it can, a test runs three times: against the upstream itself, which shows that it asks for nothing that HTTP does
//! not promise, through `adit edge` and `adit connect`, and through both with each call sealed again between them.

mod failures;
mod lives;
mod messages;
mod refusals;
mod stalls;
mod streams;

use std::net::SocketAddr;

use crate::raw::{Head, Peer, Upstream};
use crate::tunnel::Tunnel;

/// The host name of the tunnel under test.
const HOST: &str = "mcp.test";

/// A way from the agent to the upstream.
struct Way {
    upstream: Upstream,
    /// Where the agent connects.
    front: SocketAddr,
    tunnel: Option<Tunnel>,
}

impl Way {
    fn direct() -> Self {
        let upstream = Upstream::start();
        Self { front: upstream.address, upstream, tunnel: None }
    }

    fn tunnel() -> Self {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start(HOST, upstream.address);
        Self { front: tunnel.agents, upstream, tunnel: Some(tunnel) }
    }

    fn resealed() -> Self {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start_as("resealed", HOST, upstream.address);
        Self { front: tunnel.agents, upstream, tunnel: Some(tunnel) }
    }

    fn is_direct(&self) -> bool {
        self.tunnel.is_none()
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
