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
pub(super) enum Ended {
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

impl Ended {
    pub(super) fn of(error: RelayError, deadline: &mut CallDeadline) -> Ended {
        let ended = Ended::of_error(error, deadline);
        if let Ended::Failed { failure: CallFailure::CallerTimeout | CallFailure::CallerTimeoutUnsent, .. } = ended {
            deadline.on_cut_for_caller();
        }
        ended
    }

    fn of_error(error: RelayError, deadline: &CallDeadline) -> Ended {
        match error {
            RelayError::CallerLeft => Ended::AgentGone,
            RelayError::CallerStalled | RelayError::Respond(StreamError::TimedOut) => Ended::AgentStalled,
            RelayError::BadBody(error) => Ended::BadBody(error),
            // The agent or a buffer was waited for, and the stream came to an end meanwhile.
            RelayError::Respond(error @ StreamError::ResetWith { .. }) => Ended::of_stream(Some(error)),
            RelayError::Respond(_) => Ended::AgentGone,
            RelayError::NoResponse(error) | RelayError::Broken(error) => Ended::of_stream(error),
            RelayError::NotTaken | RelayError::Stalled => Ended::of_stream(None),
            RelayError::Protocol(_) => Ended::Failed { failure: CallFailure::UpstreamProtocol, reset: true },
            RelayError::Late => Ended::Failed { failure: cut_failure(deadline), reset: true },
        }
    }

    fn of_stream(error: Option<StreamError>) -> Ended {
        let failure = error.map_or(CallFailure::UpstreamBroken, |error| CallFailure::of_stream(&error));
        Ended::Failed { failure, reset: false }
    }

    /// The failure with which the stream is reset, if it is not yet.
    pub(super) fn reset(&self) -> Option<CallFailure> {
        match self {
            Ended::AgentGone | Ended::AgentStalled => Some(CallFailure::Cancelled),
            Ended::BadBody(_) => Some(CallFailure::RequestBroken),
            Ended::Failed { failure, reset } => reset.then_some(*failure),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Ended::AgentGone => Outcome::AgentGone,
            Ended::AgentStalled => Outcome::AgentStalled,
            Ended::BadBody(_) => Outcome::BadRequest,
            Ended::Failed { failure, .. } => failure.outcome(),
        }
    }
}
