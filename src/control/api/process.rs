//! `/healthz`, `/readyz`, `/v1/status`, `/v1/latency`, `/v1/calls` and `/v1/tasks`: the state of the process, the times
//! of calls, the last calls, and their tasks. They are read-only and need no token.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Given;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::ValidQuery;
use super::error::ApiError;
use super::tools;
use crate::control::bodies::{
    CallsBody, ErrorBody, HealthBody, HealthStatus, LIMIT_MAX, LatencyBody, ReadyBody, ReadyStatus, StatusBody,
    TasksBody,
};
use crate::control::state::State;
use crate::control::tasks::TaskOrder;
use crate::latency::{CallFilter, CallIdError};

/// The query for times of calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LatencyQuery {
    /// The name of a route; by default all routes.
    route: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(status))
        .routes(routes!(latency))
        .routes(routes!(calls))
        .routes(routes!(tasks))
        .routes(routes!(tools::list))
}

/// Whether every core of the process answers: 200 if so, 503 if not.
#[utoipa::path(
    get, path = "/healthz", tag = "process", operation_id = "health", security(()),
    responses(
        (status = 200, body = HealthBody), (status = 503, body = HealthBody), (status = "default", body = ErrorBody)
    )
)]
async fn health(Given(state): Given<Arc<State>>) -> (StatusCode, Json<HealthBody>) {
    let body = state.health().await;
    (status_of(body.status == HealthStatus::Ok), Json(body))
}

/// Whether calls can be expected to succeed: 200 if so, 503 if not.
#[utoipa::path(
    get, path = "/readyz", tag = "process", operation_id = "ready", security(()),
    responses(
        (status = 200, body = ReadyBody), (status = 503, body = ReadyBody), (status = "default", body = ErrorBody)
    )
)]
async fn ready(Given(state): Given<Arc<State>>) -> (StatusCode, Json<ReadyBody>) {
    let body = state.ready().await;
    (status_of(body.status == ReadyStatus::Ready), Json(body))
}

/// The state of the process: its cores, links, certificates, upstreams, routes, tunnels and counters.
#[utoipa::path(
    get, path = "/v1/status", tag = "process", operation_id = "status", security(()),
    responses((status = 200, body = StatusBody), (status = "default", body = ErrorBody))
)]
async fn status(Given(state): Given<Arc<State>>) -> Json<StatusBody> {
    Json(state.report().await.status_body(&state.served()))
}

/// The times of calls by phase, for each route, MCP method and tool.
#[utoipa::path(
    get, path = "/v1/latency", tag = "process", operation_id = "latency", security(()), params(LatencyQuery),
    responses((status = 200, body = LatencyBody), (status = "default", body = ErrorBody))
)]
async fn latency(
    Given(state): Given<Arc<State>>,
    ValidQuery(query): ValidQuery<LatencyQuery>,
) -> Result<Json<LatencyBody>, ApiError> {
    Ok(Json(state.report().await.latency_body(query.route.as_deref())))
}

/// The query for the call log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CallsQuery {
    /// Only calls with this id: a trace id, or the `id` of a call.
    #[param(pattern = "^([0-9a-f]{1,16}|[0-9a-f]{32})$")]
    id: Option<String>,
    /// Only calls of this host, or of the route with this name.
    host: Option<String>,
    /// Only calls of this tool.
    tool: Option<String>,
    /// Only failed calls: not answered completely, or with a status of 400 or higher.
    #[serde(default)]
    #[param(default = false)]
    failed: bool,
    /// Only calls that ended within this many seconds.
    #[param(minimum = 0, maximum = 31536000)]
    since_s: Option<u32>,
    /// The most calls to list, the last ones first.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: u32,
}

/// The longest period of a query, in seconds.
const SINCE_MAX_S: u32 = 31_536_000;

fn limit_preset() -> u32 {
    50
}

impl CallsQuery {
    fn filter(self) -> Result<CallFilter, ApiError> {
        let CallsQuery { id, host, tool, failed, since_s, limit } = self;
        check_limit(limit)?;
        if since_s.is_some_and(|seconds| seconds > SINCE_MAX_S) {
            return Err(ApiError::bad_query("since_s must be at most 31536000, which is a year"));
        }
        let id = id.map(|id| id.parse()).transpose();
        Ok(CallFilter {
            id: id.map_err(|error: CallIdError| ApiError::bad_query(&error.to_string()))?,
            host: host.map(|host| host.to_ascii_lowercase()),
            tool,
            failed,
            since: since_s.map(|seconds| Duration::from_secs(seconds.into())),
            limit: limit as usize,
        })
    }
}

/// The last calls: the stage at which each ended, the rules that decided about it, and the times of its phases. Refused
/// connections are included.
#[utoipa::path(
    get, path = "/v1/calls", tag = "process", operation_id = "calls", security(()), params(CallsQuery),
    responses((status = 200, body = CallsBody), (status = "default", body = ErrorBody))
)]
async fn calls(
    Given(state): Given<Arc<State>>,
    ValidQuery(query): ValidQuery<CallsQuery>,
) -> Result<Json<CallsBody>, ApiError> {
    Ok(Json(state.calls(query.filter()?).await))
}

/// The query for tasks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TasksQuery {
    /// The order of the tasks.
    #[serde(default)]
    #[param(value_type = String, pattern = "^(cost|amplification|calls|last)$", default = "cost")]
    by: TaskOrder,
    /// The most tasks to list, the first ones in this order.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: u32,
}

/// The tool calls of each agent task: their number, repetitions, calls that were given up, the size of the answers, the
/// times, and the cost.
#[utoipa::path(
    get, path = "/v1/tasks", tag = "process", operation_id = "tasks", security(()), params(TasksQuery),
    responses((status = 200, body = TasksBody), (status = "default", body = ErrorBody))
)]
async fn tasks(
    Given(state): Given<Arc<State>>,
    ValidQuery(query): ValidQuery<TasksQuery>,
) -> Result<Json<TasksBody>, ApiError> {
    check_limit(query.limit)?;
    Ok(Json(state.tasks(query.by, query.limit as usize)))
}

fn check_limit(limit: u32) -> Result<(), ApiError> {
    if (1..=LIMIT_MAX).contains(&limit) { Ok(()) } else { Err(ApiError::bad_query("limit must be 1 to 1000")) }
}

const fn status_of(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
