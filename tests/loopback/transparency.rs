//! What the official suite cannot see: that a call crosses the tunnel byte for byte, piece by piece and at once.
//!
//! Where it can, a test runs against the upstream itself, which shows that it asks for nothing that HTTP does not promise;
//! through `adit edge` and `adit connect`; and through both roles in this process: on each driver, for each kind of traffic, with
//! agents that speak HTTP/1.1 and HTTP/2.

mod failures;
mod lives;
mod messages;
mod refusals;
mod stalls;
mod streams;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use adit::base::Traffic;
use adit::connector::ConnectorCommand;
use adit::edge::EdgeCommand;
use adit::engine::ladder::DriverChoice;
use adit::tls::{ALPN_HTTP1, ALPN_HTTP2};

use crate::front::Front;
use crate::http2::site::DRIVERS;
use crate::raw::{Head, Peer, Upstream};
use crate::support;
use crate::tunnel_processes::Tunnel;

/// The host name of the tunnel under test.
const HOST: &str = support::HOST;

/// A way from the agent to the upstream.
struct Way {
    upstream: Upstream,
    /// Where the agent connects.
    front: SocketAddr,
    processes: Option<Tunnel>,
    roles: Option<Roles>,
    /// The scheme of the URL that the agent calls.
    scheme: &'static str,
    /// Whether the edge is called over HTTP/2.
    is_http2: bool,
}

/// Both roles in this process, and what agents connect to in front of them.
struct Roles {
    tunnel: support::Tunnel,
    _front: Front,
}

impl Drop for Roles {
    fn drop(&mut self) {
        // Nobody waits for their end: the next way can begin meanwhile.
        self.tunnel.edge.command(|| EdgeCommand::Drain);
        self.tunnel.connector.command(|| ConnectorCommand::Drain);
    }
}

impl Way {
    fn direct() -> Self {
        let upstream = Upstream::start();
        let front = upstream.address;
        Self { upstream, front, processes: None, roles: None, scheme: "http", is_http2: false }
    }

    fn tunnel() -> Self {
        let upstream = Upstream::start();
        let tunnel = Tunnel::start(HOST, upstream.address);
        Self::through(upstream, tunnel)
    }

    /// Through two processes that have been started.
    fn through(upstream: Upstream, tunnel: Tunnel) -> Self {
        Self { front: tunnel.agents, processes: Some(tunnel), upstream, ..Self::direct() }
    }

    /// Plain traffic is called in the clear, any other over TLS.
    fn roles(driver: DriverChoice, traffic: Traffic, is_http2: bool) -> Self {
        let upstream = Upstream::start();
        let tunnel = support::Tunnel::with_upstreams(driver, traffic, (1, 1), &[upstream.address]);
        let is_clear = traffic == Traffic::Plain;
        let alpn = if is_http2 { ALPN_HTTP2 } else { ALPN_HTTP1 };
        let tls = (!is_clear).then(|| tunnel.tls(alpn));
        let front = if is_http2 { Front::of_requests } else { Front::of_connections }(tunnel.agents, tls);
        let scheme = if is_clear { "http" } else { "https" };
        let (address, roles) = (front.address, Roles { tunnel, _front: front });
        Self { upstream, front: address, processes: None, roles: Some(roles), scheme, is_http2 }
    }

    /// The processes that it goes through.
    fn processes(&mut self) -> &mut Tunnel {
        self.processes.as_mut().expect("a way through processes")
    }

    fn is_direct(&self) -> bool {
        self.processes.is_none() && self.roles.is_none()
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
    for driver in DRIVERS {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            for is_http2 in [false, true] {
                // Shown if the test fails.
                println!("{driver:?}, {traffic}, HTTP/2: {is_http2}");
                test(Way::roles(driver, traffic, is_http2));
            }
        }
    }
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
