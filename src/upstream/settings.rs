use std::sync::Arc;
use std::time::Duration;

use crate::policy::AllowedUpstreams;
use crate::route::UpstreamUrl;
use crate::tls::ClientConfig;

/// The settings of one upstream.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// The URL of the server.
    pub url: UpstreamUrl,
    /// TLS for an `https://` server.
    pub tls: Option<Arc<ClientConfig>>,
    /// How many connections one core may have to it.
    pub connections_max: usize,
    /// How long connecting may take, TLS included, all addresses together.
    pub connect_timeout: Duration,
    /// How long a server that refuses connections is given to come back, before the call fails.
    pub refused_wait: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long its host may be silent, sending neither data nor answers to keep-alive probes, before a connection to it fails.
    pub silence_max: Duration,
    /// How long its host may acknowledge nothing of a request before it is given up.
    pub acknowledged_within: Duration,
    /// How long a call may wait for a connection when all are in use.
    pub queue_timeout: Duration,
    /// The addresses at which it may be. Checked for every address before it is dialled, as a name may resolve to another
    /// address each time.
    pub allowed: Arc<AllowedUpstreams>,
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
        }
    }
}
