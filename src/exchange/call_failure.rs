//! The ways in which a call fails: one vocabulary for agents, metrics and the link.

use crate::engine::StreamError;
use crate::latency::Outcome;
use crate::route::Offline;
use crate::wire::http1::Answer;
use crate::wire::mux::Cause;

/// After how many seconds a call that found no room or no connector should be tried again.
const RETRY_AFTER_S: u32 = 1;

/// Why a call that was admitted got no answer of its upstream, or not all of it.
///
/// What each means to an agent, to a client's code and in metrics stands in one table. The protocols that carry calls map their
/// own codes to it: [`CallFailure::of_reset`] those of our link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// No connector serves the tunnel, or the one that did has just left.
    ConnectorOffline,
    /// The upstream refused the connection, or closed it before anything was sent.
    UpstreamRefused,
    /// The upstream failed after it may have taken the request.
    UpstreamBroken,
    /// A limit was reached before the request was passed on.
    Overloaded,
    /// The upstream did not answer in time.
    TimedOut,
    /// The link ended during the call.
    LinkLost,
    /// The tunnel's credential was revoked during the call.
    Revoked,
    /// There is no inner TLS session between edge and connector.
    SealRefused,
    /// The call held memory that others needed, and its reader was slow.
    SlowReader,
    /// The connector has no way to the upstream.
    UpstreamUnreachable,
    /// The upstream did not answer the attempt to connect.
    UpstreamConnectTimeout,
    /// There is no TLS session between connector and upstream.
    UpstreamTls,
    /// The tunnel has no valid credential, so that no connector can come.
    TunnelRevoked,
    /// The connector has no route for the host.
    NoRoute,
    /// The upstream did not begin its answer within the limit of the edge or of the route.
    FirstByteTimeout,
}

/// What one failure means.
struct Meaning {
    failure: CallFailure,
    /// The HTTP status (RFC 9110, section 15).
    status: u16,
    /// The code of the JSON-RPC error, outside the ranges that JSON-RPC 2.0 and MCP keep for themselves.
    rpc_code: i32,
    /// The name for programs.
    code: &'static str,
    outcome: Outcome,
    /// Whether the upstream may have acted on the request: calling again may do it twice.
    may_have_acted: bool,
    retry_after_s: Option<u32>,
    /// The sentence for people.
    message: &'static str,
}

