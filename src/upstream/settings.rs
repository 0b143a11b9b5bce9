use std::sync::Arc;
use std::time::Duration;

use crate::engine::LocalEntry;
use crate::policy::AllowedUpstreams;
use crate::route::UpstreamUrl;
use crate::stdio::StdioUpstream;
use crate::tls::ClientConfig;
use crate::upstream::EraBridge;

/// The settings of one upstream.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// The URL of the server.
    pub url: UpstreamUrl,
    /// TLS for an `https://` server.
    pub tls: Option<Arc<ClientConfig>>,
    /// How many connections to it one core may have.
    pub connections_max: usize,
    /// How long connecting to any of its addresses may take, TLS included.
    pub connect_timeout: Duration,
    /// How long to retry a server that refuses connections before the call fails.
    pub refused_wait: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long its host may send neither data nor answers to keep-alive probes before a connection to it fails.
    pub silence_max: Duration,
    /// How long its host may acknowledge nothing of a request before the host is given up.
    pub acknowledged_within: Duration,
    /// How long a call may wait for a connection while all are in use.
    pub queue_timeout: Duration,
    /// The addresses that it may have. Every address is checked before it is dialled, because a name may resolve to
    /// another one each time.
    pub allowed: Arc<AllowedUpstreams>,
    /// The way to the child process, if the server is one.
    pub stdio: Option<Arc<StdioUpstream>>,
    /// The bridge for agents of another era of MCP, if the route has one.
    pub bridge: Option<Arc<EraBridge>>,
    /// A server within this process that is called in place of the URL.
    pub entry: Option<Arc<LocalEntry>>,
}

impl UpstreamSettings {
    /// Whether connections that were made with these settings can be used with the others.
    #[must_use]
    pub fn connects_as(&self, other: &UpstreamSettings) -> bool {
        let figures = |settings: &UpstreamSettings| {
            let UpstreamSettings {
                connections_max,
                connect_timeout,
                refused_wait,
                idle_timeout,
                silence_max,
                acknowledged_within,
                queue_timeout,
                ..
            } = *settings;
            let limits = [connect_timeout, refused_wait, idle_timeout, silence_max, acknowledged_within, queue_timeout];
            (connections_max, limits)
        };
        same(self.tls.as_ref(), other.tls.as_ref())
            && same(self.stdio.as_ref(), other.stdio.as_ref())
            && same(self.bridge.as_ref(), other.bridge.as_ref())
            && self.allowed == other.allowed
            && self.url == other.url
            && figures(self) == figures(other)
    }
}

/// Whether both are the same one, or there is none.
fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(feature = "internals")]
impl UpstreamSettings {
    /// An upstream for tests and benches, without TLS, in a private network.
    #[must_use]
    pub fn for_tests(url: UpstreamUrl) -> UpstreamSettings {
        UpstreamSettings {
            url,
            tls: None,
            connections_max: 64,
            connect_timeout: Duration::from_secs(5),
            refused_wait: Duration::ZERO,
            idle_timeout: Duration::from_secs(30),
            silence_max: Duration::from_secs(75),
            acknowledged_within: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            allowed: Arc::new(AllowedUpstreams::private()),
            stdio: None,
            bridge: None,
            entry: None,
        }
    }
}
