//! `/v1/breakers`: forces breakers open or closed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::body::JsonObject;
use super::error::ApiError;
use crate::control::bodies::{BreakerInfo, ErrorBody, ForceBreaker, ForcedStateName};
use crate::control::report::breaker_info;
use crate::latency::{ForcedState, Label};

/// The method by which tools are called.
const TOOLS_CALL: &str = "tools/call";

/// Forces a breaker open or closed, or returns it to normal operation. The state lasts until the process ends, in every
/// mode of breakers, and can be set before the first call. A connector has breakers of routes with passthrough traffic,
/// and needs `connect.admin_token_file`.
#[utoipa::path(
    post, path = "/v1/breakers", tag = "breakers", operation_id = "force_breaker", request_body = ForceBreaker,
    responses((status = 200, body = BreakerInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn force(
    State(api): State<Api>,
    JsonObject(wanted): JsonObject<ForceBreaker>,
) -> Result<Json<BreakerInfo>, ApiError> {
    let ForceBreaker { route, method, tool, state } = wanted;
    let method = method.or_else(|| tool.as_ref().map(|_| TOOLS_CALL.to_owned())).unwrap_or_default();
    let label = Label {
        route: route.into_boxed_str(),
        method: method.into_boxed_str(),
        tool: tool.unwrap_or_default().into_boxed_str(),
    };
    let forced = match state {
        ForcedStateName::Open => Some(ForcedState::Open),
        ForcedStateName::Closed => Some(ForcedState::Closed),
        ForcedStateName::Auto => None,
    };
    let reading = api.state.force_breaker(&label, forced).ok_or_else(|| {
        let message = "no such route, or no breaker to set to auto: /v1/status lists breakers, /v1/tunnels lists hosts";
        ApiError::new(StatusCode::NOT_FOUND, "breaker_not_found", message)
    })?;
    let (route, method, tool) = (&*label.route, &*label.method, &*label.tool);
    tracing::warn!(route, method, tool, state = ?state, "circuit breaker state set by an operator");
    Ok(Json(breaker_info(&reading)))
}
