//! `/v1/approvals`: the calls that wait for approval.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::body::JsonObject;
use super::error::ApiError;
use super::{Api, to_the_end};
use crate::base::{Clock, hex};
use crate::control::approvals::{ApprovalDesk, Decision, Undecided};
use crate::control::bodies::{ApprovalInfo, ApprovalStateName, ApprovalsBody, DecideApproval, ErrorBody};
use crate::control::given_text::{checked_by, checked_reason};
use crate::control::wall_time::WallTime;
use crate::engine::MonotonicClock;
use crate::policy::{Approval, ApprovalState, ApprovalTicket, UndecidedTicket};

/// Lists the calls that wait for approval, with their arguments, and those that were decided about and not made yet.
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals", operation_id = "list_approvals",
    responses((status = 200, body = ApprovalsBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<ApprovalsBody>, ApiError> {
    Ok(Json(ApprovalsBody { approvals: desk(&api)?.all().iter().map(ApprovalInfo::of).collect() }))
}

/// Approves a call that waits: its caller may make it once, within the time that the rule says.
#[utoipa::path(
    post, path = "/v1/approvals/{ticket}/approve", tag = "approvals", operation_id = "approve_call",
    params(("ticket" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = DecideApproval,
    responses((status = 200, body = ApprovalInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn approve(
    State(api): State<Api>,
    Path(ticket): Path<String>,
    JsonObject(wanted): JsonObject<DecideApproval>,
) -> Result<Json<ApprovalInfo>, ApiError> {
    decide(&api, &ticket, wanted, true).await
}

/// Denies a call that waits. Its caller is told so for as long as it would have waited.
#[utoipa::path(
    post, path = "/v1/approvals/{ticket}/deny", tag = "approvals", operation_id = "deny_call",
    params(("ticket" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = DecideApproval,
    responses((status = 200, body = ApprovalInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn deny(
    State(api): State<Api>,
    Path(ticket): Path<String>,
    JsonObject(wanted): JsonObject<DecideApproval>,
) -> Result<Json<ApprovalInfo>, ApiError> {
    decide(&api, &ticket, wanted, false).await
}

fn desk(api: &Api) -> Result<&ApprovalDesk, ApiError> {
    api.access.as_ref().map(|access| &access.approvals).ok_or_else(ApiError::no_store)
}

async fn decide(
    api: &Api,
    ticket: &str,
    wanted: DecideApproval,
    may_call: bool,
) -> Result<Json<ApprovalInfo>, ApiError> {
    let DecideApproval { by, reason } = wanted;
    checked_by(&by)?;
    checked_reason(reason.as_ref())?;
    let ticket: ApprovalTicket = ticket.parse().map_err(Undecided::Ticket)?;
    let (desk, decision) = (desk(api)?.clone(), Decision { may_call, by, reason });
    let decided = to_the_end(async move { desk.decide(ticket, &decision).await }).await?;
    Ok(Json(ApprovalInfo::of(&decided)))
}

impl From<Undecided> for ApiError {
    fn from(why: Undecided) -> ApiError {
        let (status, code) = match why {
            Undecided::Ticket(UndecidedTicket::Unknown) => (StatusCode::NOT_FOUND, "approval_not_found"),
            Undecided::Ticket(UndecidedTicket::Decided) => (StatusCode::CONFLICT, "approval_decided"),
            Undecided::NotKept => (StatusCode::INTERNAL_SERVER_ERROR, "not_kept"),
            Undecided::Unrecorded => (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"),
        };
        ApiError::new(status, code, why.to_string())
    }
}

impl ApprovalInfo {
    fn of(approval: &Approval) -> ApprovalInfo {
        let (state, by) = match &approval.state {
            ApprovalState::Waits => (ApprovalStateName::Waiting, None),
            ApprovalState::Approved { by } => (ApprovalStateName::Approved, Some(by.clone())),
            ApprovalState::Denied { by } => (ApprovalStateName::Denied, Some(by.clone())),
        };
        let call = approval.call.clone();
        ApprovalInfo {
            ticket: approval.ticket.to_string(),
            state,
            by,
            host: call.place,
            rule: call.rule,
            caller: call.caller,
            method: call.method,
            name: call.name,
            arguments: call.shown,
            argument_bytes: call.arguments.map(|(len, _)| len),
            argument_sha256: call.arguments.map(|(_, hash)| hex(&hash)),
            asked_at: WallTime::default().after(approval.asked).to_string(),
            ends_in_s: (approval.ends - MonotonicClock.now()).as_secs(),
        }
    }
}
