//! What a failed call means to agents and in metrics.

pub use crate::base::CallFailure;
use crate::engine::StreamError;
use crate::exchange::call_report::{CODE_CALLER_TIMEOUT, RPC_CODE_CALLER_TIMEOUT};
use crate::latency::{Outcome, Phase};
use crate::policy::{ANSWER_TOO_LARGE, ANSWER_TOO_LARGE_CODE, ANSWER_TOO_LARGE_MESSAGE};
use crate::route::Offline;
use crate::wire::http1::Answer;

/// The `Retry-After`, in seconds, of a call for which there was no room or no connector.
const RETRY_AFTER_S: u32 = 1;

/// What one failure means to agents and in metrics. Failures that differ only for the two roles share a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    /// The HTTP status (RFC 9110, section 15).
    status: u16,
    /// The JSON-RPC error code, outside the ranges that JSON-RPC 2.0 and MCP reserve.
    rpc_code: i32,
    /// The machine-readable name of the failure.
    code: &'static str,
    outcome: Outcome,
    retry_after_s: Option<u32>,
    /// The error message for people.
    message: &'static str,
}

/// Maps each failure to its meaning.
const fn meaning(failure: CallFailure) -> Meaning {
    match failure {
        CallFailure::ConnectorOffline => Meaning {
            status: 503,
            rpc_code: -31_001,
            code: "connector_offline",
            outcome: Outcome::Offline,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "no connector is linked for this host: start `adit connect`, or try again soon",
        },
        CallFailure::TunnelRevoked => Meaning {
            status: 503,
            rpc_code: -31_013,
            code: "revoked",
            outcome: Outcome::Revoked,
            retry_after_s: None,
            message: "the tunnel's credentials were revoked, so no connector can serve it: its operator must rotate them",
        },
        CallFailure::Overloaded => Meaning {
            status: 503,
            rpc_code: -31_004,
            code: "overloaded",
            outcome: Outcome::Overloaded,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "the tunnel is at its limit: try again after a pause",
        },
        CallFailure::BreakerOpen => Meaning {
            status: 503,
            rpc_code: -31_020,
            code: "breaker_open",
            outcome: Outcome::BreakerOpen,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "calls of this tool or to its server are failing, and the circuit breaker is open; the tool was not called: \
                      try again after a pause",
        },
        CallFailure::ConcurrencyLimit => Meaning {
            status: 503,
            rpc_code: -31_030,
            code: "concurrency_limit",
            outcome: Outcome::ConcurrencyLimited,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "the MCP server has as many calls in flight as it can work on, and the tool was not called: try again after a pause",
        },
        CallFailure::NoRoute => Meaning {
            status: 502,
            rpc_code: -31_014,
            code: "no_route",
            outcome: Outcome::NoRoute,
            retry_after_s: None,
            message: "the tunnel's connector has no route for this host: its operator must add one with --route or [[route]]",
        },
        CallFailure::RequestRefused => Meaning {
            status: 502,
            rpc_code: -31_015,
            code: "request_refused",
            outcome: Outcome::TunnelFailed,
            retry_after_s: None,
            message: "the tunnel's connector could not read the request and did not pass it on: its operator must use matching versions of edge and connector",
        },
        CallFailure::NotPassedOn => Meaning {
            status: 502,
            rpc_code: -31_016,
            code: "not_passed_on",
            outcome: Outcome::TunnelFailed,
            retry_after_s: None,
            message: "the tunnel's connector did not pass the request on, for a reason that the edge does not know: its operator finds it in the connector's log",
        },
        CallFailure::SealMismatch | CallFailure::SealRefused => Meaning {
            status: 502,
            rpc_code: -31_008,
            code: "seal_refused",
            outcome: Outcome::SealRefused,
            retry_after_s: None,
            message: "the inner TLS handshake between edge and connector failed: the operator finds the reason in the logs of both",
        },
        CallFailure::UpstreamNotAllowed | CallFailure::UpstreamUnreachable => Meaning {
            status: 502,
            rpc_code: -31_010,
            code: "upstream_unreachable",
            outcome: Outcome::UpstreamRefused,
            retry_after_s: None,
            message: "the connector cannot reach the MCP server: the connector's operator finds the address and the reason in its log",
        },
        CallFailure::UpstreamConnectTimeout => Meaning {
            status: 502,
            rpc_code: -31_011,
            code: "upstream_connect_timeout",
            outcome: Outcome::UpstreamRefused,
            retry_after_s: None,
            message: "the MCP server behind the tunnel did not answer the connector's attempt to connect: its host is down, or a firewall drops the packets",
        },
        CallFailure::UpstreamUnsent => Meaning {
            status: 503,
            rpc_code: -31_025,
            code: "upstream_unsent",
            outcome: Outcome::UpstreamRefused,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "the MCP server behind the tunnel refused the request unread, or closed its connection before the request was sent: nothing was done, try again soon",
        },
        CallFailure::CallerTimeoutUnsent => Meaning {
            status: 504,
            rpc_code: -31_027,
            code: "caller_timeout_unsent",
            outcome: Outcome::TimedOut,
            retry_after_s: None,
            message: "the time that the caller waits (X-Request-Timeout, grpc-timeout or client_timeout_ms) was nearly over before the request was sent to the MCP server: nothing was done",
        },
        CallFailure::UpstreamRefused => Meaning {
            status: 503,
            rpc_code: -31_002,
            code: "upstream_refused",
            outcome: Outcome::UpstreamRefused,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "the MCP server behind the tunnel refused the connection: check that it is running, or try again soon",
        },
        CallFailure::UpstreamTls => Meaning {
            status: 502,
            rpc_code: -31_012,
            code: "upstream_tls",
            outcome: Outcome::UpstreamRefused,
            retry_after_s: None,
            message: "the TLS handshake between connector and MCP server failed: the connector's operator finds the reason in its log",
        },
        CallFailure::UpstreamSilent | CallFailure::UpstreamBroken | CallFailure::UpstreamProtocol => Meaning {
            status: 502,
            rpc_code: -31_003,
            code: "upstream_broken",
            outcome: Outcome::UpstreamFailed,
            retry_after_s: None,
            message: "the MCP server closed the connection before its answer was complete: it may have acted on the request",
        },
        CallFailure::NoUpstreamAnswer => Meaning {
            status: 502,
            rpc_code: -31_046,
            code: "no_upstream_answer",
            outcome: Outcome::UpstreamFailed,
            retry_after_s: None,
            message: "the connector got no answer of the MCP server: its operator finds the reason in the connector's log; the server may have acted on the request",
        },
        CallFailure::Deadline => Meaning {
            status: 504,
            rpc_code: -31_018,
            code: "timed_out",
            outcome: Outcome::TimedOut,
            retry_after_s: None,
            message: "the MCP server did not begin its answer within first_byte_timeout_ms, which the operator of the edge or of the route has set: it may have acted on the request",
        },
        CallFailure::CallerTimeout => Meaning {
            status: 504,
            rpc_code: RPC_CODE_CALLER_TIMEOUT,
            code: CODE_CALLER_TIMEOUT,
            outcome: Outcome::TimedOut,
            retry_after_s: None,
            message: "the time that the caller waits (X-Request-Timeout, grpc-timeout or client_timeout_ms) was nearly over: the server may have acted on the request",
        },
        CallFailure::TimedOut => Meaning {
            status: 504,
            rpc_code: -31_005,
            code: "timed_out",
            outcome: Outcome::TimedOut,
            retry_after_s: None,
            message: "the MCP server did not answer in time: it may have acted on the request",
        },
        CallFailure::LinkLost => Meaning {
            status: 502,
            rpc_code: -31_006,
            code: "link_lost",
            outcome: Outcome::LinkLost,
            retry_after_s: None,
            message: "the link to the private network was lost: the server may have acted on the request",
        },
        CallFailure::Revoked => Meaning {
            status: 503,
            rpc_code: -31_007,
            code: "revoked",
            outcome: Outcome::Revoked,
            retry_after_s: None,
            message: "the tunnel's credential was revoked during the call: the server may have acted on the request",
        },
        CallFailure::SlowReader => Meaning {
            status: 503,
            rpc_code: -31_009,
            code: "slow_reader",
            outcome: Outcome::Overloaded,
            retry_after_s: None,
            message: "the call was ended to free memory, because its reader was slow: the server may have acted on the request",
        },
        CallFailure::AuditUnavailable => Meaning {
            status: 503,
            rpc_code: -31_040,
            code: "audit_unavailable",
            outcome: Outcome::AuditUnavailable,
            retry_after_s: Some(RETRY_AFTER_S),
            message: "calls must be written to the audit log, which cannot be written at present, and the tool was not called: the operator finds the reason in the log of the edge or connector",
        },
        CallFailure::Unrecorded => Meaning {
            status: 503,
            rpc_code: -31_041,
            code: "unrecorded",
            outcome: Outcome::AuditUnavailable,
            retry_after_s: None,
            message: "the call could not be written to the audit log, so its answer is withheld: the server may have acted on the request",
        },
        CallFailure::CrowdedLists => Meaning {
            status: 503,
            rpc_code: -31_045,
            code: "crowded_lists",
            outcome: Outcome::Overloaded,
            retry_after_s: None,
            message: "answers that are being filtered by the policies of their routes have used up the memory for them, so that this one is withheld: the server may have acted on the request",
        },
        CallFailure::RequestBroken => Meaning {
            status: 400,
            rpc_code: -31_028,
            code: "request_broken",
            outcome: Outcome::BadRequest,
            retry_after_s: None,
            message: "the body of the request is incomplete or malformed, or servers may read it in different ways, so that it was cut off: the server may have acted on the request",
        },
        // What clients give to the model, which may ask for less.
        CallFailure::AnswerOverCeiling => Meaning {
            status: 200,
            rpc_code: ANSWER_TOO_LARGE_CODE,
            code: ANSWER_TOO_LARGE,
            outcome: Outcome::Denied,
            retry_after_s: None,
            message: ANSWER_TOO_LARGE_MESSAGE,
        },
        CallFailure::Cancelled | CallFailure::Internal => Meaning {
            status: 502,
            rpc_code: -31_017,
            code: "tunnel_failed",
            outcome: Outcome::TunnelFailed,
            retry_after_s: None,
            message: "the call failed inside the tunnel: the server may have acted on the request",
        },
    }
}

