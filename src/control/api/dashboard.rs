//! `/v1/dashboard/codes`: one-time codes that open sessions of the dashboard.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::error::ApiError;
use crate::base::Clock;
use crate::control::bodies::{DashboardCode, ErrorBody};
use crate::control::dashboard::sessions::CODE_LIFE;
use crate::engine::MonotonicClock;

/// Creates a code that opens one session of the dashboard. A session may read what this token may read, approve and deny calls, and
/// force breakers. It ends after 8 hours, or after an hour without use.
#[utoipa::path(
    post, path = "/v1/dashboard/codes", tag = "dashboard", operation_id = "create_dashboard_code",
    responses((status = 200, body = DashboardCode), (status = "default", body = ErrorBody))
)]
pub(super) async fn create_code(State(api): State<Api>) -> Result<Json<DashboardCode>, ApiError> {
    let (access, sessions) = api.access.as_ref().zip(api.sessions.as_ref()).ok_or_else(ApiError::no_store)?;
    let code = sessions.new_code(access.token.hash(), MonotonicClock.now())?;
    // Browsers do not send what stands after `#`, so that no log or proxy has the code.
    let path = format!("/#login={}", *code);
    Ok(Json(DashboardCode { code: code.to_string(), path, ends_in_s: CODE_LIFE.as_secs() }))
}
