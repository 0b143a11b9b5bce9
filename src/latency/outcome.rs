/// The number of outcomes.
pub const OUTCOMES: usize = Outcome::ALL.len();

/// How a call ended; every call ends in exactly one way. The names are stable: metrics and JSON use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The upstream's whole response was passed on, whatever its status.
    Ok,
    /// The agent closed the connection before the end.
    AgentGone,
    /// The agent's request was refused as malformed (400, 413, 431, 501).
    BadRequest,
    /// No route has this host (421).
    UnknownHost,
    /// The route's tunnel had no link (503).
    Offline,
    /// A limit was reached before the call was sent on (503).
    Overloaded,
    /// The upstream accepted no connection (502, 503).
    UpstreamRefused,
    /// The upstream broke off, or its response was not valid HTTP.
    UpstreamFailed,
    /// The link was lost during the call.
    LinkLost,
    /// A deadline passed (504).
    TimedOut,
    /// The tunnel's credentials were revoked, before or during the call (503).
    Revoked,
    /// The inner TLS session between edge and connector failed (502).
    SealRefused,
    /// The agent received nothing of its response, or sent nothing of its request, for too long.
    AgentStalled,
    /// The connector has no route for the host (502).
    NoRoute,
    /// Edge and connector did not understand each other, or one of them had an internal error (502).
    TunnelFailed,
    /// The breaker of the tool or of the upstream was open (503).
    BreakerOpen,
    /// The concurrency limit of the route refused the call (503).
    ConcurrencyLimited,
    /// The audit log is required and could not be written (503).
    AuditUnavailable,
    /// The policy of the route denied the call.
    Denied,
}

impl Outcome {
    /// All outcomes, in display order.
    pub const ALL: [Outcome; 19] = [
        Outcome::Ok,
        Outcome::AgentGone,
        Outcome::BadRequest,
        Outcome::UnknownHost,
        Outcome::Offline,
        Outcome::Overloaded,
        Outcome::UpstreamRefused,
        Outcome::UpstreamFailed,
        Outcome::LinkLost,
        Outcome::TimedOut,
        Outcome::Revoked,
        Outcome::SealRefused,
        Outcome::AgentStalled,
        Outcome::NoRoute,
        Outcome::TunnelFailed,
        Outcome::BreakerOpen,
        Outcome::ConcurrencyLimited,
        Outcome::AuditUnavailable,
        Outcome::Denied,
    ];

    /// The name in metrics and JSON. It does not change between releases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::AgentGone => "agent_gone",
            Outcome::BadRequest => "bad_request",
            Outcome::UnknownHost => "unknown_host",
            Outcome::Offline => "offline",
            Outcome::Overloaded => "overloaded",
            Outcome::UpstreamRefused => "upstream_refused",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::LinkLost => "link_lost",
            Outcome::TimedOut => "timed_out",
            Outcome::Revoked => "revoked",
            Outcome::SealRefused => "seal_refused",
            Outcome::AgentStalled => "agent_stalled",
            Outcome::NoRoute => "no_route",
            Outcome::TunnelFailed => "tunnel_failed",
            Outcome::BreakerOpen => "breaker_open",
            Outcome::ConcurrencyLimited => "concurrency_limit",
            Outcome::AuditUnavailable => "audit_unavailable",
            Outcome::Denied => "denied",
        }
    }

    /// Whether the call's durations belong in the histograms.
    ///
    /// Those of refused calls do not: a fast refusal would make the tunnel look fast. Those of calls that the agent
    /// gave up do: leaving them out would hide the slowest calls.
    #[must_use]
    pub const fn is_timed(self) -> bool {
        matches!(
            self,
            Outcome::Ok
                | Outcome::AgentGone
                | Outcome::AgentStalled
                | Outcome::UpstreamFailed
                | Outcome::LinkLost
                | Outcome::TimedOut
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_their_place() {
        for (at, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, at);
            assert!(Outcome::ALL[..at].iter().all(|other| other.name() != outcome.name()));
        }
    }
}