impl CallFailure {
    /// The failure of a call for which no link could be used.
    #[must_use]
    pub fn of_offline(why: Offline) -> CallFailure {
        match why {
            Offline::NoConnector | Offline::Draining => CallFailure::ConnectorOffline,
            Offline::Full => CallFailure::Overloaded,
        }
    }

    /// The failure of a call whose stream failed while its answer was read.
    #[must_use]
    pub fn of_stream(error: &StreamError) -> CallFailure {
        match error {
            StreamError::ResetWith { failure } => *failure,
            // Only on an inner session: the connector does not accept this edge's certificate.
            StreamError::Protocol(_) => CallFailure::SealRefused,
            _ => CallFailure::UpstreamBroken,
        }
    }

    /// The phase in which a call with this failure was. Most failures determine it. For the others it is `waits_for`:
    /// the phase whose end the role was waiting for.
    #[must_use]
    pub fn phase(self, waits_for: Phase) -> Phase {
        match self {
            CallFailure::NoRoute | CallFailure::RequestRefused | CallFailure::NotPassedOn => Phase::Connector,
            CallFailure::UpstreamNotAllowed
            | CallFailure::UpstreamUnreachable
            | CallFailure::UpstreamConnectTimeout
            | CallFailure::UpstreamRefused
            | CallFailure::UpstreamTls => Phase::UpstreamConnect,
            CallFailure::UpstreamUnsent
            | CallFailure::UpstreamSilent
            | CallFailure::NoUpstreamAnswer
            | CallFailure::UpstreamBroken
            | CallFailure::UpstreamProtocol => Phase::Upstream,
            CallFailure::SealMismatch
            | CallFailure::SealRefused
            | CallFailure::LinkLost
            | CallFailure::Revoked
            | CallFailure::Cancelled
            | CallFailure::RequestBroken
            | CallFailure::Unrecorded
            | CallFailure::CrowdedLists
            | CallFailure::AnswerOverCeiling
            | CallFailure::Internal => Phase::Tunnel,
            // The connector had not begun to send the request.
            CallFailure::CallerTimeoutUnsent if waits_for == Phase::Upstream => Phase::UpstreamConnect,
            CallFailure::ConnectorOffline
            | CallFailure::TunnelRevoked
            | CallFailure::Overloaded
            | CallFailure::BreakerOpen
            | CallFailure::ConcurrencyLimit
            | CallFailure::AuditUnavailable
            | CallFailure::CallerTimeoutUnsent
            | CallFailure::Deadline
            | CallFailure::CallerTimeout
            | CallFailure::TimedOut
            | CallFailure::SlowReader => waits_for,
        }
    }