const MEANINGS: [Meaning; 15] = [
    Meaning {
        failure: CallFailure::ConnectorOffline,
        status: 503,
        rpc_code: -31_001,
        code: "connector_offline",
        outcome: Outcome::Offline,
        may_have_acted: false,
        retry_after_s: Some(RETRY_AFTER_S),
        message: "no connector is linked for this host: start `adit connect`, or try again soon",
    },
    Meaning {
        failure: CallFailure::UpstreamRefused,
        status: 503,
        rpc_code: -31_002,
        code: "upstream_refused",
        outcome: Outcome::UpstreamRefused,
        may_have_acted: false,
        retry_after_s: Some(RETRY_AFTER_S),
        message: "the MCP server behind the tunnel refused the connection: check that it is running, or try again soon",
    },
    Meaning {
        failure: CallFailure::UpstreamBroken,
        status: 502,
        rpc_code: -31_003,
        code: "upstream_broken",
        outcome: Outcome::UpstreamFailed,
        may_have_acted: true,
        retry_after_s: None,
        message: "the MCP server behind the tunnel broke off: it may have acted on the request",
    },
    Meaning {
        failure: CallFailure::Overloaded,
        status: 503,
        rpc_code: -31_004,
        code: "overloaded",
        outcome: Outcome::Overloaded,
        may_have_acted: false,
        retry_after_s: Some(RETRY_AFTER_S),
        message: "the tunnel is at its limit: try again after a pause",
    },
    Meaning {
        failure: CallFailure::TimedOut,
        status: 504,
        rpc_code: -31_005,
        code: "timed_out",
        outcome: Outcome::TimedOut,
        may_have_acted: true,
        retry_after_s: None,
        message: "the MCP server did not answer in time: it may have acted on the request",
    },
    Meaning {
        failure: CallFailure::LinkLost,
        status: 502,
        rpc_code: -31_006,
        code: "link_lost",
        outcome: Outcome::LinkLost,
        may_have_acted: true,
        retry_after_s: None,
        message: "the link to the private network broke: the server may have acted on the request",
    },
    Meaning {
        failure: CallFailure::Revoked,
        status: 503,
        rpc_code: -31_007,
        code: "revoked",
        outcome: Outcome::Revoked,
        may_have_acted: true,
        retry_after_s: None,
        message: "the tunnel's credential was withdrawn while the call was under way: the server may have acted on the request",
    },
    Meaning {
        failure: CallFailure::SealRefused,
        status: 502,
        rpc_code: -31_008,
        code: "seal_refused",
        outcome: Outcome::SealRefused,
        may_have_acted: false,
        retry_after_s: None,
        message: "edge and connector could not seal the call: its operator finds the reason in the logs of both",
    },
    Meaning {
        failure: CallFailure::SlowReader,
        status: 503,
        rpc_code: -31_009,
        code: "slow_reader",
        outcome: Outcome::Overloaded,
        may_have_acted: true,
        retry_after_s: None,
        message: "the call was ended to free memory, as its reader was slow: the server may have acted on the request",
    },
    Meaning {
        failure: CallFailure::UpstreamUnreachable,
        status: 502,
        rpc_code: -31_010,
        code: "upstream_unreachable",
        outcome: Outcome::UpstreamRefused,
        may_have_acted: false,
        retry_after_s: None,
        message: "the connector cannot reach the MCP server: its operator finds address and reason in its log",
    },
    Meaning {
        failure: CallFailure::UpstreamConnectTimeout,
        status: 502,
        rpc_code: -31_011,
        code: "upstream_connect_timeout",
        outcome: Outcome::UpstreamRefused,
        may_have_acted: false,
        retry_after_s: None,
        message: "the MCP server behind the tunnel did not answer the connector's attempt to connect: its host or a firewall is silent",
    },
    Meaning {
        failure: CallFailure::UpstreamTls,
        status: 502,
        rpc_code: -31_012,
        code: "upstream_tls",
        outcome: Outcome::UpstreamRefused,
        may_have_acted: false,
        retry_after_s: None,
        message: "the connector got no TLS session with the MCP server: its operator finds the reason in its log",
    },
    Meaning {
        failure: CallFailure::TunnelRevoked,
        status: 503,
        rpc_code: -31_013,
        code: "revoked",
        outcome: Outcome::Revoked,
        may_have_acted: false,
        retry_after_s: None,
        message: "the tunnel's credentials were withdrawn, so that no connector can serve it: its operator must rotate them",
    },
    Meaning {
        failure: CallFailure::NoRoute,
        status: 502,
        rpc_code: -31_014,
        code: "no_route",
        outcome: Outcome::NoRoute,
        may_have_acted: false,
        retry_after_s: None,
        message: "the tunnel's connector has no route for this host: its operator must add one with --route or [[route]]",
    },
    Meaning {
        failure: CallFailure::FirstByteTimeout,
        status: 504,
        rpc_code: -31_015,
        code: "timed_out",
        outcome: Outcome::TimedOut,
        may_have_acted: true,
        retry_after_s: None,
        message: "the MCP server did not begin its answer within first_byte_timeout_ms, which the operator of the edge or of the route has set: it may have acted on the request",
    },
];

impl CallFailure {
    /// The failure of a call for which no link could be used.
    #[must_use]
    pub fn of_offline(why: Offline) -> CallFailure {
        match why {
            Offline::NoLink | Offline::Draining => CallFailure::ConnectorOffline,
            Offline::Full => CallFailure::Overloaded,
        }
    }

