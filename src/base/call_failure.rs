/// Why a call failed, or why one side reset it.
///
/// Both roles use these failures, whatever protocol carries the call between them. Each protocol maps its own codes to
/// and from them (our link in `wire::mux::Cause`). What each failure means to an agent and in metrics is defined in one
/// table (`exchange::CallFailure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CallFailure {
    /// No connector serves the tunnel, or the one that did has just left.
    #[error("no connector is linked")]
    ConnectorOffline,
    /// The tunnel has no valid credential, so no connector can link.
    #[error("the tunnel has no valid credential")]
    TunnelRevoked,
    /// A limit was reached before the request was passed on.
    #[error("a limit was reached before the request was passed on")]
    Overloaded,
    /// The breaker of the tool or of the upstream is open.
    #[error("the circuit breaker is open")]
    BreakerOpen,
    /// The route has as many calls in flight as its limit allows.
    #[error("the concurrency limit of the route is reached")]
    ConcurrencyLimit,
    /// The connector has no route for the host.
    #[error("the connector has no route for the host")]
    NoRoute,
    /// The connector cannot read the head of the request that the edge sent.
    #[error("the connector cannot read the head of the request")]
    RequestRefused,
    /// The connector did not pass the request on, for a reason that this version does not know.
    #[error("the connector did not pass the request on, for a reason that this version does not know")]
    NotPassedOn,
    /// The routes of connector and edge disagree about the kind of traffic.
    #[error("the connector's route has another kind of traffic than the edge's")]
    SealMismatch,
    /// The handshake of the inner TLS session between edge and connector failed.
    #[error("the handshake of the inner TLS session failed")]
    SealRefused,
    /// The connector's rules do not allow the address of the upstream.
    #[error("the connector's rules do not allow the address of the upstream")]
    UpstreamNotAllowed,
    /// The connector has no way to the upstream.
    #[error("the upstream cannot be reached")]
    UpstreamUnreachable,
    /// The upstream did not answer the attempt to connect.
    #[error("the upstream did not answer the attempt to connect")]
    UpstreamConnectTimeout,
    /// The upstream refused the connection.
    #[error("the upstream refused the connection")]
    UpstreamRefused,
    /// The TLS handshake between connector and upstream failed.
    #[error("the TLS handshake with the upstream failed")]
    UpstreamTls,
    /// The upstream refused the request without processing it, or closed the connection before anything was sent.
    #[error("the upstream refused the request unread, or closed the connection before it was sent")]
    UpstreamUnsent,
    /// The caller's time was over before anything of the request was sent to the upstream.
    #[error("the caller's time was over before the request was sent to the upstream")]
    CallerTimeoutUnsent,
    /// The audit log cannot be written, and is required.
    #[error("the audit log cannot be written")]
    AuditUnavailable,

    // From here on the upstream may have received the request.
    /// The upstream closed the connection before the first byte of its answer. See `UpstreamBroken` for one that had begun.
    #[error("the upstream closed the connection before the first byte of its answer")]
    UpstreamSilent,
    /// The connector answered with an error of its own in place of the upstream, and its protocol has no reasons.
    #[error("the connector has no answer of the upstream")]
    NoUpstreamAnswer,
    /// The upstream closed the connection before its answer was complete.
    #[error("the upstream closed the connection before its answer was complete")]
    UpstreamBroken,
    /// The upstream's answer is not valid HTTP.
    #[error("the upstream's answer is not valid HTTP")]
    UpstreamProtocol,
    /// The upstream did not answer in time.
    #[error("the upstream did not answer in time")]
    TimedOut,
    /// The side that resets the stream waited too long for the other side.
    #[error("the time for the call is over")]
    Deadline,
    /// The caller's time was over.
    #[error("the caller's time was over")]
    CallerTimeout,
    /// The link ended during the call.
    #[error("the link ended during the call")]
    LinkLost,
    /// The tunnel's credential was revoked during the call.
    #[error("the tunnel's credential was revoked during the call")]
    Revoked,
    /// The call held memory that others needed, because its reader was slow.
    #[error("the reader of the call was too slow while others waited for memory")]
    SlowReader,
    /// The agent went away, or the edge that calls on its behalf did.
    #[error("the agent left")]
    Cancelled,
    /// The body of the request is malformed or incomplete.
    #[error("the body of the request is malformed or incomplete")]
    RequestBroken,
    /// The call could not be written to the required audit log, so its response must not be sent.
    #[error("the call could not be written to the audit log")]
    Unrecorded,
    /// The answers that policies filter used up their memory, so the response was not passed on.
    #[error("the answers that are being filtered have used up the memory for them")]
    CrowdedLists,
    /// The response has more than a rule of a policy lets it have, so it was not passed on.
    #[error("the answer has more than a rule of the policy lets it have")]
    AnswerOverCeiling,
    /// The edge or the connector had an internal error, or reset the call for a reason that this version does not know.
    #[error("the call failed between edge and connector")]
    Internal,
}

impl CallFailure {
    /// Every failure, in the order of the declaration.
    #[cfg(test)]
    pub const ALL: [CallFailure; 34] = [
        CallFailure::ConnectorOffline,
        CallFailure::TunnelRevoked,
        CallFailure::Overloaded,
        CallFailure::BreakerOpen,
        CallFailure::ConcurrencyLimit,
        CallFailure::NoRoute,
        CallFailure::RequestRefused,
        CallFailure::NotPassedOn,
        CallFailure::SealMismatch,
        CallFailure::SealRefused,
        CallFailure::UpstreamNotAllowed,
        CallFailure::UpstreamUnreachable,
        CallFailure::UpstreamConnectTimeout,
        CallFailure::UpstreamRefused,
        CallFailure::UpstreamTls,
        CallFailure::UpstreamUnsent,
        CallFailure::CallerTimeoutUnsent,
        CallFailure::AuditUnavailable,
        CallFailure::UpstreamSilent,
        CallFailure::NoUpstreamAnswer,
        CallFailure::UpstreamBroken,
        CallFailure::UpstreamProtocol,
        CallFailure::TimedOut,
        CallFailure::Deadline,
        CallFailure::CallerTimeout,
        CallFailure::LinkLost,
        CallFailure::Revoked,
        CallFailure::SlowReader,
        CallFailure::Cancelled,
        CallFailure::RequestBroken,
        CallFailure::Unrecorded,
        CallFailure::CrowdedLists,
        CallFailure::AnswerOverCeiling,
        CallFailure::Internal,
    ];

    /// Whether the request was not passed on by this connector, and another one may succeed.
    #[must_use]
    pub const fn may_pass_elsewhere(self) -> bool {
        let is_final = matches!(
            self,
            CallFailure::TunnelRevoked
                | CallFailure::BreakerOpen
                | CallFailure::ConcurrencyLimit
                | CallFailure::CallerTimeoutUnsent
        );
        !self.may_have_acted() && !is_final
    }

    /// Whether the upstream may have acted on the request, so that a retry may do it twice.
    #[must_use]
    pub const fn may_have_acted(self) -> bool {
        self as u8 >= CallFailure::UpstreamSilent as u8
    }
}
