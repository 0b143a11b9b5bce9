//! The answers to calls that reach a ceiling of the rule that allows them.

use std::time::Duration;

use crate::policy::CeilingReached;
use crate::wire::http1::Answer;

/// The code of JSON-RPC for parameters that are not valid.
const INVALID_PARAMS: i32 = -32_602;

/// The text in the list of calls about one for which a policy cannot be evaluated.
pub(super) const EVALUATION_LISTED: &str =
    "a policy in Cedar cannot be evaluated for it: the log says why, and `adit policy explain` too";

/// The answer to a call that reaches a ceiling. It leaves the connection open.
#[must_use]
pub fn ceiling_answer(reached: &CeilingReached) -> Answer<'static> {
    let (status, rpc_code, code, message) = match reached {
        // Where its server would check them, the answer would be like this one, so that a model can correct them.
        CeilingReached::Arguments(_) => (
            200,
            INVALID_PARAMS,
            "arguments_denied",
            "the policy of this route does not allow these arguments: change what the message names",
        ),
        CeilingReached::Evaluation(_) => (
            200,
            INVALID_PARAMS,
            "evaluation_failed",
            "the policy of this route cannot decide about these arguments: give each the type that the tool asks for",
        ),
        CeilingReached::Rate { .. } => (
            429,
            -31_060,
            "rate_reached",
            "the policy of this route allows no more calls of this kind in so short a time: try again after a pause",
        ),
        CeilingReached::AtOnce => (
            429,
            -31_061,
            "calls_at_once_reached",
            "the policy of this route allows no more calls of this kind at the same time: wait for one to end",
        ),
        CeilingReached::Day { .. } => (
            429,
            -31_062,
            "day_budget_reached",
            "the policy of this route allows no more calls of this kind today: try again when the day has ended in UTC",
        ),
        CeilingReached::Crowded => (
            503,
            -31_063,
            "callers_crowded",
            "the calls of so many callers are counted that this one cannot be: try again after a pause; the operator can set fewer \
             ceilings, or let callers prove who they are",
        ),
        // What clients give to the model, which may tell its user and call again.
        CeilingReached::ApprovalWaits(_) => (
            200,
            -31_070,
            "approval_needed",
            "the call waits for approval by the ticket in `data`: make the same call again later; it passes once when it was approved",
        ),
        CeilingReached::ApprovalDenied(_) => (
            200,
            -31_071,
            "approval_denied",
            "approval of the call was denied: do not make it again, and ask the operator if it is needed",
        ),
        CeilingReached::ApprovalGiven(_) => (
            200,
            -31_074,
            "approval_given",
            "the call was approved and is not made yet: make the same call again, soon; it passes once",
        ),
        CeilingReached::ApprovalUnknown => (
            200,
            INVALID_PARAMS,
            "task_unknown",
            "no call of this caller waits with this ticket: it was made, or its time is over",
        ),
        CeilingReached::ApprovalsFull => (
            503,
            -31_072,
            "approvals_full",
            "too many calls wait for approval: try again after a pause; the operator sees them in `adit approvals list`",
        ),
        CeilingReached::ApprovalUnkept => (
            503,
            -31_073,
            "approval_unkept",
            "the call was approved, but it cannot be written to the disk that it is made: try again after a pause; the log of the \
             process says what is wrong",
        ),
    };
    let retry_after_s = reached.after().map(seconds);
    let may_have_acted = Some(false);
    Answer { rpc_code, retry_after_s, may_have_acted, close: false, ..Answer::new(status, code, message) }
}

/// What is said in the list of calls of one that reaches it.
#[must_use]
pub const fn ceiling_listed(reached: &CeilingReached) -> &'static str {
    match reached {
        CeilingReached::Arguments(_) => "its arguments are not those that the rule allows (`arguments`)",
        CeilingReached::Evaluation(_) => EVALUATION_LISTED,
        CeilingReached::Rate { .. } => "its caller reached the rate of the rule (`calls_per_minute`)",
        CeilingReached::AtOnce => "its caller has as many calls under way as the rule allows (`calls_at_once_max`)",
        CeilingReached::Day { .. } => "its caller has made all calls of the day that the rule allows (`calls_per_day`)",
        CeilingReached::Crowded => "the table of callers that are counted is full",
        CeilingReached::ApprovalWaits(_) => "it waits for approval (`adit approvals list`)",
        CeilingReached::ApprovalDenied(_) => "its approval was denied",
        CeilingReached::ApprovalGiven(_) => "it asks about a call that was approved and not made yet",
        CeilingReached::ApprovalUnknown => "it asks about a ticket that its caller does not have",
        CeilingReached::ApprovalsFull => "too many calls wait for approval (`adit approvals list`)",
        CeilingReached::ApprovalUnkept => "it was approved, but the file of the approvals cannot be written",
    }
}

/// Whole seconds, after which at least so much time is over.
fn seconds(after: Duration) -> u32 {
    u32::try_from(after.as_secs() + u64::from(after.subsec_nanos() > 0)).unwrap_or(u32::MAX).max(1)
}