    /// The failure of a call whose stream on the link was reset (`docs/PROTOCOL.md`, section 10).
    #[must_use]
    pub fn of_reset(cause: Cause) -> CallFailure {
        match cause {
            Cause::UpstreamRefused | Cause::UpstreamUnsent => CallFailure::UpstreamRefused,
            Cause::NoRoute => CallFailure::NoRoute,
            Cause::UpstreamUnreachable | Cause::UpstreamNotAllowed => CallFailure::UpstreamUnreachable,
            Cause::UpstreamConnectTimeout => CallFailure::UpstreamConnectTimeout,
            Cause::UpstreamTls => CallFailure::UpstreamTls,
            Cause::Overloaded | Cause::StreamLimit => CallFailure::Overloaded,
            Cause::SlowReader => CallFailure::SlowReader,
            Cause::Draining | Cause::NotSent => CallFailure::ConnectorOffline,
            Cause::SealMismatch | Cause::SealFailed => CallFailure::SealRefused,
            Cause::LinkLost => CallFailure::LinkLost,
            Cause::Revoked => CallFailure::Revoked,
            Cause::UpstreamTimeout => CallFailure::TimedOut,
            Cause::Deadline => CallFailure::FirstByteTimeout,
            _ => CallFailure::UpstreamBroken,
        }
    }

    /// The failure of a call whose stream failed while its answer was read.
    #[must_use]
    pub fn of_stream(error: &StreamError) -> CallFailure {
        match error {
            StreamError::ResetWith { code } => CallFailure::of_reset(Cause::from_code(*code)),
            // Only on an inner session: the connector does not accept this edge's certificate.
            StreamError::Protocol(_) => CallFailure::SealRefused,
            _ => CallFailure::UpstreamBroken,
        }
    }

    /// How the call is counted.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        self.meaning().outcome
    }

    /// Whether the upstream may have acted on the request: calling again may do it twice.
    #[must_use]
    #[cfg(test)]
    pub fn may_have_acted(self) -> bool {
        self.meaning().may_have_acted
    }

    /// The answer to the agent, a JSON-RPC error where the id of its message is known. It leaves the connection open.
    #[must_use]
    pub fn answer(self, rpc_id: Option<&str>) -> Answer<'_> {
        let Meaning { status, rpc_code, code, message, retry_after_s, may_have_acted, .. } = *self.meaning();
        let may_have_acted = Some(may_have_acted);
        Answer { rpc_code, rpc_id, may_have_acted, retry_after_s, close: false, ..Answer::new(status, code, message) }
    }

    fn meaning(self) -> &'static Meaning {
        let meaning = &MEANINGS[self as usize];
        debug_assert!(meaning.failure == self);
        meaning
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_failure_stands_in_its_row_under_codes_of_its_own() {
        for (at, meaning) in MEANINGS.iter().enumerate() {
            assert_eq!(meaning.failure as usize, at, "{}", meaning.code);
            assert!(!(-32_768..=-32_000).contains(&meaning.rpc_code), "{} is reserved", meaning.rpc_code);
            assert_eq!(meaning.may_have_acted, meaning.message.contains("may have acted"), "{}", meaning.message);
            assert!(!(meaning.may_have_acted && meaning.retry_after_s.is_some()), "{} invites a retry", meaning.code);
        }
        let codes: HashSet<_> = MEANINGS.iter().map(|meaning| (meaning.rpc_code, meaning.code)).collect();
        assert_eq!(codes.len(), MEANINGS.len());
    }

    /// A refusal, a silent host and a TLS handshake that fails have different remedies.
    #[test]
    fn each_way_in_which_an_upstream_takes_no_call_has_its_own_words() {
        let words = |cause| CallFailure::of_reset(cause).answer(None).message;
        assert!(words(Cause::UpstreamRefused).contains("refused the connection"));
        assert!(words(Cause::UpstreamConnectTimeout).contains("did not answer"));
        assert!(words(Cause::UpstreamTls).contains("no TLS session"));
        assert!(words(Cause::UpstreamUnreachable).contains("cannot reach"));
        let refused = CallFailure::UpstreamRefused.answer(None);
        assert_eq!((refused.status, refused.retry_after_s), (503, Some(RETRY_AFTER_S)));
    }

    /// An agent that is told that nothing was done may call again.
    #[test]
    fn what_may_have_reached_the_upstream_is_never_answered_as_if_it_had_not() {
        for cause in Cause::ALL.iter().copied().chain([Cause::Unrecognized(0x0301)]) {
            let failure = CallFailure::of_reset(cause);
            assert!(cause.never_reached_upstream() || failure.may_have_acted(), "{cause:?} is answered as {failure:?}");
        }
    }
}
