//! The responses to requests that are not passed on, by the edge or by a connector that terminates the agent's TLS.

use crate::exchange::origins::OriginRules;
use crate::latency::Outcome;
use crate::route::{Hostname, Scheme};
use crate::wire::http1::{Answer, RequestHead};

/// The `Retry-After`, in seconds, of a call for which there was no connector.
const RETRY_AFTER_S: u32 = 1;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The `Host` is not a valid host name or address.
    BadHost,
    /// No route has the host.
    UnknownHost,
    /// The tunnel does not admit agents from this network.
    Network,
    /// The `Origin` is not allowed.
    Origin,
    /// The agent's network has reached its limit of calls in flight.
    TooManyCalls,
    /// The request asks for an upgrade to WebSocket.
    Upgrade,
    /// Plain HTTP on a port that accepts only HTTPS.
    PlainHttp,
    /// The traffic of the route is passthrough, but this connection's TLS ended at the edge.
    Passthrough,
    /// The TLS session ends in the connector and belongs to another host.
    OtherHost,
    /// A rule of the route needs the MCP method or tool, and the body did not arrive in time.
    LateBody,
    /// A rule of the route needs the MCP method or tool, and the first 64 KiB of the body do not contain it.
    LongBody,
    /// A rule of the route needs the MCP method or tool, and there is no memory to wait for the body.
    CrowdedBodies,
}

impl Refusal {
    /// All reasons, in order of declaration.
    #[cfg(test)]
    pub const ALL: [Refusal; 12] = [
        Refusal::BadHost,
        Refusal::UnknownHost,
        Refusal::Network,
        Refusal::Origin,
        Refusal::TooManyCalls,
        Refusal::Upgrade,
        Refusal::PlainHttp,
        Refusal::Passthrough,
        Refusal::OtherHost,
        Refusal::LateBody,
        Refusal::LongBody,
        Refusal::CrowdedBodies,
    ];

    /// The response, which closes the connection.
    #[must_use]
    pub fn answer(self) -> Answer<'static> {
        match self {
            Refusal::BadHost => Answer::new(400, "bad_host", "the Host header is not a host name: check the URL"),
            Refusal::UnknownHost => {
                Answer::new(421, "unknown_host", "no route has this host: check the URL, or add the host to a tunnel")
            }
            Refusal::Network => Answer::new(
                403,
                "network_refused",
                "calls from your network are not admitted to this tunnel: ask its operator to add the network",
            ),
            Refusal::Origin => {
                Answer::new(403, "origin_refused", "this origin may not call: add it to `allowed_origins` if it should")
            }
            Refusal::TooManyCalls => Answer {
                retry_after_s: Some(RETRY_AFTER_S),
                ..Answer::new(
                    429,
                    "too_many_calls",
                    "your network has too many calls in flight: wait for some, or ask the edge's operator for more",
                )
            },
            Refusal::Upgrade => {
                Answer::new(501, "upgrade_refused", "WebSocket is not supported here: send the request without Upgrade")
            }
            Refusal::PlainHttp => {
                Answer::new(400, "plain_http", "this port expects HTTPS: call https:// instead of http://")
            }
            Refusal::Passthrough => Answer::new(
                421,
                "passthrough",
                "TLS for this host ends behind the tunnel: call it over https:// with its own name in the handshake (SNI)",
            ),
            Refusal::OtherHost => {
                Answer::new(421, "other_host", "this TLS session is for another host: open a connection of its own")
            }
            Refusal::LateBody => Answer::new(
                408,
                "late_body",
                "the message did not say in time what it calls: send it without pauses, or raise header_timeout_ms",
            ),
            Refusal::LongBody => Answer::new(
                413,
                "long_body",
                "the first 64 KiB of the message do not say what it calls: send `method` and `params.name` before the arguments",
            ),
            Refusal::CrowdedBodies => Answer {
                retry_after_s: Some(RETRY_AFTER_S),
                ..Answer::new(
                    503,
                    "crowded_bodies",
                    "too many messages that do not say what they call are under way here: try again, and send `method` and \
                     `params.name` first",
                )
            },
        }
    }

    /// The outcome under which the request is counted.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Refusal::UnknownHost | Refusal::Passthrough | Refusal::OtherHost => Outcome::UnknownHost,
            Refusal::CrowdedBodies => Outcome::Overloaded,
            _ => Outcome::BadRequest,
        }
    }
}

/// Checks everything about a request that does not depend on its route, and returns its host. `scheme` is that of the
/// connection.
///
/// # Errors
///
/// The reason for which it is refused.
pub fn check_request(head: &RequestHead, rules: &OriginRules, scheme: Scheme) -> Result<Hostname, Refusal> {
    let host = requested_host(head)?;
    if rules.allow(head, scheme) { Ok(host) } else { Err(Refusal::Origin) }
}

/// Checks everything about a request that depends on neither its route nor its origin, and returns its host.
///
/// # Errors
///
/// The reason for which it is refused.
pub fn requested_host(head: &RequestHead) -> Result<Hostname, Refusal> {
    if head.wants_websocket() {
        return Err(Refusal::Upgrade);
    }
    head.host().and_then(|host| host.parse().ok()).ok_or(Refusal::BadHost)
}
