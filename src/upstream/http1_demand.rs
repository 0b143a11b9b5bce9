//! Servers that speak HTTP/2 but require HTTP/1.1 for a request. They are called over HTTP/1.1 for some minutes.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use crate::base::Time;
use crate::engine::Core;
use crate::route::UpstreamUrl;

/// How long a server that has demanded HTTP/1.1 is called over it before HTTP/2 is tried again.
const HTTP1_FOR: Duration = Duration::from_secs(600);

/// Whether a server that speaks HTTP/2 has demanded HTTP/1.1 (HTTP_1_1_REQUIRED, RFC 9113 section 7).
pub(super) struct Http1Demand {
    core: Core,
    upstream: UpstreamUrl,
    until: Cell<Time>,
}

impl Http1Demand {
    pub(super) fn new(core: &Core, upstream: &UpstreamUrl) -> Http1Demand {
        Http1Demand { core: core.clone(), upstream: upstream.clone(), until: Cell::new(Time::ZERO) }
    }

    /// Notes that the server at `address` demands HTTP/1.1. This is logged once, until HTTP/2 is tried again.
    pub(super) fn note(&self, address: impl Display) {
        let is_new = !self.is_on();
        self.until.set(self.core.turn_time() + HTTP1_FOR);
        if is_new {
            let (upstream, address, seconds) = (&self.upstream, address.to_string(), HTTP1_FOR.as_secs());
            tracing::warn!(
                %upstream, address, seconds,
                "the upstream requires HTTP/1.1 (HTTP_1_1_REQUIRED); HTTP/2 is not used for `seconds`: set upstream_http2 = false for its \
                 route"
            );
        }
    }

    /// Whether the server must be called over HTTP/1.1.
    pub(super) fn is_on(&self) -> bool {
        self.core.turn_time() < self.until.get()
    }
}
