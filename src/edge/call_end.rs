//! How the exchange of a call ends that does not succeed.

use crate::engine::StreamError;
use crate::exchange::CallFailure;
use crate::latency::Outcome;
use crate::serve::{CallDeadline, RelayError};
use crate::wire::http1::BodyError;

/// The failure of a call that was cut.
pub(super) fn cut_failure(deadline: &CallDeadline) -> CallFailure {
    if deadline.is_of_caller() { CallFailure::CallerTimeout } else { CallFailure::Deadline }
}

/// How an exchange ended that did not succeed.
pub(super) enum CallEndReason {
    /// The agent closed its connection before its answer was complete.
    AgentGone,
    /// The agent neither read nor sent what it should for too long.
    AgentStalled,
    /// The agent's body is malformed.
    BadBody(BodyError),
    /// No response came, or not all of it.
    Failed {
        failure: CallFailure,
        /// Whether the stream is still to be reset.
        reset: bool,
    },
}

impl CallEndReason {
    /// `is_handed` says that the call was handed to a link.
    pub(super) fn of(error: RelayError, deadline: &mut CallDeadline, is_handed: bool) -> CallEndReason {
        let ended = match error {
            // The link took nothing until the time of the caller was over, which is the only one that had begun.
            RelayError::Late if !is_handed => {
                CallEndReason::Failed { failure: CallFailure::CallerTimeoutUnsent, reset: true }
            }
            error => CallEndReason::of_error(error, deadline),
        };
        if let CallEndReason::Failed {
            failure: CallFailure::CallerTimeout | CallFailure::CallerTimeoutUnsent, ..
        } = ended
        {
            deadline.on_cut_for_caller();
        }
        ended
    }

    fn of_error(error: RelayError, deadline: &CallDeadline) -> CallEndReason {
        match error {
            RelayError::CallerLeft => CallEndReason::AgentGone,
            RelayError::CallerStalled | RelayError::Respond(StreamError::TimedOut) => CallEndReason::AgentStalled,
            RelayError::BadBody(error) => CallEndReason::BadBody(error),
            // The agent or a buffer was waited for, and the stream came to an end meanwhile.
            RelayError::Respond(error @ StreamError::ResetWith { .. }) => CallEndReason::of_stream(Some(error)),
            RelayError::Respond(_) => CallEndReason::AgentGone,
            RelayError::NoResponse(error) | RelayError::Broken(error) => CallEndReason::of_stream(error),
            RelayError::NotTaken | RelayError::Stalled => CallEndReason::of_stream(None),
            RelayError::Protocol(_) => CallEndReason::Failed { failure: CallFailure::UpstreamProtocol, reset: true },
            RelayError::Unrecorded => CallEndReason::Failed { failure: CallFailure::Unrecorded, reset: true },
            RelayError::CrowdedLists => CallEndReason::Failed { failure: CallFailure::CrowdedLists, reset: true },
            RelayError::Late => CallEndReason::Failed { failure: cut_failure(deadline), reset: true },
        }
    }

    fn of_stream(error: Option<StreamError>) -> CallEndReason {
        let failure = error.map_or(CallFailure::UpstreamBroken, |error| CallFailure::of_stream(&error));
        CallEndReason::Failed { failure, reset: false }
    }

    /// The failure with which the stream is reset, if it is not yet.
    pub(super) fn reset(&self) -> Option<CallFailure> {
        match self {
            CallEndReason::AgentGone | CallEndReason::AgentStalled => Some(CallFailure::Cancelled),
            CallEndReason::BadBody(_) => Some(CallFailure::RequestBroken),
            CallEndReason::Failed { failure, reset } => reset.then_some(*failure),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            CallEndReason::AgentGone => Outcome::AgentGone,
            CallEndReason::AgentStalled => Outcome::AgentStalled,
            CallEndReason::BadBody(_) => Outcome::BadRequest,
            CallEndReason::Failed { failure, .. } => failure.outcome(),
        }
    }
}
