use crate::base::CallFailure;
use crate::wire::codes::codes;

codes! {
    /// Why a stream was reset: the code in RESET.
    ///
    /// The upper byte of the code says whether the request can have reached the upstream: `0x01xx` certainly not,
    /// anything else perhaps. The roles use [`CallFailure`], to and from which it is mapped.
    pub enum Cause {
        NoRoute = 0x0100, "no route for this hostname";
        UpstreamRefused = 0x0101, "the upstream refused the connection";
        UpstreamUnreachable = 0x0102, "the upstream cannot be reached";
        UpstreamConnectTimeout = 0x0103, "the upstream did not accept the connection in time";
        UpstreamTls = 0x0104, "no TLS session with the upstream";
        UpstreamUnsent = 0x0105, "the upstream refused the request unread, or closed the connection before it was sent";
        Overloaded = 0x0106, "the connector has no room for another call";
        Draining = 0x0107, "the link takes no new streams";
        StreamLimit = 0x0108, "too many streams on the link";
        NotSent = 0x0109, "the link ended before the stream was taken up";
        RequestRefused = 0x010a, "the request is malformed and was not passed on";
        UpstreamNotAllowed = 0x010b, "the connector's configuration does not allow this upstream address";
        SealMismatch = 0x010c, "edge and connector are configured with different traffic for this route";
        SealFailed = 0x010d, "the inner TLS handshake failed";
        CallerTimeoutUnsent = 0x010e, "the caller's time was over before the request was passed on";
        AuditUnavailable = 0x010f, "the connector cannot write its audit log, and forwards no call without it";

        Cancelled = 0x0200, "the agent went away";
        NotNeeded = 0x0201, "the rest is not needed: the exchange is complete";
        UpstreamTimeout = 0x0202, "the upstream did not answer in time";
        UpstreamProtocol = 0x0203, "the upstream broke its protocol";
        UpstreamClosed = 0x0204, "the upstream closed the connection before its answer was complete";
        RequestBroken = 0x0205, "the body of the request broke off or is malformed";
        SlowReader = 0x0206, "the receiver of the stream did not read while others waited";
        Deadline = 0x0207, "the time for the call ran out";
        LinkLost = 0x0208, "the link ended";
        Internal = 0x0209, "an internal error of the side that reset the stream";
        Revoked = 0x020a, "the link was closed because its credential is no longer valid";
        UpstreamSilent = 0x020b, "the upstream closed the connection before the first byte of its answer";
        CallerTimeout = 0x020c, "the caller's time was over";
        Unrecorded = 0x020d, "the call could not be written to the connector's audit log, so its answer is withheld";
        CrowdedLists = 0x020e, "the answers that the connector filters have used up the memory for them";
        AnswerOverCeiling = 0x020f, "the answer has more than the connector's policy allows, so it is withheld";
    }
}

impl Cause {
    /// Whether it is certain that no byte of the request reached the upstream, so that the call may be retried
    /// elsewhere. For a code that this version does not know, the upper byte decides.
    #[must_use]
    pub(super) const fn never_reached_upstream(self) -> bool {
        self.code() >> 8 == 0x01
    }
}

impl From<Cause> for CallFailure {
    fn from(cause: Cause) -> CallFailure {
        match cause {
            Cause::NoRoute => CallFailure::NoRoute,
            Cause::UpstreamRefused => CallFailure::UpstreamRefused,
            Cause::UpstreamUnreachable => CallFailure::UpstreamUnreachable,
            Cause::UpstreamConnectTimeout => CallFailure::UpstreamConnectTimeout,
            Cause::UpstreamTls => CallFailure::UpstreamTls,
            Cause::UpstreamUnsent => CallFailure::UpstreamUnsent,
            Cause::Overloaded | Cause::StreamLimit => CallFailure::Overloaded,
            Cause::Draining | Cause::NotSent => CallFailure::ConnectorOffline,
            Cause::RequestRefused => CallFailure::RequestRefused,
            Cause::UpstreamNotAllowed => CallFailure::UpstreamNotAllowed,
            Cause::SealMismatch => CallFailure::SealMismatch,
            Cause::SealFailed => CallFailure::SealRefused,
            Cause::CallerTimeoutUnsent => CallFailure::CallerTimeoutUnsent,
            Cause::AuditUnavailable => CallFailure::AuditUnavailable,
            Cause::Cancelled => CallFailure::Cancelled,
            Cause::UpstreamTimeout => CallFailure::TimedOut,
            Cause::UpstreamProtocol => CallFailure::UpstreamProtocol,
            Cause::UpstreamSilent => CallFailure::UpstreamSilent,
            Cause::UpstreamClosed => CallFailure::UpstreamBroken,
            Cause::RequestBroken => CallFailure::RequestBroken,
            Cause::SlowReader => CallFailure::SlowReader,
            Cause::Deadline => CallFailure::Deadline,
            Cause::CallerTimeout => CallFailure::CallerTimeout,
            Cause::LinkLost => CallFailure::LinkLost,
            Cause::Revoked => CallFailure::Revoked,
            Cause::Unrecorded => CallFailure::Unrecorded,
            Cause::CrowdedLists => CallFailure::CrowdedLists,
            Cause::AnswerOverCeiling => CallFailure::AnswerOverCeiling,
            Cause::Unrecognized(_) if cause.never_reached_upstream() => CallFailure::NotPassedOn,
            // A stream with this cause is reset after its last byte, unless the other side failed.
            Cause::NotNeeded | Cause::Internal | Cause::Unrecognized(_) => CallFailure::Internal,
        }
    }
}

