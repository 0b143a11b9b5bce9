//! The responses of a role itself, as they appear in the list of calls.

use crate::exchange::call_report::{CODE_CALLER_TIMEOUT, CallReport};
use crate::exchange::refusal::Refusal;
use crate::exchange::{CallFailure, HeadReadError};
use crate::latency::{CallStage, OwnAnswer};
use crate::wire::http1::{BodyError, HeadError};

/// The list of calls names only the kind of error. The response to the agent says what exactly is malformed.
const BAD_HEAD: &str = "the head of the request is malformed: the answer to it says how";
const BAD_BODY: &str = "the body of the request is malformed: the answer to it says how";
/// The entry in the list of calls for a missed deadline. The response to the agent includes the times.
const LATE: &str =
    "the server took longer than the deadline, which follows from the last calls: it may have acted on the request";
/// The entry for a call that was answered shortly before its caller would have given up.
const CALLER: &str = "the time that the caller waits (X-Request-Timeout, grpc-timeout or client_timeout_ms) was nearly over: the \
                      server may have acted on the request";
/// What is said there of a breaker that is not open because calls fail.
const FORCED: &str = "the operator has switched the tool or its server off (`adit breakers open`), and the tool was not called: do not repeat it";

impl CallFailure {
    /// The response to an agent whose call failed. The codes in `report` replace those of the failure.
    #[must_use]
    pub fn own_answer(self, report: Option<&CallReport>) -> OwnAnswer {
        let answer = self.answer(None);
        let own =
            OwnAnswer { status: answer.status, rpc_code: answer.rpc_code, code: answer.code, message: answer.message };
        match report.and_then(CallReport::code) {
            Some((rpc_code, code)) => {
                OwnAnswer { rpc_code, code, message: if code == CODE_CALLER_TIMEOUT { CALLER } else { LATE }, ..own }
            }
            None if report.is_some_and(CallReport::is_forced) => OwnAnswer { message: FORCED, ..own },
            None => own,
        }
    }
}

impl Refusal {
    /// The response to the refused request.
    #[must_use]
    pub fn own_answer(self) -> OwnAnswer {
        let answer = self.answer();
        OwnAnswer { status: answer.status, rpc_code: 0, code: answer.code, message: answer.message }
    }

    /// The stage at which a request is refused for this reason.
    #[must_use]
    pub fn stage(self) -> CallStage {
        match self {
            Refusal::BadHost | Refusal::UnknownHost | Refusal::Passthrough | Refusal::OtherHost => CallStage::Route,
            Refusal::Network
            | Refusal::Origin
            | Refusal::TooManyCalls
            | Refusal::PlainHttp
            | Refusal::CrowdedBodies => CallStage::Admission,
            Refusal::Upgrade | Refusal::LateBody | Refusal::LongBody => CallStage::Request,
        }
    }
}

impl HeadReadError {
    /// The response to the request; `None` if the connection failed.
    #[must_use]
    pub fn own_answer(&self) -> Option<OwnAnswer> {
        match self {
            HeadReadError::Head(error) => Some(answer_to_head(error)),
            HeadReadError::Timeout => {
                let answer = HeadReadError::TIMEOUT_ANSWER;
                Some(OwnAnswer { status: answer.status, rpc_code: 0, code: answer.code, message: answer.message })
            }
            HeadReadError::Stream(_) => None,
        }
    }
}

/// The response to a request whose head is malformed.
#[must_use]
pub fn answer_to_head(error: &HeadError) -> OwnAnswer {
    OwnAnswer { status: error.status(), rpc_code: 0, code: HeadError::CODE, message: BAD_HEAD }
}

/// The response to a request whose body is malformed.
#[must_use]
pub fn answer_to_body(error: BodyError) -> OwnAnswer {
    OwnAnswer { status: error.status(), rpc_code: 0, code: BodyError::CODE, message: BAD_BODY }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exchange::{FailedCall, LateCall, LimitSource};
    use crate::latency::Phase;

    #[test]
    fn a_call_that_is_listed_as_late_says_whose_time_was_over() {
        let listed = |source| {
            let call = FailedCall {
                tunnel: "tnl_demo",
                route: "demo.example.com",
                method: "tools/call",
                tool: Some("search"),
                number: 1,
                trace: None,
                phase: Phase::Upstream,
                usual: None,
            };
            let report = CallReport::late(&LateCall { call, limit: Duration::from_secs(3), source });
            let own = CallFailure::TimedOut.own_answer(Some(&report));
            (own.rpc_code, own.code, own.message)
        };
        assert_eq!(listed(LimitSource::Caller), (-31_021, "caller_timeout", CALLER));
        assert_eq!(listed(LimitSource::Learned), (-31_019, "deadline", LATE));
        let plain = CallFailure::TimedOut.own_answer(None);
        assert_eq!(listed(LimitSource::Setting), (plain.rpc_code, plain.code, plain.message));
    }
}
