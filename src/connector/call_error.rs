//! Why a call at the connector failed.

use crate::base::CallFailure;
use crate::engine::StreamError;
use crate::latency::Reached;
use crate::serve::RelayError;
use crate::wire::http1::BodyError;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// Any reason except a malformed request body.
    Failed(CallFailure),
    /// The request's body is malformed.
    BadBody(BodyError),
}

/// Why an exchange failed.
pub(super) enum ExchangeError {
    Failed(CallError),
    /// The upstream closed the connection before the first byte of a response.
    Silent,
    /// The upstream closed the connection before anything of the request was sent.
    Unsent,
    /// The upstream's host acknowledged nothing of the request, or vanished later, before a response.
    Vanished,
}

impl ExchangeError {
    /// How far the request got. `was_used`: the connection had carried other requests.
    pub(super) fn reached(&self, was_used: bool) -> Reached {
        match self {
            ExchangeError::Unsent => Reached::Never,
            ExchangeError::Silent | ExchangeError::Vanished => Reached::Silent { was_used },
            ExchangeError::Failed(_) => Reached::Answered,
        }
    }
}

impl From<ExchangeError> for CallError {
    fn from(error: ExchangeError) -> CallError {
        match error {
            ExchangeError::Unsent => CallError::Failed(CallFailure::UpstreamUnsent),
            ExchangeError::Silent => CallError::Failed(CallFailure::UpstreamSilent),
            ExchangeError::Vanished => CallError::Failed(CallFailure::TimedOut),
            ExchangeError::Failed(error) => error,
        }
    }
}

impl CallError {
    /// The failure with which the edge's stream is reset.
    pub(super) fn failure(self) -> CallFailure {
        match self {
            CallError::Failed(failure) => failure,
            CallError::BadBody(_) => CallFailure::RequestBroken,
        }
    }
}

/// The log text for an exchange that failed because of the upstream.
pub(super) fn upstream_fault(error: &RelayError) -> Option<String> {
    match error {
        RelayError::Protocol(violation) => Some(violation.to_string()),
        RelayError::Broken(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        // A call over HTTP/2 that the connector cut.
        RelayError::Broken(Some(StreamError::ResetWith { .. })) => None,
        RelayError::Broken(_) | RelayError::NotTaken => {
            Some("the upstream closed the connection before its answer was complete".to_owned())
        }
        RelayError::NoResponse(Some(StreamError::Protocol(why))) => Some(why.to_string()),
        RelayError::NoResponse(Some(StreamError::TimedOut)) => {
            Some("its host no longer acknowledges anything: check that it is up and reachable".to_owned())
        }
        _ => None,
    }
}

/// The failure of an exchange whose relay ended with this error.
pub(super) fn failed(error: &RelayError) -> ExchangeError {
    let failure = match error {
        RelayError::NoResponse(Some(StreamError::TimedOut)) => return ExchangeError::Vanished,
        RelayError::NoResponse(Some(StreamError::ResetWith { failure })) => *failure,
        RelayError::NoResponse(_) => return ExchangeError::Silent,
        RelayError::BadBody(error) => return ExchangeError::Failed(CallError::BadBody(*error)),
        // The caller has left, so no other reason can be reported.
        RelayError::CallerLeft | RelayError::CallerStalled | RelayError::Respond(_) => CallFailure::Cancelled,
        RelayError::Broken(Some(StreamError::ResetWith { failure })) => *failure,
        RelayError::Broken(_) | RelayError::NotTaken => CallFailure::UpstreamBroken,
        RelayError::Stalled => CallFailure::TimedOut,
        RelayError::Late => CallFailure::Deadline,
        RelayError::Unrecorded => CallFailure::Unrecorded,
        RelayError::CrowdedLists => CallFailure::CrowdedLists,
        RelayError::OverCeiling => CallFailure::AnswerOverCeiling,
        RelayError::Protocol(_) => CallFailure::UpstreamProtocol,
    };
    ExchangeError::Failed(CallError::Failed(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose answer was cut here has answered, even if nothing was passed on.
    #[test]
    fn a_call_that_was_cut_before_its_answer_was_forwarded_does_not_count_as_unsent() {
        let cut = StreamError::ResetWith { failure: CallFailure::SlowReader };
        for error in [RelayError::NoResponse(Some(cut.clone())), RelayError::Broken(Some(cut))] {
            let failed = failed(&error);
            assert_eq!(failed.reached(true), Reached::Answered, "{error:?}");
            assert_eq!(CallError::from(failed), CallError::Failed(CallFailure::SlowReader), "{error:?}");
        }
        assert_eq!(failed(&RelayError::NoResponse(None)).reached(true), Reached::Silent { was_used: true });
    }
}
