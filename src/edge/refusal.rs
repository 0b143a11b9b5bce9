//! What the edge answers when a request cannot be passed on.

use crate::latency::Outcome;
use crate::route::Offline;
use crate::wire::http1::{Answer, Fault};
use crate::wire::mux::Cause;

/// Seconds after which a call that found no connector may be tried again.
const RETRY_AFTER_S: u32 = 1;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The host is no host.
    BadHost,
    /// No route has the host.
    UnknownHost,
    /// Agents of its network may not call this tunnel.
    Network,
    /// A browser may not call from its origin.
    Origin,
    /// The agent wants to change the protocol.
    Upgrade,
    /// Plain HTTP where only HTTPS is spoken.
    PlainHttp,
    /// The connection had been handed over already, and its next host is served by another core.
    OtherCore,
}

impl Refusal {
    pub(super) fn answer(self) -> Answer<'static> {
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
            Refusal::Upgrade => Answer::new(
                501,
                "upgrade_refused",
                "no other protocol is spoken here: send the request without Upgrade",
            ),
            Refusal::PlainHttp => {
                Answer::new(400, "plain_http", "HTTPS is spoken here: call https:// instead of http://")
            }
            Refusal::OtherCore => Answer {
                retry_after_s: Some(0),
                ..Answer::new(503, "other_core", "the host is served on another connection: call again")
            },
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            Refusal::UnknownHost => Outcome::UnknownHost,
            Refusal::OtherCore => Outcome::Overloaded,
            _ => Outcome::BadRequest,
        }
    }
}

/// What a call that found no link is answered, and how it ended.
pub(super) fn offline(why: Offline) -> (Fault, Outcome) {
    match why {
        Offline::NoLink | Offline::Draining => (Fault::ConnectorOffline, Outcome::Offline),
        Offline::Full => (Fault::Overloaded, Outcome::Overloaded),
    }
}

/// What a call whose stream was reset is answered, and how it ended.
pub(super) fn reset(cause: Cause) -> (Fault, Outcome) {
    match cause {
        Cause::NoRoute
        | Cause::UpstreamRefused
        | Cause::UpstreamUnreachable
        | Cause::UpstreamTls
        | Cause::UpstreamUnsent
        | Cause::UpstreamNotAllowed
        | Cause::UpstreamConnectTimeout => (Fault::UpstreamRefused, Outcome::UpstreamRefused),
        Cause::Overloaded | Cause::StreamLimit | Cause::SlowReader => (Fault::Overloaded, Outcome::Overloaded),
        Cause::Draining | Cause::NotSent => (Fault::ConnectorOffline, Outcome::Offline),
        Cause::LinkLost => (Fault::LinkLost, Outcome::LinkLost),
        Cause::Revoked => (Fault::Revoked, Outcome::Revoked),
        Cause::UpstreamTimeout | Cause::Deadline => (Fault::TimedOut, Outcome::TimedOut),
        _ => (Fault::UpstreamBroken, Outcome::UpstreamFailed),
    }
}

/// Whether a fault is over soon, so that the agent is told when to try again.
pub(super) fn retry_after_s(fault: Fault) -> Option<u32> {
    matches!(fault, Fault::ConnectorOffline | Fault::Overloaded).then_some(RETRY_AFTER_S)
}
