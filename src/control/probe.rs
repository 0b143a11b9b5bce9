//! A test request over the whole path, for `/readyz` when no call has succeeded recently. It leaves no session behind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap};
use reqwest::{Client, Method, StatusCode};

use crate::latency::{Phase, StatusClass};

/// How long a probe may take.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many hosts are tried before the path counts as broken.
pub const PROBE_HOSTS_MAX: usize = 3;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no route to call.
    #[error("there is no route to probe: add a tunnel with a host")]
    NoRoute,
    /// The response did not come from the upstream.
    #[error("a probe of {host} was answered with {status} before it reached the upstream")]
    TurnedBack {
        /// The host that was called.
        host: String,
        /// The status of the edge's response.
        status: StatusCode,
    },
    /// A gateway in front of the upstream responded in its place.
    #[error("a probe of {host} was answered with {status}, as a proxy does when the server behind it is down")]
    Gateway {
        /// The host that was called.
        host: String,
        /// The status of the response.
        status: StatusCode,
    },
    /// There was no response, or the connection failed.
    #[error("a probe of {host} failed: {cause}")]
    Failed {
        /// The host that was called.
        host: String,
        /// The error of the HTTP client.
        cause: String,
    },
}

/// Sends `OPTIONS /` through the agents' listener, which in MCP neither opens a session nor calls a tool. Any response
/// of the upstream proves the path, except 502, 503 and 504, with which proxies report a dead server.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    base: String,
    turn: AtomicUsize,
}

impl Prober {
    /// Probes through the agents' listener at this address, with TLS if it has certificates.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be created.
    pub fn new(agents: SocketAddr, tls: bool) -> reqwest::Result<Prober> {
        let address = reachable(agents);
        let scheme = if tls { "https" } else { "http" };
        let client = Client::builder()
            .tcp_nodelay(true)
            .timeout(PROBE_TIMEOUT)
            .user_agent(concat!("adit-probe/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // HTTP/2 would add the listener's address as `:authority` to the route's `Host`, and be rejected.
            .http1_only()
            // The client connects to this process's own listener, whose certificate is for the names that agents use.
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()?;
        Ok(Prober { client, base: format!("{scheme}://{address}/"), turn: AtomicUsize::new(0) })
    }

    /// Probes up to [`PROBE_HOSTS_MAX`] of these hosts, different ones each time, until one succeeds.
    ///
    /// # Errors
    ///
    /// Why the last probe failed.
    pub async fn probe(&self, hosts: &[String]) -> Result<(), ProbeError> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut result = Err(ProbeError::NoRoute);
        for n in 0..hosts.len().min(PROBE_HOSTS_MAX) {
            result = self.probe_host(&concrete(&hosts[(first + n) % hosts.len()])).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn probe_host(&self, host: &str) -> Result<(), ProbeError> {
        let request = self.client.request(Method::OPTIONS, &self.base).header(HOST, host);
        let failed = |error: reqwest::Error| ProbeError::Failed { host: host.to_owned(), cause: chain(&error) };
        let answer = request.send().await.map_err(failed)?;
        let (host, status) = (host.to_owned(), answer.status());
        if !came_from_upstream(answer.headers()) {
            return Err(ProbeError::TurnedBack { host, status });
        }
        match StatusClass::of(status.as_u16()) {
            StatusClass::Gateway => Err(ProbeError::Gateway { host, status }),
            _ => Ok(()),
        }
    }
}

/// The edge reports the upstream's time only if the upstream responded.
fn came_from_upstream(headers: &HeaderMap) -> bool {
    let values = headers.get_all("server-timing").iter().filter_map(|value| value.to_str().ok());
    let mut metrics = values.flat_map(|value| value.split(','));
    metrics.any(|metric| metric.split(';').next().is_some_and(|name| name.trim() == Phase::Upstream.name()))
}

/// The address at which this machine can call a listener: loopback if it listens on all addresses.
#[must_use]
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A concrete host that the pattern matches.
fn concrete(pattern: &str) -> String {
    match pattern.strip_prefix("*.") {
        Some(parent) => format!("adit-probe.{parent}"),
        None => pattern.to_owned(),
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderMap as Heads;
    use axum::response::IntoResponse;

    use super::*;

    async fn edge() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |method: Method, heads: Heads| async move {
            assert_eq!(method, Method::OPTIONS);
            match heads[HOST].to_str().unwrap() {
                "good.test" => (StatusCode::NOT_FOUND, [("server-timing", "edge;dur=0.1, upstream;dur=0.2")]),
                "adit-probe.wild.test" => (StatusCode::OK, [("server-timing", "upstream;dur=0.2")]),
                "dead.test" => (StatusCode::BAD_GATEWAY, [("server-timing", "upstream;dur=0.2")]),
                _ => (StatusCode::SERVICE_UNAVAILABLE, [("server-timing", "edge;dur=1, upstream_connect;dur=1")]),
            }
            .into_response()
        };
        let serve = axum::serve(listener, Router::new().fallback(answer));
        tokio::spawn(async move { serve.await });
        address
    }

    #[tokio::test]
    async fn any_answer_of_the_upstream_proves_the_path_and_one_of_the_edge_does_not() {
        let prober = Prober::new(edge().await, false).unwrap();
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        assert!(prober.probe(&hosts(&["good.test"])).await.is_ok());
        assert!(prober.probe(&hosts(&["*.wild.test"])).await.is_ok());
        assert!(prober.probe(&hosts(&["bad.test", "worse.test", "good.test"])).await.is_ok());
        let error = prober.probe(&hosts(&["bad.test"])).await.unwrap_err();
        assert!(matches!(&error, ProbeError::TurnedBack { host, .. } if host == "bad.test"), "{error}");
        assert!(matches!(prober.probe(&[]).await, Err(ProbeError::NoRoute)));
        // The response of a proxy in front of a dead server does not prove the path.
        let error = prober.probe(&hosts(&["dead.test"])).await.unwrap_err();
        assert!(matches!(&error, ProbeError::Gateway { host, .. } if host == "dead.test"), "{error}");
    }

    #[tokio::test]
    async fn a_listener_that_is_not_there_is_a_failure_with_its_cause() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Prober::new(address, false).unwrap().probe(&["a.test".to_owned()]).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn a_listener_on_every_address_is_called_over_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(at("[::]:80"), "[::1]:80");
        assert_eq!(at("10.0.0.1:80"), "10.0.0.1:80");
    }
}