    /// The outcome under which the call is counted.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        meaning(self).outcome
    }

    /// The response to the agent: a JSON-RPC error if the id of the message is known. The connection stays open.
    #[must_use]
    pub fn answer(self, rpc_id: Option<&str>) -> Answer<'_> {
        let Meaning { status, rpc_code, code, message, retry_after_s, .. } = meaning(self);
        let may_have_acted = Some(self.may_have_acted());
        Answer { rpc_code, rpc_id, may_have_acted, retry_after_s, close: false, ..Answer::new(status, code, message) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn each_code_has_one_meaning_which_says_whether_the_server_may_have_acted() {
        let mut by_code = HashMap::new();
        for failure in CallFailure::ALL {
            let meaning = meaning(failure);
            assert!(!(-32_768..=-32_000).contains(&meaning.rpc_code), "{} is reserved", meaning.rpc_code);
            assert_eq!(failure.may_have_acted(), meaning.message.contains("may have acted"), "{}", meaning.message);
            let invites = meaning.retry_after_s.is_some();
            assert!(!(failure.may_have_acted() && invites), "{} invites a retry", meaning.code);
            let first = *by_code.entry(meaning.rpc_code).or_insert(meaning);
            assert_eq!(first, meaning, "{failure:?}");
        }
        let reasons: HashMap<_, _> = by_code.values().map(|meaning| (meaning.message, meaning)).collect();
        assert_eq!(reasons.len(), by_code.len());
    }

    /// A refused connection, a host that does not respond and a failed TLS handshake have different remedies.
    #[test]
    fn each_way_in_which_an_upstream_takes_no_call_has_its_own_words() {
        let words = |failure: CallFailure| failure.answer(None).message;
        assert!(words(CallFailure::UpstreamRefused).contains("refused the connection"));
        assert!(words(CallFailure::UpstreamUnsent).contains("refused the request"));
        assert!(words(CallFailure::UpstreamConnectTimeout).contains("did not answer"));
        assert!(words(CallFailure::UpstreamTls).contains("TLS handshake"));
        assert!(words(CallFailure::UpstreamUnreachable).contains("cannot reach"));
        let refused = CallFailure::UpstreamRefused.answer(None);
        assert_eq!((refused.status, refused.retry_after_s), (503, Some(RETRY_AFTER_S)));
    }

    /// Nothing of such a call reached the upstream, so the agent may call again.
    #[test]
    fn a_request_that_the_connector_did_not_pass_on_is_not_answered_as_if_the_server_had_broken_off() {
        for failure in [CallFailure::RequestRefused, CallFailure::NotPassedOn] {
            let answer = failure.answer(Some("1"));
            assert_eq!((answer.status, answer.may_have_acted), (502, Some(false)));
            assert!(answer.message.contains("connector"), "{}", answer.message);
        }
    }
}