impl From<CallFailure> for Cause {
    fn from(failure: CallFailure) -> Cause {
        match failure {
            CallFailure::ConnectorOffline | CallFailure::TunnelRevoked => Cause::Draining,
            // The code of this range without a more specific meaning.
            CallFailure::NotPassedOn => Cause::NotSent,
            // Breakers and concurrency limits are answered by the side that has them, and never sent to the other.
            CallFailure::Overloaded | CallFailure::BreakerOpen | CallFailure::ConcurrencyLimit => Cause::Overloaded,
            CallFailure::AuditUnavailable => Cause::AuditUnavailable,
            CallFailure::NoRoute => Cause::NoRoute,
            CallFailure::RequestRefused => Cause::RequestRefused,
            CallFailure::SealMismatch => Cause::SealMismatch,
            CallFailure::SealRefused => Cause::SealFailed,
            CallFailure::UpstreamNotAllowed => Cause::UpstreamNotAllowed,
            CallFailure::UpstreamUnreachable => Cause::UpstreamUnreachable,
            CallFailure::UpstreamConnectTimeout => Cause::UpstreamConnectTimeout,
            CallFailure::UpstreamRefused => Cause::UpstreamRefused,
            CallFailure::UpstreamTls => Cause::UpstreamTls,
            CallFailure::UpstreamUnsent => Cause::UpstreamUnsent,
            CallFailure::CallerTimeoutUnsent => Cause::CallerTimeoutUnsent,
            // Links of this project have a cause for each reason, so that it is never sent on one.
            CallFailure::UpstreamSilent | CallFailure::NoUpstreamAnswer => Cause::UpstreamSilent,
            CallFailure::UpstreamBroken => Cause::UpstreamClosed,
            CallFailure::UpstreamProtocol => Cause::UpstreamProtocol,
            CallFailure::TimedOut => Cause::UpstreamTimeout,
            CallFailure::Deadline => Cause::Deadline,
            CallFailure::CallerTimeout => Cause::CallerTimeout,
            CallFailure::LinkLost => Cause::LinkLost,
            CallFailure::Revoked => Cause::Revoked,
            CallFailure::SlowReader => Cause::SlowReader,
            CallFailure::Cancelled => Cause::Cancelled,
            CallFailure::RequestBroken => Cause::RequestBroken,
            CallFailure::Unrecorded => Cause::Unrecorded,
            CallFailure::CrowdedLists => Cause::CrowdedLists,
            CallFailure::AnswerOverCeiling => Cause::AnswerOverCeiling,
            CallFailure::Internal => Cause::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn cause_codes_are_unique_and_round_trip() {
        let codes: HashSet<u16> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        assert!(Cause::ALL.iter().all(|cause| Cause::from_code(cause.code()) == *cause));
    }

    #[test]
    fn only_the_first_range_promises_that_nothing_was_sent() {
        assert!(Cause::NoRoute.never_reached_upstream());
        assert!(Cause::Unrecognized(0x01ff).never_reached_upstream());
        for perhaps in [Cause::Cancelled, Cause::LinkLost, Cause::UpstreamClosed, Cause::Unrecognized(0x0301)] {
            assert!(!perhaps.never_reached_upstream(), "{perhaps:?}");
        }
    }

    /// An agent may retry if the answer says that nothing was done, and must not otherwise.
    #[test]
    fn each_code_shows_whether_the_request_may_have_reached_the_upstream() {
        let unknown = [0x01ff, 0x02ff, 0x0301, 0x0000, 0xffff].map(Cause::Unrecognized);
        for cause in Cause::ALL.iter().copied().chain(unknown) {
            let failure = CallFailure::from(cause);
            assert_eq!(failure.may_have_acted(), !cause.never_reached_upstream(), "{cause:?} is {failure:?}");
        }
        for failure in CallFailure::ALL {
            let cause = Cause::from(failure);
            assert_eq!(failure.may_have_acted(), !cause.never_reached_upstream(), "{failure:?} is sent as {cause:?}");
        }
    }

    #[test]
    fn a_failure_is_the_same_on_both_sides_of_a_link() {
        let of_one_side = [
            CallFailure::TunnelRevoked,
            CallFailure::NotPassedOn,
            CallFailure::BreakerOpen,
            CallFailure::ConcurrencyLimit,
            CallFailure::NoUpstreamAnswer,
        ];
        for failure in CallFailure::ALL.into_iter().filter(|failure| !of_one_side.contains(failure)) {
            assert_eq!(CallFailure::from(Cause::from(failure)), failure);
        }
        assert_eq!(CallFailure::from(Cause::Unrecognized(0x01ff)), CallFailure::NotPassedOn);
        assert_eq!(CallFailure::from(Cause::Unrecognized(0x0301)), CallFailure::Internal);
    }

    #[test]
    fn every_cause_is_in_the_protocol_page() {
        let page = include_str!("../../../docs/PROTOCOL.md");
        for cause in Cause::ALL {
            let reached = if cause.never_reached_upstream() { "no" } else { "perhaps" };
            let row = format!("| `0x{:04x}` | {cause:?} | {reached} |", cause.code());
            assert!(page.contains(&row), "docs/PROTOCOL.md lacks {row}");
        }
    }
}
