//! How the exchange of a call fails.

use crate::engine::StreamError;
use crate::exchange::CallFailure;
use crate::latency::Outcome;
use crate::serve::{CallDeadline, RelayError};
use crate::wire::http1::BodyError;

/// The failure of a call that was cut.
pub(super) fn cut_failure(deadline: &CallDeadline) -> CallFailure {
    if deadline.is_of_caller() { CallFailure::CallerTimeout } else { CallFailure::Deadline }
}

/// How an exchange failed.
pub(super) enum CallEndReason {
    /// The agent closed its connection before its answer was complete.
    AgentGone,
    /// The agent stopped reading its answer, or sending its body.
    AgentStalled,
    /// The agent's body is malformed.
    BadBody(BodyError),
    /// No response came, or only a part of it.
    Failed {
        failure: CallFailure,
        /// Whether the stream is still to be reset.
        reset: bool,
    },
}

impl CallEndReason {
    /// The reason for an error of the relay. `is_handed`: the call was handed to a link.
    pub(super) fn of(error: RelayError, deadline: &mut CallDeadline, is_handed: bool) -> CallEndReason {
        let ended = match error {
            // The link accepted nothing until the caller's time was over, the only limit that runs before that.
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
            // The stream ended while the relay waited for the agent or a buffer.
            RelayError::Respond(error @ StreamError::ResetWith { .. }) => CallEndReason::of_stream(Some(error)),
            RelayError::Respond(_) => CallEndReason::AgentGone,
            RelayError::NoResponse(error) | RelayError::Broken(error) => CallEndReason::of_stream(error),
            RelayError::NotTaken | RelayError::Stalled => CallEndReason::of_stream(None),
            RelayError::Protocol(_) => CallEndReason::Failed { failure: CallFailure::UpstreamProtocol, reset: true },
            RelayError::Unrecorded => CallEndReason::Failed { failure: CallFailure::Unrecorded, reset: true },
            RelayError::CrowdedLists => CallEndReason::Failed { failure: CallFailure::CrowdedLists, reset: true },
            RelayError::OverCeiling => CallEndReason::Failed { failure: CallFailure::AnswerOverCeiling, reset: true },
            RelayError::Late => CallEndReason::Failed { failure: cut_failure(deadline), reset: true },
        }
    }

    fn of_stream(error: Option<StreamError>) -> CallEndReason {
        let failure = error.map_or(CallFailure::UpstreamBroken, |error| CallFailure::of_stream(&error));
        CallEndReason::Failed { failure, reset: false }
    }

    /// The failure with which to reset the stream, if it is not reset yet.
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
