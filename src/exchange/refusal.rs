//! Answers to requests that cannot be passed on, by the edge, and by a connector that ends the agent's TLS.

use crate::exchange::origins::OriginRules;
use crate::latency::Outcome;
use crate::route::{Hostname, Scheme};
use crate::wire::http1::{Answer, RequestHead};

/// Seconds after which a call that found no connector may be tried again.
const RETRY_AFTER_S: u32 = 1;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The host is not a valid host name or address.
    BadHost,
    /// No route has the host.
    UnknownHost,
    /// Agents of its network may not call this tunnel.
    Network,
    /// A browser may not call from its origin.
    Origin,
    /// The agent's network has as many calls in flight as it may have.
    TooManyCalls,
    /// The agent opens a WebSocket.
    Upgrade,
    /// Plain HTTP where only HTTPS is spoken.
    PlainHttp,
    /// The host's route is one whose TLS ends in the connector, and here it ended at the edge.
    Passthrough,
    /// A session that ends in the connector is for one host, and this is another.
    OtherHost,
    /// A rule of the route depends on what a body calls, and that did not come in time.
    LateBody,
    /// A rule of the route depends on what a body calls, and the first 64 KiB do not say it.
    LongBody,
    /// A rule of the route depends on what a body calls, and there is no memory to wait for that.
    CrowdedBodies,
}

impl Refusal {
    /// Every reason, in the order of the declaration.
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

    /// What is answered; it closes the connection.
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
                Answer::new(501, "upgrade_refused", "WebSocket is not spoken here: send the request without Upgrade")
            }
            Refusal::PlainHttp => {
                Answer::new(400, "plain_http", "HTTPS is spoken here: call https:// instead of http://")
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

    /// How it is counted.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Refusal::UnknownHost | Refusal::Passthrough | Refusal::OtherHost => Outcome::UnknownHost,
            Refusal::CrowdedBodies => Outcome::Overloaded,
            _ => Outcome::BadRequest,
        }
    }
}

/// Which host a request is for, if it may be passed on whatever its route. `scheme` is that of the connection.
///
/// # Errors
///
/// Why it may not.
pub fn check_request(head: &RequestHead, rules: &OriginRules, scheme: Scheme) -> Result<Hostname, Refusal> {
    let host = requested_host(head)?;
    if rules.allow(head, scheme) { Ok(host) } else { Err(Refusal::Origin) }
}

/// Which host a request is for, if it may be passed on whatever its route and origin.
///
/// # Errors
///
/// Why it may not.
pub fn requested_host(head: &RequestHead) -> Result<Hostname, Refusal> {
    if head.wants_websocket() {
        return Err(Refusal::Upgrade);
    }
    head.host().and_then(|host| host.parse().ok()).ok_or(Refusal::BadHost)
}
